"""The data of a study, opened: one dataset, or several that are its members, each under a name."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

from img2brain import datasets
from img2brain.amounts import counted
from img2brain.datasets._sample import write_sample
from img2brain.datasets.base import Dataset, require_facts, shuffled
from img2brain.errors import DataError, SpecError
from img2brain.home import Home
from img2brain.spec import DatasetSpec, SampleSpec, StudySpec

log = logging.getLogger(__name__)


class Opened(NamedTuple):
    """A dataset, and what the study file says of it, if it names it."""

    dataset: Dataset
    taken: DatasetSpec | None


def open_members(spec: StudySpec, home: Home, are_compared: bool = True) -> dict[str, Opened]:
    """Open the data that a study names, writing sample data where it asks for them.

    Parameters
    ----------
    spec, home : StudySpec, Home
        The study, and where sample data are kept.
    are_compared : bool
        Whether to refuse members that hold the same: all of them are read for that.

    Returns
    -------
    dict of str to Opened
        By the names of the members: subjects, where they are those of one folder, or else names of datasets. One
        dataset alone has no name.

    Raises
    ------
    SpecError
        If it names none, or the same data twice.
    DataError
        If a folder cannot be opened, or two datasets have one name.
    """
    if not spec.data:
        raise SpecError("A study must name its dataset, or be handed one. Got none.")
    found = [Opened(open_one(taken, home), taken) for item in spec.data for taken in _each(item)]
    subjects = [str(item.taken.subject) for item in found if item.taken] if len(spec.data) == 1 else []
    return _named(found, subjects, are_compared)


def handed_members(given: Dataset | Sequence[Dataset], are_compared: bool = True) -> dict[str, Opened]:
    """Name the data that a study is handed, as `open_members` does.

    Raises
    ------
    SpecError
        If there are none, or the same data twice.
    DataError
        If two datasets have one name.
    """
    found = [given] if isinstance(given, Dataset) else list(given)
    if not found:
        raise SpecError("A study must name its dataset, or be handed one. Got none.")
    for dataset in found:
        require_facts(dataset)
    return _named([Opened(dataset, None) for dataset in found], (), are_compared)


def _each(item: DatasetSpec) -> Iterator[DatasetSpec]:
    """Yield what a study says of each subject that it asks for."""
    if item.subjects is None:
        yield item
        return
    names = _every_subject(item) if item.subjects == "all" else item.subjects
    for name in names:
        yield item.model_copy(update={"subject": name, "subjects": None})


def _every_subject(item: DatasetSpec) -> tuple[str, ...]:
    found = () if item.path is None else datasets.subjects(item.path, item.layout)
    if not found:
        raise DataError(
            f"'subjects' must be those of a folder that tells them. {str(item.path or 'sample data')!r} tells none: "
            "leave it out."
        )
    return found


def open_one(item: DatasetSpec, home: Home) -> Dataset:
    """Open one dataset as a study file asks for it."""
    layout = "folder" if item.sample else item.layout
    dataset = datasets.open_dataset(item.path or _sample(item, home), layout, **item.preparation.model_dump())
    if item.sample:  # samples of all sizes have one name, and are one origin's
        dataset.origin = home.datasets
    return dataset if item.shuffle is None else shuffled(dataset, item.shuffle)


def _named(found: Sequence[Opened], subjects: Sequence[str], are_compared: bool) -> dict[str, Opened]:
    """Name members, each once: by their subjects where these are given, else as their datasets are called."""
    if len(found) == 1:
        return {"": found[0]}
    if are_compared:
        _require_different([item.dataset for item in found])
    named: dict[str, Opened] = {}
    for name, item in zip(subjects or [item.dataset.name for item in found], found, strict=True):
        free = (f"{name}-{number}" if number > 1 else name for number in count(1))
        named[next(each for each in free if each not in named)] = item
    return named


def _require_different(found: Sequence[Dataset]) -> None:
    """Refuse the same data twice, and data of two places under one name: results of both are kept under it."""
    by_digest: dict[str, str] = {}
    places: dict[str, Path | None] = {}
    for dataset in found:
        if dataset.digest in by_digest:
            raise SpecError(
                f"The members of a study must be different data. {by_digest[dataset.digest]!r} and {dataset.name!r} "
                "are the same."
            )
        by_digest[dataset.digest] = dataset.name
        if places.setdefault(dataset.name, dataset.origin) != dataset.origin:
            raise DataError(
                f"The members of a study must have names of their own. Two are called {dataset.name!r}: write another "
                "name in the dataset.toml of one of them."
            )


def sample_folder(sample: SampleSpec, home: Home) -> Path:
    """Return where sample data are in a home, once they are written."""
    return home.datasets / f"sample-{sample.images}x{sample.voxels}-seed{sample.seed}"


def _sample(item: DatasetSpec, home: Home) -> Path:
    sample = item.sample
    assert sample is not None, "a dataset spec has a path or a sample"
    folder = sample_folder(sample, home)
    with home.lock(f"dataset {folder.name}"):
        if not folder.exists():
            size = f"{counted(sample.images, 'image')}, {counted(sample.voxels, 'voxel')}"
            log.info("writing sample data: %s", size)
            write_sample(folder, sample.images, sample.voxels, sample.seed, name="sample")
    return folder
