"""Runs -> records: what the tracking store holds, read back as it was written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.errors import RecordError
from img2brain.records import ConfirmationRecord, StudyRecord, TrialRecord
from img2brain.result import WHOLE
from img2brain.statistics.bootstrap import How, Summaries
from img2brain.statistics.members import OverMembers
from img2brain.tracking import old
from img2brain.tracking._store import TrackingStore, answering
from img2brain.tracking.names import (
    CONFIRMATION,
    FEATURES,
    FINISHED_TRIALS,
    HOME,
    IMPORTED,
    KIND,
    MEMBERS,
    PARENT,
    RECORD,
    STUDY,
    VALIDATION,
    component_name,
    part_array,
)

log = logging.getLogger(__name__)

_PAGE = 1000
_READERS = 8  # at once, of a store that answers over a network
_ARRAYS = ("regions", "estimate", "resampled")
_ABOUT = ("kind", "n_units", "draws")  # which older versions did not store
_OLD_WHOLE = "all"  # what the first format called all voxels, after the regions


@dataclass(frozen=True)
class TrackedTrial:
    """A trial as it is found in the tracking store.

    Attributes
    ----------
    run_id : str
        Its run.
    record : TrialRecord
        What was tried and found.
    confirmation : ConfirmationRecord, optional
        What rows say that the search never saw, where it was published.
    validation : ConfirmationRecord, optional
        Its own score with intervals, where it was given them.
    origin : str
        Where it was imported from, for people; empty of a trial that was tracked where it is.
    """

    run_id: str
    record: TrialRecord
    confirmation: ConfirmationRecord | None = None
    validation: ConfirmationRecord | None = None
    origin: str = ""


def experiments(store: TrackingStore) -> list[str]:
    """Name the experiments of the store, one for each dataset."""
    with answering(store.uri):
        names = (item.name for item in store.client.search_experiments())
        return sorted(name for name in names if name not in ("Default", FEATURES))


def tracked_trials(store: TrackingStore, experiment: str | None = None) -> list[TrackedTrial]:
    """Read the finished trials of the store, of one experiment or of all."""
    return trials_of(store, finished_runs(store, experiment))


def trials_of(store: TrackingStore, runs: Iterable[Any]) -> list[TrackedTrial]:
    """Read the trials of some runs, each once; one that is spoilt is said and left out."""
    read = partial(read_or_warn, store)
    with answering(store.uri):
        if store.is_local:  # where threads wait for one another alone
            return _once(trial for trial in map(read, runs) if trial is not None)
        with ThreadPoolExecutor(_READERS) as pool:
            return _once(trial for trial in pool.map(read, runs) if trial is not None)


def finished_runs(store: TrackingStore, experiment: str | None = None) -> list[Any]:
    """Find the runs of finished trials, of one experiment or of all, the first ones first."""
    with answering(store.uri):
        found = [item for item in store.client.search_experiments() if experiment in (None, item.name)]
        ids = [item.experiment_id for item in found]
        return list(search(store, ids, FINISHED_TRIALS)) if ids else []


def _once(trials: Iterable[TrackedTrial]) -> list[TrackedTrial]:
    """Leave out what a home tracked a second time, since the answer of the store was lost the first time."""
    found: dict[tuple[str, ...], TrackedTrial] = {}
    for trial in trials:
        record = trial.record
        found.setdefault((record.home or trial.run_id, record.study, str(record.number), record.member), trial)
    return list(found.values())


def read_or_warn(store: TrackingStore, run: Any) -> TrackedTrial | None:
    """Read the records of one run; one that is spoilt must not keep all others from being read."""
    try:
        return read_trial(store, run)
    except RecordError as error:
        log.warning("the run %s is left out: %s", run.info.run_id, error)
        return None


def read_trial(store: TrackingStore, run: Any) -> TrackedTrial:
    """Read the records of one run.

    Raises
    ------
    RecordError
        If they are absent, damaged or edited, or the run is none of img2brain's.
    """
    with _of_ours(run):
        return _read_trial(store, run)


@contextmanager
def _of_ours(run: Any) -> Iterator[None]:
    """Tell what cannot be read of a run as a `RecordError`: others write into a store as well, and may do so now."""
    try:
        yield
    except RecordError:
        raise
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise RecordError(f"The run {run.info.run_id} must be one of img2brain. Got {told}.") from error


def _read_trial(store: TrackingStore, run: Any) -> TrackedTrial:
    text = store.text(run, RECORD)
    if text is None and HOME in run.data.tags:
        raise RecordError(f"The file {RECORD} of the run {run.info.run_id} is not there.")
    if text is None:
        return TrackedTrial(run.info.run_id, *old.records_of(store, run))
    confirmation, validation = (store.text(run, name) for name in (CONFIRMATION, VALIDATION))
    where = f"run {run.info.run_id}"
    record = TrialRecord.from_json(text, where)
    _ = record.score  # a KeyError where it was edited out
    return TrackedTrial(
        run.info.run_id,
        record,
        ConfirmationRecord.from_json(confirmation, where) if confirmation else None,
        ConfirmationRecord.from_json(validation, where) if validation else None,
        run.data.tags.get(IMPORTED, ""),
    )


def find_trial(store: TrackingStore, run_id: str) -> TrackedTrial | None:
    """Read the trial of a run; None where there is no such run, it was deleted, or nothing is known of a trial."""
    run = store.find_run(run_id)
    if run is None or run.info.lifecycle_stage != "active" or _is_bare(run):
        return None
    with answering(store.uri):
        return read_trial(store, run)


def _is_bare(run: Any) -> bool:
    """Tell whether a run was made for a model that came without the records of a trial."""
    return IMPORTED in run.data.tags and KIND not in run.data.tags


def study_records(store: TrackingStore, name: str) -> dict[str, StudyRecord]:
    """Read the studies of a full name, by the run of each: on a shared server several homes may have made one."""
    with answering(store.uri):
        ids = [item.experiment_id for item in store.client.search_experiments()]
        query = f"tags.`{STUDY}` = '{name}' and tags.`{KIND}` = 'study'"
        return {run.info.run_id: read_study(store, run) for run in search(store, ids, query)}


def study_of(store: TrackingStore, run_id: str) -> StudyRecord | None:
    """Read the study that a trial belongs to, by the trial's run; None where it belongs to none."""
    with answering(store.uri):
        parent = store.client.get_run(run_id).data.tags.get(PARENT)
        return read_study(store, store.client.get_run(parent)) if parent else None


