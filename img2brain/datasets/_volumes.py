"""Volumes and surfaces: NIfTI files, read by nibabel, and MGH files, and regions in them."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets import _hdf5
from img2brain.datasets._extras import needed
from img2brain.datasets._links import is_there
from img2brain.datasets._split import Rows
from img2brain.errors import DataError, ShapeError

Array = NDArray[Any]

_NAME = re.compile(r"\s*(\d+)\s+(\S+)")


_MGH = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2"}
_MGH_HEADER = 284


def opened(path: Path) -> Any:
    """Open a volume or a surface without reading it: an array, or what is sliced like one.

    Raises
    ------
    DataError
        If it is absent, or of another kind.
    """
    if not (is_there(path) and path.is_file()):
        raise DataError(f"The file {str(path)!r} must exist. It does not.")
    try:
        if path.suffix in (".mgh", ".mgz"):
            return _mgh(path)
        return needed("nibabel", path).load(path).dataobj
    except DataError:
        raise
    except Exception as error:  # a damaged header raises nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(f"The file {str(path)!r} must be NIfTI or MGH. Got: {reason}.") from error


def _mgh(path: Path) -> Array:
    """Map a surface of FreeSurfer into memory: seven whole numbers, then values from byte 284 on, trials last.

    nibabel reads these too, but leaves the file open.
    """
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".mgz" else None
    head = np.fromfile(path, ">i4", 6) if content is None else np.frombuffer(content, ">i4", 6)
    version, *shape, kind = head.tolist()
    if version != 1 or kind not in _MGH or min(shape) < 1:
        raise ValueError(f"version {version}, type {kind}, shape {shape}")
    if content is None:
        return np.memmap(path, _MGH[kind], "r", _MGH_HEADER, tuple(shape), "F")
    n_values = int(np.prod(shape))
    return np.frombuffer(content, _MGH[kind], n_values, _MGH_HEADER).reshape(shape, order="F")


def values_of(path: Path, shape: tuple[int, ...] | None = None) -> Array:
    """Read a whole volume, or the values of a surface as one axis.

    Raises
    ------
    DataError
        As `opened`, or if it is cut off.
    ShapeError
        If it has another shape than is given.
    """
    held = opened(path)
    try:
        found = np.asarray(held)
    except Exception as error:  # damaged data raise nearly anything
        raise DataError(
            f"The file {str(path)!r} must be whole. Got: {str(error).splitlines()[0].rstrip('.')}."
        ) from error
    found = np.squeeze(found) if len(found.shape) != 3 or found.shape[1:] == (1, 1) else found
    if shape is not None and found.shape != shape:
        raise ShapeError(f"{str(path)!r} must have shape {shape}, as the responses have. Got {found.shape}.")
    return found


def trials_of(path: Path, rows: Rows) -> Array:
    """Read some trials of a file whose last axis is trials, as (trials, ...)."""
    return np.moveaxis(_hdf5.take(opened(path), rows, axis=3), 3, 0)


def names_in(path: Path) -> dict[int, str]:
    """Read a table of region names by number, a ``.ctab`` file; none where there is none."""
    if not is_there(path):
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    found = (_NAME.match(line) for line in lines)
    return {int(match[1]): match[2] for match in found if match}


def regions_of(atlas: str, labels: Array, names: dict[int, str]) -> dict[str, Rows]:
    """Return the voxels of each region of an atlas, whose labels are numbers from 1, by name.

    An atlas of one region without a table of names gives it its own.
    """
    numbers = [int(number) for number in np.unique(labels) if number > 0]
    alone = numbers == [1] and not names
    named = {number: atlas if alone else names.get(number, f"{atlas}-{number}") for number in numbers}
    return {name: np.flatnonzero(labels == number).astype(np.intp) for number, name in named.items()}


class Masked:
    """Reads some voxels of the trials of 4-D files.

    A compressed file is read from its start, trial after trial, and what was read of the last one is kept: blocks of
    one session, which follow one another, are read once.

    Parameters
    ----------
    places : ndarray of int
        The voxels (x, y, z) as one axis.
    """

    def __init__(self, places: Rows) -> None:
        self._places = places
        self._last: tuple[Path, Array] | None = None

    def read(self, path: Path, rows: Rows) -> Array:
        """Read the voxels of some trials, rising and each once."""
        if path.suffix != ".gz":
            found = trials_of(path, rows)
            return found.reshape(len(found), -1)[:, self._places]
        last = self._last
        if last is None or last[0] != path:
            last = (path, self._whole(path))
            self._last = last
        return last[1][rows]

    def _whole(self, path: Path) -> Array:
        """Read all trials of a compressed file: one volume after another, so that none but the voxels are kept."""
        held = opened(path)
        volume, n_trials = held.shape[:3], held.shape[3]
        n_bytes = int(np.prod(volume)) * held.dtype.itemsize
        out = np.empty((n_trials, len(self._places)), np.float32)
        with gzip.open(path) as stream:
            stream.read(held.offset)
            for trial in range(n_trials):
                content = stream.read(n_bytes)
                if len(content) < n_bytes:
                    raise DataError(f"The file {str(path)!r} must be whole. It ends in trial {trial} of {n_trials}.")
                values = np.frombuffer(content, held.dtype).reshape(volume, order="F").reshape(-1)[self._places]
                out[trial] = values * held.slope + held.inter
        return out
