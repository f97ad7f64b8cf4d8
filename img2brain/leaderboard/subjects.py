"""From a reference to what is stored of a trial or a model."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from img2brain.errors import DataError, SpecError, did_you_mean
from img2brain.home import Home
from img2brain.leaderboard.collect import stored_medians
from img2brain.leaderboard.compare import Subject
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.records import TrackedTrial
from img2brain.tracking.registry import Registry
from img2brain.tracking.tracker import run_array, study_regions, tracked_trials

_RUN = re.compile(r"[0-9a-f]{32}")


def find_trial(reference: str, home: Home) -> TrackedTrial:
    """Find the trial that a reference names.

    Parameters
    ----------
    reference : str
        ``STUDY#NUMBER``, a run id, or a registered model: ``NAME``, ``NAME@ALIAS``, ``NAME/VERSION``.
    home : Home
        Where it is stored.

    Raises
    ------
    SpecError
        If there is no such trial.
    ModelError
        If there is no such model.
    """
    store = TrackingStore(home)
    trials = {trial.run_id: trial for trial in tracked_trials(store)}
    study, hash_, number = reference.rpartition("#")
    if hash_ and number.isdecimal():
        found = [item for item in trials.values() if item.number == int(number) and _is_study(item.study, study)]
        if not found:
            known = [item.number for item in trials.values() if _is_study(item.study, study)]
            hint = f"Its numbers go to {max(known)}." if known else did_you_mean(study, _studies(trials))
            raise SpecError(f"No trial {number} of a study {study!r} is tracked. {hint}")
        return found[-1]
    run_id = reference if _RUN.fullmatch(reference) else Registry(store).find(reference).run_id
    if run_id not in trials:
        raise SpecError(f"No trial is tracked for {reference!r}.")
    return trials[run_id]


def find_subjects(first: str, second: str, home: Home) -> tuple[Subject, Subject]:
    """Find two subjects, on the confirmation rows where both were published, else on the validation rows."""
    store = TrackingStore(home)
    trials = [find_trial(reference, home) for reference in (first, second)]
    confirmed = all(trial.confirmation for trial in trials)
    one, other = (_subject(trial, store, confirmed=confirmed) for trial in trials)
    return one, other


def _subject(trial: TrackedTrial, store: TrackingStore, *, confirmed: bool) -> Subject:
    where = {"dataset": trial.dataset.get("name", ""), "label": _label(trial)}
    regions = {name: np.asarray(voxels, np.intp) for name, voxels in study_regions(store, trial.run_id).items()}
    part = "confirmation" if confirmed else "validation"
    own = None if confirmed else run_array(store, trial.run_id, "accuracy.npy")
    return Subject(
        **where,
        rows=trial.confirmation if confirmed else trial.rows_digest,
        part=part,
        accuracy=_required(run_array(store, trial.run_id, f"{part}/accuracy.npy") if own is None else own, trial),
        regions=regions,
        predictions=run_array(store, trial.run_id, f"{part}/predictions.npy"),
        medians=stored_medians(trial, store, part),
    )


def _required(array: Any, trial: TrackedTrial) -> Any:
    if array is None:
        raise DataError(f"The scores of {_label(trial)} are not stored any more.")
    return array


def _label(trial: TrackedTrial) -> str:
    values = trial.parameters
    what = f"{values['backbone']} {values['weights']} {values['layer']} {values['n_components']} {values['regressor']}"
    return f"{trial.registered or f'{trial.study}#{trial.number}'} ({what})"


def _is_study(name: str, asked: str) -> bool:
    return asked in (name, name.rpartition("-")[0])


def _studies(trials: dict[str, TrackedTrial]) -> set[str]:
    return {trial.study for trial in trials.values()}
