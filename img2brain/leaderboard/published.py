"""What the confirmation rows say of the published models of a board: their order, ties, controls and regions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import pandas as pd

from img2brain.amounts import counted
from img2brain.leaderboard.lines import side_by_side, table_of
from img2brain.leaderboard.record_numbers import (
    Statistic,
    images_text,
    interval_text,
    other_texts,
    statistics_of,
    summaries_of,
    texts_of,
)
from img2brain.leaderboard.rows import Row
from img2brain.records import PartRecord, RegionRecord
from img2brain.result import WHOLE, score_text
from img2brain.statistics.ties import Place, place

BOOTSTRAP_RULE = "paired bootstrap over images, Holm correction over all pairs"


def with_places(rows: Iterable[Row]) -> list[Row]:
    """Place the published models of a board that met the same resamples of the same rows, ties as ties."""
    rows = list(rows)
    groups = paired(rows)
    beside = {row for group in groups for row in group}
    return [row for row in rows if row not in beside] + [row for group in groups for row in _placed(group)]


def paired(rows: Iterable[Row]) -> list[list[Row]]:
    """Group the published models that met the same resamples of the same rows: their differences are paired.

    What an older version stored does not say which resamples it met: it met those of the home that it is in.
    """
    groups: dict[tuple[str, int, str], list[Row]] = {}
    usual: dict[tuple[str, int], str] = {}
    for row in sorted(rows, key=lambda row: row.origin != ""):
        if row.confirmed is None or row.summaries is None or not math.isfinite(row.confirmed_score):
            continue
        where, draws = (row.confirmed.rows, len(row.summaries.resampled)), row.summaries.draws
        groups.setdefault((*where, draws), []).append(row)
        if draws:
            usual.setdefault(where, draws)
    for rows_, n_resamples, draws in [key for key in groups if not key[2]]:
        known = (rows_, n_resamples, usual.get((rows_, n_resamples), ""))
        if known[2]:
            groups[known] += groups.pop((rows_, n_resamples, draws))
    return list(groups.values())


def part_names(rows: Iterable[Row]) -> list[str]:
    """Name the parts of the confirmation rows of some rows, the first one first; none where nobody named any."""
    records = [row.confirmation for row in rows if row.confirmation is not None and row.confirmation.is_named]
    return list(dict.fromkeys(name for record in records for name in (record.ranking, *record.others)))


def by_part(rows: Iterable[Row], part: str) -> list[Row]:
    """Return the rows of a board as a part of the confirmation rows ranks them, placed by it."""
    return with_places(row.by(part) for row in rows)


def confirmed_rows(board: Iterable[Row]) -> list[Row]:
    """Return the published rows of a board, best confirmation score first."""

    def order(row: Row) -> tuple[float, str, int, str]:
        score = row.confirmed_score
        return (-score if math.isfinite(score) else math.inf, row.study, row.trial.number, row.run_id)

    return sorted((row for row in board if row.confirmed is not None), key=order)


def summary_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Tell what the confirmation rows say, one line per published model, as texts for people.

    Parameters
    ----------
    rows : sequence of Row
        From `confirmed_rows`.
    """
    return pd.DataFrame([_line(row, row.confirmed) for row in rows if row.confirmed is not None]).fillna("")


def region_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Tell the same by region of interest in full, one line per model and region, as numbers.

    Columns are named by the fields of `RegionRecord`; the scores are those of the `objective`. Where parts of the
    confirmation rows have names, a line is of one part, too.
    """
    return table_of([_region_line(*found) for found in _regions(_of_each_part(rows))])


def region_lines(row: Row, width: int) -> Iterator[str]:
    """Tell the same of a model for people, a column for each region: without details, under the headings of pages."""
    found = {
        name: {_heading(row, item): _cell(item.value) for item in statistics_of(region) if item.heading}
        for _, name, region in _regions([row])
    }
    return side_by_side(found, width)


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else "-" if math.isnan(value) else score_text(value)


def heading(rows: Sequence[Row]) -> str:
    """Say in one line what the scores of these rows are."""
    parts = [row.confirmed for row in rows if row.confirmed is not None]
    images = images_text(parts[0])
    looks = _looks(rows)
    named = ", ".join(
        dict.fromkeys(r.confirmation.given_name for r in rows if r.confirmation and r.confirmation.is_named)
    )
    said = f"{named and f'{named}: '}{images}; confirmed {counted(looks, 'time')} on these rows"
    tested = any(row.place is not None and row.place.difference is not None for row in rows)
    return said + (f". Ties: {BOOTSTRAP_RULE}" if tested else "")


def _looks(rows: Sequence[Row]) -> int:
    """Count the models that were scored on these rows: what a home counted itself, and what each of others did."""
    counted: dict[str, int] = {}
    for row in rows:
        if row.confirmed is not None:
            whose = row.home if row.origin else ""
            counted[whose] = max(counted.get(whose, 0), row.confirmed.looks)
    return sum(counted.values())


def score_heading(row: Row) -> str:
    """Name the confirmation score of a board, for `summary_table`."""
    return f"confirmation {row.measure.short} [95 %]"


def _heading(row: Row, item: Statistic) -> str:
    return row.measure.short if item.name == "score" else item.heading


def _placed(group: list[Row]) -> Iterator[Row]:
    ordered = confirmed_rows(group)
    # Two datasets of the same responses may have other regions.
    wholes = [row.summaries.of([WHOLE]) for row in ordered if row.summaries is not None]
    for row, found in zip(ordered, place(wholes, WHOLE), strict=True):
        yield replace(row, place=found)


def _of_each_part(rows: Sequence[Row]) -> list[Row]:
    return [row.by(name) for row in rows if row.confirmation for name in row.confirmation.parts]


def _regions(rows: Sequence[Row]) -> Iterator[tuple[Row, str, RegionRecord]]:
    for row in rows:
        if row.confirmed is not None:
            for name, region in row.confirmed.regions.items():
                yield row, name, region


def _region_line(row: Row, name: str, region: RegionRecord) -> dict[str, str | float]:
    line: dict[str, str | float] = {"model": row.model}
    line |= {"part": row.confirmation.given_name} if row.confirmation and row.confirmation.is_named else {}
    line |= {"region": name, "objective": row.measure.metric}
    line |= {item.name: item.value for item in statistics_of(region)}
    return line | dict(summaries_of(region))


def _line(row: Row, part: PartRecord) -> dict[str, str]:
    spec, trained = row.trial.spec, row.trial.network.trained
    line = {
        "rank": "" if row.place is None else str(row.place.rank),
        "model": row.model,
        "backbone": spec.backbone,
        "weights": f"{spec.weights} ({trained})" if trained else spec.weights,
        "layer": str(spec.space),
        "regressor": spec.regressor,
        score_heading(row): interval_text(part.whole.score, 4),
        "below the row above by": _difference(row.place),
        "optimism": _signed(row.trial.score - part.whole.score.estimate),
    }
    if part.ceiling != "none":
        line["noise ceiling from"] = part.ceiling
    if part.flags:
        line["flag"] = "; ".join(part.flags)
    if row.drop:
        line["less than on the first part by"] = interval_text(row.drop, 4, sign=True)
    others = other_texts(row.confirmation) if row.confirmation and not row.drop else {}
    return line | others | texts_of(part.whole)


def _difference(found: Place | None) -> str:
    if found is None or found.difference is None:
        return ""
    p = f"p = {found.p_value:.2g}" if math.isfinite(found.p_value) else "no p"
    return f"{interval_text(found.difference)}, {p}"


def _signed(value: float) -> str:
    return format(value, "+.4f") if math.isfinite(value) else ""
