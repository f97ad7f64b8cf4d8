"""From a reference to what is stored of a trial or a model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from img2brain.errors import DataError, SpecError, did_you_mean
from img2brain.home import Home
from img2brain.leaderboard.collect import model_name, owner, registered_by_run
from img2brain.leaderboard.compare import Subject
from img2brain.leaderboard.measure import Measure
from img2brain.leaderboard.rows import home_name
from img2brain.tracking import reading
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.names import HOME, STUDY, TRIAL
from img2brain.tracking.reading import TrackedTrial, run_array, stored_summaries, study_of
from img2brain.tracking.registry import Registry

_RUN = re.compile(r"[0-9a-f]{32}")


def find_trial(reference: str, home: Home) -> TrackedTrial:
    """Find the trial that a reference names.

    Parameters
    ----------
    reference : str
        ``STUDY#NUMBER``, a run id, or a registered model: ``NAME``, ``NAME@ALIAS``, ``NAME/VERSION``.
    home : Home
        Where it is stored. Of studies of one name its own comes before those of other homes on a server.

    Raises
    ------
    SpecError
        If there is no such trial, or there are several.
    ModelError
        If there is no such model.
    """
    store = TrackingStore(home)
    study, hash_, number = reference.rpartition("#")
    if hash_ and number.isdecimal():
        return reading.read_trial(store, _run_of(study, int(number), home, store))
    run_id = reference if _RUN.fullmatch(reference) else Registry(store).find(reference).run_id
    found = reading.find_trial(store, run_id)
    if found is None or not found.record.metrics:
        raise SpecError(f"No trial is tracked for {reference!r}.")
    return found


def find_subjects(first: str, second: str, home: Home) -> tuple[Subject, Subject]:
    """Find two subjects, on the confirmation rows where both were published, else on the validation rows."""
    store = TrackingStore(home)
    trials = [find_trial(reference, home) for reference in (first, second)]
    models = registered_by_run(store)
    part = "confirmation" if all(_is_confirmed(trial) for trial in trials) else "validation"
    one, other = (_subject(trial, model_name(models.get(trial.run_id)), part, store) for trial in trials)
    return one, other


def _run_of(study: str, number: int, home: Home, store: TrackingStore) -> Any:
    """Find the run of a trial by the tags of all: no record is read for it."""
    runs = reading.finished_runs(store)
    of_study = [run for run in runs if _is_study(run.data.tags[STUDY], study)]
    found = [run for run in of_study if int(run.data.tags[TRIAL]) == number]
    own = [run for run in found if _home_of(run, home) == home.id]
    candidates = {(run.data.tags[STUDY], _home_of(run, home)): run for run in reversed(own or found)}
    if not candidates:
        known = [int(run.data.tags[TRIAL]) for run in of_study]
        names = {run.data.tags[STUDY] for run in runs}
        hint = f"Its numbers go to {max(known)}." if known else did_you_mean(study, names)
        raise SpecError(f"No trial {number} of a study {study!r} is tracked. {hint}")
    if len(candidates) > 1:
        raise SpecError(f"The trial '{study}#{number}' must be one. Name its run: {_listed(candidates.items())}.")
    return next(iter(candidates.values()))


def _listed(found: Iterable[tuple[tuple[str, str], Any]]) -> str:
    ordered = sorted(found, key=lambda item: item[0])
    return " or ".join(f"{run.info.run_id} of {study} (home {home_name(home)})" for (study, home), run in ordered)


def _home_of(run: Any, home: Home) -> str:
    return owner(home, run.data.tags.get(HOME, ""))


def _is_study(name: str, asked: str) -> bool:
    return asked in (name, name.rpartition("-")[0])


def _is_confirmed(trial: TrackedTrial) -> bool:
    return trial.confirmation is not None and trial.confirmation.confirmed is not None


def _subject(trial: TrackedTrial, model: str, part: str, store: TrackingStore) -> Subject:
    record, label = trial.record, _label(trial, model)
    study, metric = study_of(store, trial.run_id), record.metrics[record.objective]
    accuracy = run_array(store, trial.run_id, metric.file if part == "validation" else f"{part}/accuracy.npy")
    if accuracy is None:
        raise DataError(f"The scores of {label} are not stored any more.")
    regions = study.regions if study else {}
    return Subject(
        label=label,
        dataset=record.dataset.name,
        rows=_rows(trial, part),
        part=part,
        measure=Measure(metric.label, metric.summary, record.objective),
        accuracy=np.asarray(accuracy, np.float64),
        regions={name: np.asarray(voxels, np.intp) for name, voxels in regions.items()},
        predictions=run_array(store, trial.run_id, f"{part}/predictions.npy"),
        summaries=stored_summaries(store, trial.run_id, metric.summary, part),
    )


def _rows(trial: TrackedTrial, part: str) -> str:
    confirmed = trial.confirmation.confirmed if trial.confirmation else None
    return confirmed.rows if part == "confirmation" and confirmed else trial.record.rows.digest


def _label(trial: TrackedTrial, model: str) -> str:
    record, spec = trial.record, trial.record.spec
    what = f"{spec.backbone} {spec.weights} {spec.layer} {spec.n_components} {spec.regressor}"
    return f"{model or f'{record.study}#{record.number}'} ({what})"
