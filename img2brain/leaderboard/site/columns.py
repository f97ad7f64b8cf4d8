"""The columns of the table of trials: what each holds, and whether it is there before it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from img2brain.leaderboard.record_numbers import Statistic, statistics_of
from img2brain.leaderboard.rows import Row, home_name
from img2brain.leaderboard.site.digits import bounds_text, estimate_text
from img2brain.leaderboard.site.names import keyed
from img2brain.spec import NO_POOLING, PCA

Shown = Literal["always", "wide", "asked"]
Value = str | float | int | None


class Cell(NamedTuple):
    """What a cell shows, and what it is sorted and filtered by."""

    text: str
    value: Value
    small: str = ""


MakeCell = Callable[[Row, int | None], Cell]


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes
    ----------
    key : str
        Names it in a filter and in the address.
    label, small : str
        Its head.
    cell : callable
        From a row, with its rank, to what stands there.
    is_number : bool
        Whether it is sorted as numbers.
    shown : {"always", "wide", "asked"}
        Where it is seen: everywhere, on wide screens, or where it is asked for.
    first : {"ascending", "descending"}
        How the first click sorts it.
    """

    key: str
    label: str
    cell: MakeCell
    is_number: bool = False
    shown: Shown = "asked"
    first: str = "ascending"
    small: str = ""

    @property
    def style(self) -> str:
        """The classes of its cells, which are many and so are short: wide, asked for, number."""
        return " ".join(filter(None, ["" if self.shown == "always" else self.shown[0], "n" if self.is_number else ""]))


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """Return the columns that say something of the rows of a board."""
    everything = [*_of_spec(), *_scores(rows), *_of_others(rows), *_of_origin()]
    return [column for column in everything if column.shown != "asked" or _says_something(column, rows)]


def _says_something(column: Column, rows: Sequence[Row]) -> bool:
    return any(column.cell(row, None).text not in ("", "–") for row in rows)


def _of_spec() -> list[Column]:
    return [
        Column("rank", "Rank", lambda _, rank: _count(rank), is_number=True, shown="always"),
        Column("backbone", "Network", lambda row, _: _network(row), shown="always"),
        Column("weights", "Weights", lambda row, _: _text(row.trial.spec.weights), shown="wide"),
        Column("trained", "Trained", lambda row, _: _text(row.trial.network.trained)),
        Column("layer", "Layer", lambda row, _: _text(row.trial.spec.layer), shown="wide"),
        Column("pooling", "Pooling", lambda row, _: _text(row.trial.spec.pooling.replace(NO_POOLING, ""))),
        _falling("components", "Components", lambda row, _: _count(row.trial.spec.n_components), shown="wide"),
        Column("reduction", "Reduction", lambda row, _: _text(row.trial.spec.reduction.replace(PCA, ""))),
        Column("regressor", "Regressor", lambda row, _: _text(row.trial.spec.regressor), shown="wide"),
        Column("alpha", "Alpha", lambda row, _: _number(row.alpha, ".3g"), is_number=True),
        Column("parameters", "Parameters", lambda row, _: _text(row.other_parameters)),
        Column("preprocessing", "Preprocessing", lambda row, _: _text(row.trial.spec.preprocessing)),
    ]


def _scores(rows: Sequence[Row]) -> list[Column]:
    short = rows[0].measure.short
    shown: Shown = "always" if any(row.confirmed for row in rows) else "asked"
    return [
        _falling("validation", "Validation", lambda row, _: _number(row.trial.score), shown="always", small=short),
        _falling("confirmation", "Confirmation", lambda row, _: _confirmation(row), shown=shown, small=short),
        _falling("optimism", "Optimism", lambda row, _: _number(row.trial.score - row.confirmed_score, "+.3f")),
        _falling("undefined", "Undefined voxels", lambda row, _: _count(row.n_undefined or None)),
    ]


def _of_others(rows: Sequence[Row]) -> list[Column]:
    """Return a column for each other metric, statistic of the confirmation and region that some row has."""
    metrics = dict.fromkeys(name for row in rows for name in row.trial.metrics if name != row.trial.objective)
    found = [_metric_column(name) for name in metrics]
    statistics = dict.fromkeys((item.name, item.heading) for row in rows for item in _statistics(row) if item.heading)
    found += [_statistic_column(name, heading) for name, heading in statistics]
    regions = dict.fromkeys(name for row in rows for name in row.metric.regions)
    return found + [_region_column(name) for name in regions]


def _statistics(row: Row) -> list[Statistic]:
    if row.confirmed is None:
        return []
    return [item for item in statistics_of(row.confirmed.whole) if not item.name.startswith(("score", "n_voxels"))]


def _metric_column(name: str) -> Column:
    def cell(row: Row, _: int | None) -> Cell:
        item = row.trial.metrics.get(name)
        return _number(item.score if item else None)

    return _falling(keyed("metric", name), name, cell, small="validation")


def _statistic_column(name: str, heading: str) -> Column:
    def cell(row: Row, _: int | None) -> Cell:
        value = next((item.value for item in _statistics(row) if item.name == name), None)
        return _count(value) if isinstance(value, int) else _number(value)

    key = keyed("confirmation", name.removesuffix("_score").removeprefix("control_"))
    return _falling(key, heading, cell, small="confirmation")


def _region_column(name: str) -> Column:
    def cell(row: Row, _: int | None) -> Cell:
        return _number(row.metric.regions.get(name, {}).get(row.measure.summary))

    return _falling(keyed("region", name), name, cell, small="validation")


def _of_origin() -> list[Column]:
    return [
        Column("looks", "Looks", lambda row, _: _count(row.confirmed.looks if row.confirmed else None), is_number=True),
        Column("registered", "Registered as", lambda row, _: _text(row.registered)),
        Column("origin", "From", lambda row, _: _text(row.origin)),
        Column("verified", "Verified", lambda row, _: _text(row.verified)),
        Column("study", "Study", lambda row, _: _text(row.study)),
        Column("trial", "Trial", lambda row, _: _count(row.trial.number), is_number=True),
        Column("home", "Home", lambda row, _: _text(home_name(row.home) if row.home else "")),
        Column("run", "Run", lambda row, _: _text(row.run_id)),
        Column("note", "Note", lambda row, _: _text(row.note)),
    ]


def _falling(key: str, label: str, cell: MakeCell, shown: Shown = "asked", small: str = "") -> Column:
    """Make a column of numbers of which the largest come first."""
    return Column(key, label, cell, is_number=True, shown=shown, first="descending", small=small)


def _network(row: Row) -> Cell:
    """Name the network; layer, components and regressor are for screens without room for their columns."""
    spec = row.trial.spec
    return Cell(spec.backbone, spec.backbone, f"{spec.space} · {spec.n_components} · {spec.regressor}")


def _text(text: str) -> Cell:
    return Cell(text or "–", text)


def _count(value: int | None) -> Cell:
    return Cell("–", None) if value is None else Cell(format(value, ","), value)


def _number(value: float | None, form: str = ".3f") -> Cell:
    if value is None or not math.isfinite(value):
        return Cell("–", None)
    return Cell(format(value, form).replace("-", "−") if "f" in form else format(value, form), value)


def _confirmation(row: Row) -> Cell:
    if row.confirmed is None or not math.isfinite(row.confirmed_score):
        return Cell("–", None)
    score = row.confirmed.whole.score
    return Cell(estimate_text(score), score.estimate, bounds_text(score))
