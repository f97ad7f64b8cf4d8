"""A matrix in a file of any usual kind: responses, read in blocks of trials where the kind allows it, and features."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain._mapped import release
from img2brain.datasets import _hdf5
from img2brain.datasets._extras import needed
from img2brain.datasets._links import is_there
from img2brain.datasets._responses import open_array
from img2brain.datasets._split import Rows
from img2brain.errors import DataError, ShapeError

Array = NDArray[Any]

SUFFIXES = (".npy", ".npz", ".h5", ".hdf5", ".mat", ".zarr", ".csv", ".tsv")
FEATURE_SUFFIXES = (".npy", ".h5", ".hdf5", ".zarr")
_USUAL = ("responses", "betas", "data", "Y")  # names that are taken first, where several arrays fit
_FEATURES = "features"
_SHOWN = 6
_CODECS = {  # of zarr: all that work on numbers; others, such as pickle, run what the file says
    "blosc", "bytes", "bz2", "crc32c", "delta", "endian", "fixedscaleoffset", "gzip", "lz4", "lzma", "quantize",
    "sharding_indexed", "shuffle", "transpose", "zlib", "zstd",
}  # fmt: skip


@dataclass(frozen=True)
class Held:
    """An array in a file.

    Attributes
    ----------
    name : str
        What it is called in its file; empty where a file is one array.
    shape : tuple of int
        Its shape, as those who wrote it see it.
    dtype : dtype
        Of its values.
    take : callable
        ``take(rows, axis)`` reads rows along an axis, rising and each once.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    take: Callable[[Rows, int], Array]


@dataclass(frozen=True)
class Stored:
    """Responses (trials, voxels) that are read in blocks of trials.

    Attributes
    ----------
    label : str
        The file, and the array in it.
    n_voxels : int
        Number of voxels.
    dtype : dtype
        Of the values.
    read : callable
        From numbers of trials, rising and each once, to their responses.
    file : Path
        What it reads.
    transposed : bool
        Whether the file has voxels first.
    """

    label: str
    n_voxels: int
    dtype: np.dtype[Any]
    read: Callable[[Rows], Array]
    file: Path
    transposed: bool = False


def find_responses(path: Path, name: str | None, n_trials: int, trials: str) -> Stored:
    """Find the array of a file that has a row, or else a column, for each trial.

    Parameters
    ----------
    path : Path
        The file; or the folder, where it is of zarr.
    name : str, optional
        The array in it, where it holds several.
    n_trials : int
        How many trials there are.
    trials : str
        Where they are listed, for messages.

    Raises
    ------
    DataError
        If the file cannot be read, or more than one of its arrays will do.
    ShapeError
        If none will.
    """
    held = list(_arrays_in(path))
    if name is not None:
        held = [item for item in held if item.name == name] or _none_of(name, path, held)
    fitting = [item for item in held if len(item.shape) == 2 and n_trials in item.shape and item.dtype.kind in "fiu"]
    if not fitting:
        raise ShapeError(
            f"{str(path)!r} must hold numbers of shape ({n_trials}, voxels), a row for each line of {trials}. "
            f"It holds {_told(held)}."
        )
    usual = [item for usual in _USUAL for item in fitting if item.name == usual]
    if len(fitting) > 1 and not usual:
        first = f"{path.name}#{fitting[0].name}"
        raise DataError(f"{str(path)!r} holds {_told(fitting)}: say which, as in responses = {first!r}.")
    chosen = (usual or fitting)[0]
    axis = 0 if chosen.shape[0] == n_trials else 1
    label = str(path) + (f"#{chosen.name}" if chosen.name else "")

    def read(rows: Rows) -> Array:
        found = chosen.take(rows, axis)
        return found.T if axis else found

    return Stored(label, chosen.shape[1 - axis], chosen.dtype, read, path, bool(axis))


def read_features(path: Path) -> Array:
    """Read features (images, features), in memory or, of a ``.npy``, mapped to it.

    Parameters
    ----------
    path : Path
        The file; or the folder, where it is of zarr. Of several matrices in it the one named ``features`` is read.

    Raises
    ------
    DataError
        If the file cannot be read, or holds not one matrix of numbers that is meant.
    """
    if path.suffix.lower() == ".npy":
        return open_array(path, ("images", "features"))
    held = list(_arrays_in(path))
    fitting = [item for item in held if len(item.shape) == 2 and 0 not in item.shape and item.dtype.kind in "fiu"]
    named = [item for item in fitting if item.name == _FEATURES]
    if len(named or fitting) != 1:
        raise DataError(
            f"{str(path)!r} must hold numbers of shape (images, features), in one array or in one that is named "
            f"'{_FEATURES}'. It holds {_told(held)}."
        )
    chosen = (named or fitting)[0]
    with _reading(path):
        return chosen.take(np.arange(chosen.shape[0]), 0)


def _none_of(name: str, path: Path, held: list[Held]) -> list[Held]:
    raise DataError(f"{str(path)!r} must hold an array {name!r}. It holds {_told(held)}.")


