"""Whether what a bundle says agrees with what follows from the rest of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.leaderboard.bundles.closeness import is_close

TOLERANCE = 1e-11  # of a number of about 1: processors add in another order
_LARGEST_SCORE = 1e150  # of those that a home takes: their squares have a sum

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Difference:
    """The first place where a row does not agree with itself.

    Attributes
    ----------
    what : str
        Where, such as ``"confirmation.whole.score.low"``.
    stored, found : str
        What the bundle says, and what follows from the rest of it.
    """

    what: str
    stored: str
    found: str

    def __str__(self) -> str:
        return f"{self.what} must be {self.found}. Got {self.stored}"


class Disagrees(Exception):  # noqa: N818 - it never leaves a check
    """The first difference of a row, which ends its check."""

    def __init__(self, what: str, stored: object, found: object) -> None:
        super().__init__(what)
        self.difference = Difference(what, _shown(stored), _shown(found))


def first_difference(stored: Any, found: Any, what: str) -> Difference | None:
    """Compare plain data, numbers within the tolerance, and return the first difference."""
    try:
        agree(what, stored, found)
    except Disagrees as error:
        return error.difference
    return None


def numbers(
    array: NDArray[Any] | None, shape: tuple[int, ...], what: str, least: float, most: float
) -> NDArray[np.float64]:
    """Check numbers, NaN where they are undefined, and their range; an end that is NaN is that of all scores."""
    if array is None or array.shape != shape or array.dtype.kind != "f" or np.isinf(array).any():
        told = "nothing" if array is None else f"{array.dtype} {array.shape}"
        raise Disagrees(what, told, f"numbers {shape}")
    if out_of(array, least, most):
        raise Disagrees(what, "a number out of range", f"numbers from {least} to {most}")
    return np.asarray(array, np.float64)


def out_of(array: NDArray[Any], least: float, most: float) -> bool:
    """Tell whether a number is out of a range; an end that is NaN is that of all scores."""
    with np.errstate(invalid="ignore", over="ignore"):
        numbers = array.astype(np.float64)
        below = numbers < np.fmax(least, -_LARGEST_SCORE)
        return bool((below | (numbers > np.fmin(most, _LARGEST_SCORE))).any())


def mask(array: NDArray[Any] | None, n_voxels: int, what: str) -> Mask:
    """Check what is true or false of each voxel; where it is not there, it is false of all."""
    if array is None:
        return np.zeros(n_voxels, dtype=bool)
    if array.shape != (n_voxels,) or array.dtype != np.bool_:
        raise Disagrees(what, f"{array.dtype} {array.shape}", f"true or false ({n_voxels},)")
    return array


def plain(value: Any) -> Any:
    """Return records as plain data."""
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def listed(array: NDArray[Any] | None) -> list[Any]:
    """Return an array as plain data."""
    return [] if array is None else array.tolist()


def agree(what: str, stored: Any, found: Any) -> None:
    """Compare plain data, numbers within the tolerance, and stop at the first difference."""
    if isinstance(stored, Mapping) and isinstance(found, Mapping):
        for name in sorted({*stored, *found}, key=str):
            if name not in stored or name not in found:
                raise Disagrees(
                    f"{what}.{name}", "it" if name in stored else "nothing", "nothing" if name in stored else "it"
                )
            agree(f"{what}.{name}", stored[name], found[name])
    elif isinstance(stored, list | tuple) and isinstance(found, list | tuple):
        if len(stored) != len(found):
            raise Disagrees(f"the length of {what}", len(stored), len(found))
        for place, (one, other) in enumerate(zip(stored, found, strict=True)):
            agree(f"{what}[{place}]", one, other)
    elif not _is_same(stored, found):
        raise Disagrees(what, stored, found)


def _is_same(stored: object, found: object) -> bool:
    numbers = (int, float)
    if not isinstance(stored, numbers) or not isinstance(found, numbers) or isinstance(stored, bool):
        return stored == found
    return is_close(stored, found, TOLERANCE)


def _shown(value: object) -> str:
    text = str(value) if isinstance(value, str) else repr(value)
    shown = "".join(char if char.isprintable() else "?" for char in text)
    return shown if len(shown) <= 120 else f"{shown[:120]}..."
