"""``img2brain ui``: the MLflow user interface over the home folder."""

from __future__ import annotations

from pathlib import Path

import click

from img2brain.cli._options import folder_option


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@folder_option
def ui(host: str, port: int, home: Path) -> None:
    """Open the MLflow user interface, where runs are compared.

    \b
    Example:
      img2brain ui --port 5000
    """
    from img2brain.home import Home
    from img2brain.tracking.server import serve

    click.echo(f"http://{host}:{port} (Ctrl-C ends it)")
    serve(Home.existing(home), host, port)
