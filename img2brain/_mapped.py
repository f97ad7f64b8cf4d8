"""Arrays that are mapped to files: for a while, where memory has no room; and the pages that are held of any."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
Make = Callable[[tuple[int, ...], DTypeLike], Array]  # a new array of a shape and a type

LARGE_BYTES = 1 << 30


def scratch_array(folder: Path, shape: tuple[int, ...], kind: DTypeLike, large_bytes: int = LARGE_BYTES) -> Array:
    """Return an array of zeros: in memory or, where it is large, in a file without a name, which goes with it.

    Parameters
    ----------
    folder : Path
        Whose disk takes it.
    shape : tuple of int
        Of the array.
    kind : dtype
        Of its values.
    large_bytes : int
        What is large.

    Raises
    ------
    OSError
        If the disk has no room for it: said here, and not where a value is written.
    """
    n_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
    if n_bytes < large_bytes:
        return np.zeros(shape, kind)
    with tempfile.TemporaryFile(dir=folder) as file:
        _take(file.fileno(), n_bytes)
        return np.memmap(file, kind, "r+", shape=shape)


def _take(descriptor: int, n_bytes: int) -> None:
    """Let a file have its room on the disk: a page of it that the disk had none for would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, n_bytes)
    else:
        os.truncate(descriptor, n_bytes)


def release(*arrays: Array) -> None:
    """Let go of the pages of memory-mapped arrays that were read: the system may keep them, the process does not.

    Else a file that is read in blocks would in the end count whole against the memory of a job.
    """
    for array in arrays:
        mapped = getattr(array, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
