"""LAION-fMRI: single-trial responses of five people to photographs, as derivatives of BIDS."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain import plain
from img2brain.datasets import _volumes
from img2brain.datasets._split import Rows
from img2brain.datasets._stimuli import by_name, image_folder
from img2brain.datasets._tables import Table, few, is_absent, read_table
from img2brain.datasets._trials import Recording, TrialDataset, chosen_subject
from img2brain.datasets._voxel_tables import ncsnr_of
from img2brain.errors import DataError, ShapeError
from img2brain.spec import PreparationSpec

_DERIVATIVE = "glmsingle-tedana"
_BETAS = "*_desc-SingletrialBetas_statmap.nii*"
_CEILINGS = {"12rep": 12, "4rep": 4}  # maps of the ceiling of means over so many repeats
_LABEL = ("label", "stimulus", "image", "stim_file")
_SPLITS = (
    "tau", "ood", "tau+ood", *(f"random_{fold}" for fold in range(5)), *(f"cluster_k5_{fold}" for fold in range(5)),
)  # fmt: skip
_CITATION = "LAION-fMRI, github.com/ViCCo-Group/LAION-fMRI"


class LaionFmri(TrialDataset):
    """The derivatives glmsingle-tedana/ of LAION-fMRI, with atlases/ and stimuli/ beside them.

    Notes
    -----
    ::

        derivatives/glmsingle-tedana/sub-01/ses-01/func/..._stat-effect_desc-SingletrialBetas_statmap.nii.gz
        derivatives/glmsingle-tedana/sub-01/ses-01/func/..._trials.tsv    `label`, the image of each trial
        derivatives/glmsingle-tedana/sub-01/..._desc-brain_mask.nii.gz    optional
        derivatives/glmsingle-tedana/sub-01/..._desc-Noiseceiling12rep_statmap.nii.gz    optional; or 4rep
        atlases/sub-01/rois/ROI.nii.gz                                    optional, a region each; also in derivatives/
        stimuli/                                                          images; or in the folder `images` names

    Voxels are those of the brain mask, without one those that are not 0, and not NaN in the first trial of any session.
    They are z-scored within a session unless ``normalise = "none"``. A ceiling of means over repeats becomes ``ncsnr``.
    Compressed files are read from their start each time: ``gunzip`` them once where that takes too long.

    Splits are those of the files splits/data/{shared,sub-01}/NAME.json of the data's own package: ``laion:tau`` is that
    of the subject's images, ``laion:tau-shared`` that of the images which all subjects share, ``laion:tau+ood`` the
    first with the images of ``ood`` as a second confirmation part. Images that a split does not name are left out.
    """

    published = True
    presets = tuple(f"laion:{name}" for name in _SPLITS)
    normalised = "session"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Say whether there are derivatives of the dataset."""
        return _root(path) is not None

    @classmethod
    def subjects(cls, path: Path) -> tuple[str, ...]:
        """Name the subjects that have derivatives."""
        root = _root(path)
        return () if root is None else tuple(sorted(item.name for item in root.glob("sub-*") if item.is_dir()))

    @classmethod
    def record(cls, path: Path, asked: PreparationSpec) -> Recording:
        """Find sessions, voxels, regions and images of one subject."""
        subject = chosen_subject(cls.subjects(path), asked.subject, repr(str(path)))
        root = _root(path) or path
        sessions = [_session(folder) for folder in sorted((root / subject).glob("ses-*"))]
        if not sessions:
            raise DataError(f"{str(root / subject)!r} must hold sessions, ses-01 and so on. It holds none.")
        volumes = {tuple(_volumes.opened(betas).shape[:3]) for betas, _ in sessions}
        if len(volumes) > 1:
            raise ShapeError(f"The sessions of {subject!r} must be of one volume. Got {few(volumes)}.")
        (volume,) = volumes
        kept, note = _kept(root / subject, [betas for betas, _ in sessions], volume)
        masked = _volumes.Masked(np.flatnonzero(kept))
        numbers = np.concatenate([np.full(len(table), place) for place, (_, table) in enumerate(sessions)])
        within = np.concatenate([np.arange(len(table)) for _, table in sessions])
        labels = [label for _, table in sessions for label in table.column(*_LABEL)]
        top = root.parents[1] if root.name == _DERIVATIVE else root
        folder = image_folder([top / "stimuli", top / "images", root / "stimuli"], asked.images, "LAION-fMRI")
        images = by_name(folder, [label for label in labels if not is_absent(label)])

        def read(trials: Rows) -> NDArray[Any]:
            out = np.empty((len(trials), int(kept.sum())), np.float32)
            for number in np.unique(numbers[trials]):
                chosen = numbers[trials] == number
                out[chosen] = masked.read(sessions[int(number)][0], within[trials][chosen])
            return out

        return Recording(
            name=f"laion-fmri-{subject}",
            images=[images.get(label) for label in labels],
            n_voxels=int(kept.sum()),
            read=read,
            where=lambda trial: f"{str(sessions[int(numbers[trial])][0])!r}, trial {within[trial]}",
            dtype=np.dtype(np.float32),
            session=[betas.parent.parent.name for betas, table in sessions for _ in range(len(table))],
            may_lack=False,
            rois=_regions(top, root, subject, kept),
            ncsnr=_ncsnr(root / subject, kept),
            splits=_splits([top, root.parent, root], subject, labels),
            files=[betas for betas, _ in sessions],
            facts={"subject": subject, "source": subject, "unit": "beta",
                   "provenance": {"species": "human", "citation": _CITATION,
                                  "licence": "LAION-fMRI terms: responses may not be passed on"}},
            notes={"voxels of the volume": note},
        )  # fmt: skip


