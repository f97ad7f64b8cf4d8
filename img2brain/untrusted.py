"""Files of others, read within bounds: archives, folders, arrays and tensors.

Nothing is unpickled, no link is followed, no name leads out of its folder, and no header is believed before it was
compared with the size of its file. Everything is checked before the first byte is written. What is refused is a
`DataError` on one line.
"""

from __future__ import annotations

import math
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from img2brain import plain
from img2brain.errors import DataError, quoted

_BLOCK = 1 << 20
_ENCRYPTED = 0x1
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, ValueError, OverflowError)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")  # names that are devices on Windows
_LONGEST, _DEEPEST = 255, 16
_ARRAY = re.compile(
    rb"\{'descr': '([<>|][biufU][0-9]{1,9})', 'fortran_order': (True|False), 'shape': \(([0-9, ]*)\), \} *\n"
)
_LAST_CHARACTER = 0x10FFFF
_MAGIC = b"\x93NUMPY"
_LONGEST_ARRAY_HEADER = 10_000
_LONGEST_TENSOR_HEADER = 100_000_000  # the limit of the library itself
_TENSOR_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8}
_TENSOR_BITS |= {"BOOL": 8, "U16": 16, "U32": 32, "U64": 64}


@dataclass(frozen=True)
class Limits:
    """How much an archive or a folder of others may hold.

    Attributes
    ----------
    n_files : int
        How many files.
    n_bytes : int
        How many bytes all of them have together, unpacked.
    ratio : int
        How many bytes may come out of one packed byte of a file; text packs ten to one, a bomb a thousand.
    folders : bool
        Whether an archive may have entries for folders, as common programs write them.
    """

    n_files: int = 10_000
    n_bytes: int = 1 << 35
    ratio: int = 200
    folders: bool = False


class Archive:
    """A zip file of others whose table of contents was checked; see `opened`.

    Attributes
    ----------
    names : tuple of str
        The files in it, in the order of the archive: plain relative names that differ on every file system.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile, limits: Limits) -> None:
        self._path, self._archive = path, archive
        found = archive.infolist()
        files = [info for info in found if not (limits.folders and info.is_dir())]
        folders = [info.filename.rstrip("/") for info in found if limits.folders and info.is_dir()]
        self._infos = {info.filename: info for info in files}
        _check_contents(path, files, folders, limits)
        self.names = tuple(self._infos)

    def size(self, name: str) -> int:
        """Return the unpacked size of a file, in bytes."""
        return self._infos[name].file_size

    def read(self, name: str, most: int) -> bytes:
        """Read a file whole.

        Parameters
        ----------
        name : str
            One of `names`.
        most : int
            How many bytes it may have.

        Raises
        ------
        DataError
            If it is absent, larger, or damaged.
        """
        if name not in self._infos:
            raise DataError(f"{self._path} must hold the file {name!r}. It does not.")
        if self.size(name) > most:
            raise DataError(f"{self._path}: {name!r} must have at most {most} bytes. Got {self.size(name)}.")
        return b"".join(self.blocks(name))

    def unpack(self, folder: Path) -> None:
        """Write all files into a folder that is empty or not there yet.

        Raises
        ------
        DataError
            If a file is damaged, or another than the table of contents says.
        """
        for name in self.names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as stream:
                stream.writelines(self.blocks(name))

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield a file block by block: no more than its size, which the checksum at its end holds for."""
        left = self.size(name)
        try:
            with self._archive.open(self._infos[name]) as stream:
                while block := stream.read(_BLOCK):
                    left -= len(block)
                    yield block
        except _DAMAGED as error:
            raise DataError(f"{self._path}: {name!r} is damaged: {_said(error)}.") from None
        if left:
            raise DataError(f"{self._path}: {name!r} must have {self.size(name)} bytes. It has {left} less.")


@contextmanager
def opened(path: Path, limits: Limits | None = None) -> Iterator[Archive]:
    """Open a zip file of others, after a check of all that its table of contents says.

    Parameters
    ----------
    path : Path
        The file.
    limits : Limits, optional
        How much may be in it.

    Raises
    ------
    DataError
        If it is no zip file, or holds anything but plain files with plain, different names within the limits.

    Examples
    --------
    >>> with opened(Path("pyproject.toml")) as archive:
    ...     archive.names
    Traceback (most recent call last):
    img2brain.errors.DataError: pyproject.toml must be a zip file. It is not: File is not a zip file.
    """
    require_file(path)
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGED as error:
        raise DataError(f"{path} must be a zip file. It is not: {_said(error)}.") from None
    with archive:
        yield Archive(path, archive, limits or Limits())


