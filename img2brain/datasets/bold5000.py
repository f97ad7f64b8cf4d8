"""BOLD5000: single-trial responses of four people to scenes and photographs, in regions of interest or the volume."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.amounts import counted
from img2brain.datasets import _volumes
from img2brain.datasets._links import is_there
from img2brain.datasets._split import Rows
from img2brain.datasets._tables import few
from img2brain.datasets._trials import Recording, TrialDataset, chosen_subject
from img2brain.errors import DataError, ShapeError
from img2brain.spec import PreparationSpec

_SUBJECT = re.compile(r"(CSI\d)")
_SESSION = re.compile(r"ses-(\d+)")
_PRESENTED = ("Scene", "COCO", "ImageNet")
_STIMULI = "BOLD5000_Stimuli/Scene_Stimuli/Presented_Stimuli"
_REPEATED = "repeated_stimuli_113_list.txt"
_CITATION = "Chang et al. (2019), BOLD5000, Scientific Data 6:49"
_MISNAMED = {  # region masks whose names in the release are wrong, as others found
    "CSI2": {"LHLO": "LHLOC", "RHLO": "RHLOC", "RHRRSC": "RHRSC"},
    "CSI3": {"LHLO": "LHLOC", "RHLO": "RHLOC"},
}


class Bold5000(TrialDataset):
    """Betas of BOLD5000's second release by session, CSI1_GLMbetas-..._ses-01.nii.gz, with CSI1_imgnames.txt.

    Notes
    -----
    ::

        CSI1_GLMbetas-TYPED-FITHRF-GLMDENOISE-RR_ses-01.nii.gz   (x, y, z, trials)
        CSI1_imgnames.txt                    the image of each trial, a line each, over all sessions
        CSI1_brainmask.nii.gz                optional; voxels that are not 0
        CSI1_mask-LHPPA.nii.gz               optional; a region each
        BOLD5000_Stimuli/Scene_Stimuli/Presented_Stimuli/{Scene,COCO,ImageNet}/   or the folder that `images` names
        repeated_stimuli_113_list.txt        optional, here or among the stimuli: the images of the test part

    Files may lie in folders of their own. The lines of the image names are those of the sessions that are there, or
    of all sessions from the first to the last, where these are of equal numbers of trials. Without a list the images
    shown four times or more are the test part. Voxels are z-scored within a session unless ``normalise = "none"``.
    Regions of CSI2 and CSI3 whose masks are misnamed (LHLO, RHLO, RHRRSC) have the names of the others.
    ``bold5000:113`` is the split whose repeated images confirm; the column ``category`` is where an image is from.
    """

    published = True
    presets = ("bold5000:113",)
    normalised = "session"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Say whether there are names of the images of a subject."""
        return bool(_subjects(path))

    @classmethod
    def subjects(cls, path: Path) -> tuple[str, ...]:
        """Name the subjects whose image names are there."""
        return _subjects(path)

    @classmethod
    def record(cls, path: Path, asked: PreparationSpec) -> Recording:
        """Find sessions, voxels, regions and images of one subject."""
        subject = chosen_subject(_subjects(path), asked.subject, repr(str(path)))
        sessions = _sessions(path, subject, asked.responses)
        shapes = {number: tuple(_volumes.opened(file).shape) for number, file in sessions.items()}
        if len({shape[:3] for shape in shapes.values()}) > 1 or any(len(shape) != 4 for shape in shapes.values()):
            raise ShapeError(f"The sessions of {subject!r} must be (x, y, z, trials), of one volume. "
                             f"Got {few(shapes.values())}.")  # fmt: skip
        counts = {number: shape[3] for number, shape in shapes.items()}
        volume = next(iter(shapes.values()))[:3]
        masks = _masks(path, subject)
        mask = _whole(masks, volume)
        names = _names(next(path.rglob(f"{subject}_imgnames.txt")), counts)
        numbers = np.concatenate([np.full(count, number) for number, count in counts.items()])
        within = np.concatenate([np.arange(count) for count in counts.values()])
        places = np.flatnonzero(mask)
        masked = _volumes.Masked(places)

        def read(trials: Rows) -> NDArray[Any]:
            out = np.empty((len(trials), len(places)), np.float32)
            for number in np.unique(numbers[trials]):
                chosen = numbers[trials] == number
                out[chosen] = masked.read(sessions[int(number)], within[trials][chosen])
            return out

        images, is_test = _images(path, asked.images, names), _test(path, names)
        return Recording(
            name=f"bold5000-{subject}",
            images=[images[name] for name in names],
            n_voxels=len(places),
            read=read,
            where=lambda trial: f"{str(sessions[int(numbers[trial])])!r}, trial {within[trial]}",
            dtype=np.dtype(np.float32),
            session=numbers,
            test=is_test,
            columns={"category": [images[name].parent.name if images[name].parent.name in _PRESENTED else ""
                                  for name in names]},
            splits={"bold5000:113": lambda: np.where(is_test, "test", "train").tolist()} if is_test.any() else {},
            rois=_regions(masks, subject, volume, mask),
            files=tuple(sessions.values()),
            facts={"subject": subject, "source": subject, "unit": "beta",
                   "provenance": {"species": "human", "citation": _CITATION, "url": "https://bold5000.org"}},
            notes={"responses": f"{counted(len(sessions), 'session')}: {', '.join(map(str, sessions))}"},
        )  # fmt: skip


