"""The Natural Scenes Dataset as it is released: single-trial responses by session, volumes or the surface."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.amounts import counted
from img2brain.datasets import _hdf5, _volumes
from img2brain.datasets._inside import place
from img2brain.datasets._links import is_there
from img2brain.datasets._split import Rows
from img2brain.datasets._tables import few, read_table
from img2brain.datasets._trials import Recording, TrialDataset, chosen_subject
from img2brain.errors import DataError, ShapeError
from img2brain.spec import PreparationSpec

_BETAS = "betas_fithrf_GLMdenoise_RR"
_SPACES = ("func1pt8mm", "func1mm", "fsaverage")
_SESSIONS, _REPEATS = 30, 3  # in which, and how often, the shared images of the smaller test part were shown
_SCALE = 300  # the betas of volumes are int16, 300 times percent signal change
_ATLASES = (
    "streams", "prf-visualrois", "prf-eccrois", "floc-bodies", "floc-faces", "floc-places", "floc-words", "Kastner2015",
    "nsdgeneral",
)  # fmt: skip
_STIMULI = ("nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5", "nsd_stimuli.hdf5")
_CITATION = "Allen et al. (2022), A massive 7T fMRI dataset, Nature Neuroscience 25:116-126"


class Nsd(TrialDataset):
    """The folders nsddata/ and nsddata_betas/ of the Natural Scenes Dataset, with nsd_stimuli.hdf5.

    Notes
    -----
    ::

        nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session01.hdf5, ncsnr.nii.gz
        nsddata_betas/ppdata/subj01/fsaverage/betas_fithrf_GLMdenoise_RR/{lh,rh}.betas_session01.mgh, {lh,rh}.ncsnr.mgh
        nsddata/ppdata/subj01/func1pt8mm/brainmask.nii.gz, valid_session01.nii.gz, roi/*.nii.gz
        nsddata/freesurfer/{subj01,fsaverage}/label/*.mgz.ctab, and of the surface {lh,rh}.*.mgz
        nsddata/experiments/nsd/nsd_expdesign.mat, or nsd_stim_info_merged.csv
        nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5      or the file that `images` names

    `responses` is ``"func1pt8mm"``, ``"func1mm"`` or ``"fsaverage"``, and ``"SPACE/BETAS"`` for other betas. Sessions
    are those whose files are there. A voxel of a volume is one of the brain mask that is valid in each of them. Voxels
    are z-scored within a session unless ``normalise = "none"``. The images that all subjects share are the test part.

    ``nsd:shared1000`` is the split of these two; of ``nsd:shared515`` those shared images confirm that were shown three
    times in the first 30 sessions, and the other shared ones validate. Images are named by their number, from 0.
    """

    published = True
    presets = ("nsd:shared1000", "nsd:shared515")
    normalised = "session"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Say whether there are betas of the dataset."""
        return (path / "nsddata_betas" / "ppdata").is_dir()

    @classmethod
    def subjects(cls, path: Path) -> tuple[str, ...]:
        """Name the subjects that have betas."""
        return tuple(sorted(item.name for item in (path / "nsddata_betas" / "ppdata").glob("subj[0-9][0-9]")))

    @classmethod
    def record(cls, path: Path, asked: PreparationSpec) -> Recording:
        """Find sessions, voxels and images of one subject."""
        subject = chosen_subject(cls.subjects(path), asked.subject, repr(str(path)))
        space, betas = _space(path, subject, asked.responses)
        kind = _Surface if space == "fsaverage" else _Volumes
        sessions = kind(path, subject, space, betas)
        ids, shared = _design(path / "nsddata" / "experiments" / "nsd", subject)
        numbers, within = sessions.trials
        trials = (numbers - 1) * sessions.n_per_session + within
        if trials.max() >= len(ids):
            raise ShapeError(
                f"The design of {subject!r} must tell the image of each trial. It tells {len(ids)}, and session "
                f"{numbers.max()} would have trial {trials.max() + 1}."
            )
        stimuli = _stimuli(path, asked.images)
        shown = ids[trials]
        paths = {int(number): place(stimuli, "imgBrick", int(number)) for number in np.unique(shown)}
        return Recording(
            name=f"nsd-{subject}",
            images=[paths[int(number)] for number in shown],
            n_voxels=sessions.n_voxels,
            read=lambda some: sessions.read(numbers[some], within[some]),
            where=lambda trial: f"{str(sessions.file(int(numbers[trial])))!r}, trial {within[trial]}",
            dtype=np.dtype(np.float32),
            session=numbers,
            test=np.isin(shown, shared),
            may_lack=space == "fsaverage",
            rois=sessions.rois,
            ncsnr=sessions.ncsnr,
            stimuli=[str(number) for number in shown],
            files=[file for number in np.unique(numbers) for file in sessions.files(int(number))],
            splits={
                "nsd:shared1000": lambda: _parts(shown, shared, shared),
                "nsd:shared515": lambda: _parts(shown, shared, _seen_thrice(ids[: _SESSIONS * sessions.n_per_session])),
            },
            facts={
                "subject": subject, "source": subject, "unit": "% signal change",
                "provenance": {"species": "human", "citation": _CITATION, "url": "https://naturalscenesdataset.org",
                               "licence": "NSD terms: responses may not be passed on"},
            },
            notes={"responses": f"{space}, {betas}, {counted(len(sessions.numbers), 'session')}{sessions.note}"},
        )  # fmt: skip


COMPONENT = Nsd


def _space(path: Path, subject: str, asked: str | None) -> tuple[str, str]:
    """Return the space and the kind of betas that are asked for, or the first that are there."""
    root = path / "nsddata_betas" / "ppdata" / subject
    space, _, betas = (asked or "").partition("/")
    there = [name for name in ([space] if space else _SPACES) if (root / name).is_dir()]
    if not there:
        known = few(item.name for item in sorted(root.iterdir()) if item.is_dir())
        raise DataError(f"'responses' must be a space of {str(root)!r}. Got {asked!r}; there are: {known}.")
    kinds = sorted(item.name for item in (root / there[0]).iterdir() if item.is_dir())
    wanted = betas or (_BETAS if _BETAS in kinds else kinds[-1] if kinds else _BETAS)
    if wanted not in kinds:
        raise DataError(f"{str(root / there[0])!r} must hold the betas {wanted!r}. It holds {few(kinds) or 'none'}.")
    return there[0], wanted


class _Sessions(ABC):
    """The sessions of one subject whose files are there."""

    pattern: str
    note = ""

    def __init__(self, path: Path, subject: str, space: str, betas: str) -> None:
        self.folder = path / "nsddata_betas" / "ppdata" / subject / space / betas
        found = (re.fullmatch(self.pattern, item.name) for item in sorted(self.folder.iterdir()))
        self.numbers = sorted(int(match[1]) for match in found if match)
        if not self.numbers:
            raise DataError(f"{str(self.folder)!r} must hold sessions, such as {self.file(1).name!r}. It holds none.")
        self.about = path / "nsddata"
        self.subject, self.space = subject, space
        counts = {self.count(number) for number in self.numbers}
        if len(counts) > 1:
            raise ShapeError(f"The sessions of {str(self.folder)!r} must have equally many trials. Got {few(counts)}.")
        (self.n_per_session,) = counts

    @property
    def trials(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The session of each trial, from 1, and its place there, from 0."""
        within = np.arange(self.n_per_session, dtype=np.intp)
        return np.repeat(self.numbers, self.n_per_session).astype(np.intp), np.tile(within, len(self.numbers))

    def read(self, numbers: Rows, within: Rows) -> NDArray[np.float32]:
        """Read trials, in the order of sessions."""
        if len(numbers) and (numbers == numbers[0]).all():
            return self.session(int(numbers[0]), within)
        out = np.empty((len(numbers), self.n_voxels), np.float32)
        for number in np.unique(numbers):
            chosen = numbers == number
            out[chosen] = self.session(int(number), within[chosen])
        return out

    @abstractmethod
    def file(self, number: int) -> Path:
        """Return the file of a session."""

    def files(self, number: int) -> list[Path]:
        """Return all files of a session."""
        return [self.file(number)]

    @abstractmethod
    def count(self, number: int) -> int:
        """Count the trials of a session."""

    @abstractmethod
    def session(self, number: int, within: Rows) -> NDArray[Any]:
        """Read some trials of a session."""

    @property
    @abstractmethod
    def n_voxels(self) -> int:
        """Number of voxels."""


class _Volumes(_Sessions):
    """Volumes: HDF5 files of (trials, z, y, x), where NIfTI files of the same voxels have (x, y, z)."""

    pattern = r"betas_session(\d\d)\.hdf5"

    def file(self, number: int) -> Path:
        return self.folder / f"betas_session{number:02}.hdf5"

    def count(self, number: int) -> int:
        with _hdf5.opened(self.file(number)) as file:
            return int(_hdf5.array_of(file, "betas", self.file(number)).shape[0])

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        """Return (x, y, z), which all sessions must have."""
        shapes = set()
        for number in self.numbers:
            with _hdf5.opened(self.file(number)) as file:
                shapes.add(tuple(_hdf5.array_of(file, "betas", self.file(number)).shape[:0:-1]))
        if len(shapes) > 1:
            raise ShapeError(f"The sessions of {str(self.folder)!r} must be of one shape. Got {few(shapes)}.")
        return shapes.pop()

    @cached_property
    def _mask(self) -> NDArray[np.bool_]:
        """Return the voxels (x, y, z) of the brain that are valid in every session."""
        masks = self.about / "ppdata" / self.subject / self.space
        mask = _volumes.values_of(masks / "brainmask.nii.gz", self._shape) > 0
        n_brain = int(mask.sum())
        for number in self.numbers:
            mask &= _volumes.values_of(masks / f"valid_session{number:02}.nii.gz", self._shape) > 0
        if not mask.any():
            raise DataError(f"Some voxels of {self.subject!r} must be valid in every session. None is.")
        self.note = f"; {n_brain - int(mask.sum())} of {n_brain} voxels of the brain are not valid in all"
        return mask

    @cached_property
    def _places(self) -> NDArray[np.intp]:
        """Return where the voxels of the mask lie in a trial (z, y, x) that is read as one axis."""
        x, y, z = np.nonzero(self._mask)
        return np.ravel_multi_index((z, y, x), self._shape[::-1])

    def session(self, number: int, within: Rows) -> NDArray[Any]:
        found = _hdf5.reader(self.file(number), "betas")(within)
        kept = np.take(found.reshape(len(found), -1), self._places, axis=1)
        return np.asarray(np.divide(kept, np.float32(_SCALE), dtype=np.float32))

    @property
    def n_voxels(self) -> int:
        return len(self._places)

    @cached_property
    def ncsnr(self) -> NDArray[Any] | None:
        """Signal to noise of one trial, of the voxels of the mask."""
        file = self.folder / "ncsnr.nii.gz"
        return _cleaned(_volumes.values_of(file, self._shape)[self._mask]) if is_there(file) else None

    @cached_property
    def rois(self) -> Mapping[str, Rows]:
        """The regions of the atlases that are there."""
        folder = self.about / "ppdata" / self.subject / self.space / "roi"
        labels = self.about / "freesurfer" / self.subject / "label"
        found: dict[str, Rows] = {}
        for atlas in _ATLASES:
            if is_there(folder / f"{atlas}.nii.gz"):
                values = _volumes.values_of(folder / f"{atlas}.nii.gz", self._shape)[self._mask]
                _add(found, atlas, values, _volumes.names_in(labels / f"{atlas}.mgz.ctab"))
        return found


class _Surface(_Sessions):
    """The vertices of fsaverage, left before right: MGH files of (vertices, 1, 1, trials)."""

    pattern = r"lh\.betas_session(\d\d)\.mgh"

    def file(self, number: int, side: str = "lh") -> Path:
        return self.folder / f"{side}.betas_session{number:02}.mgh"

    def files(self, number: int) -> list[Path]:
        return [self.file(number, side) for side in ("lh", "rh")]

    def count(self, number: int) -> int:
        shapes = [_volumes.opened(self.file(number, side)).shape for side in ("lh", "rh")]
        if any(len(shape) != 4 for shape in shapes) or shapes[0][3] != shapes[1][3]:
            raise ShapeError(f"Both sides of session {number} must be (vertices, 1, 1, trials). Got {few(shapes)}.")
        return int(shapes[0][3])

    @cached_property
    def _sides(self) -> tuple[int, int]:
        left, right = (int(_volumes.opened(self.file(self.numbers[0], side)).shape[0]) for side in ("lh", "rh"))
        return left, right

    def session(self, number: int, within: Rows) -> NDArray[Any]:
        sides = [_volumes.trials_of(self.file(number, side), within) for side in ("lh", "rh")]
        return np.concatenate([side.reshape(len(within), -1) for side in sides], axis=1)

    @property
    def n_voxels(self) -> int:
        return sum(self._sides)

    @cached_property
    def ncsnr(self) -> NDArray[Any] | None:
        """Signal to noise of one trial, of each vertex."""
        files = [self.folder / f"{side}.ncsnr.mgh" for side in ("lh", "rh")]
        return _cleaned(self._both(files)) if all(map(is_there, files)) else None

    @cached_property
    def rois(self) -> Mapping[str, Rows]:
        """The regions of the atlases that are there, and the two sides."""
        folder, n_left = self.about / "freesurfer" / "fsaverage" / "label", self._sides[0]
        every = np.arange(self.n_voxels, dtype=np.intp)
        found = {"lh": every[:n_left], "rh": every[n_left:]}
        for atlas in _ATLASES:
            files = [folder / f"{side}.{atlas}.mgz" for side in ("lh", "rh")]
            if all(map(is_there, files)):
                _add(found, atlas, self._both(files), _volumes.names_in(folder / f"{atlas}.mgz.ctab"))
        return found

    def _both(self, files: list[Path]) -> NDArray[Any]:
        sides = zip(files, self._sides, strict=True)
        return np.concatenate([_volumes.values_of(file, (n,)) for file, n in sides])


def _add(found: dict[str, Rows], atlas: str, labels: NDArray[Any], names: dict[int, str]) -> None:
    """Add the regions of an atlas, with its name before those that another one has too."""
    for name, voxels in _volumes.regions_of(atlas, labels, names).items():
        found[f"{atlas} {name}" if name in found else name] = voxels


def _cleaned(ncsnr: NDArray[Any]) -> NDArray[np.float64]:
    """Return ncsnr with NaN where it is not known."""
    values = np.asarray(ncsnr, dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _seen_thrice(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the images that were shown three times or more."""
    images, counts = np.unique(ids, return_counts=True)
    return images[counts >= _REPEATS]


def _parts(shown: NDArray[np.int64], shared: NDArray[np.int64], test: NDArray[np.int64]) -> list[str]:
    """Return the part of each trial: shared images confirm or validate."""
    is_shared, is_test = np.isin(shown, shared), np.isin(shown, test)
    return [str(part) for part in np.where(is_shared, np.where(is_test, "test", "validation"), "train")]


def _design(folder: Path, subject: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the image of each trial, and the images that all subjects share, numbered from 0."""
    number, mat = int(subject[-2:]), folder / "nsd_expdesign.mat"
    return _from_mat(mat, number) if is_there(mat) else _from_csv(folder / "nsd_stim_info_merged.csv", number)


def _from_mat(file: Path, subject: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read the design of MATLAB, which counts from 1: the order of trials, the images of subjects, the shared ones."""
    from scipy.io import loadmat

    try:
        found = loadmat(str(file), variable_names=["masterordering", "subjectim", "sharedix"])
        order, images, shared = (np.asarray(found[name]).astype(np.int64) for name in
                                 ("masterordering", "subjectim", "sharedix"))  # fmt: skip
        return images[subject - 1, order.ravel() - 1] - 1, shared.ravel() - 1
    except Exception as error:  # a damaged file raises nearly anything
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        raise DataError(f"{str(file)!r} must be the design of NSD. Got: {type(error).__name__}: {reason}.") from error


def _from_csv(file: Path, subject: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read the table of images, in which the numbers of trials count from 1, and 0 stands for never."""
    table = read_table(file)
    ids = table.whole_numbers("nsdId")
    columns = [head for head in table.heads if re.fullmatch(rf"subject{subject}_rep\d", head)]
    if not columns:
        raise DataError(f"{str(file)!r} must have columns 'subject{subject}_rep0' and so on. It has none.")
    repeats = np.stack([table.whole_numbers(name) for name in columns])
    image_of = np.full(int(repeats.max()), -1, dtype=np.int64)
    for trials in repeats:
        image_of[trials[trials > 0] - 1] = ids[trials > 0]
    if (image_of < 0).any():
        raise DataError(f"{str(file)!r} must tell the image of each trial. It lacks trial {image_of.argmin() + 1}.")
    shared = np.array([cell.lower() in ("true", "1") for cell in table.column("shared1000")])
    return image_of, ids[shared]


def _stimuli(path: Path, asked: Path | None) -> Path:
    files = [path / name for name in _STIMULI]
    if asked is not None:
        files = [asked / "nsd_stimuli.hdf5" if asked.is_dir() else asked]
    found = next((file for file in files if is_there(file)), None)
    if found is None:
        raise DataError(
            f"The images of NSD must be in {few(map(str, files))}. There is no such file: give it as "
            'images = "nsd_stimuli.hdf5".'
        )
    return found
