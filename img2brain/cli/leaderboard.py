"""``img2brain leaderboard``: rank trials."""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from img2brain.cli._options import home_option

_dataset_option = click.option("--dataset", help="One dataset's trials only, by its name.")


@click.group()
def leaderboard() -> None:
    """Rank the trials of each dataset."""


@leaderboard.command("show")
@_dataset_option
@click.option("--most", default=20, show_default=True, type=click.IntRange(min=1), help="Rows of each board.")
@home_option
def show_command(dataset: str | None, most: int, home: Path) -> None:
    """Print the ranked trials, one board for each dataset and split.

    \b
    Example:
      img2brain leaderboard show --dataset v4-210224
    """
    from img2brain.leaderboard.collect import collect
    from img2brain.leaderboard.rows import boards
    from img2brain.leaderboard.table import as_text, ranked
    from img2brain.store import Home

    rows = collect(Home(home), dataset)
    if not rows:
        click.echo("There are no finished trials yet.")
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for board in boards(rows):
        table = ranked(board)
        click.echo(board[0].board)
        click.echo(as_text(table.head(most), width))
        click.echo(f"{len(table)} trials\n")


@leaderboard.command("build")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@_dataset_option
@home_option
def build_command(folder: Path, dataset: str | None, home: Path) -> None:
    """Write the leaderboard as CSV and one HTML page.

    \b
    Example:
      img2brain leaderboard build board
    """
    from img2brain.leaderboard import page
    from img2brain.leaderboard.collect import collect
    from img2brain.store import Home

    built = datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    for path in page.build(collect(Home(home), dataset), folder, built=built):
        click.echo(path)
