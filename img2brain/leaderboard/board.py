"""One board as a section of a page: a heading, the facts, and a line per trial."""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from img2brain import digest
from img2brain.leaderboard.confirmed import confirmed_rows, heading, region_table, summary_table
from img2brain.leaderboard.rows import Row, parameters_text, placed, printable

_REGIONS = {
    "model": "model", "region": "region", "n_voxels": "voxels", "median_r": "confirmation r", "low": "from",
    "high": "to", "ceiling_median_r": "ceiling r", "normalised_median_r": "share of ceiling",
    "n_unreliable": "voxels left out of it",
    "control_untrained_median_r": "untrained twin", "control_pixels_median_r": "pixels",
    "control_shuffled_median_r": "shuffled",
}  # fmt: skip


class _Column(NamedTuple):
    """A column: its heading, what fills a cell, the number it is sorted by, its look and its first direction."""

    name: str
    content: Callable[[Row, float], str]
    key: Callable[[Row], float | None] | None = None
    look: str = ""
    first: str = "ascending"


def section(rows: list[Row]) -> str:
    """Write the rows of one board as HTML.

    Parameters
    ----------
    rows : list of Row
        Of one dataset and one split, at least one.

    Returns
    -------
    str
        A `section` element; all text of the rows is escaped.
    """
    top = _top(rows)
    heads = tag("tr", tag("th", "Rank", scope="col", class_="number", aria_sort="ascending"), *map(_head, _COLUMNS))
    lines = (_line(rank, row, top) for rank, row in placed(rows))
    table = tag("table", tag("thead", heads), "\n", tag("tbody", "\n", *lines))
    title = tag("h2", escape(rows[0].dataset)), tag("p", _facts(rows), f" · bars from 0 to {top:.1f}", class_="facts")
    published = _published(rows)
    heading_of_trials = tag("h3", "Trials") if published else ""
    return tag("section", *title, "\n", published, heading_of_trials, tag("div", table, class_="scroll"))


def _published(rows: list[Row]) -> str:
    """Write what the confirmation rows say of the published models of a board."""
    published = confirmed_rows(rows)
    if not published:
        return ""
    regions = region_table(published)
    shown = (
        regions[[name for name in _REGIONS if name in regions]].rename(columns=_REGIONS) if len(regions) else regions
    )
    parts = [
        tag("h3", "Published models"),
        tag("p", escape(heading(published)), class_="facts"),
        _plain_table(summary_table(published)),
        tag("h3", "By region of interest") + _plain_table(shown) if len(shown) else "",
    ]
    return tag("div", *parts, class_="published") + "\n"


def _plain_table(table: pd.DataFrame) -> str:
    """Write a table of texts and numbers as it is; a line that is flagged is marked."""
    heads = tag("tr", *(tag("th", escape(str(name)), scope="col") for name in table.columns))
    lines = (
        tag("tr", *(tag("td", _text(value), data_name=name) for name, value in line.items()),
            class_="flagged" if line.get("flag") else None) + "\n"
        for line in table.to_dict("records")
    )  # fmt: skip
    return tag("div", tag("table", tag("thead", heads), "\n", tag("tbody", *lines), class_="plain"), class_="scroll")


def _text(value: object) -> str:
    if isinstance(value, float):
        return "–" if not math.isfinite(value) else f"{value:,.0f}" if value.is_integer() else f"{value:.4f}"
    return escape(str(value)) or "–"


def escape(text: str) -> str:
    """Make the text of others harmless in HTML, in attributes too.

    Examples
    --------
    >>> escape('"<b>"')
    '&quot;&lt;b&gt;&quot;'
    """
    return html.escape(printable(text))


def tag(name: str, *content: str, **attributes: object) -> str:
    """Write an element; its content is HTML already, its attributes are escaped, and empty ones are left out.

    Examples
    --------
    >>> tag("td", "1.5", class_="number", data_sort=1.5, title="")
    '<td class="number" data-sort="1.5">1.5</td>'
    """
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value not in (None, "")}
    start = " ".join([name, *(f'{key}="{escape(str(value))}"' for key, value in given.items())])
    return f"<{start}>{''.join(content)}</{name}>"


