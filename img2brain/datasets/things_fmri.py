"""THINGS-fMRI as tables: single-trial responses of three people to photographs of objects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets import _hdf5
from img2brain.datasets._split import Rows
from img2brain.datasets._stimuli import image_folder, require_there
from img2brain.datasets._tables import Table, few, read_table, within
from img2brain.datasets._trials import Recording, TrialDataset, chosen_subject
from img2brain.datasets._voxel_tables import ncsnr_of, regions_of
from img2brain.errors import DataError, ShapeError
from img2brain.spec import PreparationSpec

_TEST_REPEATS = 12  # that nc_testset is the ceiling of the mean of
_KEY = "ResponseData"
_FOLDERS = ("THINGS", "images", "_image_database_things", "object_images")
_CITATION = "Hebart et al. (2023), THINGS-data, eLife 12:e82580"


class ThingsFmri(TrialDataset):
    """Tables sub-01_StimulusMetadata.csv, _ResponseData.h5 and _VoxelMetadata.csv of THINGS-fMRI, in betas_csv/ or not.

    Notes
    -----
    ::

        betas_csv/sub-01_StimulusMetadata.csv   trial_type (train, test), session, run, stimulus, concept; a line each
        betas_csv/sub-01_ResponseData.h5        a frame of pandas, (voxels, trials), with a column voxel_id
        betas_csv/sub-01_VoxelMetadata.csv      voxel_id, regions as columns of 0 and 1, nc_testset in percent
        THINGS/CONCEPT/STIMULUS                 images; or in the folder that `images` names

    The frame is read without pandas: what it has pickled is left alone. Voxels are matched by voxel_id. ``nc_testset``
    is the ceiling of means over 12 repeats; it becomes ``ncsnr``, so that rows of other numbers have their own.
    ``things:test100`` is the split by ``trial_type``; the column ``category`` is the concept.
    """

    published = True
    presets = ("things:test100",)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Say whether there are tables of THINGS-fMRI."""
        return bool(_subjects(path))

    @classmethod
    def subjects(cls, path: Path) -> tuple[str, ...]:
        """Name the subjects whose tables are there."""
        return _subjects(path)

    @classmethod
    def record(cls, path: Path, asked: PreparationSpec) -> Recording:
        """Read the tables of one subject."""
        subject = chosen_subject(_subjects(path), asked.subject, repr(str(path)))
        folder = _tables(path)
        trials = read_table(folder / f"{subject}_StimulusMetadata.csv")
        voxels = read_table(folder / f"{subject}_VoxelMetadata.csv")
        file = folder / f"{subject}_ResponseData.h5"
        frame = _Frame(file, len(trials))
        voxels = _in_order(voxels, frame.voxel_ids, file)
        kinds = trials.column("trial_type")
        return Recording(
            name=f"things-fmri-{subject}",
            images=_images(trials, path, asked.images),
            n_voxels=len(frame.voxel_ids),
            read=frame.read,
            where=lambda trial: f"{str(file)!r}, column {trial} ({trials.at(trial)})",
            dtype=frame.dtype,
            session=trials.column("session"),
            run=trials.column("run"),
            test=np.array([kind == "test" for kind in kinds], dtype=bool),
            rois=regions_of(voxels),
            ncsnr=_ncsnr(voxels),
            columns={"category": trials.column("concept")},
            splits={"things:test100": lambda: kinds},
            files=(file,),
            facts={
                "subject": subject, "source": subject, "unit": "beta",
                "provenance": {"species": "human", "citation": _CITATION, "url": "https://things-initiative.org"},
            },
        )  # fmt: skip


COMPONENT = ThingsFmri


def _tables(path: Path) -> Path:
    return path / "betas_csv" if (path / "betas_csv").is_dir() else path


def _subjects(path: Path) -> tuple[str, ...]:
    found = _tables(path).glob("sub-*_StimulusMetadata.csv") if path.is_dir() else ()
    names = (re.fullmatch(r"(sub-[A-Za-z0-9]+)_StimulusMetadata\.csv", file.name) for file in found)
    return tuple(sorted(match[1] for match in names if match))


