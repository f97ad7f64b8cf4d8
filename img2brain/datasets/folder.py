"""The predecessor's layout: images in ``trainingIMG/``, responses in ``trainingfMRI/``, and the same for ``test``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets._about import About, Guard, read_about, read_per_voxel, read_rois
from img2brain.datasets._images import find_images
from img2brain.datasets._responses import float_type, open_array, release
from img2brain.datasets._split import Rows
from img2brain.datasets.base import Dataset
from img2brain.errors import DataError, ShapeError

Array = NDArray[Any]

_NONE = np.empty((0, 0))


@dataclass
class Part:
    """The training or the test part of a folder."""

    images: tuple[Path, ...] = ()
    responses: Array = field(default_factory=lambda: _NONE)
    repeats: Array | None = None
    counts: Array | None = None
    features: Mapping[str, Array] = field(default_factory=dict)


@dataclass
class Contents:
    """All that a folder holds, as far as it can be read."""

    root: Path
    about: About = field(default_factory=About)
    training: Part = field(default_factory=Part)
    test: Part = field(default_factory=Part)
    rois: Mapping[str, Rows] = field(default_factory=dict)
    ncsnr: Array | None = None
    noise_ceiling: Array | None = None


class FolderDataset(Dataset):
    """A dataset in the predecessor's layout.

    Notes
    -----
    ::

        trainingIMG/*.jpg|png      testIMG/*.jpg|png             the i-th row belongs to the i-th image by file name
        trainingFeatures/*.npy     testFeatures/*.npy            optional, (images, features) each; images may then lack
        trainingfMRI/training.npy  testfMRI/test.npy             (images, voxels); the test part is optional
        trainingfMRI/training_repeats.npy, testfMRI/test_repeats.npy   optional, (images, repeats, voxels), NaN = none
        trainingfMRI/training_counts.npy, testfMRI/test_counts.npy     optional, (images,), repeats that were averaged
        rois.json                  optional, name -> voxel indices or a mask of true and false
        ncsnr.npy, noise_ceiling.npy   optional, (voxels,)
        dataset.toml               optional: name, unit, subject

    Responses are memory-mapped: opening reads no image and no response.
    """

    def __init__(self, contents: Contents) -> None:
        training, test = contents.training, contents.test
        self.source = contents.root.resolve().name
        self.features = _joined(training.features, test.features if len(test.responses) else {})
        self.name, self.unit, self.subject = contents.about.name, contents.about.unit, contents.about.subject
        self.n_training, self.n_voxels = training.responses.shape
        self.n_test = len(test.responses)
        self.images = training.images + (test.images if self.n_test else ())
        self.test_images = test.images
        self.rois, self.ncsnr, self.noise_ceiling = contents.rois, contents.ncsnr, contents.noise_ceiling
        self._contents = contents

    @classmethod
    def open(cls, path: Path) -> FolderDataset:
        """Open a folder after the cheap checks; `check` makes all of them.

        Parameters
        ----------
        path : Path
            The folder.

        Returns
        -------
        FolderDataset

        Raises
        ------
        DataError
            If a file is absent, of another kind, or does not fit the others (`ShapeError`).
        SpecError
            If ``dataset.toml`` holds something that is not allowed.
        """
        return cls(read_contents(path, nullcontext))

    def _responses(self, rows: Rows) -> Array:
        training, test = self._contents.training.responses, self._contents.test.responses
        out = np.empty((len(rows), self.n_voxels), float_type(training, test) if self.n_test else float_type(training))
        for place, row in zip(out, rows, strict=True):
            place[...] = training[row] if row < self.n_training else test[row - self.n_training]
        release(training, test)
        return out

    def _repeats(self, rows: Rows) -> Array | None:
        found = self._part_of(rows)
        if found is None or found[0].repeats is None:
            return None
        part, places = found
        assert part.repeats is not None, "looked at above"
        repeats: Array = part.repeats[places].astype(float_type(part.repeats), copy=False)
        release(part.repeats)
        return repeats

    def _counts(self, rows: Rows) -> NDArray[np.int64] | None:
        found = self._part_of(rows)
        if found is not None and found[0].counts is not None:
            return np.asarray(found[0].counts[found[1]], dtype=np.int64)
        repeats = self._repeats(rows)
        return None if repeats is None else (~np.isnan(repeats)).any(axis=2).sum(axis=1)

    def _part_of(self, rows: Rows) -> tuple[Part, Rows] | None:
        """Return the part that some rows are all in, and their places there."""
        if (rows < self.n_training).all():
            return self._contents.training, rows
        if (rows >= self.n_training).all():
            return self._contents.test, rows - self.n_training
        return None

    def _arrays(self) -> Mapping[str, Array]:
        contents = self._contents
        arrays = {
            "training": contents.training.responses,
            "training_repeats": contents.training.repeats,
            "test": contents.test.responses if self.n_test else None,
            "test_repeats": contents.test.repeats,
            "training_counts": contents.training.counts,
            "test_counts": contents.test.counts,
            "ncsnr": self.ncsnr,
            "noise_ceiling": self.noise_ceiling,
            **{f"roi {name}": voxels.astype(np.int64) for name, voxels in self.rois.items()},
            **{f"features {name}": matrix for name, matrix in self.features.items()},
        }
        return {name: array for name, array in arrays.items() if array is not None}

    def where(self, row: int) -> str:
        """Say where the responses of a row are kept, for messages."""
        part, first = ("training", 0) if row < self.n_training else ("test", self.n_training)
        return f"{str(responses_file(self._contents.root, part))!r}, row {row - first}"


COMPONENT = FolderDataset


def image_folder(root: Path, part: str) -> Path:
    """Return where the images of a part are: ``trainingIMG`` or ``testIMG``."""
    return root / f"{part}IMG"


def responses_file(root: Path, part: str, kind: str = "") -> Path:
    """Return where the responses of a part are, or with `kind` ``"_repeats"`` its repeats."""
    return root / f"{part}fMRI" / f"{part}{kind}.npy"


def read_contents(root: Path, guard: Guard) -> Contents:
    """Read a folder, each step under a `guard`, which lets the first error pass or keeps them all."""
    contents = Contents(root)
    with guard():
        if not root.is_dir():
            raise DataError(f"The dataset folder {str(root)!r} must exist. It does not.")
    if not root.is_dir():
        return contents
    with guard():
        contents.about = read_about(root)
    contents.training = _read_part(root, "training", guard, required=True)
    contents.test = _read_part(root, "test", guard, required=False)
    if contents.training.responses.size:
        _read_voxels(contents, guard)
    return contents


def _read_part(root: Path, name: str, guard: Guard, *, required: bool) -> Part:
    part, folder, file = Part(), image_folder(root, name), responses_file(root, name)
    given = root / f"{name}Features"
    if folder.exists() or (required and not given.exists()):
        with guard():
            part.images = find_images(folder)
    if required or file.exists():
        with guard():
            part.responses = open_array(file, ("images", "voxels"))
    if not part.responses.size:
        return part
    if part.images or not (folder.exists() or given.exists()):
        with guard():
            _require_one_row_each(file, part.responses, folder, part.images)
    for path in sorted(given.glob("*.npy")):
        with guard():
            part.features = {**part.features, path.stem: _open_features(path, file, part.responses)}
    repeats = responses_file(root, name, "_repeats")
    if repeats.exists():
        with guard():
            part.repeats = _open_repeats(repeats, file, part.responses)
    counts = responses_file(root, name, "_counts")
    if counts.exists():
        with guard():
            part.counts = _open_counts(counts, file, part.responses)
    return part


def _require_one_row_each(file: Path, responses: Array, folder: Path, images: tuple[Path, ...]) -> None:
    if len(responses) != len(images):
        raise ShapeError(
            f"{str(file)!r} must have one row for each image of {str(folder)!r}. "
            f"Got shape {responses.shape} and {len(images)} images."
        )


def _open_repeats(path: Path, file: Path, responses: Array) -> Array:
    repeats = open_array(path, ("images", "repeats", "voxels"))
    if (repeats.shape[0], repeats.shape[2]) != responses.shape:
        raise ShapeError(
            f"{str(path)!r} must have the images and voxels of {str(file)!r}. "
            f"Got shapes {repeats.shape} and {responses.shape}."
        )
    return repeats


def _open_features(path: Path, file: Path, responses: Array) -> Array:
    features = open_array(path, ("images", "features"))
    if len(features) != len(responses):
        raise ShapeError(
            f"{str(path)!r} must have the images of {str(file)!r}. Got shapes {features.shape} and {responses.shape}."
        )
    if not np.isfinite(features).all():
        raise DataError(f"{str(path)!r} must be finite. It is not.")
    return features


def _joined(training: Mapping[str, Array], test: Mapping[str, Array]) -> dict[str, Array]:
    """Stack the features of the training and the test images, where there are any."""
    if not test:
        return dict(training)
    for name, matrix in training.items():
        if name not in test or test[name].shape[1] != matrix.shape[1]:
            found = test[name].shape if name in test else "none"
            raise ShapeError(f"The features {name!r} must be as many for test images, {matrix.shape[1]}. Got {found}.")
    return {name: np.concatenate([matrix, test[name]]) for name, matrix in training.items()}


def _open_counts(path: Path, file: Path, responses: Array) -> Array:
    counts = open_array(path, ("images",))
    if len(counts) != len(responses):
        raise ShapeError(
            f"{str(path)!r} must have the images of {str(file)!r}. Got shapes {counts.shape} and {responses.shape}."
        )
    if counts.dtype.kind not in "iu" or (counts < 1).any():
        raise DataError(f"{str(path)!r} must hold whole numbers of repeats, at least 1.")
    return counts


def _read_voxels(contents: Contents, guard: Guard) -> None:
    root, shape = contents.root, contents.training.responses.shape
    with guard():
        _require_same_voxels(root, shape, contents.test.responses)
    with guard():
        contents.rois = read_rois(root / "rois.json", shape[1], guard)
    with guard():
        contents.ncsnr = read_per_voxel(root / "ncsnr.npy", shape[1], most=np.inf)
    with guard():
        contents.noise_ceiling = read_per_voxel(root / "noise_ceiling.npy", shape[1], most=1.0)


def _require_same_voxels(root: Path, shape: tuple[int, ...], test: Array) -> None:
    if test.size and test.shape[1] != shape[1]:
        files = [str(responses_file(root, part)) for part in ("training", "test")]
        raise ShapeError(f"{files[0]!r} and {files[1]!r} must have the same voxels. Got {shape} and {test.shape}.")
