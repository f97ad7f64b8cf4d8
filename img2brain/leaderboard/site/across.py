"""Models over all data sets that they were published on, by one metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from img2brain.leaderboard.measure import Measure
from img2brain.leaderboard.published import paired
from img2brain.leaderboard.rows import Row
from img2brain.leaderboard.site.axis import Axis
from img2brain.leaderboard.site.board import Board
from img2brain.leaderboard.site.digits import bounds_text
from img2brain.leaderboard.site.forest import DrawnInterval, interval_at
from img2brain.leaderboard.site.names import row_id, slug
from img2brain.result import WHOLE
from img2brain.statistics.across import FEWEST_DATASETS, Standing, standings

Key = tuple[str, str, str]  # network, digest of its weights, preprocessing: what makes two rows one model


class AcrossLine(NamedTuple):
    """A model over all data sets."""

    row: Row
    mean: DrawnInterval
    like_these: str
    rank: str
    rank_bounds: str
    win_rate: str
    win_bounds: str
    scores: list[tuple[str, float, float, str]]


@dataclass(frozen=True, eq=False)
class Across:
    """The models that were published on several data sets, by one metric.

    Attributes
    ----------
    boards : list of Board
        One for each data set.
    rows : list of list of Row
        For each board, those of the models, in one order.
    """

    boards: list[Board]
    rows: list[list[Row]]

    @property
    def id(self) -> str:
        """Names its section."""
        return f"across-{slug(self.measure.metric)}-{self.measure.summary}"

    @property
    def measure(self) -> Measure:
        """What the scores are."""
        return self.boards[0].measure

    @cached_property
    def axis(self) -> Axis:
        """The axis of all scores."""
        means = [value for each in self._standings for value in (each.mean.low, each.mean.high)]
        return Axis.around([row.confirmed_score for rows in self.rows for row in rows] + means)

    @cached_property
    def lines(self) -> list[AcrossLine]:
        """The models, the highest mean first."""
        found = [self._line(model) for model in range(len(self.rows[0]))]
        order = np.argsort([-each.mean.estimate for each in self._standings], kind="stable")
        return [found[model] for model in order]

    @cached_property
    def _standings(self) -> list[Standing]:
        return standings(*self._scores)

    @cached_property
    def _like_these(self) -> list[Standing]:
        return standings(*self._scores, like_these=True) if len(self.boards) >= FEWEST_DATASETS else []

    @property
    def _scores(self) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]], list[np.ndarray]]:
        scores = np.array([[row.confirmed_score for row in rows] for rows in self.rows], np.float64)
        return scores, [np.stack([_resampled(row) for row in rows], axis=1) for rows in self.rows]

    def _line(self, model: int) -> AcrossLine:
        found = self._standings[model]
        rows = [rows[model] for rows in self.rows]
        names = [board.dataset.name for board in self.boards]
        return AcrossLine(
            rows[0],
            interval_at(self.axis, found.mean),
            bounds_text(self._like_these[model].mean) if self._like_these else "",
            f"{found.rank.estimate:.1f}",
            f"[{found.rank.low:.1f}, {found.rank.high:.1f}]",
            f"{found.win_rate.estimate:.0%}",
            f"[{found.win_rate.low:.0%}, {found.win_rate.high:.0%}]",
            [
                (name, row.confirmed_score, self.axis.at(row.confirmed_score), row_id(row))
                for name, row in zip(names, rows, strict=True)
            ],
        )


def acrosses_of(boards: Sequence[Board]) -> list[Across]:
    """Match models across data sets, for each metric that several data sets share.

    Two rows are one model where network, weights (by their digest) and preprocessing are the same; layer, components
    and regressor are each study's own choice. Of several rows of a model the one counts that validates best.
    """
    by_measure: dict[tuple[str, str], list[Board]] = {}
    for board in boards:
        by_measure.setdefault((board.measure.metric, board.measure.summary), []).append(board)
    return [found for group in by_measure.values() if (found := _across(group)) is not None]


def _across(boards: list[Board]) -> Across | None:
    models = {board.id: _models(board) for board in boards}
    chosen = _sharing(boards, models)
    if len(chosen) < 2:
        return None
    keys = [key for key in models[chosen[0].id] if all(key in models[board.id] for board in chosen)]
    return Across(chosen, [[models[board.id][key] for key in keys] for board in chosen])


def _sharing(boards: list[Board], models: dict[str, dict[Key, Row]]) -> list[Board]:
    """Choose a board for each data set, those with most models first, as long as they share two models or more."""
    chosen: list[Board] = []
    shared: set[Key] = set()
    for board in sorted(boards, key=lambda board: -len(models[board.id])):
        found = shared & set(models[board.id]) if chosen else set(models[board.id])
        if len(found) >= 2 and board.dataset_page not in {other.dataset_page for other in chosen}:
            chosen, shared = [*chosen, board], found
    return sorted(chosen, key=boards.index)


def _models(board: Board) -> dict[Key, Row]:
    """Return the models of a board, of those that met the same resamples, where the most did."""
    groups = sorted(paired(board.published), key=len)
    beside = set(groups[-1]) if groups else set()
    found: dict[Key, Row] = {}
    for _, row in board.ranked:
        spec = row.trial.spec
        if row in beside:
            found.setdefault((spec.backbone, spec.weights_digest, spec.preprocessing), row)
    return found


def _resampled(row: Row) -> np.ndarray:
    assert row.summaries is not None
    return row.summaries.of([WHOLE]).resampled[:, 0]
