"""The Algonauts challenge of 2023: NSD's responses at the vertices of both hemispheres, averaged over repeats."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain._mapped import release
from img2brain.datasets._about import read_per_voxel, safe_name
from img2brain.datasets._images import find_images
from img2brain.datasets._links import is_there
from img2brain.datasets._responses import open_array
from img2brain.datasets._restricted import read_names
from img2brain.datasets._split import Rows
from img2brain.datasets._tables import few
from img2brain.datasets._trials import Recording, TrialDataset, chosen_subject
from img2brain.errors import DataError, ShapeError
from img2brain.spec import PreparationSpec

HEMISPHERES = ("lh", "rh")
_SUBJECT = re.compile(r"subj\d\d")
_IMAGE = re.compile(r"(?:train|test)-(\d+)_nsd-\d+\.png")
_CITATION = "Gifford et al. (2023), The Algonauts Project 2023 Challenge, arXiv:2301.03198; Allen et al. (2022)"


class Algonauts2023(TrialDataset):
    """Folders subj01 to subj08 of the Algonauts challenge 2023, or one of them.

    Notes
    -----
    ::

        subj01/training_split/training_images/train-0001_nsd-00013.png    the row, from 1, and the image of NSD, from 0
        subj01/training_split/training_fmri/{lh,rh}_training_fmri.npy     (images, vertices), z-scored and averaged
        subj01/test_split/test_images/test-0001_nsd-00845.png             no responses
        subj01/roi_masks/mapping_CLASS.npy, {lh,rh}.CLASS_challenge_space.npy   also training_split/training_rois
        subj01/noise_ceiling.npy                                          optional, ours: (vertices,), left before right

    Voxels are the vertices of the left hemisphere, then those of the right. A region is that of both; ``lh`` and ``rh``
    are the hemispheres. The tables of names are pickled: they are read by a reader that runs nothing.
    """

    published = True

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Say whether there are subjects of the challenge, or this is one."""
        return any((folder / "training_split" / "training_fmri").is_dir() for folder in (path, *_folders(path)))

    @classmethod
    def subjects(cls, path: Path) -> tuple[str, ...]:
        """Name the subjects whose folders are there."""
        return tuple(folder.name for folder in _folders(path)) or (path.resolve().name,)

    @classmethod
    def record(cls, path: Path, asked: PreparationSpec) -> Recording:
        """Find images, responses and regions of one subject."""
        subject = chosen_subject(cls.subjects(path), asked.subject, repr(str(path)))
        root = path / subject if _folders(path) else path
        fmri = root / "training_split" / "training_fmri"
        files = [fmri / f"{side}_training_fmri.npy" for side in HEMISPHERES]
        sides = [open_array(file, ("images", "vertices")) for file in files]
        images = in_order(root / "training_split" / "training_images")
        if {len(side) for side in sides} != {len(images)}:
            shapes = " and ".join(str(side.shape) for side in sides)
            raise ShapeError(f"{str(fmri)!r} must have a row for each of {len(images)} images. Got {shapes}.")
        n_left, n_right = (side.shape[1] for side in sides)
        test = root / "test_split" / "test_images"
        return Recording(
            name=safe_name(f"algonauts2023-{subject}"),
            images=images,
            n_voxels=n_left + n_right,
            read=lambda trials: _read(sides, trials),
            where=lambda trial: f"{str(files[0])!r} and {HEMISPHERES[1]}, row {trial}",
            dtype=np.result_type(*sides),
            rois=_regions(root, n_left, n_right),
            noise_ceiling=read_per_voxel(root / "noise_ceiling.npy", n_left + n_right, 1.0),
            test_images=in_order(test) if is_there(test) else (),
            files=files,
            facts={
                "subject": subject, "source": subject, "unit": "z",
                "provenance": {"species": "human", "citation": _CITATION, "url": "http://algonauts.csail.mit.edu"},
            },
        )  # fmt: skip


COMPONENT = Algonauts2023


def _folders(path: Path) -> list[Path]:
    found = sorted(path.glob("subj[0-9][0-9]")) if path.is_dir() else []
    return [folder for folder in found if (folder / "training_split").is_dir()]


def in_order(folder: Path) -> tuple[Path, ...]:
    """List the images of a part in the order of their rows, which their names count from 1.

    Raises
    ------
    DataError
        If a name is of another kind, or one is missing.
    """
    images = find_images(folder)
    named = [(path, _IMAGE.fullmatch(path.name)) for path in images]
    others = [path.name for path, match in named if match is None]
    if others:
        raise DataError(f"The images of {str(folder)!r} must be named train-ROW_nsd-ID.png or so. Got {few(others)}.")
    rows = {int(match[1]): path for path, match in named if match}
    missing = sorted(set(range(1, len(images) + 1)) - set(rows))
    if missing:
        raise DataError(
            f"The images of {str(folder)!r} must count from 1 to {len(images)}. Row {missing[0]} is missing."
        )
    return tuple(rows[row] for row in sorted(rows))


def vertices_of(path: Path, subject: str) -> tuple[int, int]:
    """Return the numbers of vertices of the two hemispheres of a subject."""
    root = path / subject if _folders(path) else path
    fmri = root / "training_split" / "training_fmri"
    left, right = (
        open_array(fmri / f"{side}_training_fmri.npy", ("images", "vertices")).shape[1] for side in HEMISPHERES
    )
    return left, right


def images_to_predict(path: Path, subject: str) -> tuple[Path, ...]:
    """List the test images of a subject in the order of the challenge."""
    root = path / subject if _folders(path) else path
    return in_order(root / "test_split" / "test_images")


def _read(sides: list[NDArray[Any]], trials: Rows) -> NDArray[Any]:
    found = np.concatenate([side[trials] for side in sides], axis=1)
    release(*sides)
    return found


def _regions(root: Path, n_left: int, n_right: int) -> dict[str, NDArray[np.intp]]:
    """Read the regions of each class; one that a subject lacks is not there."""
    places = [folder for folder in (root / "roi_masks", root / "training_split" / "training_rois") if is_there(folder)]
    found = {"lh": np.arange(n_left), "rh": np.arange(n_left, n_left + n_right)}
    for folder in places[:1]:
        for mapping in sorted(folder.glob("mapping_*.npy")):
            names, kind = read_names(mapping), mapping.stem.removeprefix("mapping_")
            labels = [_labels(folder / f"{side}.{kind}_challenge_space.npy", n, names)
                      for side, n in zip(HEMISPHERES, (n_left, n_right), strict=True)]  # fmt: skip
            of_all = np.concatenate(labels)
            found |= {name: np.flatnonzero(of_all == number) for number, name in names.items() if number > 0}
    return {name: voxels.astype(np.intp) for name, voxels in found.items() if len(voxels)}


def _labels(file: Path, n_vertices: int, names: dict[int, str]) -> NDArray[np.int64]:
    labels = open_array(file, ("vertices",))
    if len(labels) != n_vertices:
        raise ShapeError(f"{str(file)!r} must have a number for each of {n_vertices} vertices. Got {len(labels)}.")
    unknown = set(np.unique(labels).tolist()) - set(names) - {0}
    if unknown:
        raise DataError(f"{str(file)!r} must hold numbers of its mapping. Got {few(sorted(unknown))}.")
    return labels.astype(np.int64)