COMPONENT = LaionFmri


def _root(path: Path) -> Path | None:
    """Return the folder of the derivatives, which may be given itself."""
    for folder in (path / "derivatives" / _DERIVATIVE, path / _DERIVATIVE, path):
        if folder.name == _DERIVATIVE and folder.is_dir():
            return folder
    return None


def _session(folder: Path) -> tuple[Path, Table]:
    """Return the betas of a session and the table of its trials, which must be as many."""
    betas, tables = sorted(folder.rglob(_BETAS)), sorted(folder.rglob("*_trials.tsv"))
    if len(betas) != 1 or len(tables) != 1:
        raise DataError(
            f"{str(folder)!r} must hold one file of single-trial betas and one ..._trials.tsv. It holds {len(betas)} "
            f"and {len(tables)}."
        )
    shape, table = tuple(_volumes.opened(betas[0]).shape), read_table(tables[0])
    if len(shape) != 4 or shape[3] != len(table):
        raise ShapeError(f"{str(betas[0])!r} must have a volume for each line of {table.label}. Got {shape} and "
                         f"{len(table)}.")  # fmt: skip
    return betas[0], table


def _kept(folder: Path, betas: list[Path], volume: tuple[int, ...]) -> tuple[NDArray[np.bool_], str]:
    """Return the voxels (x, y, z) that are of the brain, and there in every session."""
    masks = sorted(folder.rglob("*_desc-brain_mask.nii*"))
    inside = _volumes.values_of(masks[0], volume) > 0 if masks else np.ones(volume, dtype=bool)
    firsts = [np.asarray(_volumes.trials_of(file, np.zeros(1, dtype=np.intp)))[0] for file in betas]
    there = np.all([np.isfinite(first) if masks else np.isfinite(first) & (first != 0) for first in firsts], axis=0)
    kept = inside & there
    if not kept.any():
        raise DataError(f"Some voxels of {str(folder)!r} must be there in every session. None is.")
    what = "of the brain mask" if masks else "that are not 0"
    return kept, f"{int(kept.sum())} of {kept.size}, {what} and in every session"


def _regions(top: Path, root: Path, subject: str, kept: NDArray[np.bool_]) -> dict[str, NDArray[np.intp]]:
    folders = [place / "atlases" / subject / "rois" for place in (top, root.parent, root)]
    files = [file for folder in folders if folder.is_dir() for file in sorted(folder.glob("*.nii*"))]
    found = {re.sub(r"\.nii(\.gz)?$", "", file.name): np.flatnonzero(_volumes.values_of(file, kept.shape)[kept] > 0)
             for file in files}  # fmt: skip
    return {name: voxels.astype(np.intp) for name, voxels in found.items() if len(voxels)}


def _ncsnr(folder: Path, kept: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """Turn the ceiling of the mean over some repeats into the ratio of signal and noise of one."""
    for name, n_repeats in _CEILINGS.items():
        files = sorted(folder.rglob(f"*_desc-Noiseceiling{name}_statmap.nii*"))
        if files:
            share = np.asarray(_volumes.values_of(files[0], kept.shape)[kept], dtype=np.float64)
            share = share / 100 if np.nanmax(share, initial=0) > 1 else share  # it may be in percent
            return ncsnr_of(np.where((share >= 0) & (share <= 1), share, np.nan), n_repeats)
    return None


def _splits(places: list[Path], subject: str, labels: list[str]) -> dict[str, Callable[[], list[str]]]:
    """Return the splits whose files are there, under their names."""
    inner = ("splits/data", "splits", "laion_fmri/splits/data")
    pools = [(place / name / pool, end) for place in places for name in inner
             for pool, end in ((subject, ""), ("shared", "-shared"))]  # fmt: skip
    found: dict[str, Callable[[], list[str]]] = {}
    for folder, end in pools:
        files = {file.stem: file for file in sorted(folder.glob("*.json"))}
        found |= {f"laion:{name}{end}": partial(_parts, [file], labels) for name, file in files.items()}
        if {"tau", "ood"} <= set(files):
            found[f"laion:tau+ood{end}"] = partial(_parts, [files["tau"], files["ood"]], labels)
    return found


def _parts(files: list[Path], labels: list[str]) -> list[str]:
    """Return the part of each trial: of the first file both sides, of others what confirms."""
    (train, _), *_ = listed = [_ids(file) for file in files]
    parts = dict.fromkeys(train, "train")
    for file, (_, test) in zip(files, listed, strict=True):
        parts |= dict.fromkeys(test, "ood" if file.stem == "ood" else "test")
    return [parts.get(label, "") for label in labels]


def _ids(file: Path) -> tuple[list[str], list[str]]:
    """Read the images of both sides of a split, of which a file has one variant."""
    try:
        (variant,) = plain.of_json(file.read_text(encoding="utf-8"))["variants"]
        return list(map(str, variant["train_ids"])), list(map(str, variant["test_ids"]))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise DataError(f"{str(file)!r} must be a split of LAION-fMRI, of one variant with train_ids and test_ids. "
                        f"Got: {type(error).__name__}.") from error  # fmt: skip