def _told(held: list[Held]) -> str:
    shown = [f"{item.name or 'an array'} {item.shape} of {item.dtype}" for item in held[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(held) - _SHOWN} more" if held[_SHOWN:] else "") or "no array"


def _arrays_in(path: Path) -> Iterator[Held]:
    """List the arrays of a file."""
    kinds: dict[str, Callable[[Path], Iterator[Held]]] = {
        ".npy": _npy, ".npz": _npz, ".h5": _h5, ".hdf5": _h5, ".mat": _mat, ".zarr": _zarr, ".csv": _text,
        ".tsv": _text,
    }  # fmt: skip
    if not is_there(path):
        raise DataError(f"The file {str(path)!r} must exist. It does not.")
    if path.suffix.lower() not in kinds:
        raise DataError(f"Responses must be in a file that ends in {', '.join(SUFFIXES)}. Got {str(path)!r}.")
    with _reading(path):
        yield from kinds[path.suffix.lower()](path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say on one line what a library cannot read of a file."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:  # readers of damaged files raise nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(f"The file {str(path)!r} cannot be read as {path.suffix[1:]}: {reason}.") from error


def _npy(path: Path) -> Iterator[Held]:
    array = open_array(path, ("trials", "voxels"))

    def read(rows: Rows, axis: int) -> Array:
        found = np.take(array, rows, axis=axis)
        release(array)
        return found

    yield Held("", array.shape, array.dtype, read)


def _npz(path: Path) -> Iterator[Held]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as stream:
                version = np.lib.format.read_magic(stream)
                header = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = header(stream)
            key = name.removesuffix(".npy")
            yield Held(key, shape, dtype, _once(partial(_member, path, key)))


def _member(path: Path, key: str) -> Array:
    with np.load(path, allow_pickle=False) as archive:
        return np.asarray(archive[key])


def _h5(path: Path) -> Iterator[Held]:
    with _hdf5.opened(path) as file:
        yield from [_h5_held(file, name, path) for name in _hdf5.names_of(file)]


def _h5_held(file: Any, name: str, path: Path, *, reversed_: bool = False) -> Held:
    array = _hdf5.array_of(file, name, path)
    shape = tuple(array.shape[::-1] if reversed_ else array.shape)

    def read(rows: Rows, axis: int) -> Array:
        found = _hdf5.reader(path, name, len(shape) - 1 - axis if reversed_ else axis)(rows)
        return found.T if reversed_ else found

    return Held(name, shape, array.dtype, read)


def _mat(path: Path) -> Iterator[Held]:
    """List the variables of a MATLAB file; those of version 7.3 are HDF5 with the axes reversed."""
    with path.open("rb") as stream:
        is_hdf5 = b"MATLAB 7.3" in stream.read(128)
    if is_hdf5:
        with _hdf5.opened(path) as file:
            yield from [_h5_held(file, name, path, reversed_=True) for name in _hdf5.names_of(file)]
        return
    from scipy.io import whosmat

    kinds = {"single": "f4", "double": "f8", "logical": "?"}
    for name, shape, kind in whosmat(str(path)):
        dtype = np.dtype(kinds.get(kind, kind if kind.rstrip("0123456789") in ("int", "uint") else "O"))
        yield Held(name, tuple(shape), dtype, _once(partial(_variable, path, name)))


def _variable(path: Path, name: str) -> Array:
    from scipy.io import loadmat

    return np.asarray(loadmat(str(path), variable_names=[name])[name])


def _zarr(path: Path) -> Iterator[Held]:
    zarr = needed("zarr", path)
    for about in sorted(chain(path.rglob(".zarray"), path.rglob("zarr.json"))):
        found = json.loads(about.read_text(encoding="utf-8"))
        if found.get("node_type", "array") != "array":
            continue
        _require_plain(found, about)
        array = zarr.open_array(str(about.parent), mode="r")
        name = about.parent.relative_to(path).as_posix()
        yield Held("" if name == "." else name, array.shape, np.dtype(array.dtype), partial(_of_zarr, array))


def _require_plain(found: Any, about: Path) -> None:
    """Refuse an array whose values are decoded by code that its file chooses."""
    level: list[Any] = [found.get(key) for key in ("codecs", "filters", "compressor")]
    while level:
        item = level.pop()
        level += item if isinstance(item, list) else item.values() if isinstance(item, dict) else []
        name = (item.get("id") or item.get("name")) if isinstance(item, dict) else None
        if isinstance(name, str) and name.removeprefix("numcodecs.") not in _CODECS:
            raise DataError(f"{str(about)!r} must name codecs of numbers only. Got {name!r}.")


def _of_zarr(array: Any, rows: Rows, axis: int) -> Array:
    return np.asarray(array.oindex[rows] if axis == 0 else array.oindex[:, rows])


def _text(path: Path) -> Iterator[Held]:
    """Read a table of numbers, with or without a line of names above it."""
    with path.open(encoding="utf-8-sig") as stream:
        first = stream.readline().strip()
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ";" if ";" in first and "," not in first else ","
    n_heads = 0 if all(map(_is_number, first.split(delimiter))) else 1
    array = np.loadtxt(path, delimiter=delimiter, skiprows=n_heads, ndmin=2, encoding="utf-8-sig")
    yield Held("", array.shape, array.dtype, lambda rows, axis: np.take(array, rows, axis=axis))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _once(load: Callable[[], Array]) -> Callable[[Rows, int], Array]:
    """Load an array when some of it is first asked for: its file has no parts that can be read alone."""
    whole = cache(load)
    return lambda rows, axis: np.take(whole(), rows, axis=axis)
