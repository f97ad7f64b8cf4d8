"""TVSD: multi-unit activity in V1, V4 and IT of two macaques, to the photographs of THINGS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets import _hdf5
from img2brain.datasets._split import Rows
from img2brain.datasets._stimuli import image_folder, require_there
from img2brain.datasets._tables import few, within
from img2brain.datasets._trials import Recording, TrialDataset, chosen_subject
from img2brain.errors import DataError, ShapeError
from img2brain.spec import PreparationSpec

_RESPONSES, _IMAGES = "THINGS_normMUA.mat", "things_imgs.mat"
_FOLDERS = ("THINGS", "object_images", "images", "_image_database_things")
_REGIONS = {  # channels of each animal: their arrays were placed in another order
    "monkeyN": {"V1": (0, 512), "V4": (512, 768), "IT": (768, 1024)},
    "monkeyF": {"V1": (0, 512), "IT": (512, 832), "V4": (832, 1024)},
}
_CITATION = "Papale et al. (2025), An extensive dataset of spiking activity, Neuron 113:539-553"


class Tvsd(TrialDataset):
    """Folders monkeyF/ and monkeyN/ of TVSD, or one of them, with THINGS_normMUA.mat and things_imgs.mat.

    Notes
    -----
    ::

        monkeyF/THINGS_normMUA.mat    train_MUA (channels, images), test_MUA_reps (channels, images, 30)
        monkeyF/things_imgs.mat       things_path of the training and of the test images, in the order of responses
        THINGS/object_images/...      images; or in the folder that `images` names

    The files are MATLAB's 7.3, which HDF5 shows with the axes reversed. The channels of V1, V4 and IT are others in
    each animal. The repeats of the test images are kept. ``tvsd:test100`` is the split of both parts; the column
    ``category`` is the folder of an image, its concept.
    """

    published = True
    presets = ("tvsd:test100",)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Say whether there are animals of the dataset, or this is one."""
        return bool(_animals(path)) or (path / _RESPONSES).is_file()

    @classmethod
    def subjects(cls, path: Path) -> tuple[str, ...]:
        """Name the animals whose responses are there."""
        return _animals(path) or (path.resolve().name,)

    @classmethod
    def record(cls, path: Path, asked: PreparationSpec) -> Recording:
        """Find the responses, images and regions of one animal."""
        subject = chosen_subject(cls.subjects(path), asked.subject, repr(str(path)))
        root = path / subject if _animals(path) else path
        file = root / _RESPONSES
        listing = root / _IMAGES if (root / _IMAGES).is_file() else path / _IMAGES
        names = [_names(listing, part) for part in ("train", "test")]
        train, test = _Part(file, "train_MUA", len(names[0])), _Part(file, "test_MUA_reps", len(names[1]))
        if train.n_channels != test.n_channels:
            raise ShapeError(f"{str(file)!r} must have the same channels in both parts. Got {train.n_channels} and "
                             f"{test.n_channels}.")  # fmt: skip
        n_train, n_repeats = len(names[0]), test.n_repeats
        images = _paths(names, listing, path, asked.images)
        shown = [*images[0], *(image for image in images[1] for _ in range(n_repeats))]
        is_test = np.arange(len(shown)) >= n_train

        def read(trials: Rows) -> NDArray[Any]:
            first = int(np.searchsorted(trials, n_train))
            later = trials[first:] - n_train
            return np.concatenate([train.read(trials[:first]), test.read(later // n_repeats, later % n_repeats)])

        return Recording(
            name=f"tvsd-{subject}",
            images=shown,
            n_voxels=train.n_channels,
            read=read,
            where=lambda trial: f"{str(file)!r}, {_place(trial, n_train, n_repeats)}",
            dtype=train.dtype,
            test=is_test,
            columns={"category": [image.parent.name for image in shown]},
            splits={"tvsd:test100": lambda: np.where(is_test, "test", "train").tolist()},
            rois={name: np.arange(*ends) for name, ends in _REGIONS.get(subject, {}).items()
                  if ends[1] <= train.n_channels},
            files=(file,),
            facts={
                "subject": subject, "source": subject, "unit": "normalised MUA",
                "provenance": {"species": "macaque", "area": "V1, V4, IT", "citation": _CITATION},
            },
            notes={} if subject in _REGIONS else {"regions": f"those of {subject!r} are not known"},
        )  # fmt: skip


COMPONENT = Tvsd


def _animals(path: Path) -> tuple[str, ...]:
    return tuple(sorted(item.parent.name for item in path.glob(f"monkey*/{_RESPONSES}"))) if path.is_dir() else ()


def _place(trial: int, n_train: int, n_repeats: int) -> str:
    if trial < n_train:
        return f"train_MUA, image {trial}"
    return f"test_MUA_reps, image {(trial - n_train) // n_repeats}, repeat {(trial - n_train) % n_repeats}"


class _Part:
    """The responses of a part, of which images are one axis, channels another and repeats, where it has any, the third.

    HDF5 shows (repeats, images, channels), or (images, channels), of what MATLAB wrote as (channels, images, repeats).
    """

    def __init__(self, file: Path, name: str, n_images: int) -> None:
        self._file, self._name = file, name
        with _hdf5.opened(file) as opened:
            array = _hdf5.array_of(opened, name, file)
            shape, self.dtype = tuple(array.shape), array.dtype
        self._repeated = len(shape) == 3
        axes = shape[1:] if self._repeated else shape
        if len(shape) not in (2, 3) or n_images not in axes:
            raise ShapeError(f"{name!r} of {str(file)!r} must have {n_images} images, as listed. Got {shape[::-1]}.")
        self._images_last = axes[0] != n_images
        self.n_channels = axes[0] if self._images_last else axes[1]
        self.n_repeats = shape[0] if self._repeated else 1

    def read(self, images: Rows, repeats: Rows | None = None) -> NDArray[Any]:
        """Read images, or the repeats of them."""
        unique, places = np.unique(images, return_inverse=True)
        axis = int(self._images_last) + int(self._repeated)
        found = _hdf5.reader(self._file, self._name, axis)(unique)
        found = np.swapaxes(found, -1, -2) if self._images_last else found
        return found[places] if repeats is None or not self._repeated else found[repeats, places]


def _names(file: Path, part: str) -> list[str]:
    """Read the paths of the images of a part: texts as numbers, each reached by a reference."""
    with _hdf5.opened(file) as opened:
        for name in (f"{part}_imgs/things_path", f"{part}/things_path", f"{part}_things_path"):
            if name in opened:
                return _hdf5.texts(opened, _hdf5.array_of(opened, name, file))
        raise DataError(
            f"{str(file)!r} must hold {part}_imgs with things_path. It holds {few(_hdf5.names_of(opened)) or 'none'}."
        )


def _paths(names: list[list[str]], listing: Path, path: Path, apart: Path | None) -> list[list[Path]]:
    """Find the images of both parts; the paths in the list are those of a machine with backslashes."""
    usual = [root / name for root in (path, path.parent) for name in _FOLDERS]
    folder = image_folder(usual, apart, "THINGS")
    found = [[within(folder, name, repr(str(listing))) for name in part] for part in names]
    if not found[0][0].is_file():  # the list starts at the folder of images, or in it
        found = [[within(folder, name.replace("\\", "/").partition("/")[2], str(listing)) for name in part]
                 for part in names]  # fmt: skip
    require_there(image for part in found for image in part)
    return found
