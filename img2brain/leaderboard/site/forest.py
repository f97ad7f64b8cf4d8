"""The picture that answers: published rows with their intervals, ties, controls and noise ceiling, best first.

Coordinates are per cent of the axis, so that a drawing is as wide as its place and its text keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from img2brain.leaderboard.published import paired
from img2brain.leaderboard.rows import Row
from img2brain.leaderboard.site.axis import Axis
from img2brain.leaderboard.site.digits import bounds_text, estimate_text
from img2brain.leaderboard.site.names import row_id
from img2brain.records import Estimate, RegionRecord
from img2brain.records.confirmation import UNTRAINED
from img2brain.result import WHOLE
from img2brain.statistics.ties import Place, place

KINDS = (UNTRAINED, "pixels", "shuffled")  # controls with a mark of their own
_MOST_PLACED = 120  # rows of a region whose pairs are all compared


class Mark(NamedTuple):
    """A control on a drawing: what it is called, how it is drawn, where."""

    name: str
    kind: str
    score: float
    at: float


class DrawnInterval(NamedTuple):
    """An estimate on a drawing, in per cent and as texts; no interval where none is known."""

    at: float | None
    low: float | None
    high: float | None
    text: str
    bounds: str


@dataclass(frozen=True)
class ForestLine:
    """A row of a forest plot.

    Attributes
    ----------
    row : Row
        Whose score it is.
    id : str
        Names the row's page.
    interval : DrawnInterval
        The score.
    marks : list of Mark
        Controls on the same rows.
    place : Place, optional
        Where it stands; None where that is not known.
    beside : int
        Number of the rows that it is placed among: those that met the same resamples.
    """

    row: Row
    id: str
    interval: DrawnInterval
    marks: list[Mark]
    place: Place | None
    beside: int

    @property
    def rank(self) -> str:
        """The rank that its tie group shares."""
        return str(self.place.rank) if self.place else "–"

    @property
    def drop(self) -> str:
        """By how much less it scores than on the part of the rows that ranks, over all voxels; empty on that one."""
        found = self.row.drop
        return "" if found is None else f"{estimate_text(found)} {bounds_text(found)}"

    @property
    def tie(self) -> tuple[int, int] | None:
        """Names its tie group; None where none is known."""
        return (self.beside, self.place.group) if self.place else None


@dataclass(frozen=True)
class Forest:
    """A forest plot of one region.

    Attributes
    ----------
    region : str
        Its name; empty for all voxels.
    n_voxels : int
        How many voxels that is.
    axis : Axis
        Of all rows.
    lines : list of ForestLine
        Best first.
    ceiling : float, optional
        The noise ceiling.
    """

    region: str
    n_voxels: int
    axis: Axis
    lines: list[ForestLine]
    ceiling: float | None

    @property
    def kinds(self) -> list[str]:
        """The controls that are drawn, the known ones first."""
        return kinds_in(line.marks for line in self.lines)

    @property
    def has_ties(self) -> bool:
        """Whether some rows share a rank."""
        ties = [line.tie for line in self.lines if line.tie]
        return len(set(ties)) < len(ties)

    @property
    def banded(self) -> list[tuple[ForestLine, bool, bool]]:
        """The rows, with whether each begins a tie group, and whether its group's band is shaded."""
        found: list[tuple[ForestLine, bool, bool]] = []
        for line in self.lines:
            begins = not found or line.tie is None or line.tie != found[-1][0].tie
            shaded = (not found or not found[-1][2]) if begins else found[-1][2]
            found.append((line, begins, shaded))
        return found

    @property
    def best(self) -> list[ForestLine]:
        """The rows that no image tells from the best."""
        first = self.lines[0].tie
        return [line for line in self.lines if line.tie == first] if first else []


def forest(rows: Sequence[Row], region: str = WHOLE) -> Forest | None:
    """Draw rows that were published on one board, over all voxels or those of a region; None where none has it.

    Parameters
    ----------
    rows : sequence of Row
        From `confirmed_rows`.
    region : str
        One of their regions of interest.
    """
    found = [(row, part) for row in rows if (part := region_of(row, region)) is not None]
    if not found:
        return None
    if region != WHOLE:
        found.sort(key=lambda pair: -pair[1].score.estimate if math.isfinite(pair[1].score.estimate) else math.inf)
    axis = Axis.around(_values([part for _, part in found]))
    groups = paired(row for row, _ in found)
    beside = {row: number for number, group in enumerate(groups) for row in group}
    places = {row: found for group in groups for row, found in _places(group, region)}
    lines = [
        ForestLine(
            row, row_id(row), interval_at(axis, part.score), marks_of(axis, part), places.get(row), beside.get(row, -1)
        )
        for row, part in found
    ]
    return Forest(region, found[0][1].n_voxels, axis, lines, ceiling_of([part for _, part in found]))


def region_of(row: Row, region: str) -> RegionRecord | None:
    """Return what the confirmation rows say of a row over a region."""
    if row.confirmed is None:
        return None
    return row.confirmed.whole if region == WHOLE else row.confirmed.regions.get(region)


def interval_at(axis: Axis, found: Estimate) -> DrawnInterval:
    """Place an estimate on an axis."""
    at, low, high = (
        axis.at(value) if math.isfinite(value) else None for value in (found.estimate, found.low, found.high)
    )
    return DrawnInterval(at, low, high, estimate_text(found), bounds_text(found))


def marks_of(axis: Axis, part: RegionRecord) -> list[Mark]:
    """Place the controls of a row on an axis."""
    scores = {name: item.score for name, item in part.controls.items() if math.isfinite(item.score)}
    return [Mark(name, kind_of(name), score, axis.at(score)) for name, score in scores.items()]


def kind_of(name: str) -> str:
    """Return how a control is drawn."""
    return name if name in KINDS else "other"


def kinds_in(lines: Iterable[Iterable[Mark]]) -> list[str]:
    """Name the controls that are marked on some lines, each once, the known ones first."""
    names = dict.fromkeys(mark.name for marks in lines for mark in marks)
    return sorted(names, key=lambda name: (kind_of(name) == "other", name))


def ceiling_of(parts: Sequence[RegionRecord]) -> float | None:
    """Return the noise ceiling, which all rows of a board share."""
    found = [part.ceiling.score for part in parts if part.ceiling is not None]
    return next((score for score in found if math.isfinite(score)), None)


def _values(parts: Sequence[RegionRecord]) -> Iterator[float]:
    for part in parts:
        yield from (part.score.estimate, part.score.low, part.score.high)
        yield from (item.score for item in part.controls.values())
    yield from filter(None, [ceiling_of(parts)])


def _places(group: list[Row], region: str) -> list[tuple[Row, Place | None]]:
    """Place rows that met the same resamples, in a region, best first; those of all voxels are placed already."""
    if region == WHOLE:
        return [(row, row.place) for row in group]
    known = [(row, row.summaries) for row in group if row.summaries is not None and region in row.summaries.regions]
    if len(known) > _MOST_PLACED:
        return []
    return [
        (row, found)
        for (row, _), found in zip(known, place([each.of([region]) for _, each in known], region), strict=True)
    ]
