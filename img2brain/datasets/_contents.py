"""What is in a folder of the predecessor's layout, as far as it can be read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets._about import FolderAbout, Guard, read_about, read_per_voxel, read_rois
from img2brain.datasets._facts import require_features, require_groups
from img2brain.datasets._images import find_images
from img2brain.datasets._links import is_there
from img2brain.datasets._order import LISTING, by_rows, ordered, read_listing
from img2brain.datasets._responses import open_array
from img2brain.datasets._split import Rows
from img2brain.datasets._stored import FEATURE_SUFFIXES, read_features
from img2brain.datasets._strays import instead_of_array, instead_of_images
from img2brain.errors import DataError, ShapeError

Array = NDArray[Any]

_TRANSPOSED = " The responses look transposed: images are rows, voxels are columns. Write responses.T in their place."
_PARTS = ("training", "test")
_NONE = np.empty((0, 0))


@dataclass
class PartContents:
    """The training or the test part of a folder."""

    images: tuple[Path, ...] = ()
    responses: Array = field(default_factory=lambda: _NONE)
    repeats: Array | None = None
    counts: Array | None = None
    groups: Array | None = None
    features: dict[str, Array] = field(default_factory=dict)


@dataclass
class Contents:
    """All that a folder holds, as far as it can be read."""

    root: Path
    about: FolderAbout = field(default_factory=FolderAbout)
    training: PartContents = field(default_factory=PartContents)
    test: PartContents = field(default_factory=PartContents)
    rois: Mapping[str, Rows] = field(default_factory=dict)
    ncsnr: Array | None = None
    noise_ceiling: Array | None = None
    columns: Mapping[str, Mapping[Path, str]] = field(default_factory=dict)


def image_folder(root: Path, part: str) -> Path:
    """Return where the images of a part are: ``trainingIMG`` or ``testIMG``."""
    return root / f"{part}IMG"


def responses_file(root: Path, part: str, kind: str = "") -> Path:
    """Return where the responses of a part are, or with `kind` ``"_repeats"`` its repeats."""
    return root / f"{part}fMRI" / f"{part}{kind}.npy"


def read_from(root: Path) -> list[Path]:
    """Find the files that numbers of rows are read from, as long as a folder is worked with."""
    kinds = ("", "_repeats", "_counts")
    files = [responses_file(root, part, kind) for part in _PARTS for kind in kinds]
    features = [file for part in _PARTS for file in _features_in(root / f"{part}Features")]
    return [*filter(is_there, files), *features]


def misplaced(root: Path) -> list[Path]:
    """Find files that have the name of one that belongs elsewhere: nothing reads them."""
    kinds = ("_repeats", "_counts", "_groups")
    read = {responses_file(root, part, kind) for part in _PARTS for kind in kinds}
    read |= {root / "ncsnr.npy", root / "noise_ceiling.npy"}
    names = {path.name for path in read} | {f"{kind[1:]}.npy" for kind in kinds}
    folders = [root, *(root / f"{part}fMRI" for part in _PARTS)]
    return sorted(
        path for folder in folders for path in folder.glob("*.npy") if path.name in names and path not in read
    )


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
    with guard():
        _put_in_order(contents, guard)
    if contents.training.responses.size:
        _read_voxels(contents, guard)
    return contents


def _read_part(root: Path, name: str, guard: Guard, *, required: bool) -> PartContents:
    part, folder, file = PartContents(), image_folder(root, name), responses_file(root, name)
    given = root / f"{name}Features"
    with guard():
        has_images, has_features = is_there(folder), is_there(given)
        if has_images or (required and not has_features):
            part.images = _images_of(folder)
    with guard():
        if required or is_there(file):
            part.responses = _responses_of(file)
    if not part.responses.size:
        return part
    if part.images or not (os.path.lexists(folder) or os.path.lexists(given)):
        with guard():
            _require_one_row_each(file, part.responses, folder, part.images)
    for path in _features_in(given):
        with guard():
            if path.stem in part.features:
                raise DataError(
                    f"The features in {str(given)!r} must have names of their own. {path.stem!r} is of two."
                )
            features = read_features(path)
            if len(part.responses) != len(features) == part.responses.shape[1]:
                shapes = f"{features.shape} and {part.responses.shape}"
                raise ShapeError(
                    f"{str(path)!r} and {str(file)!r} must have a row for each image. Got {shapes}.{_TRANSPOSED}"
                )
            part.features |= {path.stem: require_features(repr(str(path)), features, len(part.responses))}
    repeats = responses_file(root, name, "_repeats")
    with guard():
        if is_there(repeats):
            part.repeats = _open_repeats(repeats, file, part.responses)
    counts = responses_file(root, name, "_counts")
    with guard():
        if is_there(counts):
            part.counts = _open_counts(counts, file, part.responses)
    groups = responses_file(root, name, "_groups")
    with guard():
        if is_there(groups):
            found = open_array(groups, ("images",), texts=True)
            part.groups = require_groups(repr(str(groups)), found, len(part.responses))
    return part


def _features_in(folder: Path) -> list[Path]:
    """Find the files of features in a folder, and the folders that are such files."""
    return sorted(path for path in folder.glob("*.*") if path.suffix in FEATURE_SUFFIXES)


def _put_in_order(contents: Contents, guard: Guard) -> None:
    """Put images into the order of their rows; those without rows need none."""
    listing, parts = contents.root / LISTING, (contents.training, contents.test)
    told = read_listing(listing, [path for part in parts for path in part.images])
    rows, contents.columns = told.rows, told.columns
    for part in parts:
        with guard():
            if not rows.keys().isdisjoint(part.images):
                part.images = by_rows(part.images, rows, listing)
            elif part.responses.size:
                part.images = ordered(part.images, contents.about.order, contents.root)


def _images_of(folder: Path) -> tuple[Path, ...]:
    try:
        return find_images(folder)
    except DataError as error:
        raise DataError(f"{error}{instead_of_images(folder)}") from None


def _responses_of(file: Path) -> Array:
    if not is_there(file):
        raise DataError(f"The file {str(file)!r} must exist. It does not.{instead_of_array(file)}")
    return open_array(file, ("images", "voxels"))


def _require_one_row_each(file: Path, responses: Array, folder: Path, images: tuple[Path, ...]) -> None:
    if len(responses) != len(images):
        raise ShapeError(
            f"{str(file)!r} must have one row for each image of {str(folder)!r}. "
            f"Got shape {responses.shape} and {len(images)} images."
            + (instead_of_images(folder) or (_TRANSPOSED if responses.shape[1] == len(images) else ""))
        )


def _open_repeats(path: Path, file: Path, responses: Array) -> Array:
    repeats = open_array(path, ("images", "repeats", "voxels"))
    if (repeats.shape[0], repeats.shape[2]) != responses.shape:
        raise ShapeError(
            f"{str(path)!r} must have the images and voxels of {str(file)!r}. "
            f"Got shapes {repeats.shape} and {responses.shape}."
        )
    return repeats


def joined(training: Mapping[str, Array], test: Mapping[str, Array]) -> dict[str, Array]:
    """Stack the features of the training and the test images, where there are any."""
    if not test:
        return dict(training)
    for name, matrix in training.items():
        if name not in test or test[name].shape[1] != matrix.shape[1]:
            found = test[name].shape if name in test else "none"
            raise ShapeError(f"The features {name!r} must be as many for test images, {matrix.shape[1]}. Got {found}.")
    return {name: np.concatenate([matrix, test[name]]) for name, matrix in training.items()}


def joined_groups(root: Path, training: PartContents, test: PartContents) -> Array | None:
    """Return the groups of all images that have responses; a group may have images of both parts."""
    found = [part.groups for part in (training, test) if part.responses.size]
    groups = [part for part in found if part is not None]
    if not groups:
        return None
    if len(groups) < len(found) or not _are_of_one_kind(groups):
        files = [str(responses_file(root, part, "_groups")) for part in ("training", "test")]
        got = " and ".join("none" if part is None else str(part.dtype) for part in found)
        raise DataError(f"{files[0]!r} and {files[1]!r} must both be there, and of one type. Got {got}.")
    return np.concatenate(groups)


def _are_of_one_kind(groups: list[Array]) -> bool:
    """Tell whether groups are all texts, or all integers of types that one type of integers holds."""
    kinds = {np.result_type(*groups).kind, *(part.dtype.kind for part in groups)}
    return kinds == {"U"} or kinds <= {"i", "u"}


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