def files(folder: Path, limits: Limits | None = None) -> dict[str, Path]:
    """Name the files of a folder of others, in order; nothing in it is read and no link is followed.

    Parameters
    ----------
    folder : Path
        The folder.
    limits : Limits, optional
        How much may be in it.

    Returns
    -------
    dict of str to Path
        From the plain relative name of each file to where it is.

    Raises
    ------
    DataError
        If it is no folder, or holds anything but folders and plain files with plain, different names.
    """
    limits = limits or Limits()
    if not folder.is_dir() or folder.is_symlink():
        raise DataError(f"{folder} must be a folder. It is not.")
    found: dict[str, Path] = {}
    n_bytes = 0
    for path in _entries(folder):
        status, name = path.lstat(), path.relative_to(folder).as_posix()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{folder}: {quoted(name)} must be a file. It is a link or the like.")
        n_bytes += status.st_size
        found[name] = path
        _require_within(folder, len(found), n_bytes, limits)
    check_names(found, str(folder))
    return dict(sorted(found.items()))


def require_file(path: Path) -> None:
    """Refuse what is no plain file: reading a pipe or a device may never end.

    Raises
    ------
    DataError
        Naming what it is.
    """
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        raise DataError(f"The file {quoted(str(path))} must exist. It does not.") from None
    if not is_file:
        raise DataError(f"{path} must be a file. It is a folder or a device.")


def check_names(names: Iterable[str], where: str) -> None:
    r"""Refuse names that could lead out of a folder, act on a terminal, or be one file on some file system.

    Parameters
    ----------
    names : iterable of str
        Relative, with ``/`` between folders.
    where : str
        What holds them, for messages.

    Raises
    ------
    DataError
        Naming the first that is not plain, or two that are not different.

    Examples
    --------
    >>> check_names(["model/model.json", "from.json"], "a.zip")
    >>> check_names(["../evil"], "a.zip")
    Traceback (most recent call last):
    img2brain.errors.DataError: a.zip: '../evil' must be a plain relative name.
    """
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in names:
        if not _is_plain(name):
            raise DataError(f"{where}: {quoted(name)} must be a plain relative name.")
        key = _key(name)
        above = {str(parent) for parent in PurePosixPath(key).parents} - {"."}
        other = seen.get(key) or folders.get(key) or next((seen[parent] for parent in above if parent in seen), None)
        if other is not None:
            raise DataError(f"{where}: {quoted(name)} and {quoted(other)} must be different files. They are not.")
        seen[key] = name
        folders |= dict.fromkeys(above, name)


def read_array(path: Path, kinds: str = "biufU") -> NDArray[np.generic]:
    """Read a ``.npy`` file of others, in the form that NumPy writes; the file's size must be what its header says.

    Parameters
    ----------
    path : Path
        The file.
    kinds : str
        Which kinds of values are taken: b(ool), i(nteger), u(nsigned), f(loat), U(nicode).

    Returns
    -------
    ndarray
        Its own copy.

    Raises
    ------
    DataError
        If the file is no such array; nothing is allocated before that is known.
    """
    require_file(path)
    with path.open("rb") as stream:
        dtype, shape, is_fortran = _array_header(stream, path, kinds)
        n_bytes = path.stat().st_size - stream.tell()
        if math.prod(shape) * dtype.itemsize != n_bytes:
            raise DataError(f"{path} must hold {dtype} of shape {shape}, as its header says. Got {n_bytes} bytes.")
        values = np.fromfile(stream, dtype, math.prod(shape))
    if dtype.kind == "U" and not _are_characters(values):
        raise DataError(f"{path} must hold texts of characters. It holds numbers that are none.")
    try:
        return values.reshape(shape, order="F" if is_fortran else "C")
    except (ValueError, OverflowError):
        raise DataError(f"{path} must be of a shape that an array can have. Got {shape}.") from None


