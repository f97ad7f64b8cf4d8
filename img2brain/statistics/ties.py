"""Ties: rows of a board that their images, or their voxels, cannot tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from img2brain.records import Estimate
from img2brain.statistics.bootstrap import LEVEL
from img2brain.statistics.significance import holm

F64 = NDArray[np.float64]
R = TypeVar("R", bound="Resampled")
MOST_SPLIT = 0.75
VOXEL_RULE = "ties by voxels alone: a rank is shared unless one is higher in three quarters of them"


class Resampled(Protocol):
    """A score in resamples: of one dataset, or over the members of a study."""

    def __sub__(self, other: Self) -> Self:
        """Return the paired difference."""
        ...

    def interval(self, region: str, level: float) -> Estimate:
        """Return the interval of a region."""
        ...

    def p_value(self, region: str) -> float:
        """Return the p of a score of 0."""
        ...


@dataclass(frozen=True)
class Place:
    """Where a row stands on a board.

    Attributes
    ----------
    group : int
        Number of its tie group, from 1: the rank that its group shares is that of the group's first row.
    rank : int
        Rank of the group.
    difference : Estimate, optional
        The row above minus this one, paired; None for the first row.
    p_value : float
        That they do not differ, corrected for all pairs of the board (Holm); NaN for the first row.
    """

    group: int
    rank: int
    difference: Estimate | None
    p_value: float


def place(rows: Sequence[R], region: str, level: float = LEVEL) -> list[Place]:
    """Place rows that were scored on the same images, best first.

    Parameters
    ----------
    rows : sequence of Summaries or OverMembers
        Best first, all from the same resamples.
    region : str
        What they are ranked by.
    level : float
        Confidence that no two rows are told apart wrongly.

    Returns
    -------
    list of Place

    Notes
    -----
    A row is in the group of the row above unless it is told apart from it, or from the first of the group: a chain of
    small steps does not make a tie of its ends. All pairs count as comparisons.
    """
    p = corrected(rows, region)
    found: list[Place] = []
    for group, head, number in _groups(p < 1 - level):
        difference = (rows[number - 1] - rows[number]).interval(region, level) if number else None
        found.append(Place(group, head + 1, difference, float(p[number - 1, number]) if number else np.nan))
    return found


def corrected(rows: Sequence[R], region: str) -> F64:
    """Return p values that two rows do not differ (n_rows, n_rows), corrected for all pairs (Holm).

    The upper triangle; NaN elsewhere.
    """
    p = np.full((len(rows), len(rows)), np.nan)
    pairs = list(combinations(range(len(rows)), 2))
    found = holm(np.array([(rows[i] - rows[j]).p_value(region) for i, j in pairs], dtype=np.float64))
    for (i, j), value in zip(pairs, found, strict=True):
        p[i, j] = value
    return p


def place_by_voxels(rows: Sequence[F64]) -> list[Place]:
    """Place rows of which only the scores of voxels are known, best first.

    Parameters
    ----------
    rows : sequence of ndarray (n_voxels,)
        Scores of each voxel, best summary first.

    Notes
    -----
    Voxels share images and noise: they are no sample, and no interval over them is one over images. Two rows are told
    apart only where one has the higher score in at least three quarters of the voxels; ties among voxels count half.
    """
    apart = np.zeros((len(rows), len(rows)), dtype=bool)
    for i, j in combinations(range(len(rows)), 2):
        share = wins(rows[i], rows[j])
        apart[i, j] = max(share, 1 - share) >= MOST_SPLIT
    return [Place(group, head + 1, None, np.nan) for group, head, _ in _groups(apart)]


def wins(first: F64, second: F64) -> float:
    """Return the share of voxels in which the first has the higher score; equal ones count half, undefined ones lose.

    Examples
    --------
    >>> wins(np.array([0.3, 0.2, 0.1]), np.array([0.2, 0.2, np.nan]))
    0.8333333333333334
    """
    one, other = np.nan_to_num(first, nan=-np.inf), np.nan_to_num(second, nan=-np.inf)
    return float(((one > other) + 0.5 * (one == other)).mean())


def _groups(apart: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Return (group, first row of the group, row) of each row, given which pairs are told apart."""
    found: list[tuple[int, int, int]] = []
    for number in range(len(apart)):
        group, head = found[-1][:2] if found else (0, 0)
        if not found or apart[number - 1, number] or apart[head, number]:
            group, head = group + 1, number
        found.append((group, head, number))
    return found
