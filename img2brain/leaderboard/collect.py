"""From tracked trials to rows of a leaderboard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from img2brain.errors import SpecError, did_you_mean
from img2brain.home import Home
from img2brain.leaderboard.confirmed import Confirmed, from_metrics, with_places
from img2brain.leaderboard.rows import Row, boards
from img2brain.statistics.bootstrap import Summaries
from img2brain.statistics.ties import VOXEL_RULE, place_by_voxels
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.records import TrackedTrial
from img2brain.tracking.registry import Registry
from img2brain.tracking.tracker import experiments, run_array, tracked_trials

_KNOWN = frozenset(
    (
        *("backbone", "weights", "trained", "weights_digest", "preprocessing", "layer", "n_components", "regressor"),
        *("alpha", "study", "sampler", "seed", "split", "dataset_digest", "split_digest", "precision", "folds"),
        *("n_train", "n_validation", "n_confirmation"),
    )
)


def collect(home: Home, dataset: str | None = None) -> list[Row]:
    """Read the finished trials of a dataset, or of all, from the tracking store.

    Parameters
    ----------
    home : Home
        Holds the tracking store.
    dataset : str, optional
        The dataset's name.

    Returns
    -------
    list of Row

    Raises
    ------
    SpecError
        If nothing is tracked for a dataset of this name.
    """
    store = TrackingStore(home)
    known = experiments(store)
    if dataset is not None and dataset not in known:
        raise SpecError(f"No trials of the dataset {dataset!r} are tracked. {did_you_mean(dataset, known)}")
    champions = {item.run_id for item in Registry(store).versions() if "champion" in item.aliases}
    rows = list(_rows(tracked_trials(store, dataset), champions, store))
    return [row for board in boards(rows) for row in _tied(with_places(board), store)]


def _tied(board: list[Row], store: TrackingStore) -> list[Row]:
    """Share ranks among results of others, by the scores of their voxels: nothing else is known of them."""
    if not all(row.note for row in board):
        return board
    (ordered,) = boards(board)
    accuracies = [run_array(store, row.run_id, "accuracy.npy") for row in ordered]
    if any(array is None for array in accuracies):
        return board
    places = place_by_voxels([array for array in accuracies if array is not None])
    return [
        replace(row, tie=found, note=f"{row.note}; {VOXEL_RULE}") for row, found in zip(ordered, places, strict=True)
    ]


def _rows(trials: Iterable[TrackedTrial], champions: set[str], store: TrackingStore) -> Iterable[Row]:
    for trial in trials:
        values, metrics = trial.parameters, trial.metrics
        yield Row(
            dataset=trial.dataset.get("name", ""),
            backbone=values["backbone"],
            weights=values["weights"],
            trained=values["trained"],
            layer=values["layer"],
            n_components=int(values["n_components"]),
            regressor=values["regressor"],
            alpha=float(values["alpha"]) if "alpha" in values else None,
            parameters=_others(values),
            preprocessing=values["preprocessing"],
            validation_median_r=metrics["median_r"],
            confirmation_median_r=metrics.get("confirmation_median_r"),
            n_voxels=int(metrics["n_voxels"]),
            n_undefined=int(metrics["n_undefined"]),
            study=trial.study,
            trial=trial.number,
            run_id=trial.run_id,
            champion=trial.run_id in champions,
            registered=trial.registered or None,
            dataset_digest=values["dataset_digest"],
            split_digest=values["split_digest"],
            unit=trial.dataset.get("unit") or None,
            n_train=int(values["n_train"]),
            n_validation=int(values["n_validation"]),
            n_confirmation=int(values["n_confirmation"]),
            confirmed=_confirmed(trial, store),
            note=trial.note,
        )


def _confirmed(trial: TrackedTrial, store: TrackingStore) -> Confirmed | None:
    if not trial.registered or "confirmation_median_r" not in trial.metrics:
        return None
    return from_metrics(trial.metrics, trial.confirmation, trial.ceiling, stored_medians(trial, store))


def stored_medians(trial: TrackedTrial, store: TrackingStore, part: str = "confirmation") -> Summaries | None:
    """Read the resamples of a score on a part of the rows; None of one that was logged without."""
    names = ("regions", "estimate", "resampled")
    arrays = [run_array(store, trial.run_id, f"{part}/medians_{name}.npy") for name in names]
    if any(array is None for array in arrays):
        return None
    regions, estimate, resampled = (np.asarray(array) for array in arrays)
    return Summaries(tuple(map(str, regions)), estimate, resampled)


def _others(values: Mapping[str, str]) -> dict[str, float | str]:
    """Return the regressor's own parameters other than alpha."""
    return {name: _number_or_text(value) for name, value in values.items() if name not in _KNOWN}


def _number_or_text(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value
