"""Pictures that are no files of their own: members of an archive, and places of an array.

They have paths all the same, so that a dataset holds paths alone: ``stimuli.zip#cat.png`` and
``nsd_stimuli.hdf5#imgBrick[13]``; a picture that is an array in a file of its own is ``12.npy``.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets import _hdf5
from img2brain.datasets._responses import open_array
from img2brain.errors import DataError

_INSIDE = re.compile(r"(?P<file>.+?\.(zip|h5|hdf5))#(?P<name>.+)", re.IGNORECASE | re.DOTALL)
_PLACE = re.compile(r"(.+)\[(\d+)\]")
_MOST_BYTES = 1 << 28


def member(archive: Path, name: str) -> Path:
    """Return the path of a member of an archive."""
    return Path(f"{archive}#{name}")


def place(file: Path, array: str, row: int) -> Path:
    """Return the path of a picture in an array of pictures."""
    return Path(f"{file}#{array}[{row}]")


def name_of(path: Path) -> str:
    """Return what a picture would be called as a file of its own, without its folder; its ending may be of no picture.

    Examples
    --------
    >>> name_of(Path("pictures/cat.png")), name_of(member(Path("a.zip"), "pets/cat.png"))
    ('cat.png', 'cat.png')
    >>> name_of(place(Path("a.hdf5"), "imgBrick", 13)), name_of(Path("images/12.npy"))
    ('imgBrick-00013', '12')
    """
    inside = _INSIDE.fullmatch(str(path)) if "#" in str(path) else None
    if inside is None or path.exists():
        return path.stem if path.suffix == ".npy" else path.name
    found = _PLACE.fullmatch(inside["name"])
    name = f"{found[1]}-{int(found[2]):05}" if found else inside["name"]
    return re.split(r"[/\\]", name)[-1]


def file_of(path: Path) -> Path:
    """Return the file that a picture is, or is inside of.

    Examples
    --------
    >>> str(file_of(Path("cat.png"))), str(file_of(member(Path("a.zip"), "cat.png")))
    ('cat.png', 'a.zip')
    """
    inside = _INSIDE.fullmatch(str(path)) if "#" in str(path) else None
    return path if inside is None or path.exists() else Path(inside["file"])


def content_of(path: Path) -> Path | bytes | NDArray[Any]:
    """Return what a path of a picture stands for: itself, the bytes of a member, or pixels.

    Raises
    ------
    DataError
        If there is no such member or place.
    """
    if path.suffix == ".npy":
        return _pixels(np.array(open_array(path, _AXES[_n_axes(path)])))
    inside = _INSIDE.fullmatch(str(path)) if "#" in str(path) else None
    if inside is None or path.exists():
        return path
    file = Path(inside["file"])
    if file.suffix.lower() == ".zip":
        return _of_archive(file, inside["name"])
    found = _PLACE.fullmatch(inside["name"])
    if found is None:
        return path
    with _hdf5.opened(file) as opened:
        array = _hdf5.array_of(opened, found[1], file)
        if int(found[2]) >= len(array):
            raise DataError(f"{str(path)!r} must be one of {len(array)} pictures.")
        return _pixels(np.asarray(array[int(found[2])]))


_AXES = {2: ("height", "width"), 3: ("1", "height", "width")}


def _n_axes(path: Path) -> int:
    """Return the number of axes of an array of a picture, as far as pictures have them."""
    return 3 if np.load(path, mmap_mode="r", allow_pickle=False).ndim == 3 else 2


def _pixels(array: NDArray[Any]) -> NDArray[Any]:
    """Return pixels without a first axis of one, and floats of 0..255 rounded to whole numbers."""
    array = array[0] if array.ndim == 3 and array.shape[0] == 1 else array
    is_wide = array.dtype.kind == "f" and array.min() >= 0 and 1 < array.max() <= 255
    return np.round(array).astype(np.uint8) if is_wide else array


def _of_archive(file: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(file) as archive:
            about = archive.getinfo(name)
            if about.file_size > _MOST_BYTES:
                raise DataError(f"{name!r} of {str(file)!r} must be a picture. It has {about.file_size} bytes.")
            with archive.open(about) as stream:
                return stream.read(_MOST_BYTES)
    except (KeyError, zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(f"{name!r} must be a member of the archive {str(file)!r}. Got: {reason}.") from error
