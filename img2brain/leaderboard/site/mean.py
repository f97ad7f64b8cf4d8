"""A board of the mean over members as the site shows it: its forest plot, and its table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from img2brain import digest
from img2brain.leaderboard.means import MeanBoard, MeanRow, mean_boards
from img2brain.leaderboard.measure import Measure
from img2brain.leaderboard.rows import Row, printable
from img2brain.leaderboard.site.axis import Axis
from img2brain.leaderboard.site.board import MOST_LINES
from img2brain.leaderboard.site.digits import bounds_text, estimate_text
from img2brain.leaderboard.site.forest import DrawnInterval, Mark, interval_at, kind_of, kinds_in
from img2brain.leaderboard.site.names import row_id, slug
from img2brain.records import Estimate

_N_DIGITS = 10


class MemberScore(NamedTuple):
    """What a model scores on one member: where that is drawn, and the page of its row."""

    name: str
    score: float
    at: float
    page: str


class MeanLine(NamedTuple):
    """A published model over all members."""

    row: MeanRow
    rank: str
    begins: bool
    shaded: bool
    mean: DrawnInterval
    marks: list[Mark]
    controls: dict[str, str]
    members: list[MemberScore]


@dataclass(frozen=True, eq=False)
class MeanView:
    """What the site says of the mean over members.

    Attributes
    ----------
    board : MeanBoard
        Its rows.
    """

    board: MeanBoard

    @property
    def id(self) -> str:
        """Names its section."""
        names = [printable(part) for row in self.board.rows[0].rows.values() for part in row.board_key]
        return f"mean-{slug(self.measure.metric)}-{digest.of_value(names)[:_N_DIGITS]}"

    @property
    def measure(self) -> Measure:
        """What the scores are."""
        return self.board.measure

    @property
    def whom(self) -> str:
        """Whom its intervals speak of."""
        if self.board.is_of_a_sample:
            return "subjects like these: images are resampled, and members are taken for a sample"
        return "these members: their images are resampled, those that several share together"

    @property
    def kinds(self) -> list[str]:
        """The controls that are drawn, the known ones first."""
        return kinds_in(line.marks for line in self.lines)

    @property
    def has_ties(self) -> bool:
        """Whether some models share a rank."""
        return any(not line.begins for line in self.lines)

    @cached_property
    def axis(self) -> Axis:
        """The axis of all scores."""
        rows = self.board.published
        scores = [value for row in rows if row.confirmed for _, value in row.confirmed]
        scores += [item.score for row in rows for item in row.controls.values()]
        return Axis.around([*scores, *(own.confirmed_score for row in rows for own in row.rows.values())])

    @cached_property
    def lines(self) -> list[MeanLine]:
        """The published models, best mean first."""
        found: list[MeanLine] = []
        before: object = None
        for row in self.board.published:
            tie = (row.resamples, row.place.group) if row.place else row
            begins = tie != before
            shaded = (not found or not found[-1].shaded) if begins else found[-1].shaded
            found.append(self._line(row, begins=begins, shaded=shaded))
            before = tie
        return found

    @property
    def trials(self) -> list[MeanRow]:
        """The trials with the highest validation means."""
        return self.board.rows[:MOST_LINES]

    @property
    def n_left_out(self) -> int:
        """Trials that stand in the files alone."""
        return len(self.board.rows) - len(self.trials)

    def _line(self, row: MeanRow, *, begins: bool, shaded: bool) -> MeanLine:
        marks = [
            Mark(name, kind_of(name), item.score, self.axis.at(item.score))
            for name, item in row.controls.items()
            if math.isfinite(item.score)
        ]
        told = {name: _difference(item.difference) for name, item in row.controls.items()}
        mean = interval_at(self.axis, row.confirmed or Estimate(estimate=math.nan))
        rank = str(row.place.rank) if row.place else "–"
        members = [
            MemberScore(name, own.confirmed_score, self.axis.at(own.confirmed_score), row_id(own))
            for name, own in row.rows.items()
        ]
        return MeanLine(row, rank, begins, shaded, mean, marks, told, members)


def mean_views(rows: Iterable[Row]) -> list[MeanView]:
    """Gather what the site says of the means over members of some rows."""
    return [MeanView(board) for board in mean_boards(rows)]


def _difference(found: Estimate) -> str:
    return f"{estimate_text(found, sign=True)} {bounds_text(found, sign=True)}"
