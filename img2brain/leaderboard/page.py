"""A leaderboard as a static site: one page and one CSV file, for any web server or none.

The page holds its own style and script and asks nothing of the network; its policy allows only these two, by their
digests. Names of studies, layers and weights are other people's text: they enter escaped, with control characters
spelled out.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from img2brain.leaderboard._templates import asset, render
from img2brain.leaderboard._write import write_text
from img2brain.leaderboard.board import board_of
from img2brain.leaderboard.published import confirmed_rows, region_table
from img2brain.leaderboard.rows import Row, boards
from img2brain.leaderboard.table import as_csv, ranked_boards


def build(rows: Iterable[Row], folder: Path, *, built: str | None = None, title: str = "Leaderboard") -> list[Path]:
    """Write the leaderboard of some trials: ``leaderboard.csv``, ``index.html`` and maybe ``regions.csv``.

    Parameters
    ----------
    rows : iterable of Row
        Of any datasets, splits and objectives: each board has a table of its own.
    folder : Path
        Made where it is missing; each file is replaced at once.
    built : str, optional
        When and by what the page was built, as it shall be shown.
    title : str
        The page's heading.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    StoreError
        If the folder cannot be written or is full.

    Notes
    -----
    About 1 kB per trial.
    """
    groups = boards(rows)
    regions = region_table([row for group in groups for row in confirmed_rows(group)])
    files = {
        "leaderboard.csv": as_csv(ranked_boards(groups)),
        "index.html": _page(groups, title=title, built=built, has_regions=len(regions) > 0),
    }
    if len(regions):
        files["regions.csv"] = as_csv(regions)
    return [write_text(folder / name, text) for name, text in files.items()]


def _page(groups: list[list[Row]], **facts: object) -> str:
    return render(
        "index.html",
        style=asset("page.css"),
        script=asset("page.js"),
        boards=[board_of(group) for group in groups],
        commands=_commands(groups),
        **facts,
    )


def _commands(groups: list[list[Row]]) -> list[str]:
    models = {row.registered.rsplit(" ", 1)[0] for group in groups for row in group if row.champion and row.registered}
    return [
        "img2brain study run EXPERIMENT.toml",
        *(f"img2brain model predict {shlex.quote(name)} IMAGES... --out responses.npy" for name in sorted(models)),
        "img2brain leaderboard build FOLDER",
    ]