def tensor_shapes(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Read what a safetensors file of others holds, without its values.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict of str to (str, tuple of int)
        Type, as the format names it, and shape of each tensor, in the order of their places in the file.

    Raises
    ------
    DataError
        If header and size of the file do not fit, byte by byte.
    """
    require_file(path)
    n_bytes = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(n_bytes - 8, _LONGEST_TENSOR_HEADER):
            raise DataError(f"{path} must be a whole safetensors file. Got a header of {length} in {n_bytes} bytes.")
        header = stream.read(length)
    try:
        table = plain.of_json(header.decode("utf-8"), _no_twins)
        table.pop("__metadata__", None)
        placed = sorted((_tensor(name, entry) for name, entry in table.items()), key=lambda item: (item[0], item[1]))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} must be a whole safetensors file. Its header is not: {_said(error)}.") from None
    ends = [0, *(end for _, end, *_ in placed)]
    if [start for start, *_ in placed] != ends[:-1] or ends[-1] != n_bytes - 8 - length:
        raise DataError(f"{path} must hold its tensors side by side to the end. It does not.")
    return {name: (dtype, shape) for *_, name, dtype, shape in placed}


def _check_contents(path: Path, infos: list[zipfile.ZipInfo], folders: list[str], limits: Limits) -> None:
    _require_within(path, len(infos) + len(folders), sum(info.file_size for info in infos), limits)
    check_names((info.orig_filename for info in infos), str(path))
    for name in folders:  # one inside of another is no conflict
        check_names([name], str(path))
    inside = {_key(info.filename) for info in infos}
    if taken := [name for name in folders if _key(name) in inside]:
        raise DataError(f"{path}: {quoted(taken[0])} must be a file or a folder. It is both.")
    for info in infos:
        if wrong := _wrong(info, limits):
            raise DataError(f"{path}: {quoted(info.filename)} {wrong}")
    # What is packed has a place of its own in the file: entries that share one are a bomb.
    if sum(info.compress_size for info in infos) > path.stat().st_size:
        raise DataError(f"{path} must hold each file in a place of its own. It does not.")


def _wrong(info: zipfile.ZipInfo, limits: Limits) -> str:
    """Say why an entry is not taken; nothing where it is."""
    mode = info.external_attr >> 16
    if info.is_dir() or (stat.S_IFMT(mode) not in (0, stat.S_IFREG)) or info.filename != info.orig_filename:
        return "must be a file. It is a folder, a link or the like."
    if info.header_offset < 0:
        return "must have its place in the file. It has none."
    if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
        return "must be stored or deflated, without a password. It is not."
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        return f"must have the size that is stored, {info.compress_size} bytes. It says {info.file_size}."
    if info.file_size > limits.ratio * max(1, info.compress_size):
        return f"must unpack to at most {limits.ratio} times its size. It says {info.file_size} bytes."
    return ""


def _require_within(path: Path, n_files: int, n_bytes: int, limits: Limits) -> None:
    if n_files > limits.n_files:
        raise DataError(f"{path} must hold at most {limits.n_files} files. It holds more.")
    if n_bytes > limits.n_bytes:
        raise DataError(f"{path} must hold at most {limits.n_bytes} bytes, unpacked. It says {n_bytes}.")


def _entries(folder: Path) -> Iterator[Path]:
    """Yield all that is not a folder, without following a link, however deep it lies."""
    ahead = [folder]
    while ahead:
        with os.scandir(ahead.pop()) as found:
            for item in found:
                if item.is_dir(follow_symlinks=False):
                    ahead.append(Path(item.path))
                else:
                    yield Path(item.path)


def _is_plain(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= _DEEPEST and all(map(_is_plain_part, parts))


def _is_plain_part(part: str) -> bool:
    """Tell whether a name is of one file on every system: no ``..``, no drive, no character that acts."""
    return (
        part.strip(". ") != ""
        and part == part.rstrip(". ")
        and len(part.encode("utf-8", "surrogatepass")) <= _LONGEST
        and part.isprintable()
        and not set(part) & set('\\:*?"<>|')
        and not _RESERVED.match(part)
    )


def _key(name: str) -> str:
    """Return what a file system takes a name for that knows no capitals and no two spellings of a letter."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _array_header(stream: BinaryIO, path: Path, kinds: str) -> tuple[np.dtype[np.generic], tuple[int, ...], bool]:
    start = stream.read(8)
    n_digits = {b"\1\0": 2, b"\2\0": 4}.get(start[6:8], 0)
    length = int.from_bytes(stream.read(n_digits), "little")
    known = start[:6] == _MAGIC and 0 < length <= _LONGEST_ARRAY_HEADER
    found = _ARRAY.fullmatch(stream.read(length)) if known else None
    if found is None:
        raise DataError(f"{path} must be a .npy file of plain numbers or texts, as NumPy writes it. It is not.")
    try:
        dtype = np.dtype(found[1].decode())
        shape = tuple(int(size) for size in found[3].decode().replace(" ", "").split(",") if size)
    except (TypeError, ValueError):
        raise DataError(f"{path} must hold values of a type that NumPy knows. Got {found[1].decode()}.") from None
    if dtype.kind not in kinds:
        raise DataError(f"{path} must hold values of the kinds {', '.join(kinds)}. Got {dtype}.")
    return dtype, shape, found[2] == b"True"


def _are_characters(texts: NDArray[np.generic]) -> bool:
    codes = texts.view(np.dtype(np.uint32).newbyteorder(texts.dtype.byteorder))
    return not bool(np.any((codes > _LAST_CHARACTER) | ((codes >= 0xD800) & (codes < 0xE000))))


def _tensor(name: str, entry: dict[str, Any]) -> tuple[int, int, str, str, tuple[int, ...]]:
    """Return place, name, type and shape of a tensor whose place has room for just that."""
    if set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"a tensor has a type, a shape and a place. Got {sorted(entry)}")
    dtype, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in _TENSOR_BITS or not _are_counts(shape) or not _are_counts(place) or len(place) != 2:
        raise ValueError(f"{quoted(name)} has no known type, shape and place")
    if math.prod(shape) * _TENSOR_BITS[dtype] != 8 * (place[1] - place[0]):
        raise ValueError(f"{quoted(name)} does not fit its place")
    return place[0], place[1], name, dtype, tuple(shape)


def _are_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _said(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
