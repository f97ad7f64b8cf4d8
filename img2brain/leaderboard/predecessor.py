"""The published results of the predecessor (Ayala-Ruano, Img2brain v1.0.0, 2023), with what is known of them.

The table below holds what was published, in full precision where that is. `read_published` reads the files of its
results and finds where they do not agree.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from img2brain import digest
from img2brain.errors import DataError, ShapeError
from img2brain.home import Home
from img2brain.leaderboard.rows import Row
from img2brain.result import summarise
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.tracker import Reference, log_references

F64 = NDArray[np.float64]

DATASET = "img2brain-2023"
STUDY = "predecessor"
CAVEAT = "untrained networks; the rows that chose the layer and the regressor also reported the score"
N_VOXELS, N_TRAIN, N_VALIDATION = 10_000, 7086, 1771
_DATA = digest.of_value([DATASET, "published responses"])
_ROWS = digest.of_value([DATASET, "numpy.random.seed(224), first 7086 of 8857"])
_TOLERANCE = 1e-3  # the summary tables print three or four digits


class Entry(NamedTuple):
    """One published score."""

    backbone: str
    layer: str
    n_components: int
    regressor: str
    alpha: float | None
    median_r: float


# fmt: off
ENTRIES = (
    *(Entry("alexnet", layer, 30, "linear", None, r) for layer, r in (
        ("features.2", 0.18547), ("features.5", 0.19519), ("features.7", 0.19444), ("features.9", 0.19611),
        ("features.12", 0.20502), ("classifier.2", 0.20274), ("classifier.5", 0.20259), ("classifier.6", 0.20353))),
    *(Entry("vgg16", layer, 30, "linear", None, r) for layer, r in (
        ("features.20", 0.17082), ("features.30", 0.19549), ("classifier.5", 0.19841), ("classifier.6", 0.19184))),
    *(Entry("resnet50", layer, 30, "linear", None, r) for layer, r in (
        ("layer1.1.conv1", 0.17071), ("layer2.3.conv2", 0.13514), ("layer3.5.conv3", 0.12733),
        ("layer4.2.conv3", 0.12082), ("avgpool", 0.15794))),
    *(Entry("inception_v3", layer, 30, "linear", None, r) for layer, r in (
        ("Mixed_5c.branch1x1.conv", 0.15007), ("Conv2d_4a_3x3.conv", 0.14210), ("Mixed_6b.branch1x1.conv", 0.14852),
        ("Mixed_6c.branch7x7_2.conv", 0.15762), ("Mixed_7c.branch_pool.conv", 0.14015), ("avgpool", 0.11858))),
    Entry("alexnet", "features.12", 100, "multi_task_lasso", 0.01, 0.2417),
    Entry("alexnet", "features.12", 100, "multi_task_elastic_net", 0.001, 0.2415),
    Entry("alexnet", "features.12", 100, "ridge", 1.0, 0.2412),
    Entry("alexnet", "features.12", 100, "linear", None, 0.2402),
    Entry("alexnet", "features.12", 100, "k_neighbors", None, 0.1021),
    Entry("alexnet", "features.12", 100, "decision_tree", None, 0.0382),
)
# fmt: on
_NOTES = {("alexnet", "features.2", 30): "its summary table prints 0.2; the scores of its voxels give .1855"}
_TRACKED = (
    *("backbone", "weights", "trained", "layer", "n_components", "regressor", "preprocessing", "dataset_digest"),
    *("split_digest", "n_train", "n_validation", "n_confirmation"),
)
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


def reference_rows() -> list[Row]:
    """Return the published table as rows of a leaderboard, with the caveats written on each."""
    return [_row(number, entry, _note(entry)) for number, entry in enumerate(ENTRIES)]


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
        median, notes = summarise(accuracy)["median_r"], []
        if abs(median - entry.median_r) > _TOLERANCE / 10:
            notes.append(f"published as {entry.median_r}, the scores of its voxels give {median:.4f}")
        printed = summary.get((entry.backbone, entry.layer)) if entry.n_components == 30 else None
        if printed is not None and abs(printed - median) > _TOLERANCE:
            notes.append(f"its summary table prints {printed:g}; the scores of its voxels give {median:.4f}")
        found.append(PublishedScores(entry, accuracy, "; ".join(notes)))
    return found


def import_predecessor(folder: Path, home: Home) -> list[PublishedScores]:
    """Track the published scores as runs of their own, with the scores of their voxels; once, however often called.

    Parameters
    ----------
    folder : Path
        As for `read_published`.
    home : Home
        Where they are tracked.
    """
    published = read_published(folder)
    references = [_reference(number, item) for number, item in enumerate(published)]
    log_references(TrackingStore(home), DATASET, STUDY, references)
    return published


def _row(number: int, entry: Entry, note: str) -> Row:
    return Row(
        dataset=DATASET,
        backbone=entry.backbone,
        weights="random",
        trained="untrained",
        layer=entry.layer,
        n_components=entry.n_components,
        regressor=entry.regressor,
        alpha=entry.alpha,
        preprocessing="resize224",
        validation_median_r=entry.median_r,
        n_voxels=N_VOXELS,
        study=STUDY,
        trial=number,
        run_id=f"{DATASET}-{number}",
        dataset_digest=_DATA,
        split_digest=_ROWS,
        n_train=N_TRAIN,
        n_validation=N_VALIDATION,
        n_confirmation=0,
        note=note,
    )


def _reference(number: int, item: PublishedScores) -> Reference:
    row = _row(number, item.entry, _joined(CAVEAT, item.note))
    parameters = {name: str(getattr(row, name)) for name in _TRACKED} | {"study": STUDY, "weights_digest": "unknown"}
    if item.entry.alpha is not None:
        parameters["alpha"] = str(item.entry.alpha)
    metrics = summarise(item.accuracy) | {"published_median_r": item.entry.median_r}
    return Reference(number, parameters, metrics, item.accuracy, row.note, _ROWS, {"name": DATASET, "digest": _DATA})


def _note(entry: Entry) -> str:
    return _joined(CAVEAT, _NOTES.get((entry.backbone, entry.layer, entry.n_components), ""))


def _joined(*texts: str) -> str:
    return "; ".join(filter(None, texts))


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
