"""Ranks and ties of the rows of a bundle, written by its home and computed again by whoever checks it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from img2brain.leaderboard.bundles.contents import row_name
from img2brain.leaderboard.published import confirmed_rows, with_places
from img2brain.leaderboard.rows import Row, boards, placed, revision_of
from img2brain.statistics.ties import Place


def boards_table(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return all boards of some rows as plain data: by validation score, and the published ones with their ties."""
    return [_board(with_places(board)) for board in boards(rows)]


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


def _place(place: Place | None) -> dict[str, Any]:
    if place is None:
        return {}
    found: dict[str, Any] = {"rank": place.rank, "group": place.group, "p": _number(place.p_value)}
    if place.difference is not None:
        found["below_the_row_above_by"] = {name: _number(value) for name, value in place.difference}
    return found


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
