"""Write the leaderboard as a static site, for any web server or none.

Names of studies, layers and weights are other people's text: they enter escaped, with control characters spelled out.
The policy of a page allows the site's own style and script alone.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from img2brain.leaderboard._write import write_text
from img2brain.leaderboard.lines import table_of
from img2brain.leaderboard.means import mean_lines
from img2brain.leaderboard.published import region_table
from img2brain.leaderboard.rows import Row, boards
from img2brain.leaderboard.site.across import acrosses_of
from img2brain.leaderboard.site.api import api_files, pages_before
from img2brain.leaderboard.site.board import Board, board_of
from img2brain.leaderboard.site.cards import DatasetCard, cards_of
from img2brain.leaderboard.site.comparison import comparison_script
from img2brain.leaderboard.site.forest import kind_of
from img2brain.leaderboard.site.mean import MeanView, mean_views
from img2brain.leaderboard.site.row_page import row_pages
from img2brain.leaderboard.site.templating import asset, render
from img2brain.leaderboard.table import as_csv, ranked_boards

ASSETS = ("site.css", "site.js", "compare.js")


def build(
    rows: Iterable[Row],
    folder: Path,
    *,
    built: str = "",
    title: str = "Leaderboard",
    with_responses: bool = True,
) -> list[Path]:
    """Write the leaderboard of some trials as a site that opens from disk.

    Parameters
    ----------
    rows : iterable of Row
        Of any datasets, splits and objectives: each board has a part of its own.
    folder : Path
        Made where it is missing; each file is replaced at once. Pages of rows and data sets that a site here listed
        before, and that are no more, are removed.
    built : str
        When and by what the site was built, as it shall be shown.
    title : str
        The heading of the first page.
    with_responses : bool
        Whether the pages of rows may show measured responses, those of three voxels each.

    Returns
    -------
    list of Path
        The files written, the first page first.

    Raises
    ------
    StoreError
        If the folder cannot be written or is full.
    """
    rows = list(rows)
    groups, means = boards(rows), mean_views(rows)
    about = {"built": built, "site_title": title, "kind_of": kind_of}
    files = dict(_files(groups, means, about, with_responses=with_responses))
    gone = pages_before(folder) - set(files)
    written = [write_text(folder / name, text) for name, text in files.items()]
    for name in gone:
        with suppress(OSError):
            (folder / name).unlink()
    return written


def _files(
    groups: list[list[Row]], means: list[MeanView], about: Mapping[str, object], *, with_responses: bool
) -> Iterator[tuple[str, str]]:
    """Yield all files of a site, by their names in its folder."""
    found = [board_of(group) for group in groups]
    cards = cards_of(found)
    regions = region_table([row for board in found for row in board.published])
    yield "index.html", _index(found, means, cards, about, has_regions=len(regions) > 0)
    yield "leaderboard.csv", as_csv(ranked_boards(groups))
    if len(regions):
        yield "regions.csv", as_csv(regions)
    if means:
        yield "means.csv", as_csv(table_of([line for view in means for line in mean_lines(view.board)]))
    of_means = [view.board for view in means]
    yield from api_files(found, cards, str(about["site_title"]), str(about["built"]), of_means)
    yield from ((f"assets/{name}", asset(name)) for name in ASSETS)
    yield "assets/comparison.js", comparison_script(found)
    yield "compare.html", render("compare.html", up="", title=f"Compare · {about['site_title']}", **about)
    yield from ((f"data/{card.id}.html", _card(card, about)) for card in cards)
    for board in found:
        yield from _row_pages(board, about, with_responses=with_responses)


def _index(
    found: list[Board],
    means: list[MeanView],
    cards: list[DatasetCard],
    about: Mapping[str, object],
    *,
    has_regions: bool,
) -> str:
    return render(
        "index.html",
        up="",
        title=about["site_title"],
        boards=found,
        means=means,
        acrosses=acrosses_of(found),
        cards=cards,
        has_regions=has_regions,
        origins=[origin for board in found for origin in board.origins],
        commands=_commands(row for board in found for _, row in board.ranked),
        **about,
    )


def _card(card: DatasetCard, about: Mapping[str, object]) -> str:
    return render("dataset.html", up="../", title=f"{card.record.name} · {about['site_title']}", card=card, **about)


def _row_pages(board: Board, about: Mapping[str, object], *, with_responses: bool) -> Iterator[tuple[str, str]]:
    for page in row_pages(board, with_responses=with_responses):
        title = f"{page.row.trial.spec.backbone} · {board.dataset.name} · {about['site_title']}"
        yield f"rows/{page.id}.html", render("row.html", up="../", title=title, page=page, board=board, **about)


def _commands(rows: Iterable[Row]) -> list[str]:
    models = {row.registered.rsplit(" ", 1)[0] for row in rows if row.champion and row.registered}
    return [
        "img2brain study run EXPERIMENT.toml",
        *(f"img2brain model predict {shlex.quote(name)} IMAGES... --out responses.npy" for name in sorted(models)),
        "img2brain leaderboard build FOLDER",
    ]
