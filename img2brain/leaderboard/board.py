"""One board as a page shows it: the facts, the published models, and a line per trial."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from img2brain.leaderboard.measure import Measure
from img2brain.leaderboard.published import confirmed_rows, heading, region_summary, summary_table
from img2brain.leaderboard.rows import Row, placed
from img2brain.records import DatasetRecord, RowsRecord


class PlainTable(NamedTuple):
    """A table of texts and numbers; a line with a `flag` is marked."""

    heads: list[str]
    lines: list[dict[str, object]]


class Published(NamedTuple):
    """What the confirmation rows say of the published models of a board."""

    heading: str
    models: PlainTable
    regions: PlainTable


@dataclass(frozen=True)
class Board:
    """What the page says of one board.

    Attributes
    ----------
    lines : list of (int or None, Row)
        Trials with their ranks, best first.
    published : Published, optional
        None where no model was published.
    top : float
        Where the bars end.
    """

    lines: list[tuple[int | None, Row]]
    published: Published | None
    top: float

    @property
    def dataset(self) -> DatasetRecord:
        """The dataset of all trials."""
        return self._first.trial.dataset

    @property
    def split(self) -> RowsRecord:
        """The rows of all trials."""
        return self._first.trial.rows

    @property
    def measure(self) -> Measure:
        """What the scores are."""
        return self._first.measure

    @property
    def _first(self) -> Row:
        return self.lines[0][1]

    def percent(self, score: float) -> float:
        """Return how long the bar of a score is."""
        return 100 * min(max(score / self.top, 0), 1)


def board_of(rows: list[Row]) -> Board:
    """Gather what a page says of rows of one dataset, one split and one objective, at least one.

    Raises
    ------
    DataError
        If the rows are not all of one board.
    """
    return Board(list(placed(rows)), _published(confirmed_rows(rows)), _top(rows))


def _published(rows: list[Row]) -> Published | None:
    if not rows:
        return None
    return Published(heading(rows), _plain(summary_table(rows)), _plain(region_summary(rows)))


def _plain(table: pd.DataFrame) -> PlainTable:
    found = table.astype(object).where(table.notna(), None).to_dict("records")
    lines = [{str(name): value for name, value in line.items()} for line in found]
    return PlainTable([str(name) for name in table.columns], lines)


def _top(rows: list[Row]) -> float:
    """Find where the bars end: the best score, rounded up to a tenth."""
    scores = [score for row in rows for score in (row.trial.score, row.confirmed_score) if math.isfinite(score)]
    return max(0.1, math.ceil(round(10 * max(scores, default=1.0), 6)) / 10)
