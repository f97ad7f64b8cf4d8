"""One board as the site shows it: the answer, the forest plots by region, and the table of trials."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from img2brain.leaderboard.measure import Measure
from img2brain.leaderboard.published import by_part, confirmed_rows, heading, part_names
from img2brain.leaderboard.rows import Row, placed
from img2brain.leaderboard.site.axis import Axis
from img2brain.leaderboard.site.columns import Cell, Column, columns_of
from img2brain.leaderboard.site.forest import DrawnInterval, Forest, forest, interval_at
from img2brain.leaderboard.site.names import board_id, dataset_id, row_id
from img2brain.records import DatasetRecord, Estimate, RowsRecord
from img2brain.result import WHOLE

MOST_LINES = 200  # of the table; the rest is in the files
MOST_DRAWN = 20
MOST_NOTES = 10


@dataclass(frozen=True)
class TableLine:
    """A line of the table: its cells, and the page of a row that was published."""

    row: Row
    cells: list[Cell]
    page: str


class BoardPart(NamedTuple):
    """What a part of the confirmation rows says of the published rows of a board.

    Attributes
    ----------
    name : str
        Its name; empty where nobody named any.
    heading : str
        What its scores are.
    forests : list of Forest
        Forest plots, that of all voxels first.
    """

    name: str
    heading: str
    forests: list[Forest]


@dataclass(frozen=True)
class Board:
    """What the site says of one board.

    Attributes
    ----------
    ranked : list of (int or None, Row)
        All trials with their ranks, best first, at least one.
    """

    ranked: list[tuple[int | None, Row]]

    @property
    def id(self) -> str:
        """Names its section, and itself in the address."""
        return board_id(self._first)

    @property
    def dataset(self) -> DatasetRecord:
        """The dataset of all trials."""
        return self._first.trial.dataset

    @property
    def dataset_page(self) -> str:
        """Names the card of its dataset."""
        return dataset_id(self.dataset)

    @property
    def split(self) -> RowsRecord:
        """The rows of all trials."""
        return self._first.trial.rows

    @property
    def measure(self) -> Measure:
        """What the scores are."""
        return self._first.measure

    @cached_property
    def published(self) -> list[Row]:
        """The rows that were scored on confirmation rows, best first."""
        return confirmed_rows(row for _, row in self.ranked)

    @property
    def heading(self) -> str:
        """What the confirmation scores are."""
        return heading(self.published)

    @cached_property
    def parts(self) -> list[BoardPart]:
        """What each part of the confirmation rows says, the one that ranks first; none where nothing was published."""
        names = part_names(self.published)
        if not names:
            return [_part("", self.published)] if self.published else []
        return [_part(name, confirmed_rows(by_part(self.published, name))) for name in names]

    @property
    def forests(self) -> list[Forest]:
        """Forest plots of the part that ranks, that of all voxels first."""
        return self.parts[0].forests if self.parts else []

    @cached_property
    def strips(self) -> list[tuple[Row, int | None, DrawnInterval]]:
        """The best trials by their validation scores, for a board without published rows."""
        axis = self.strip_axis
        return [(row, rank, interval_at(axis, Estimate(estimate=row.trial.score))) for rank, row in self._leading]

    @cached_property
    def strip_axis(self) -> Axis:
        """The axis of the best trials."""
        return Axis.around(row.trial.score for _, row in self._leading)

    @cached_property
    def columns(self) -> list[Column]:
        """The columns of the table."""
        return columns_of([row for _, row in self.ranked])

    @property
    def lines(self) -> Iterator[TableLine]:
        """The lines of the table: the best ones, and all that were published."""
        for number, (rank, row) in enumerate(self.ranked):
            if number < MOST_LINES or row.confirmed is not None:
                yield TableLine(row, [c.cell(row, rank) for c in self.columns], row_id(row) if row.confirmed else "")

    @property
    def n_left_out(self) -> int:
        """Trials that stand in the files alone."""
        return sum(row.confirmed is None for _, row in self.ranked[MOST_LINES:])

    @property
    def notes(self) -> list[str]:
        """What has to be known of some rows."""
        return list(dict.fromkeys(row.note for _, row in self.ranked if row.note))[:MOST_NOTES]

    @property
    def origins(self) -> list[tuple[str, str]]:
        """Whose rows are here that are not this home's own, and how far they were verified."""
        return sorted({(row.origin, row.verified) for _, row in self.ranked if row.origin or row.verified})

    @property
    def _leading(self) -> list[tuple[int | None, Row]]:
        return [(rank, row) for rank, row in self.ranked if math.isfinite(row.trial.score)][:MOST_DRAWN]

    @property
    def _first(self) -> Row:
        return self.ranked[0][1]


def _part(name: str, rows: list[Row]) -> BoardPart:
    regions = dict.fromkeys(region for row in rows if row.confirmed for region in row.confirmed.regions)
    drawn = [found for region in (WHOLE, *regions) if (found := forest(rows, region)) is not None]
    return BoardPart(name, heading(rows), drawn)


def board_of(rows: list[Row]) -> Board:
    """Gather what the site says of rows of one dataset, one split and one objective, at least one.

    Raises
    ------
    DataError
        If the rows are not all of one board.
    """
    return Board(list(placed(rows)))