def read_study(store: TrackingStore, run: Any) -> StudyRecord:
    """Read the record of a parent run.

    Raises
    ------
    RecordError
        If it is absent, damaged or edited, or not written yet.
    """
    with _of_ours(run):
        text = store.text(run, RECORD)
        return StudyRecord.from_json(text, f"run {run.info.run_id}") if text else old.study_of(store, run)


def run_array(store: TrackingStore, run_id: str, name: str) -> np.ndarray[Any, Any] | None:
    """Read an array that is an artifact of a run, or None where it has none of this name."""
    with answering(store.uri):
        return store.array(store.client.get_run(run_id), name)


def stored_summaries(store: TrackingStore, run_id: str, how: How, part: str = "confirmation") -> Summaries | None:
    """Read the resamples of a score on a part of the rows; None of one that was logged without."""
    return summaries_in(partial(run_array, store, run_id), how, part)


def summaries_in(read: Callable[[str], NDArray[Any] | None], how: How, part: str = "confirmation") -> Summaries | None:
    """Return the resamples that are among some arrays, each read by its name among the files of a run."""
    for kind in ("summaries", "medians"):  # the second is the first format's
        arrays = {name: read(part_array(part, f"{kind}_{name}")) for name in (*_ARRAYS, *_ABOUT)}
        found = {name: array for name, array in arrays.items() if array is not None}
        if found.keys() >= set(_ARRAYS):
            summaries = Summaries.from_arrays(**found, how=how)
            return _whole_first(summaries) if kind == "medians" else summaries
    return None


def member_summaries(store: TrackingStore, run_id: str, how: How, control: str = "") -> Summaries | None:
    """Read what `joint_summaries_in` finds among the arrays of a run."""
    return joint_summaries_in(partial(run_array, store, run_id), how, control)


def joint_summaries_in(read: Callable[[str], NDArray[Any] | None], how: How, control: str = "") -> Summaries | None:
    """Return the resamples of a member's score, or of a control's, that are joint over the members of its study.

    Returns
    -------
    Summaries or None
        Of the rows that rank; None of a model without such resamples, or without this control.
    """
    found = {name: read(file) for name, file in joint_files(control).items()}
    arrays = {name: array for name, array in found.items() if array is not None}
    return Summaries.from_arrays(**arrays, how=how) if arrays.keys() >= set(_ARRAYS) else None


def joint_files(control: str = "") -> dict[str, str]:
    """Name the files of resamples that are joint over members, by what is in them."""
    rival = f"control_{control}_" if control else ""
    stems = {name: f"{rival if name in _ARRAYS[1:] else ''}{name}" for name in (*_ARRAYS, *_ABOUT)}
    return {name: f"{MEMBERS}/{component_name(stem)}.npy" for name, stem in stems.items()}


def over_members(store: TrackingStore, run_ids: Mapping[str, str], how: How, control: str = "") -> OverMembers | None:
    """Read the scores of one model, or of a control of it, on the members of a study.

    Parameters
    ----------
    store : TrackingStore
        Where it is tracked.
    run_ids : mapping of str to str
        Its run on each member, by the member's name.
    how : {"median", "mean"}
        What stands for the voxels of a region.
    control : str
        The name of a control.

    Returns
    -------
    OverMembers or None
        None where that of a member is not known.
    """
    found = {name: member_summaries(store, run_id, how, control) for name, run_id in run_ids.items()}
    known = {name: item for name, item in found.items() if item is not None}
    return OverMembers(known) if known and len(known) == len(found) else None


def _whole_first(old: Summaries) -> Summaries:
    """Return the resamples of the first format as they are now."""
    regions = tuple(WHOLE if name == _OLD_WHOLE else name for name in old.regions)
    return replace(old, regions=regions).of([WHOLE, *(name for name in regions if name != WHOLE)])


def search(store: TrackingStore, experiment_ids: Sequence[str], query: str) -> Iterator[Any]:
    """Yield the runs that a query finds, the first ones first, page by page."""
    token = None
    while True:
        page = store.client.search_runs(
            list(experiment_ids), query, max_results=_PAGE, page_token=token, order_by=["attributes.start_time ASC"]
        )
        yield from page
        token = page.token
        if not token:
            return
