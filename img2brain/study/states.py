"""How far studies are: read from the search log while workers may be at work, and nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

from img2brain.errors import SpecError, did_you_mean
from img2brain.home import Home
from img2brain.study._said import FAILURE, FINISHED, FINISHER, SPEC, WORKER, SaidOfStudy, said_of_studies
from img2brain.study._search_log import SearchLog
from img2brain.study._trials import Trials
from img2brain.study.log import existing_log
from img2brain.study.search import ToldTrial, told_of
from img2brain.study.signs import studies_at_work

State = Literal["running", "waiting", "finished", "failed", "stopped"]

_LAST = 50  # trials that tell the rate


@dataclass(frozen=True)
class StudyState:
    """How far a study is.

    Attributes
    ----------
    study : str
        Its full name.
    state : {"running", "waiting", "finished", "failed", "stopped"}
        Whether anybody is seen at work on it, on this machine before the first trial too; nothing was tried yet, and
        nobody is at work; a worker has finished it; all trials failed; or trials are left and nobody is at work.
    n_workers : int
        How many workers with trials are alive, or with all trials to track and publish.
    n_trials, n_running, n_failed : int
        Trials that are over, that are asked and not told, and those of the first that failed.
    n_wanted : int, optional
        How many there will be, where the study file says; no fewer than there are.
    best : float, optional
        The highest objective.
    per_hour : float, optional
        Trials an hour, over the last 50.
    ends : datetime, optional
        When the trials of a running study will be over at this rate, in local time.
    failures : mapping of str to int
        How many trials failed for each reason, the most frequent first.
    """

    study: str
    state: State
    n_workers: int
    n_trials: int
    n_running: int
    n_failed: int
    n_wanted: int | None
    best: float | None
    per_hour: float | None
    ends: datetime | None
    failures: Mapping[str, int]


def states(home: Home) -> list[StudyState]:
    """Tell how far each study is that is stored, or that a process of this machine makes ready.

    Raises
    ------
    StoreError
        If the search log cannot be read.
    """
    log, at_work = existing_log(home), studies_at_work(home)
    stored = said_of_studies(log) if log else {}
    found = (
        [_state(at_work, log, name, stored[name], Trials.of(log, stored[name].id)) for name in stored] if log else []
    )
    return found + [_begun(name) for name in sorted(at_work - set(stored))]


def states_of(home: Home, name: str) -> list[tuple[StudyState, list[ToldTrial]]]:
    """Tell how far the studies of a name are, each with its trials that are over, by number.

    Parameters
    ----------
    home : Home
        Holds the search log, which is read once.
    name : str
        The full name, or the one in the study file, which several studies may have.

    Raises
    ------
    SpecError
        If no study is stored under this name.
    StoreError
        If the search log cannot be read.
    """
    log, at_work = existing_log(home), studies_at_work(home)
    known = said_of_studies(log) if log else {}
    stored = [full for full in known if _is_called(full, name)]
    begun = [(_begun(full), list[ToldTrial]()) for full in sorted(at_work - set(known)) if _is_called(full, name)]
    if not stored and not begun:
        raise SpecError(f"No study is stored as {name!r}. {did_you_mean(name, known)}")
    of_each = [(full, Trials.of(log, known[full].id)) for full in stored] if log else []
    found = [
        (_state(at_work, log, full, known[full], trials), told_of(full, trials)) for full, trials in of_each if log
    ]
    return found + begun


def is_finished(home: Home, study: str, n_trials: int | None) -> bool:
    """Tell whether a worker has finished a study of a full name, with as many trials as are asked for at least."""
    log = existing_log(home)
    for item in log.storage.get_all_studies() if log else []:
        if item.study_name == study and log is not None:
            n_over = len(Trials.of(log, item._study_id).over)
            return n_trials is not None and item.user_attrs.get(FINISHED) == n_over >= n_trials
    return False


def _is_called(full: str, name: str) -> bool:
    return name in (full, full.rpartition("-")[0])


def _begun(study: str) -> StudyState:
    """Return how far a study is that is not stored yet: its data are looked at, or its features computed."""
    return StudyState(study, "running", 0, 0, 0, 0, None, None, None, None, {})


def _state(at_work: Collection[str], log: SearchLog, study: str, stored: SaidOfStudy, trials: Trials) -> StudyState:
    said = stored.said
    over, running = trials.over, list(trials.running)
    workers = {trial.user_attrs.get(WORKER, "") for trial in (*running, *over[-_LAST:])}
    alive = log.living({*workers, said.get(FINISHER, "")} - {""})
    # Whoever runs a study computes its features before it asks for a trial, and lets others ask.
    is_run = study in at_work
    scores = [trial.value for trial in over if trial.state == TrialState.COMPLETE and trial.value is not None]
    wanted = _wanted(said.get(SPEC, {}).get("trials"))
    rate = _rate(over)
    left = wanted - len(over) if wanted and alive else 0
    return StudyState(
        study=study,
        state=_named(bool(alive) or is_run, len(over), len(scores), said.get(FINISHED) == len(over)),
        n_workers=len(alive),
        n_trials=len(over),
        n_running=len(running) if alive else 0,
        n_failed=len(over) - len(scores),
        n_wanted=max(wanted, len(over)) if wanted else None,
        best=max(scores, default=None),
        per_hour=rate,
        ends=datetime.now().astimezone() + timedelta(hours=left / rate) if rate and left > 0 else None,
        failures=dict(
            Counter(trial.user_attrs[FAILURE] for trial in over if FAILURE in trial.user_attrs).most_common()
        ),
    )


def _wanted(asked: Any) -> int | None:
    """Return how many trials a study file asks for; None where it does not say."""
    return asked if type(asked) is int and asked > 0 else None


def _named(is_at_work: bool, n_over: int, n_scored: int, is_finished: bool) -> State:
    if is_at_work:
        return "running"
    if not n_over:
        return "waiting"
    if is_finished:
        return "finished"
    return "stopped" if n_scored else "failed"


def _rate(over: Sequence[FrozenTrial]) -> float | None:
    """Return the trials an hour over the last ones; None where there are too few to say."""
    ends = sorted(trial.datetime_complete for trial in over[-_LAST:] if trial.datetime_complete)
    hours = (ends[-1] - ends[0]).total_seconds() / 3600 if len(ends) > 1 else 0.0
    return (len(ends) - 1) / hours if hours > 0 else None
