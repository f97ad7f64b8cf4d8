"""HDF5 files of others: numbers and texts are read, objects never, and nothing outside of the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets._extras import needed
from img2brain.datasets._links import is_there
from img2brain.errors import DataError

Array = NDArray[Any]
Rows = NDArray[np.intp]


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file for one reading.

    Raises
    ------
    DataError
        If it is absent or no HDF5 file.
    """
    h5py = needed("h5py", path)
    if not (is_there(path) and path.is_file()):
        raise DataError(f"The file {str(path)!r} must exist. It does not.")
    if not h5py.is_hdf5(path):
        raise DataError(f"The file {str(path)!r} must be HDF5. It is not, or it is cut off.")
    with h5py.File(
        path, "r", locking=False
    ) as file:  # file systems of clusters may refuse locks, and nothing is written
        yield file


def names_of(file: Any) -> list[str]:
    """Name all arrays of a file, those in groups with their groups; what links elsewhere is not followed."""
    import h5py

    found: list[str] = []

    def look(group: Any, prefix: str) -> None:
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink) or name.startswith("#"):
                continue
            item = group[name]
            if isinstance(item, h5py.Dataset):
                found.append(f"{prefix}{name}")
            elif prefix.count("/") < 4:
                look(item, f"{prefix}{name}/")

    look(file, "")
    return found


def array_of(file: Any, name: str, path: Path) -> Any:
    """Return an array of a file, yet to be read.

    Raises
    ------
    DataError
        If there is none of this name, or it lies in another file.
    """
    import h5py

    label = f"The array {name!r} of {str(path)!r}"
    group = file
    for part in name.strip("/").split("/"):
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            known = ", ".join(map(repr, names_of(file)[:8])) or "none"
            raise DataError(f"{label} must exist. It does not. There are: {known}.")
        if not isinstance(link, h5py.HardLink):
            raise DataError(f"{label} must be in this file. It is a link.")
        group = group[part]
    if not isinstance(group, h5py.Dataset):
        raise DataError(f"{label} must be an array. It is a group.")
    if group.is_virtual or group.external:
        raise DataError(f"{label} must be in this file. Its values lie in another one.")
    return group


def read_all(path: Path, name: str) -> Array:
    """Read a whole array of numbers."""
    with opened(path) as file:
        array = array_of(file, name, path)
        if array.dtype.kind not in "fiub":
            raise DataError(f"The array {name!r} of {str(path)!r} must hold numbers. Got {array.dtype}.")
        return np.asarray(array[()])


def take(array: Any, rows: Rows, axis: int = 0) -> Array:
    """Read some rows, rising and each once, along an axis: as one range where they are dense, else run by run."""
    if not len(rows):
        return np.asarray(array[(slice(None),) * axis + (slice(0, 0),)])
    parts = np.split(rows, np.flatnonzero(np.diff(rows) > _GAP) + 1)
    found = []
    for part in parts:
        block = np.asarray(array[(slice(None),) * axis + (slice(int(part[0]), int(part[-1]) + 1),)])
        found.append(block if len(part) == block.shape[axis] else np.take(block, part - part[0], axis=axis))
    return found[0] if len(found) == 1 else np.concatenate(found, axis=axis)


_GAP = 4  # rows that are not asked for, which are read rather than begin anew


def reader(path: Path, name: str, axis: int = 0) -> Callable[[Rows], Array]:
    """Return what reads rows of an array, opening its file each time: nothing stays open between."""

    def read(rows: Rows) -> Array:
        with opened(path) as file:
            return take(array_of(file, name, path), rows, axis)

    return read


def texts(file: Any, array: Any) -> list[str]:
    """Read texts: of fixed or variable length, or as MATLAB keeps them, as references to characters of 16 bits."""
    import h5py

    if array.dtype.kind == "O" and h5py.check_ref_dtype(array.dtype) is not None:
        found = [file[reference] for reference in np.asarray(array[()]).ravel(order="F")]
        return ["".join(map(chr, np.asarray(item[()]).ravel(order="F").tolist())) for item in found]
    values = np.asarray(array[()]).ravel().tolist()
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]


def axes_of(array: Any) -> tuple[str, ...]:
    """Name the dimensions of an array as netCDF has them; the empty text for one that has no name.

    Notes
    -----
    A netCDF4 file is HDF5 whose dimensions are scales that are attached to the axes.
    """
    found = []
    for axis in array.dims:
        names = [scale.name for scale in axis.values()]
        found.append(names[0].rpartition("/")[2] if names else "")
    return tuple(found)
