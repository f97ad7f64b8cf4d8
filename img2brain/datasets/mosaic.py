"""MOSAIC: eight fMRI sets of still pictures and films in one layout, a file for each subject."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets import _hdf5
from img2brain.datasets._split import Rows
from img2brain.datasets._stimuli import by_name, image_folder
from img2brain.datasets._tables import few
from img2brain.datasets._trials import Recording, TrialDataset, chosen_subject
from img2brain.errors import DataError, ShapeError
from img2brain.spec import PreparationSpec

_FILE = re.compile(r"(sub-[A-Za-z0-9]+_[A-Za-z0-9]+)\.hdf5")
_KEY = re.compile(r".*_stimulus-(?P<stem>.+)_phase-(?P<phase>train|test)_rep-(?P<rep>\d+)")
_FOLDERS = ("stimuli", "images", "frames")
_CITATION = "Lahner et al., MOSAIC: a scalable dataset aggregation, github.com/murtylab/mosaic-dataset"


class Mosaic(TrialDataset):
    """Files sub-01_NSD.hdf5 and so on of MOSAIC, one for each subject of each of its sets, or one of them.

    Notes
    -----
    ::

        sub-01_NSD.hdf5    group `betas`, an array for each trial: sub-01_NSD_stimulus-STEM_phase-train_rep-0, with
                           presented_stimulus_filename; `nan_indices_all`; group `noiseceilings`, of the test phase
        stimuli/           images, in it or in folders in it; or in the folder that `images` names

    Keys sort otherwise than trials were run: rows are in the order of the names of their stimuli. A voxel that is NaN
    in any trial, by `nan_indices_all`, is left out. The noise ceiling is that of the mean over the test repeats, and is
    not there for sets without repeats. ``mosaic:phase`` is the split by phase.
    """

    published = True
    presets = ("mosaic:phase",)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Say whether there are files of the dataset, or this is one."""
        return bool(_files(path))

    @classmethod
    def subjects(cls, path: Path) -> tuple[str, ...]:
        """Name the subjects, each with its set."""
        return tuple(_files(path))

    @classmethod
    def record(cls, path: Path, asked: PreparationSpec) -> Recording:
        """List the trials of one subject, and find the images."""
        files = _files(path)
        subject = chosen_subject(tuple(files), asked.subject, repr(str(path)))
        file = files[subject]
        with _hdf5.opened(file) as opened:
            keys, names = _trials(opened, file)
            first = _hdf5.array_of(opened, f"betas/{keys[0]}", file)
            n_all, dtype = int(first.size), first.dtype
            lacking = _lacking(opened, file, n_all)
            ceiling = _ceiling(opened, file, n_all)
        kept = np.setdiff1d(np.arange(n_all), lacking).astype(np.intp)
        if not len(kept):
            raise DataError(f"Some voxels of {str(file)!r} must be there in every trial. All {n_all} are NaN.")
        root = path.parent if path.is_file() else path
        images = by_name(image_folder([root / name for name in _FOLDERS], asked.images, "MOSAIC"), names)
        is_test = np.array(["_phase-test_" in key for key in keys], dtype=bool)
        notes = {"NaN voxels of any trial": f"{len(lacking)} of {n_all} are left out"} if len(lacking) else {}
        return Recording(
            name=f"mosaic-{subject}",
            images=[images[name] for name in names],
            n_voxels=len(kept),
            read=_reader(file, keys, kept),
            where=lambda trial: f"{str(file)!r}, {keys[trial]}",
            dtype=dtype,
            test=is_test,
            splits={"mosaic:phase": lambda: np.where(is_test, "test", "train").tolist()} if is_test.any() else {},
            noise_ceiling=None if ceiling is None else ceiling[kept],
            files=(file,),
            facts={"subject": subject, "source": file.stem, "unit": "beta",
                   "provenance": {"species": "human", "citation": _CITATION}},
            notes=notes,
        )  # fmt: skip


COMPONENT = Mosaic


def _files(path: Path) -> dict[str, Path]:
    found = [path] if path.is_file() else sorted(path.glob("sub-*_*.hdf5")) if path.is_dir() else []
    matches = ((_FILE.fullmatch(file.name), file) for file in found)
    return {match[1]: file for match, file in matches if match}


def _trials(opened: Any, file: Path) -> tuple[list[str], list[str]]:
    """Return the keys of the trials by stimulus and repeat, and the file of the picture that each showed."""
    if "betas" not in opened:
        raise DataError(f"{str(file)!r} must hold the group 'betas'. It holds {few(opened)}.")
    found: list[tuple[str, int, str, str]] = []
    for key in opened["betas"]:
        match = _KEY.fullmatch(key)
        if match is None:
            raise DataError(f"The arrays of 'betas' in {str(file)!r} must be named as trials are. Got {key!r}.")
        told = _hdf5.array_of(opened, f"betas/{key}", file).attrs.get("presented_stimulus_filename", match["stem"])
        name = told.decode() if isinstance(told, bytes) else str(told)
        found.append((name, int(match["rep"]), match["phase"], key))
    if not found:
        raise DataError(f"{str(file)!r} must hold trials. It holds none.")
    ordered = sorted(found)
    return [key for *_, key in ordered], [name for name, *_ in ordered]


def _lacking(opened: Any, file: Path, n_voxels: int) -> NDArray[np.intp]:
    """Return the voxels that are NaN in any trial; the file lists them in no order, and may list one twice."""
    if "nan_indices_all" not in opened:
        return np.empty(0, dtype=np.intp)
    found = np.unique(np.asarray(_hdf5.array_of(opened, "nan_indices_all", file)[()]).astype(np.intp))
    if len(found) and not 0 <= found[0] <= found[-1] < n_voxels:
        raise DataError(f"'nan_indices_all' of {str(file)!r} must be voxels 0..{n_voxels - 1}. Got {found[-1]}.")
    return found


def _ceiling(opened: Any, file: Path, n_voxels: int) -> NDArray[np.float64] | None:
    """Return the ceiling of the mean over the test repeats, as a share; NaN where it is not known."""
    names = [name for name in opened.get("noiseceilings", {}) if "_phase-test_" in name and "_n-avg" in name]
    if not names:
        return None
    values = np.asarray(_hdf5.array_of(opened, f"noiseceilings/{names[0]}", file)[()], dtype=np.float64).ravel()
    if len(values) != n_voxels:
        raise ShapeError(f"{names[0]!r} of {str(file)!r} must have {n_voxels} values. It has {len(values)}.")
    values = values / 100 if np.nanmax(values, initial=0) > 1 else values  # some are in percent
    return np.where((values >= 0) & (values <= 1), values, np.nan)


def _reader(file: Path, keys: list[str], kept: Rows) -> Any:
    def read(trials: Rows) -> NDArray[Any]:
        with _hdf5.opened(file) as opened:
            arrays = (_hdf5.array_of(opened, f"betas/{keys[trial]}", file) for trial in trials)
            found = [np.asarray(array[()]).ravel() for array in arrays]
        sizes = {len(values) for values in found}
        if len(sizes) > 1:
            raise ShapeError(f"The trials of {str(file)!r} must have equally many values. Got {few(sizes)}.")
        return np.stack(found)[:, kept] if found else np.empty((0, len(kept)))

    return read
