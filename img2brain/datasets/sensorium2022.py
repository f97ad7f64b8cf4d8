"""Sensorium 2022: neurons of mouse V1, to grey photographs, a file for each trial."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets._responses import open_array
from img2brain.datasets._split import Rows
from img2brain.datasets._tables import few
from img2brain.datasets._trials import Recording, TrialDataset
from img2brain.errors import DataError, ShapeError
from img2brain.spec import PreparationSpec

_TIERS = ("train", "validation", "test", "final_test")
_TEST = ("test", "final_test")
_CITATION = "Willeke et al. (2022), The Sensorium competition, arXiv:2206.08666"


class Sensorium2022(TrialDataset):
    """A folder of the Sensorium competition of 2022 with data/images, data/responses and meta/trials.

    Notes
    -----
    ::

        data/images/0.npy               (1, height, width), grey, 0..255
        data/responses/0.npy            (neurons,)
        meta/trials/tiers.npy           train, validation, test or final_test of each trial
        meta/trials/frame_image_id.npy  the image of each trial
        meta/neurons/area.npy           optional: the area of each neuron

    Trials that show one image are its repeats, by its number: each trial has a file of the image. The validation tier
    is training rows, of which a study splits off its own; both test tiers are the test part. In the sets of the
    competition responses of a tier are written as zeros: its images are then test images without responses.
    ``sensorium:tiers`` is the split by tiers, whose validation tier validates. Images are named by their number.
    """

    published = True
    presets = ("sensorium:tiers",)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Say whether there are trials of the competition."""
        return (path / "data" / "responses").is_dir() and (path / "meta" / "trials").is_dir()

    @classmethod
    def record(cls, path: Path, asked: PreparationSpec) -> Recording:
        """List the trials, their tiers and images."""
        if asked.subject not in (None, path.resolve().name):
            raise DataError(f"'subject' must be left out: {str(path)!r} is of one animal. Got {asked.subject!r}.")
        folder = path / "data" / "responses"
        numbers = _numbers(folder)
        tiers = _of_trials(path, "tiers", numbers, texts=True)
        ids = _of_trials(path, "frame_image_id", numbers)
        unknown = sorted(set(tiers.tolist()) - {*_TIERS, "none"})
        if unknown:
            raise DataError(f"The tiers of {str(path)!r} must be among {few(_TIERS)}. Got {few(unknown)}.")
        first = open_array(folder / f"{numbers[0]}.npy", ("neurons",))
        read = _reader(folder, numbers, len(first))
        zeroed = _zeroed(tiers, read)
        images = {number: path / "data" / "images" / f"{trial}.npy" for number, trial in zip(ids[::-1], numbers[::-1],
                                                                                             strict=True)}  # fmt: skip
        shown = [None if tier in zeroed or tier not in _TIERS else images[number]
                 for tier, number in zip(tiers.tolist(), ids, strict=True)]  # fmt: skip
        withheld = dict.fromkeys(
            images[number] for tier, number in zip(tiers.tolist(), ids, strict=True) if tier in zeroed
        )
        notes = {"withheld": f"the responses of {' and '.join(zeroed)} are all 0 and left out"} if zeroed else {}
        return Recording(
            name=_name(path),
            images=shown,
            n_voxels=len(first),
            read=read,
            where=lambda trial: repr(str(folder / f"{numbers[trial]}.npy")),
            dtype=first.dtype,
            test=np.isin(tiers, _TEST),
            stimuli=[str(number) for number in ids],
            columns={"tier": tiers.tolist()},
            splits={"sensorium:tiers": lambda: [tier if tier in _TIERS else "" for tier in tiers.tolist()]},
            rois=_areas(path, len(first)),
            test_images=tuple(image for image in withheld if image not in shown),
            files=[folder / f"{number}.npy" for number in numbers],
            facts={"source": path.resolve().name, "unit": "deconvolved fluorescence",
                   "provenance": {"species": "mouse", "area": "V1", "citation": _CITATION}},
            notes=notes,
        )  # fmt: skip


COMPONENT = Sensorium2022


def _name(path: Path) -> str:
    return "sensorium-" + re.sub(r"[^A-Za-z0-9._-]", "-", path.resolve().name)[:80]


def _numbers(folder: Path) -> list[int]:
    """Return the numbers of the trials whose responses are there, rising: not in the order of their names."""
    found = sorted(int(file.stem) for file in folder.glob("*.npy") if file.stem.isdecimal())
    if not found:
        raise DataError(f"{str(folder)!r} must hold a file for each trial, such as 0.npy. It holds none.")
    return found


def _of_trials(path: Path, name: str, numbers: list[int], *, texts: bool = False) -> Any:
    """Read what is said of the trials that are there: lines stand in the order of trials from 0."""
    file = path / "meta" / "trials" / f"{name}.npy"
    values = open_array(file, ("trials",), texts=texts)
    if len(values) <= numbers[-1]:
        raise ShapeError(f"{str(file)!r} must have a value for each trial, up to {numbers[-1]}. Got {len(values)}.")
    return np.asarray(values)[numbers]


def _reader(folder: Path, numbers: list[int], n_neurons: int) -> Callable[[Rows], NDArray[Any]]:
    def read(trials: Rows) -> NDArray[Any]:
        out = np.empty((len(trials), n_neurons), np.float64)
        for place, trial in enumerate(trials):
            values = open_array(folder / f"{numbers[trial]}.npy", ("neurons",))
            if len(values) != n_neurons:
                raise ShapeError(f"Trial {numbers[trial]} of {str(folder)!r} must have {n_neurons} neurons. "
                                 f"Got {len(values)}.")  # fmt: skip
            out[place] = values
        return out

    return read


def _zeroed(tiers: Any, read: Callable[[Rows], NDArray[Any]]) -> tuple[str, ...]:
    """Name the test tiers whose responses are all zeros, looking at one after another until one is not."""
    found = []
    for tier in _TEST:
        trials = np.flatnonzero(tiers == tier)
        if len(trials) and not any(read(trials[place : place + 1]).any() for place in range(len(trials))):
            found.append(tier)
    return tuple(found)


def _areas(path: Path, n_neurons: int) -> dict[str, NDArray[np.intp]]:
    file = path / "meta" / "neurons" / "area.npy"
    if not file.is_file():
        return {}
    areas = open_array(file, ("neurons",), texts=True)
    if len(areas) != n_neurons:
        raise ShapeError(f"{str(file)!r} must have the area of each of {n_neurons} neurons. Got {len(areas)}.")
    return {str(name): np.flatnonzero(areas == name).astype(np.intp) for name in np.unique(areas) if str(name)}
