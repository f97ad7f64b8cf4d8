"""``img2brain compare``: what differs between two trials, models or boards."""

from __future__ import annotations

from pathlib import Path

import click

from img2brain.cli._options import OpenHome, reads_home
from img2brain.cli._shown import Shown, shows


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="A page to draw the comparison on, .html.")
@reads_home
@shows
def compare(first: str, second: str, out: Path | None, open_home: OpenHome) -> Shown:
    """Compare two trials, two published models or two boards.

    They are named STUDY#NUMBER, NAME/VERSION, or by the folders of the boards. A trial may be of a bundle that the home
    has taken in.

    \b
    Example:
      img2brain compare v4-210325/1 v4-210325/2 --out difference.html
      img2brain compare quickstart#3 quickstart#12
      img2brain compare boards/monday boards/friday
    """
    from img2brain.errors import SpecError

    if out is not None and out.suffix != ".html":
        raise SpecError(f"The page must end in .html. Got {out}.")
    if Path(first).exists() and Path(second).exists():
        return _boards(Path(first), Path(second), out)
    if missing := _missing_board(first, second):
        raise SpecError(f"The board {missing!r} is not there: a folder with leaderboard.csv is expected.")
    return _trials(first, second, out, open_home)


def _missing_board(first: str, second: str) -> str | None:
    """Return the one of two references that should be the folder of a board, since the other is."""
    are_boards = [(Path(reference) / "leaderboard.csv").is_file() for reference in (first, second)]
    return None if all(are_boards) or not any(are_boards) else (first, second)[are_boards.index(False)]


def _boards(first: Path, second: Path, out: Path | None) -> Shown:
    from img2brain.leaderboard.compare import compare_boards, records_of

    table = compare_boards(first, second)
    lines = [table.to_string(index=False, float_format=lambda value: f"{value:.4f}")]
    if out is not None:
        from img2brain.leaderboard.drawing import write_page
        from img2brain.leaderboard.region_figures import board_difference

        lines.append(str(write_page(board_difference(table), out)))
    return Shown(records_of(table), lines)


def _trials(first: str, second: str, out: Path | None, open_home: OpenHome) -> Shown:
    from img2brain.leaderboard.compare import as_text, records_of
    from img2brain.leaderboard.compare import compare as found
    from img2brain.leaderboard.subjects import find_subjects

    comparison = found(*find_subjects(first, second, open_home()))
    lines = [as_text(comparison)]
    if out is not None:
        from img2brain.leaderboard.drawing import write_page
        from img2brain.leaderboard.region_figures import comparison as drawn

        lines.append(str(write_page(drawn(comparison), out)))
    facts = {
        "A": comparison.first.label,
        "B": comparison.second.label,
        "dataset": comparison.first.dataset,
        "part": comparison.first.part,
        "measure": comparison.first.measure.over_voxels,
        "rule": comparison.rule,
        "n_first": comparison.n_first,
        "n_second": comparison.n_second,
        "regions": records_of(comparison.table),
    }
    return Shown(facts, lines)
