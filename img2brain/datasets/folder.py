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
from img2brain.datasets._base import Dataset
from img2brain.datasets._images import find_images
from img2brain.datasets._responses import float_type, open_array, release
from img2brain.datasets._split import Rows
from img2brain.errors import DataError, ShapeError

Array = NDArray[Any]

_NONE = np.empty((0, 0))


@dataclass
class Part:
    """The training or the test part of a folder."""

    images: tuple[Path, ...] = ()
    responses: Array = field(default_factory=lambda: _NONE)
    repeats: Array | None = None


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
        trainingfMRI/training.npy  testfMRI/test.npy             (images, voxels); the test part is optional
        trainingfMRI/training_repeats.npy, testfMRI/test_repeats.npy   optional, (images, repeats, voxels), NaN = none
        rois.json                  optional, name -> voxel indices or a mask of true and false
        ncsnr.npy, noise_ceiling.npy   optional, (voxels,)
        dataset.toml               optional: name, unit, subject

    Responses are memory-mapped: opening reads no image and no response.
    """

    def __init__(self, contents: Contents) -> None:
        training, test = contents.training, contents.test
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

    def _arrays(self) -> Mapping[str, Array]:
        contents = self._contents
        arrays = {
            "training": contents.training.responses,
            "training_repeats": contents.training.repeats,
            "test": contents.test.responses if self.n_test else None,
            "test_repeats": contents.test.repeats,
            "ncsnr": self.ncsnr,
            "noise_ceiling": self.noise_ceiling,
            **{f"roi {name}": voxels.astype(np.int64) for name, voxels in self.rois.items()},
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
    if required or folder.exists():
        with guard():
            part.images = find_images(folder)
    if required or file.exists():
        with guard():
            part.responses = open_array(file, ("images", "voxels"))
    if not part.responses.size:
        return part
    if part.images or not folder.exists():
        with guard():
            _require_one_row_each(file, part.responses, folder, part.images)
    repeats = responses_file(root, name, "_repeats")
    if repeats.exists():
        with guard():
            part.repeats = _open_repeats(repeats, file, part.responses)
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
