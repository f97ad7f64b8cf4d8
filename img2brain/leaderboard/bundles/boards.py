"""Ranks and ties of the rows of a bundle, written by its home and computed again by whoever checks it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from img2brain.leaderboard.bundles.contents import row_name
from img2brain.leaderboard.means import MeanBoard, MeanRow, mean_boards
from img2brain.leaderboard.published import confirmed_rows, with_places
from img2brain.leaderboard.rows import Row, boards, placed, revision_of
from img2brain.records import Estimate
from img2brain.statistics.ties import Place


def boards_table(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return all boards of some rows as plain data: by validation score, and the published ones with their ties.

    After them come those of means over members, where studies have several.
    """
    rows = list(rows)
    return [*(_board(with_places(board)) for board in boards(rows)), *map(_mean_board, mean_boards(rows))]


def _board(rows: list[Row]) -> dict[str, Any]:
    trial = rows[0].trial
    return {
        "data": trial.dataset.digest,
        "split": trial.rows.split,
        "metric": revision_of(trial),
        "summary": rows[0].measure.summary,
        "rows": [
            {"row": row_name(row.trial), "rank": rank, "score": _number(row.trial.score)} for rank, row in placed(rows)
        ],
        "published": [
            {"row": row_name(row.trial), "score": _number(row.confirmed_score), **_place(row.place)}
            for row in confirmed_rows(rows)
        ],
    }


def _mean_board(board: MeanBoard) -> dict[str, Any]:
    return {
        "members": board.members,
        "metric": revision_of(board.rows[0].trial),
        "summary": board.measure.summary,
        "rows": [{**_of_members(row), "score": _number(row.validation)} for row in board.rows],
        "published": [
            {
                **_of_members(row),
                "score": _estimate(row.confirmed),
                "controls": {name: _estimate(item.difference) for name, item in row.controls.items()},
                **_place(row.place),
            }
            for row in board.published
        ],
    }


def _of_members(row: MeanRow) -> dict[str, Any]:
    return {"of": [row_name(item.trial) for item in row.rows.values()]}


def _estimate(found: Estimate | None) -> dict[str, float | None]:
    return {name: _number(value) for name, value in found or ()}


def _place(place: Place | None) -> dict[str, Any]:
    if place is None:
        return {}
    found: dict[str, Any] = {"rank": place.rank, "group": place.group, "p": _number(place.p_value)}
    if place.difference is not None:
        found["below_the_row_above_by"] = _estimate(place.difference)
    return found


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
