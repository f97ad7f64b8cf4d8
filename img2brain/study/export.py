"""Features as files: what the networks of a study make of its images, for any program, and for a study of its own.

A folder holds ``trainingFeatures/`` and, of data with test images, ``testFeatures/``, as a dataset may bring them: one
file for each layer, pooling and reduction of each network. There they are read, of whichever kind, by the backbone
``given``. ``manifest.json`` says what each file is and which image each of its rows is.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from img2brain import beside
from img2brain.errors import FeatureError
from img2brain.features.features import Features
from img2brain.home import Home
from img2brain.spec import FeatureSpace, StudySpec
from img2brain.study.member import Member
from img2brain.study.setting import make_ready

MANIFEST = "manifest.json"
KINDS = ("npy", "hdf5", "zarr")
Blocks = Iterator[tuple[slice, Any]]
_FORMAT = 1
_ZARR_BYTES = 1 << 22  # of a chunk


def export_features(
    spec: StudySpec, out: Path | str, home: Home | Path | str = "mlruns", *, kind: str = "npy", full: bool = False
) -> Path:
    """Write the features that a study searches.

    Parameters
    ----------
    spec : StudySpec
        The study: its data, networks, layers, poolings and reductions.
    out : Path or str
        The folder: absent or empty, and there whole or not at all; of a study of several datasets, one folder in it
        for each.
    home : Home, Path or str
        The home, or its folder: what is in its cache is not computed again.
    kind : {"npy", "hdf5", "zarr"}
        Of the files: ``.npy``; ``.h5`` with a dataset `features`; or a folder ``.zarr`` in the second format of Zarr.
    full : bool
        Whether all features are written, of each layer as it is pooled, in float32; by default their coordinates, which
        are fitted to the training rows, at the largest size that the study names.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    DataError
        If something is at `out`.
    FeatureError
        If there is no such kind of file, or its library is not installed.
    """
    out, writer = Path(out), _writer(kind)
    beside.require_free(out)
    setting = make_ready(spec, Home.of(home))
    with setting.home.in_use(), beside.whole(out) as folder:
        for member in setting.members:
            place = folder / member.name if member.name else folder
            place.mkdir(exist_ok=True)
            _export_member(member, place, writer, full)
    return out


class Writer(ABC):
    """Writes a matrix, block by block.

    Attributes
    ----------
    suffix : str
        What its files end in.
    """

    suffix: str

    @abstractmethod
    def write(self, path: Path, shape: tuple[int, int], dtype: Any, blocks: Blocks) -> None:
        """Write rows as they come."""


class _Npy(Writer):
    suffix = ".npy"

    def write(self, path: Path, shape: tuple[int, int], dtype: Any, blocks: Blocks) -> None:
        mapped = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        for rows, values in blocks:
            mapped[rows] = values
        mapped.flush()


class _Hdf5(Writer):
    suffix = ".h5"

    def write(self, path: Path, shape: tuple[int, int], dtype: Any, blocks: Blocks) -> None:
        import h5py

        with h5py.File(path, "w") as file:
            stored = file.create_dataset("features", shape, dtype)
            for rows, values in blocks:
                stored[rows] = values


class _Zarr(Writer):
    """Zarr's second format: ``.zarray`` says what the chunks are, files of bare numbers of equal shapes."""

    suffix = ".zarr"

    def write(self, path: Path, shape: tuple[int, int], dtype: Any, blocks: Blocks) -> None:
        path.mkdir()
        stored = np.dtype(dtype).newbyteorder("<")
        n_rows = max(1, min(shape[0], _ZARR_BYTES // (stored.itemsize * shape[1])))
        about = {
            "zarr_format": 2,
            "shape": list(shape),
            "chunks": [n_rows, shape[1]],
            "dtype": stored.str,
            "order": "C",
        }
        nothing = {"compressor": None, "filters": None, "fill_value": 0}
        (path / ".zarray").write_text(json.dumps(about | nothing, indent=1), encoding="utf-8")
        chunk = np.zeros((n_rows, shape[1]), stored)
        for rows, values in blocks:
            for number, row in enumerate(values, rows.start):
                chunk[number % n_rows] = row
                if number % n_rows == n_rows - 1 or number == shape[0] - 1:
                    chunk.tofile(path / f"{number // n_rows}.0")
                    chunk[:] = 0


_WRITERS: dict[str, Writer] = {"npy": _Npy(), "hdf5": _Hdf5(), "zarr": _Zarr()}


def _writer(kind: str) -> Writer:
    if kind not in _WRITERS:
        raise FeatureError(f"The 'kind' of files must be one of {', '.join(KINDS)}. Got {kind!r}.")
    if kind == "hdf5" and find_spec("h5py") is None:
        raise FeatureError("Files of HDF5 need h5py, which is not installed: pip install img2brain[hdf5].")
    return _WRITERS[kind]


def _export_member(member: Member, folder: Path, writer: Writer, full: bool) -> None:
    files: list[dict[str, Any]] = []
    for bank in member.banks.values():
        written = _full(bank, member, folder, writer) if full else _reduced(bank, member, folder, writer)
        files += [_network(bank) | about for about in written]
    manifest = {"format": _FORMAT, "dataset": member.dataset.name, "digest": member.dataset.digest}
    manifest |= {"files": files, "rows": _rows(member)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _full(bank: Features, member: Member, folder: Path, writer: Writer) -> Iterator[dict[str, Any]]:
    for block, values in bank.activations():
        blocks = lambda values=values: ((rows, part.float().cpu().numpy()) for rows, part in values.blocks())  # noqa: E731
        name = f"{bank.spec.name} {block}"
        for about in _written(member, folder, writer, name, values.n_features, np.float32, blocks):
            yield about | _about(FeatureSpace(*block)) | {"reduction": "none"}


def _reduced(bank: Features, member: Member, folder: Path, writer: Writer) -> Iterator[dict[str, Any]]:
    bank.extract()
    for space in bank.spaces:
        found = bank.components(space, member.split.train, member.n_components).coordinates
        blocks = lambda found=found: iter([(slice(0, len(found)), found)])  # noqa: E731
        name = f"{bank.spec.name} {space} {found.shape[1]}"
        for about in _written(member, folder, writer, name, found.shape[1], found.dtype, blocks):
            yield about | _about(space) | {"fitted_to": "training rows"}


def _written(
    member: Member, folder: Path, writer: Writer, name: str, width: int, dtype: Any, blocks: Callable[[], Blocks]
) -> Iterator[dict[str, Any]]:
    """Write a matrix, the rows of test images apart, and say what was written."""
    first, n_images = member.dataset.n_training, member.dataset.n_images
    for part, start, stop in (("trainingFeatures", 0, first), ("testFeatures", first, n_images)):
        if start < stop:
            (folder / part).mkdir(exist_ok=True)
            path, shape = _path(folder / part, name, writer), (stop - start, width)
            writer.write(path, shape, dtype, _cut(blocks(), start, stop))
            file = path.relative_to(folder).as_posix()
            yield {"file": file, "rows": [start, stop], "shape": list(shape), "dtype": np.dtype(dtype).name}


def _cut(blocks: Blocks, start: int, stop: int) -> Blocks:
    """Yield what blocks hold of some rows, counted from the first of these."""
    for rows, values in blocks:
        first, last = max(rows.start, start), min(rows.stop, stop)
        if first < last:
            yield slice(first - start, last - start), values[first - rows.start : last - rows.start]


def _about(space: FeatureSpace) -> dict[str, Any]:
    return {"layer": space.layer, "pooling": space.pooling, "reduction": space.reduction}


def _network(bank: Features) -> dict[str, Any]:
    facts = {name: bank.facts[name] for name in ("weights_digest", "network_digest", "trained")}
    return {"backbone": bank.spec.name, "weights": bank.facts["label"], **facts, "precision": bank.precision}


def _rows(member: Member) -> list[dict[str, Any]]:
    """Say which image each row is, and what the study does with it."""
    dataset, split = member.dataset, member.split
    parts = {"train": split.train, "validation": split.scored, "confirmation": split.confirmation}
    of = {int(row): name for name, rows in parts.items() for row in rows}
    images: list[Any] = list(dataset.images) or [None] * dataset.n_images
    digests: list[Any] = list(dataset.image_digests) if dataset.images else [None] * dataset.n_images
    return [
        {"row": row, "image": path and path.name, "digest": digest, "part": of.get(row)}
        for row, (path, digest) in enumerate(zip(images, digests, strict=True))
    ]


def _path(folder: Path, name: str, writer: Writer) -> Path:
    """Return a file that is not there yet, called so as far as a file can be."""
    stem = re.sub(r"[^\w.+-]+", "_", name)
    found, number = folder / f"{stem}{writer.suffix}", 1
    while found.exists():
        number += 1
        found = folder / f"{stem}_{number}{writer.suffix}"
    return found
