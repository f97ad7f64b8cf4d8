"""Response files: opening them without trusting them, and looking for values that no regressor can use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from img2brain.datasets._links import is_there
from img2brain.errors import DataError, ShapeError

Array = NDArray[Any]

HELD = 1024  # what varies may be this much smaller than what it varies around: float32 keeps 14 bits of it
LARGEST_RESPONSE = 1e30  # float32 holds it, and its inverse

_BLOCK_BYTES = 1 << 24
_WHOLE = 2**53  # float64 holds every whole number up to it


def open_array(path: Path, axes: tuple[str, ...], *, texts: bool = False) -> Array:
    """Open a .npy file of numbers, memory-mapped and never unpickled.

    Parameters
    ----------
    path : Path
        Floats of 16, 32 or 64 bits or integers, in any byte order, C or Fortran.
    axes : tuple of str
        What its dimensions are, such as ``("images", "voxels")``.
    texts : bool
        Whether it may hold texts, too.

    Returns
    -------
    ndarray
        Read-only.

    Raises
    ------
    DataError
        If the file is absent, cut off, not a .npy or of another dtype.
    ShapeError
        If it has other dimensions, or an empty one.
    """
    if not (is_there(path) and path.is_file()):
        raise DataError(_none(path))
    what = "integers or texts (those of objects are written with .astype(str))" if texts else "numbers"
    try:
        with np.errstate(over="raise"):  # A header may claim a shape whose size overflows.
            array = _mapped(path)
    except Exception as error:  # NumPy's header parser raises nearly anything on a damaged file.
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(f"The file {str(path)!r} must be a complete .npy of {what}. Got: {reason}.") from error
    is_text = texts and array.dtype.kind == "U"
    if not is_text and (array.dtype.kind not in "fiu" or array.dtype.itemsize > 8):
        raise DataError(f"The file {str(path)!r} must hold floats (16, 32, 64 bits) or integers. Got {array.dtype}.")
    if array.ndim != len(axes) or 0 in array.shape:
        raise ShapeError(f"The file {str(path)!r} must have shape ({', '.join(axes)}). Got {array.shape}.")
    return array


def _mapped(path: Path) -> Array:
    """Map a file, tried again where Python gives up for no reason of the file.

    NumPy has Python parse the header. Python 3.11 counts how deep it is in that for all threads together, so that one
    that parses at the same moment can end another with a `SystemError`.
    """
    try:
        return open_memmap(path, mode="r")
    except SystemError:
        return open_memmap(path, mode="r")


def _none(path: Path) -> str:
    """Say why there is no file at a path."""
    if not path.exists():
        return f"The file {str(path)!r} must exist. It does not."
    return f"{str(path)!r} must be a .npy file. It is {'a folder' if path.is_dir() else 'none'}."


def float_type(*arrays: Array) -> np.dtype[Any]:
    """Return the narrower of float32 and float64 that holds these arrays.

    Examples
    --------
    >>> float_type(np.zeros(1, ">f2")), float_type(np.zeros(1, "i4"))
    (dtype('float32'), dtype('float64'))
    """
    return np.result_type(np.float32, *(array.dtype for array in arrays)).newbyteorder("=")


def float32_holds(lowest: Array, highest: Array) -> bool:
    """Tell whether float32 keeps what varies of numbers between these bounds.

    Examples
    --------
    >>> float32_holds(np.array([99.0]), np.array([101.0])), float32_holds(np.array([1e8 - 1]), np.array([1e8 + 1]))
    (True, False)
    """
    reach = highest - lowest
    return bool((np.maximum(np.abs(lowest), np.abs(highest)) <= np.where(reach > 0, HELD * reach, np.inf)).all())


def steps(shape: tuple[int, ...], block_bytes: int = _BLOCK_BYTES) -> Iterator[tuple[int, int]]:
    """Cut the rows of an array into ranges of at most so many bytes of float64, by default some 16 MB."""
    step = max(1, block_bytes // (8 * int(np.prod(shape[1:]))))
    return ((start, min(start + step, shape[0])) for start in range(0, shape[0], step))


def as_array(label: str, found: Any) -> Array:
    """Return what was given as an array, with NaN for floats that are masked.

    Parameters
    ----------
    label : str
        What was given, for messages.
    found : array-like
        What NumPy makes an array of.

    Raises
    ------
    DataError
        If NumPy makes no array of it, or something else than a float is masked.

    Examples
    --------
    >>> as_array("These", np.ma.masked_equal([1.0, -999.0], -999.0))
    array([ 1., nan])
    """
    if np.ma.is_masked(found):
        if found.dtype.kind != "f":
            raise DataError(f"{label} must not be masked, unless they are floats. Got a masked array of {found.dtype}.")
        return np.asarray(found.filled(np.nan))
    try:
        return found if isinstance(found, np.memmap) else np.asarray(found)
    except MemoryError:
        raise
    except Exception as error:  # Arrays of other libraries raise anything.
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        kind = type(found).__name__
        raise DataError(f"{label} must be an array, or become one. Got {kind}: {reason}.") from error


def require_exact(label: str, values: Array) -> Array:
    """Return numbers, unless they are integers that float64 would round.

    Raises
    ------
    DataError
        If one of them is beyond 2^53.
    """
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and values.size:
        largest = max(int(values.max()), -int(values.min()))
        if largest > _WHOLE:
            raise DataError(f"{label} must be whole numbers up to 2^53, which float64 holds. Got {largest} in size.")
    return values


def own_numbers(label: str, found: Any, shape: tuple[int | None, ...]) -> Array:
    """Return what was read as new floats of the shape that it must have.

    Parameters
    ----------
    label : str
        What was read, for messages.
    found : array-like
        Floats of 16, 32 or 64 bits or integers.
    shape : tuple of int or None
        None stands for any length.

    Returns
    -------
    ndarray of float32 or float64
        Its own memory: writing to it changes nothing that it was read from.

    Raises
    ------
    ShapeError
        If it has another shape.
    DataError
        If it holds something else, or integers that float64 would round.
    """
    values = as_array(label, found)
    if len(shape) != values.ndim or any(n not in (None, m) for n, m in zip(shape, values.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ShapeError(f"{label} must have shape ({wanted}). Got {values.shape}.")
    if values.dtype.kind not in "fiu" or values.dtype.itemsize > 8:
        raise DataError(f"{label} must be floats (16, 32, 64 bits) or integers. Got {values.dtype}.")
    return require_exact(label, values).astype(float_type(values), copy=values.base is not None)


class Scan:
    """What one pass over an array in blocks of rows finds.

    Parameters
    ----------
    read : callable
        ``read(start, stop)`` gives these rows; the last axis is voxels.
    shape : tuple of int
        Shape of the whole.
    is_bad : callable
        The values to count, such as those that are not finite.
    block_bytes : int
        The size of a block, in float64.

    Attributes
    ----------
    n_bad : int
        How many values are bad.
    first_bad : tuple of int or None
        Row and voxel of the first one, in the order of rows.
    lowest, highest : ndarray (n_voxels,)
        The bounds of each voxel.
    constant : ndarray of intp
        The voxels whose values are all equal.
    """

    def __init__(
        self,
        read: Callable[[int, int], Array],
        shape: tuple[int, ...],
        is_bad: Callable[[Array], Array] = lambda block: ~np.isfinite(block),
        block_bytes: int = _BLOCK_BYTES,
    ) -> None:
        self.n_bad, self._is_bad = 0, is_bad
        self.first_bad: tuple[int, int] | None = None
        lowest, highest = np.full(shape[-1], np.inf), np.full(shape[-1], -np.inf)
        for start, stop in steps(shape, block_bytes):
            block = read(start, stop)
            self._count(start, block)
            rows = block.reshape(-1, shape[-1])
            lowest, highest = np.minimum(lowest, rows.min(axis=0)), np.maximum(highest, rows.max(axis=0))
        self.lowest, self.highest = lowest, highest
        self.constant = np.flatnonzero(lowest == highest)

    @property
    def unheld(self) -> str:
        """Say which voxel is too large or varies too little for float32; empty where none is."""
        with np.errstate(over="ignore", invalid="ignore"):
            reach, largest = self.highest - self.lowest, np.maximum(np.abs(self.lowest), np.abs(self.highest))
            bad = np.flatnonzero((largest > LARGEST_RESPONSE) | ((reach > 0) & (reach < 1 / LARGEST_RESPONSE)))
        if self.n_bad or not len(bad):
            return ""
        voxel = bad[0]
        return (
            f"must lie within {LARGEST_RESPONSE:g} and vary by {1 / LARGEST_RESPONSE:g} or more, in a unit that "
            f"float32 holds. Got {self.lowest[voxel]:g}..{self.highest[voxel]:g} at voxel {voxel}."
        )

    def _count(self, start: int, block: Array) -> None:
        bad = self._is_bad(block)
        n_bad = int(np.count_nonzero(bad))
        if n_bad and self.first_bad is None:
            place = np.argwhere(bad)[0]
            self.first_bad = (start + int(place[0]), int(place[-1]))
        self.n_bad += n_bad
