"""The files of the published results, and where they do not agree with each other."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from img2brain.errors import DataError, ShapeError
from img2brain.predecessor.entries import ENTRIES, N_VOXELS, Entry
from img2brain.result import summary_of

F64 = NDArray[np.float64]

_TOLERANCE = 1e-3  # the summary tables print three or four digits
_LAYER_FILES = {
    "alexnet": "Anet_corr_basemodel.csv",
    "vgg16": "vgg16_corr_basemodel.csv",
    "resnet50": "Rnet50_corr_basemodel.csv",
    "inception_v3": "Inv3_corr_basemodel.csv",
}
_REGRESSOR_FILES = {
    "multi_task_lasso": "corr_lasso.csv",
    "multi_task_elastic_net": "corr_enet.csv",
    "ridge": "corr_ridge.csv",
    "linear": "corr_lrbasemodel.csv",
    "k_neighbors": "corr_kneig.csv",
    "decision_tree": "corr_dt.csv",
}
_SUMMARY = Path("Feature_eng") / "Median_corr" / "acc_results_allmodels.csv"
_SUMMARY_NAMES = {"Anet": "alexnet", "Vgg16": "vgg16", "Resnet50": "resnet50", "Inv3": "inception_v3"}


@dataclass(frozen=True, eq=False)
class PublishedScores:
    """One published entry with the scores of its voxels.

    Attributes
    ----------
    entry : Entry
        As it was published.
    accuracy : ndarray (n_voxels,)
        Pearson r of each voxel.
    note : str
        Where the published numbers do not agree with each other.
    """

    entry: Entry
    accuracy: F64
    note: str


def read_published(folder: Path) -> list[PublishedScores]:
    """Read the published files.

    Parameters
    ----------
    folder : Path
        Holds ``Feature_eng`` and ``Evaluation_allmodels``.

    Returns
    -------
    list of PublishedScores
        In the order of `ENTRIES`; an entry whose summary, or whose published median, is not that of its voxels says so.

    Raises
    ------
    DataError
        If a file is absent, or is not what it should be.
    """
    summary = _read_summary(folder / _SUMMARY)
    found = []
    for entry in ENTRIES:
        accuracy = _read_accuracy(folder, entry)
        median, notes = summary_of(accuracy)["median"], []
        if abs(median - entry.median_r) > _TOLERANCE / 10:
            notes.append(f"published as {entry.median_r}, the scores of its voxels give {median:.4f}")
        printed = summary.get((entry.backbone, entry.layer)) if entry.n_components == 30 else None
        if printed is not None and abs(printed - median) > _TOLERANCE:
            notes.append(f"its summary table prints {printed:g}; the scores of its voxels give {median:.4f}")
        found.append(PublishedScores(entry, accuracy, "; ".join(notes)))
    return found


def _read_accuracy(folder: Path, entry: Entry) -> F64:
    if entry.n_components == 100:
        return _column(folder / "Evaluation_allmodels" / _REGRESSOR_FILES[entry.regressor], None)
    return _column(folder / "Feature_eng" / "Corr_allvoxes" / _LAYER_FILES[entry.backbone], entry.layer)


def _column(path: Path, name: str | None) -> F64:
    lines = list(_lines(path))
    place = 0
    if name is not None:
        head = lines.pop(0)
        if name not in head:
            raise DataError(f"{str(path)!r} must have a column {name!r}. It has {', '.join(head)}.")
        place = head.index(name)
    try:
        values = np.array([float(line[place]) for line in lines])
    except (ValueError, IndexError) as error:
        raise DataError(f"{str(path)!r} must hold a number per voxel. Got: {error}.") from error
    if len(values) != N_VOXELS:
        raise ShapeError(f"{str(path)!r} must hold {N_VOXELS} voxels. Got {len(values)}.")
    return values


def _read_summary(path: Path) -> dict[tuple[str, str], float]:
    found = {}
    for name, value in list(_lines(path))[1:]:
        short, _, layer = name.partition("-")
        if short in _SUMMARY_NAMES:
            found[_SUMMARY_NAMES[short], layer] = float(value)
    return found


def _lines(path: Path) -> Iterator[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield from (line for line in csv.reader(stream) if line)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"The file {str(path)!r} is not there. Name the folder of the predecessor that holds 'Feature_eng'."
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"The file {str(path)!r} must be a CSV file of the predecessor. Got: {error}.") from error