COMPONENT = Bold5000


def _subjects(path: Path) -> tuple[str, ...]:
    found = [*path.glob("*_imgnames.txt"), *path.glob("*/*_imgnames.txt")] if path.is_dir() else []
    matches = (re.fullmatch(r"(CSI\d)_imgnames\.txt", file.name) for file in found)
    return tuple(sorted({match[1] for match in matches if match}))


def _sessions(path: Path, subject: str, kind: str | None) -> dict[int, Path]:
    """Return the betas of each session that is there, by its number; not by the order of names."""
    files = sorted(path.rglob(f"{subject}_GLMbetas*ses-*.nii*"))
    kinds = {re.sub(r"_?ses-\d+\.nii(\.gz)?$", "", file.name).partition("GLMbetas-")[2]: file for file in files}
    if (kind is not None and kind not in kinds) or (len(kinds) > 1 and kind is None):
        raise DataError(f"'responses' must be a kind of betas of {subject!r}: {few(sorted(kinds))}. Got {kind!r}.")
    chosen = [file for file in files if kind is None or f"GLMbetas-{kind}_ses-" in file.name]
    found = {int(match[1]): file for file in chosen if (match := _SESSION.search(file.name))}
    if not found:
        raise DataError(f"{str(path)!r} must hold betas, such as {subject}_GLMbetas-..._ses-01.nii.gz. It holds none.")
    return dict(sorted(found.items()))


def _masks(path: Path, subject: str) -> dict[str, Path]:
    """Return the masks of a subject by name."""
    files = sorted(path.rglob(f"{subject}_*mask*.nii*"))
    return {re.sub(r"^CSI\d_|\.nii(\.gz)?$", "", file.name): file for file in files}


def _whole(masks: dict[str, Path], volume: tuple[int, ...]) -> NDArray[np.bool_]:
    file = masks.get("brainmask")
    return np.ones(volume, dtype=bool) if file is None else _volumes.values_of(file, volume) > 0


def _regions(
    masks: dict[str, Path], subject: str, volume: tuple[int, ...], mask: NDArray[np.bool_]
) -> dict[str, NDArray[np.intp]]:
    """Return the regions by their right names; one that holds no voxel of the brain is none."""
    renamed = _MISNAMED.get(subject, {})
    found: dict[str, NDArray[np.intp]] = {}
    for name, file in masks.items():
        if name.startswith("mask-"):
            region = name.removeprefix("mask-")
            voxels = np.flatnonzero(_volumes.values_of(file, volume)[mask] > 0)
            found |= {renamed.get(region, region): voxels} if len(voxels) else {}
    return found


def _names(file: Path, counts: dict[int, int]) -> list[str]:
    """Return the name of the image of each trial of the sessions that are there."""
    lines = [line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if len(lines) == sum(counts.values()):
        return lines
    if len(set(counts.values())) == 1 and len(lines) >= max(counts) * next(iter(counts.values())):
        per = next(iter(counts.values()))
        return [line for number in counts for line in lines[(number - 1) * per : number * per]]
    raise ShapeError(
        f"{str(file)!r} must have a line for each trial: {sum(counts.values())} of sessions "
        f"{', '.join(map(str, counts))}, or those of all sessions. It has {len(lines)}."
    )


def _images(path: Path, apart: Path | None, names: list[str]) -> dict[str, Path]:
    """Find each image by its name, which is one of three folders' or begins with ``rep_``."""
    root = apart if apart is not None else path / _STIMULI
    if not is_there(root):
        raise DataError(f"The images of BOLD5000 must be in {str(root)!r}. There is no such folder: give it as "
                        'images = "FOLDER".')  # fmt: skip
    known = {file.name: file for kind in _PRESENTED for file in (root / kind).glob("*") if (root / kind).is_dir()}
    known |= {file.name: file for file in root.glob("*.*")}
    plain = {name: name.removeprefix("rep_") for name in names}
    absent = sorted(set(plain.values()) - set(known))
    if absent:
        n_all = len(set(plain.values()))
        raise DataError(f"{len(absent)} of {n_all} images must be in {str(root)!r} and are not: {few(absent)}.")
    return {name: known[file] for name, file in plain.items()}


def _test(path: Path, names: list[str]) -> NDArray[np.bool_]:
    """Return the trials of the test part: of the images that are listed as repeated, or shown four times or more."""
    plain = [name.removeprefix("rep_") for name in names]
    listed = next(iter(sorted(path.rglob(_REPEATED))), None)
    if listed is not None:
        repeated = {Path(line.strip()).name for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()}
    else:
        repeated = {name for name in set(plain) if plain.count(name) >= 4}
    return np.array([name in repeated for name in plain], dtype=bool)
