"""One board as a section of a page: a heading, the facts, and a line per trial."""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from img2brain import digest
from img2brain.leaderboard.published import confirmed_rows, heading, region_summary, summary_table
from img2brain.leaderboard.rows import Row, placed, printable


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
        Of one dataset, one split and one objective, at least one.

    Returns
    -------
    str
        A `section` element; all text of the rows is escaped.
    """
    top = _top(rows)
    heads = tag(
        "tr",
        tag("th", "Rank", scope="col", class_="number", aria_sort="ascending"),
        *(_head(column, rows[0]) for column in _COLUMNS),
    )
    lines = (_line(rank, row, top) for rank, row in placed(rows))
    table = tag("table", tag("thead", heads), "\n", tag("tbody", "\n", *lines))
    title = (
        tag("h2", escape(rows[0].trial.dataset.name)),
        tag("p", _facts(rows), f" · bars from 0 to {top:.1f}", class_="facts"),
    )
    published = _published(rows)
    heading_of_trials = tag("h3", "Trials") if published else ""
    return tag("section", *title, "\n", published, heading_of_trials, tag("div", table, class_="scroll"))


def _published(rows: list[Row]) -> str:
    """Write what the confirmation rows say of the published models of a board."""
    published = confirmed_rows(rows)
    if not published:
        return ""
    regions = region_summary(published)
    parts = [
        tag("h3", "Published models"),
        tag("p", escape(heading(published)), class_="facts"),
        _plain_table(summary_table(published)),
        tag("h3", "By region of interest") + _plain_table(regions) if len(regions) else "",
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
    dataset, split = rows[0].trial.dataset, rows[0].trial.rows
    counts = {"training": split.n_train, "validation": split.n_validation, "confirmation": split.n_confirmation}
    facts = (
        escape(rows[0].measure.over_voxels),
        f"{len(rows):,} trial{'s' * (len(rows) != 1)}",
        f"{dataset.n_voxels:,} voxels" + (f" ({escape(dataset.unit)})" if dataset.unit else ""),
        "images: " + ", ".join(f"{count:,} {part}" for part, count in counts.items()),
        "data " + tag("span", escape(dataset.digest[: digest.SHORT]), title=dataset.digest),
        "split " + tag("span", escape(split.split[: digest.SHORT]), title=split.split),
    )
    return " · ".join(filter(None, facts))


def _top(rows: list[Row]) -> float:
    """Find where the bars end: the best score, rounded up to a tenth."""
    scores = (_known(score) for row in rows for score in (row.trial.score, row.confirmed_score))
    best = max((score for score in scores if score is not None), default=1.0)
    return max(0.1, math.ceil(round(10 * best, 6)) / 10)


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _head(column: _Column, row: Row) -> str:
    first = column.first if column.first == "descending" else None
    measure = _small(row.measure.short) if "score" in column.look else ""
    return tag("th", column.name, measure, scope="col", class_="number" if column.key else None, data_first=first)


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
    trained = row.trial.network.trained
    return f"{escape(row.trial.spec.weights)} {_badge(trained, 'untrained' if trained.startswith('untrained') else '')}"


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
    where = tag("span", escape(row.name), title=f"run {row.run_id}")
    return " ".join([where, *names]) + _small(row.registered) + _small(row.note)


def _undefined(row: Row) -> str:
    return _small(f"{row.n_undefined:,} undefined") if row.n_undefined else ""


_COLUMNS = (
    _Column(
        "Backbone", lambda row, _: escape(row.trial.spec.backbone) + _small(row.trial.spec.preprocessing), look="two"
    ),
    _Column("Weights", lambda row, _: _weights(row)),
    _Column("Layer", lambda row, _: escape(row.trial.spec.layer), look="four"),
    _Column(
        "Components",
        lambda row, _: str(row.trial.spec.n_components),
        lambda row: row.trial.spec.n_components,
        "two",
        "descending",
    ),
    _Column("Regressor", lambda row, _: escape(row.trial.spec.regressor) + _small(row.other_parameters), look="four"),
    _Column("Alpha", lambda row, _: _alpha(row), lambda row: row.alpha, "two"),
    _Column(
        "Validation",
        lambda row, top: _score(row.trial.score, top) + _undefined(row),
        lambda row: row.trial.score,
        "score",
        "descending",
    ),
    _Column(
        "Confirmation",
        lambda row, top: _score(row.confirmed_score, top),
        lambda row: row.confirmed_score,
        "score confirmation",
        "descending",
    ),
    _Column("Trial", lambda row, _: _trial(row)),
)
