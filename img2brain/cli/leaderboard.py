"""``img2brain leaderboard``: rank trials."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from img2brain.cli._options import OpenHome, reads_home, writes_home

if TYPE_CHECKING:
    from img2brain.leaderboard.rows import Row

_dataset_option = click.option("--dataset", help="One dataset's trials only, by its name.")


@click.group()
def leaderboard() -> None:
    """Rank the trials of each dataset."""


@leaderboard.command("show")
@_dataset_option
@click.option("--most", default=20, show_default=True, type=click.IntRange(min=1), help="Rows of each board.")
@reads_home
def show_command(dataset: str | None, most: int, open_home: OpenHome) -> None:
    """Print the ranked trials, one board for each dataset, split and metric.

    \b
    Example:
      img2brain leaderboard show --dataset v4-210224
    """
    from img2brain.leaderboard.collect import collect
    from img2brain.leaderboard.rows import boards, printable
    from img2brain.leaderboard.table import as_text, ranked

    rows = collect(open_home(), dataset)
    if not rows:
        click.echo("There are no finished trials yet.")
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for board in boards(rows):
        table = ranked(board)
        click.echo(board[0].board)
        for line in _confirmed(board):
            click.echo(line)
        click.echo(as_text(table.head(most), width))
        for note in dict.fromkeys(row.note for row in board if row.note):
            click.echo(printable(f"note: {note}"))
        click.echo(f"{len(table)} trials\n")


@leaderboard.command("build")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@_dataset_option
@reads_home
def build_command(folder: Path, dataset: str | None, open_home: OpenHome) -> None:
    """Write the leaderboard as CSV and one HTML page.

    \b
    Example:
      img2brain leaderboard build board
    """
    from img2brain.leaderboard.collect import collect
    from img2brain.leaderboard.site.build import build

    built = datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    for path in build(collect(open_home(), dataset), folder, built=built):
        click.echo(path)


@leaderboard.command("reference")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="A folder to build the page in.")
def reference_command(out: Path | None) -> None:
    """Show the predecessor's published results, with what is known of them.

    \b
    Example:
      img2brain leaderboard reference
    """
    from img2brain.leaderboard.site.build import build
    from img2brain.leaderboard.table import as_text, ranked
    from img2brain.predecessor.board import reference_rows
    from img2brain.predecessor.entries import CAVEAT

    rows = reference_rows()
    click.echo(as_text(ranked(rows)))
    click.echo(f"note: {CAVEAT}")
    for row in rows:
        if row.note != CAVEAT:
            spec = row.trial.spec
            click.echo(f"note: {spec.backbone} {spec.layer}: {row.note.removeprefix(CAVEAT).lstrip('; ')}")
    if out is not None:
        for path in build(rows, out, title="The predecessor's results"):
            click.echo(path)


@leaderboard.command("import-predecessor")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@writes_home
def import_command(folder: Path, open_home: OpenHome) -> None:
    """Read the predecessor's published CSV files into rows with the scores of every voxel.

    \b
    Example:
      img2brain leaderboard import-predecessor published
    """
    from img2brain.predecessor.board import import_predecessor
    from img2brain.predecessor.entries import DATASET

    published = import_predecessor(folder, open_home())
    for item in published:
        if item.note:
            click.echo(f"{item.entry.backbone} {item.entry.layer} {item.entry.regressor}: {item.note}")
    click.echo(f"{len(published)} results: img2brain leaderboard show --dataset {DATASET} --most {len(published)}")


def _confirmed(board: list[Row]) -> Iterator[str]:
    """Tell what the confirmation rows say of the published models, a block of lines each."""
    from img2brain.leaderboard.published import confirmed_rows, heading, region_summary, score_heading, summary_table
    from img2brain.leaderboard.rows import printable

    rows = confirmed_rows(board)
    if not rows:
        return
    yield f"Published models, on {heading(rows)}"
    for line in summary_table(rows).to_dict("records"):
        place = f"{line.pop('rank')}. ".lstrip(". ")
        yield printable(f"  {place}{line.pop('model')}: " + line.pop(score_heading(rows[0])))
        yield from (printable(f"     {name}: {text}") for name, text in line.items() if text)
    regions = region_summary(rows)
    if len(regions):
        yield from (printable(f"  {line}") for line in regions.round(4).to_string(index=False, na_rep="-").splitlines())
    yield ""