class _Frame:
    """A frame of pandas in an HDF5 file, voxels down and trials across, without what it has pickled.

    A frame has a block of values for each type: the one of floats holds the trials, and that of integers the voxels'
    numbers; where these are floats too, they are the first column of the trials' block.
    """

    def __init__(self, path: Path, n_trials: int) -> None:
        with _hdf5.opened(path) as file:
            names = [name for name in _hdf5.names_of(file) if re.fullmatch(rf"{_KEY}/block\d+_values", name)]
            blocks = {name: _hdf5.array_of(file, name, path) for name in names}
            floats = {name: array for name, array in blocks.items() if array.dtype.kind == "f" and array.ndim == 2}
            fitting = [name for name, array in floats.items() if array.shape[1] in (n_trials, n_trials + 1)]
            if len(fitting) != 1:
                shapes = few(array.shape for array in blocks.values()) or "no block"
                raise ShapeError(
                    f"{str(path)!r} must hold a frame {_KEY!r} of pandas (to_hdf, format 'fixed'), with a column for "
                    f"each of {n_trials} trials. It holds {shapes}."
                )
            (self._name,) = fitting
            _require_in_order(file, self._name, path)
            self._path, self._first = path, floats[self._name].shape[1] - n_trials
            self.dtype = floats[self._name].dtype
            self.voxel_ids = self._find_ids(blocks)

    def _find_ids(self, blocks: dict[str, Any]) -> NDArray[np.int64]:
        """Find the column voxel_id."""
        if self._first:
            return np.asarray(blocks[self._name][:, 0]).astype(np.int64)
        whole = [array for array in blocks.values() if array.dtype.kind in "iu" and array.shape[1:] == (1,)]
        if len(whole) == 1:
            return np.asarray(whole[0][:, 0]).astype(np.int64)
        return np.arange(blocks[self._name].shape[0])

    def read(self, trials: Rows) -> NDArray[Any]:
        """Read some trials, which are columns."""
        return _hdf5.reader(self._path, self._name, axis=1)(trials + self._first).T


def _require_in_order(file: Any, name: str, path: Path) -> None:
    """Refuse trials whose columns are numbered in another order than they stand in, where their names are numbers."""
    items = name.replace("_values", "_items")
    numbers = _hdf5.array_of(file, items, path)[()] if items in file else np.empty(0)
    if np.asarray(numbers).dtype.kind in "iuf" and (np.diff(numbers) <= 0).any():
        raise DataError(f"The columns of {str(path)!r} must be in the order of trials. They are numbered otherwise.")


def _in_order(voxels: Table, ids: NDArray[np.int64], file: Path) -> Table:
    """Put the lines of the table of voxels into the order of the responses."""
    line_of = {number: line for line, number in enumerate(voxels.whole_numbers("voxel_id").tolist())}
    missing = [number for number in ids.tolist() if number not in line_of]
    if missing or len(line_of) != len(voxels) or len(set(ids.tolist())) != len(ids):
        raise DataError(
            f"{voxels.label} must have a line for each voxel_id of {str(file)!r}, each once. "
            f"{len(missing)} of {len(ids)} have none{': ' + few(missing) if missing else ''}."
        )
    return voxels.some([line_of[number] for number in ids.tolist()])


def _images(trials: Table, path: Path, apart: Path | None) -> list[Path | None]:
    """Name the image of each trial; those of other kinds of trials have none."""
    concepts, stimuli, kinds = trials.column("concept"), trials.column("stimulus"), trials.column("trial_type")
    folder = image_folder([path / name for name in _FOLDERS], apart, "THINGS")
    named: dict[str, Path] = {}
    found: list[Path | None] = []
    for row, (concept, stimulus, kind) in enumerate(zip(concepts, stimuli, kinds, strict=True)):
        name = f"{concept}/{stimulus}"
        shown = kind in ("train", "test")
        if shown and name not in named:
            named[name] = within(folder, name, trials.at(row))
        found.append(named[name] if shown else None)
    require_there(named.values())
    return found


def _ncsnr(voxels: Table) -> NDArray[np.float64] | None:
    """Turn the ceiling of the mean over 12 repeats, in percent, into the ratio of signal and noise of one."""
    if not voxels.has("nc_testset"):
        return None
    share = voxels.numbers("nc_testset") / 100
    if np.nanmax(share, initial=0) > 1 or np.nanmin(share, initial=0) < 0:
        raise DataError(f"'nc_testset' of {voxels.label} must be in percent, 0..100. Got {100 * np.nanmax(share):g}.")
    return ncsnr_of(share, _TEST_REPEATS)
