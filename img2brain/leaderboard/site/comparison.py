"""What the page of comparisons reads: scores, paired differences and voxels of all rows that may be compared.

It is a script that sets one value, since a page that is opened from disk may not fetch a file.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.leaderboard.published import confirmed_rows, paired
from img2brain.leaderboard.rows import Row, printable
from img2brain.leaderboard.site.board import Board
from img2brain.leaderboard.site.forest import region_of
from img2brain.leaderboard.site.names import row_id
from img2brain.records import Estimate
from img2brain.result import WHOLE
from img2brain.statistics.bootstrap import Summaries
from img2brain.statistics.ties import corrected

MOST_VOXELS = 2000
_MOST_INTERVALS = 10_000  # of pairs and regions; more would take minutes and megabytes
_LARGEST = 32_000  # of the whole numbers that scores are written as
_UNDEFINED = -32_768


def comparison_script(boards: Sequence[Board]) -> str:
    """Write all that may be compared as a script."""
    groups = [group for board in boards for group in _groups(board)]
    return f"globalThis.leaderboard = {json.dumps(groups, allow_nan=False)};\n"


def _groups(board: Board) -> list[dict[str, Any]]:
    """Group the published rows of a board that were scored on the same rows."""
    found: dict[str, list[Row]] = {}
    for row in board.published:
        if row.confirmed is not None:
            found.setdefault(row.confirmed.rows, []).append(row)
    return [_group(board, rows) for rows in found.values()]


def _group(board: Board, rows: list[Row]) -> dict[str, Any]:
    regions = _regions(rows)
    places = _shown_voxels(rows)
    return {
        "board": board.id,
        "dataset": printable(board.dataset.name),
        "measure": printable(board.measure.over_voxels),
        "voxel": printable(board.measure.of_a_voxel),
        "regions": [printable(name) for name in regions],
        "voxels": [int(places.size), max((_n_voxels(row) for row in rows), default=0)],
        "rows": [_row(row, regions, places) for row in rows],
        "pairs": _pairs(rows, regions),
    }


def _row(row: Row, regions: list[str], places: NDArray[np.intp]) -> dict[str, Any]:
    spec = row.trial.spec
    scale, voxels = _packed(_accuracy(row), places)
    parts = [region_of(row, name) for name in regions]
    return {
        "id": row_id(row),
        "name": printable(spec.backbone),
        "about": printable(f"{row.trial.network.trained} · {spec.space} · {spec.n_components} · {spec.regressor}"),
        "rank": row.place.rank if row.place else None,
        "scores": [_numbers(part.score) if part else None for part in parts],
        "scale": scale,
        "voxels": voxels,
    }


def _regions(rows: list[Row]) -> list[str]:
    """Return all voxels and the regions of the rows, unless their pairs are too many."""
    names = [WHOLE, *dict.fromkeys(name for row in rows if row.confirmed for name in row.confirmed.regions)]
    return names if math.comb(len(rows), 2) * len(names) <= _MOST_INTERVALS else [WHOLE]


def _pairs(rows: list[Row], regions: list[str]) -> list[Any]:
    """Return the paired differences of each two rows, in each region, and the corrected p; null where none is known.

    In the order of `itertools.combinations`. Rows that met other resamples are not paired.
    """
    found = {pair: value for group in paired(rows) for pair, value in _paired(group, regions).items()}
    nothing = [[None] * len(regions), None]
    return [found.get(frozenset(pair), nothing) for pair in combinations(rows, 2)]


def _paired(group: list[Row], regions: list[str]) -> dict[frozenset[Row], list[Any]]:
    """Compare each two of some rows that met the same resamples, the one that stands first minus the other."""
    ordered = confirmed_rows(group)
    known = [row.summaries for row in ordered if row.summaries is not None]
    p = corrected([each.of([WHOLE]) for each in known], WHOLE) if len(known) > 1 else np.empty((0, 0))
    return {
        frozenset((ordered[i], ordered[j])): [_differences(known[i], known[j], regions), _finite(float(p[i, j]))]
        for i, j in combinations(range(len(ordered)), 2)
    }


def _differences(one: Summaries, other: Summaries, regions: list[str]) -> list[list[float | None] | None]:
    common = [name for name in regions if name in one.regions and name in other.regions]
    difference = one.of(common) - other.of(common)
    return [_numbers(difference.interval(name)) if name in common else None for name in regions]


def _accuracy(row: Row) -> NDArray[np.floating[Any]] | None:
    found = row.confirming("accuracy")
    return None if found is None or found.ndim != 1 else np.asarray(found, np.float64)


def _n_voxels(row: Row) -> int:
    return row.confirmed.whole.n_voxels if row.confirmed else 0


def _shown_voxels(rows: list[Row]) -> NDArray[np.intp]:
    """Choose the voxels that are drawn: all, or so many that are spread evenly over all."""
    n_voxels = max(map(_n_voxels, rows), default=0)
    places = np.linspace(0, n_voxels - 1, min(n_voxels, MOST_VOXELS)).round()
    return np.unique(places.astype(np.intp))


def _packed(accuracy: NDArray[np.floating[Any]] | None, places: NDArray[np.intp]) -> tuple[float, str]:
    """Write scores as whole numbers of two bytes, in base64; empty where none are stored."""
    if accuracy is None or not places.size or places[-1] >= len(accuracy):
        return 1.0, ""
    shown = accuracy[places]
    finite = np.isfinite(shown)
    scale = float(np.abs(shown[finite]).max(initial=0.0)) / _LARGEST or 1.0
    whole = np.where(finite, np.round(np.where(finite, shown, 0.0) / scale), _UNDEFINED).astype("<i2")
    return scale, base64.b64encode(whole.tobytes()).decode()


def _numbers(found: Estimate) -> list[float | None]:
    return [_finite(value) for value in (found.estimate, found.low, found.high)]


def _finite(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
