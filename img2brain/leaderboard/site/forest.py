"""The picture that answers: published rows with their intervals, ties, controls and noise ceiling, best first.

Coordinates are per cent of the axis, so that a drawing is as wide as its place and its text keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
    """

    row: Row
    id: str
    interval: DrawnInterval
    marks: list[Mark]
    place: Place | None

    @property
    def rank(self) -> str:
        """The rank that its tie group shares."""
        return str(self.place.rank) if self.place else "–"

    @property
    def group(self) -> int:
        """The number of its tie group, from 1; 0 where none is known."""
        return self.place.group if self.place else 0


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
        names = dict.fromkeys(mark.name for line in self.lines for mark in line.marks)
        return sorted(names, key=lambda name: (kind_of(name) == "other", name))

    @property
    def has_ties(self) -> bool:
        """Whether some rows share a rank."""
        return 0 < self.lines[-1].group < len(self.lines)

    @property
    def best(self) -> list[ForestLine]:
        """The rows that no image tells from the best."""
        return [line for line in self.lines if line.group == self.lines[0].group] if self.lines[0].group else []


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
    places = _places([row for row, _ in found], region)
    lines = [
        ForestLine(row, row_id(row), interval_at(axis, part.score), marks_of(axis, part), placed)
        for (row, part), placed in zip(found, places, strict=True)
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


def ceiling_of(parts: Sequence[RegionRecord]) -> float | None:
    """Return the noise ceiling, which all rows of a board share."""
    found = [part.ceiling.score for part in parts if part.ceiling is not None]
    return next((score for score in found if math.isfinite(score)), None)


def _values(parts: Sequence[RegionRecord]) -> Iterator[float]:
    for part in parts:
        yield from (part.score.estimate, part.score.low, part.score.high)
        yield from (item.score for item in part.controls.values())
    yield from filter(None, [ceiling_of(parts)])


def _places(rows: list[Row], region: str) -> list[Place | None]:
    """Return where rows stand in a region: told apart by the images, where all were scored on the same ones."""
    if region == WHOLE:
        return [row.place for row in rows]
    known = [row.summaries for row in rows if row.summaries is not None and region in row.summaries.regions]
    sizes = {
        (row.confirmed.rows, summaries.resampled.shape[0])
        for row, summaries in zip(rows, known, strict=False)
        if row.confirmed
    }
    if len(known) < len(rows) or len(sizes) != 1 or len(rows) > _MOST_PLACED:
        return [None] * len(rows)
    return list(place([summaries.of([region]) for summaries in known], region))