def _facts(rows: list[Row]) -> str:
    first = rows[0]
    counts = {"training": first.n_train, "validation": first.n_validation, "confirmation": first.n_confirmation}
    images = ", ".join(f"{count:,} {part}" for part, count in counts.items() if count is not None)
    facts = (
        f"{len(rows):,} trial{'s' * (len(rows) != 1)}",
        f"{first.n_voxels:,} voxels" + (f" ({escape(first.unit)})" if first.unit else ""),
        f"images: {images}" if images else "",
        "data " + tag("span", escape(first.dataset_digest[: digest.SHORT]), title=first.dataset_digest),
        "split " + tag("span", escape(first.split_digest[: digest.SHORT]), title=first.split_digest),
    )
    return " · ".join(filter(None, facts))


def _top(rows: list[Row]) -> float:
    """Find where the bars end: the best score, rounded up to a tenth."""
    scores = (score for row in rows for score in (row.validation_median_r, row.confirmation_median_r))
    best = max((score for score in map(_known, scores) if score is not None), default=1.0)
    return min(1.0, max(0.1, math.ceil(10 * best) / 10))


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _head(column: _Column) -> str:
    first = column.first if column.first == "descending" else None
    return tag("th", column.name, scope="col", class_="number" if column.key else None, data_first=first)


def _line(rank: int | None, row: Row, top: float) -> str:
    place = tag(
        "td", "–" if rank is None else str(rank), class_="number rank one", data_name="Rank", data_sort=rank or "none"
    )
    cells = (_cell(column, row, top) for column in _COLUMNS)
    return tag("tr", place, *cells, class_="champion" if row.champion else None) + "\n"


def _cell(column: _Column, row: Row, top: float) -> str:
    look = " ".join(filter(None, ["number" if column.key else "", column.look]))
    key = "" if column.key is None else _known(column.key(row))
    return tag(
        "td", column.content(row, top), class_=look, data_name=column.name, data_sort="none" if key is None else key
    )


def _small(text: str) -> str:
    return tag("small", escape(text)) if text else ""


def _badge(text: str, kind: str = "") -> str:
    return tag("span", escape(text), class_=f"badge {kind}".strip())


def _weights(row: Row) -> str:
    return f"{escape(row.weights)} {_badge(row.trained, 'untrained' if row.trained.startswith('untrained') else '')}"


def _alpha(row: Row) -> str:
    return "–" if _known(row.alpha) is None else f"{row.alpha:.3g}"


def _score(score: float | None, top: float) -> str:
    """Write a score with its bar; attributes of a drawing need no style, which the page's policy would refuse."""
    value = _known(score)
    if value is None:
        return "–"
    bar = tag("rect", width=f"{100 * min(max(value / top, 0), 1):.4g}", height=1)
    return f"{value:.4f}" + tag("svg", bar, viewBox="0 0 100 1", preserveAspectRatio="none", aria_hidden="true")


def _trial(row: Row) -> str:
    names = [_badge("champion", "champion")] if row.champion else []
    where = tag("span", escape(f"{row.study} #{row.trial}"), title=f"run {row.run_id}")
    return " ".join([where, *names]) + _small(row.registered or "") + _small(row.note)


def _undefined(row: Row) -> str:
    return _small(f"{row.n_undefined:,} undefined") if row.n_undefined else ""


_COLUMNS = (
    _Column("Backbone", lambda row, _: escape(row.backbone) + _small(row.preprocessing), look="two"),
    _Column("Weights", lambda row, _: _weights(row)),
    _Column("Layer", lambda row, _: escape(row.layer), look="four"),
    _Column("Components", lambda row, _: str(row.n_components), lambda row: row.n_components, "two", "descending"),
    _Column("Regressor", lambda row, _: escape(row.regressor) + _small(parameters_text(row.parameters)), look="four"),
    _Column("Alpha", lambda row, _: _alpha(row), lambda row: row.alpha, "two"),
    _Column(
        "Validation r",
        lambda row, top: _score(row.validation_median_r, top) + _undefined(row),
        lambda row: row.validation_median_r,
        "score",
        "descending",
    ),
    _Column(
        "Confirmation r",
        lambda row, top: _score(row.confirmation_median_r, top),
        lambda row: row.confirmation_median_r,
        "score confirmation",
        "descending",
    ),
    _Column("Trial", lambda row, _: _trial(row)),
)
