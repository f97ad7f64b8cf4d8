"""Features that came with the data, in float32: counted from their means where float32 would lose what varies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain._mapped import release
from img2brain.datasets._responses import HELD, steps
from img2brain.datasets._split import Rows
from img2brain.errors import DataError

LARGEST = 1e15  # float32 holds the squares of numbers up to it, and down to its inverse, with sums of them
_WHOLE = 2**53


@dataclass(frozen=True, eq=False)
class Counted:
    """A matrix of features in float32.

    Attributes
    ----------
    values : ndarray of float32 (n_images, n_features)
        The features less `origin`, each difference taken before it is rounded.
    origin : ndarray of float64 (n_features,), optional
        The means of the fitted rows, where these exceed what varies by so much that float32 would lose it.
    """

    values: NDArray[np.float32]
    origin: NDArray[np.float64] | None


def count(label: str, matrix: NDArray[Any], rows: Rows) -> Counted:
    """Bring features to float32 without a loss of what varies.

    Parameters
    ----------
    label : str
        What they are called, for messages.
    matrix : ndarray (n_images, n_features)
        Finite numbers of any real type.
    rows : ndarray of int
        The rows that will be fitted; no others have a say in the origin.

    Raises
    ------
    DataError
        If float32 does not hold the numbers or their squares, wherever they are counted from.

    Examples
    --------
    >>> found = count("These", 1e8 + np.array([[0.0], [0.5]]), np.arange(2))
    >>> found.values.tolist(), found.origin.tolist()
    ([[-0.25], [0.25]], [100000000.25])
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean, reach = _mean_and_reach(matrix, rows)
        is_shifted = bool(reach > 0 and np.abs(mean).max() > HELD * reach)
        if is_shifted and matrix.dtype.kind in "iu" and np.abs(mean).max() > _WHOLE:
            raise DataError(f"{label} must be whole numbers up to 2^53, or vary by more. Got a mean of {mean.max():g}.")
        _require_held(label, matrix, mean if is_shifted else np.zeros(1), reach)
        if not is_shifted:
            return Counted(np.asanyarray(matrix, dtype=np.float32), None)
        values = np.empty(matrix.shape, np.float32)
        for start, stop in steps(matrix.shape):
            values[start:stop] = _read(matrix, slice(start, stop)) - mean
    return Counted(values, mean)


def as_fitted(matrix: NDArray[Any], rows: Rows) -> NDArray[Any]:
    """Return features as `count` does, or as they are where it refuses them: no study fits these."""
    try:
        return count("Features", matrix, rows).values
    except DataError:
        return matrix


def _mean_and_reach(matrix: NDArray[Any], rows: Rows) -> tuple[NDArray[np.float64], float]:
    """Return the mean of each feature over some rows, and the most that one of them is away from it."""
    blocks = [rows[start:stop] for start, stop in steps((len(rows), matrix.shape[1]))]
    mean = sum(((_read(matrix, block) / len(rows)).sum(axis=0, dtype=np.float64) for block in blocks), np.zeros(1))
    return mean, max(float(np.abs(_read(matrix, block) - mean).max()) for block in blocks)


def _read(matrix: NDArray[Any], place: Any) -> NDArray[Any]:
    """Copy some rows, and hold no more of a matrix that is mapped to a file."""
    found = np.array(matrix[place], subok=False)
    release(matrix)
    return found


def _require_held(label: str, matrix: NDArray[Any], origin: NDArray[np.float64], reach: float) -> None:
    if 0 < reach < 1 / LARGEST:
        raise DataError(f"{label} must vary by {1 / LARGEST:g} or more in their unit. Got at most {reach:g}.")
    for start, stop in steps(matrix.shape):
        large = np.argwhere(np.abs(_read(matrix, slice(start, stop)) - origin) > LARGEST)
        if len(large):
            row, column = large[0]
            raise DataError(
                f"{label} must be within {LARGEST:g} of their means, in a unit that float32 holds. "
                f"Got {matrix[start + row, column]:g} in row {start + row}, column {column}."
            )
