"""Write the leaderboard as a static site, for any web server or none.

Names of studies, layers and weights are other people's text: they enter escaped, with control characters spelled out.
The policy of a page allows the site's own style and script alone.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from img2brain.leaderboard._write import write_text
from img2brain.leaderboard.published import confirmed_rows, region_table
from img2brain.leaderboard.rows import Row, boards
from img2brain.leaderboard.site.board import Board, board_of
from img2brain.leaderboard.site.forest import kind_of
from img2brain.leaderboard.site.templating import asset, render
from img2brain.leaderboard.table import as_csv, ranked_boards

ASSETS = ("site.css", "site.js")


def build(rows: Iterable[Row], folder: Path, *, built: str = "", title: str = "Leaderboard") -> list[Path]:
    """Write the leaderboard of some trials as a site that opens from disk.

    Parameters
    ----------
    rows : iterable of Row
        Of any datasets, splits and objectives: each board has a part of its own.
    folder : Path
        Made where it is missing; each file is replaced at once.
    built : str
        When and by what the site was built, as it shall be shown.
    title : str
        The heading of the first page.

    Returns
    -------
    list of Path
        The files written, the first page first.

    Raises
    ------
    StoreError
        If the folder cannot be written or is full.
    """
    groups = boards(rows)
    files = dict(_files(groups, built=built, title=title))
    return [write_text(folder / name, text) for name, text in files.items()]


def _files(groups: list[list[Row]], **about: str) -> Iterator[tuple[str, str]]:
    """Yield all files of a site, by their names in its folder."""
    found = [board_of(group) for group in groups]
    regions = region_table([row for group in groups for row in confirmed_rows(group)])
    yield "index.html", _index(found, groups, has_regions=len(regions) > 0, **about)
    yield "leaderboard.csv", as_csv(ranked_boards(groups))
    if len(regions):
        yield "regions.csv", as_csv(regions)
    yield from ((f"assets/{name}", asset(name)) for name in ASSETS)


def _index(found: list[Board], groups: list[list[Row]], **about: object) -> str:
    return render(
        "index.html",
        up="",
        boards=found,
        acrosses=[],
        has_across=0,
        cards=[],
        origins=[origin for board in found for origin in board.origins],
        commands=_commands(groups),
        kind_of=kind_of,
        **about,
    )


def _commands(groups: list[list[Row]]) -> list[str]:
    models = {row.registered.rsplit(" ", 1)[0] for group in groups for row in group if row.champion and row.registered}
    return [
        "img2brain study run EXPERIMENT.toml",
        *(f"img2brain model predict {shlex.quote(name)} IMAGES... --out responses.npy" for name in sorted(models)),
        "img2brain leaderboard build FOLDER",
    ]
