"""``img2brain ui``: the MLflow user interface over the home folder."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import click

from img2brain.cli._options import folder_option

_ENDING = (signal.SIGTERM, signal.SIGHUP)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@folder_option
def ui(host: str, port: int, home: Path) -> None:
    """Open MLflow's pages, until Ctrl-C.

    There runs are compared. Prints the addresses of its pages when they answer, one for each dataset.

    \b
    Example:
      img2brain ui --port 5000
    """
    from img2brain.home import Home
    from img2brain.tracking.server import serve

    with ended_by_signals(), suppress(KeyboardInterrupt):
        serve(Home.existing(home), host, port, click.echo)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let signals that end a process end it in order, so that the server ends too."""

    def end(number: int, _frame: FrameType | None) -> None:
        for other in _ENDING:  # a second one must not cut the ending short
            signal.signal(other, signal.SIG_IGN)
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
