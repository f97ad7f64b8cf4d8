"""When two numbers agree: each within a tolerance of its own size, so that one that is huge excuses no other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def is_close(stored: float, found: float, tolerance: float) -> bool:
    """Tell whether a number is another within the tolerance, of 1 or of the number where that is larger.

    What is not finite is close to its like alone.

    Examples
    --------
    >>> is_close(0.5, 0.5 + 1e-12, 1e-11), is_close(0.5, math.inf, 1e-11)
    (True, False)
    """
    if not (math.isfinite(stored) and math.isfinite(found)):
        return stored == found or (math.isnan(stored) and math.isnan(found))
    return abs(stored - found) <= tolerance * max(1.0, abs(found))


def first_apart(stored: NDArray[Any], found: NDArray[Any], tolerance: float) -> tuple[int, ...] | None:
    """Return the first place where two arrays of numbers of one shape are not close, see `is_close`.

    Examples
    --------
    >>> first_apart(np.array([1e9, 0.5]), np.array([1e9, 0.4]), 1e-6)
    (1,)
    """
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.abs(stored - found) <= tolerance * np.maximum(1.0, np.abs(found))
    same = (stored == found) | (np.isnan(stored) & np.isnan(found))
    apart = ~np.where(np.isfinite(stored) & np.isfinite(found), near, same)
    return tuple(int(place) for place in np.argwhere(apart)[0]) if apart.any() else None
