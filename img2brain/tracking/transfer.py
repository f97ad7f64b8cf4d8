"""Runs that travel: the records and scores of a trial as files, and runs made of them in another store.

Predictions, measured responses and features stay behind, and so does all that has no name that is known here.
"""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Any, TypeVar

import numpy as np

from img2brain import untrusted
from img2brain.errors import RecordError, quoted
from img2brain.records import ConfirmationRecord, Record, StudyRecord, TrialRecord
from img2brain.spec import NAME_PATTERN
from img2brain.tracking import names, reading
from img2brain.tracking._store import TrackingStore, answering
from img2brain.tracking.reading import TrackedTrial
from img2brain.tracking.tracker import log_batch

_STUDY = "study.json"
_PARTS = tuple(Path(name).stem for name in (names.CONFIRMATION, names.VALIDATION))
# Scores, resamples and ceilings go along; what was measured or predicted, or is not known here, does not.
_NAMED = r"(?:p|q|constant|(?:accuracy|summaries|control|best_layer|ceiling)(?:_[\w.\-]+)?)\.npy"
_ARRAY = re.compile(
    rf"(?:(?:{'|'.join(_PARTS)})/(?:\w[\w.\- ]*/)?)?{_NAMED}"
    rf"|{names.MEMBERS}/(?:regions|estimate|resampled|kind|n_units|draws|control_[\w.\-]+)\.npy"
)
_METRIC = re.compile(r"[\w.\-/ ]{1,250}", re.ASCII)
_RecordKind = TypeVar("_RecordKind", bound=Record)


@dataclass(frozen=True)
class TravelledRun:
    """What a folder holds of a trial; all of it was checked.

    Attributes
    ----------
    folder : Path
        The folder.
    record, confirmation, validation, study
        The records, as far as they are there.
    arrays : tuple of str
        The names of its arrays, as in a run.
    """

    folder: Path
    record: TrialRecord
    confirmation: ConfirmationRecord | None
    validation: ConfirmationRecord | None
    study: StudyRecord | None
    arrays: tuple[str, ...]

    @property
    def records(self) -> dict[str, Record]:
        """The records by the names that they have as files of a run."""
        found = {
            names.RECORD: self.record,
            names.CONFIRMATION: self.confirmation,
            names.VALIDATION: self.validation,
        }
        return {name: record for name, record in found.items() if record is not None}


def write_run(store: TrackingStore, trial: TrackedTrial, home: str, folder: Path) -> None:
    """Write what is known of a trial into a folder.

    Parameters
    ----------
    store : TrackingStore
        Holds its run.
    trial : TrackedTrial
        The trial.
    home : str
        Id of the home that made it, where its record does not say.
    folder : Path
        Made here.
    """
    record = trial.record if trial.record.home else trial.record.model_copy(update={"home": home})
    study: StudyRecord | None = None
    with suppress(RecordError):
        study = reading.study_of(store, trial.run_id)
    records = {names.CONFIRMATION: trial.confirmation, names.VALIDATION: trial.validation, _STUDY: study}
    folder.mkdir()
    for name, item in ({names.RECORD: record} | records).items():
        if item is not None:
            (folder / name).write_text(item.to_json(), encoding="utf-8")
    with answering(store.uri):
        run = store.client.get_run(trial.run_id)
        for name in _arrays_of(store, run, trial):
            if (array := store.array(run, name)) is not None:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                np.save(folder / name, array)


def read_run(folder: Path) -> TravelledRun:
    """Read what `write_run` wrote, which others may have changed.

    Raises
    ------
    RecordError
        If it is not what is known of one finished trial.
    DataError
        If an array is none.
    """
    files = untrusted.files(folder)
    record = _read(files, names.RECORD, TrialRecord)
    if record is None:
        raise RecordError(f"{folder} must hold the record of a trial. It holds no {names.RECORD}.")
    confirmation, validation = (
        _read(files, name, ConfirmationRecord) for name in (names.CONFIRMATION, names.VALIDATION)
    )
    study = _read(files, _STUDY, StudyRecord)
    known = {names.RECORD, names.CONFIRMATION, names.VALIDATION, _STUDY}
    arrays = tuple(name for name in files if name not in known)
    for name in arrays:
        if not _ARRAY.fullmatch(name):
            raise RecordError(f"{folder} must hold records and arrays of a trial. It holds {quoted(name)}.")
        untrusted.read_array(files[name])
    found = TravelledRun(folder, record, confirmation, validation, study, arrays)
    _require_one_trial(found)
    return found


def find_run(store: TrackingStore, record: TrialRecord) -> str:
    """Return the run of the trial of a record; nothing where it is not tracked.

    Raises
    ------
    RecordError
        If a trial of this home, study and number is tracked that is another one.
    """
    for run in reading.finished_runs(store, record.dataset.name):
        tags, made_by = run.data.tags, run.data.tags.get(names.HOME)  # runs of the first format do not say
        if (tags.get(names.STUDY), tags.get(names.TRIAL), tags.get(names.MEMBER, "")) != (
            record.study,
            str(record.number),
            record.member,
        ):
            continue
        if made_by in (None, record.home) and _is_same(reading.read_trial(store, run).record, record):
            return str(run.info.run_id)
        if made_by == record.home:
            raise RecordError(
                f"The record of trial {record.number} of the study {record.study!r} must be that of the run "
                f"{run.info.run_id}, which is tracked here. It says something else."
            )
    return ""


def _is_same(known: TrialRecord, record: TrialRecord) -> bool:
    return known.model_copy(update={"home": record.home}).to_json() == record.to_json()


def log_run(store: TrackingStore, found: TravelledRun, origin: str, by: str) -> str:
    """Track a trial that travelled, and its study where that is known, and return its run.

    Parameters
    ----------
    store : TrackingStore
        Where to.
    found : TravelledRun
        What is known of it.
    origin : str
        Where it comes from, for people.
    by : str
        Id of the home that takes it in.
    """
    experiment = store.experiment(found.record.dataset.name)
    with answering(store.uri):
        _drop_unfinished(store, experiment, by)
        parent = _study_run(store, experiment, found, origin, by)
        tags = {names.KIND: "trial", names.TRIAL: str(found.record.number), **_shared_tags(found, origin, by)}
        tags |= {names.PARENT: parent} if parent else {}
        with _made(store, experiment, f"#{found.record.number} {found.record.spec.label}"[:250], tags) as run:
            log_batch(store, run, names.trial_parameters(found.record), _metrics(found))
            with store.artifacts(run) as folder:
                _copy(found, folder)
    return str(run.info.run_id)


def log_nothing(store: TrackingStore, name: str, origin: str) -> str:
    """Make a run for a model of which no trial is known, and return it: a version belongs to one."""
    experiment = store.experiment(name)
    with answering(store.uri), _made(store, experiment, f"imported from {origin}", {names.IMPORTED: origin}) as run:
        return str(run.info.run_id)


def _arrays_of(store: TrackingStore, run: Any, trial: TrackedTrial) -> list[str]:
    """Name the arrays that go along: of voxels, of each part of the rows, and of what is joint over members."""
    found = [metric.file for metric in trial.record.metrics.values()]
    parts = trial.confirmation.parts if trial.confirmation else ()
    folders = dict.fromkeys((*_PARTS, *map(names.part_folder, parts), names.MEMBERS))
    return found + [name for folder in folders for name in store.names(run, folder) if _ARRAY.fullmatch(name)]


def _read(files: Mapping[str, Path], name: str, kind: type[_RecordKind]) -> _RecordKind | None:
    return kind.from_json(files[name].read_text(encoding="utf-8", errors="replace"), name) if name in files else None


def _require_one_trial(found: TravelledRun) -> None:
    record = found.record
    for what, text in {"study": record.study, "dataset": record.dataset.name}.items():
        if not re.fullmatch(NAME_PATTERN, text) or len(text) > 200:
            raise RecordError(f"The {what} of {names.RECORD} must have a plain name. Got {quoted(text)}.")
    if not re.fullmatch(r"[0-9a-f]{1,64}", record.home) or record.number < 0 or record.objective not in record.metrics:
        raise RecordError(f"{names.RECORD} must be of a finished trial of a home. It is not.")
    for item in (found.confirmation, found.validation):
        if item is not None and (item.study, item.number) != (record.study, record.number):
            raise RecordError(f"All records must be of trial {record.number} of {record.study!r}. They are not.")
    if found.study is not None and found.study.name != record.study:
        raise RecordError(f"{_STUDY} must be of the study {record.study!r}. Got {quoted(found.study.name)}.")
    for name in _metrics(found):
        if not _METRIC.fullmatch(name) or posixpath.normpath(name) != name:
            raise RecordError(f"What was scored must have a plain name. Got {quoted(name)}.")


def _metrics(found: TravelledRun) -> dict[str, float]:
    parts = [item for item in (found.confirmation, found.validation) if item is not None]
    scored = names.trial_metrics(found.record)
    for part in parts:
        scored |= names.confirmation_metrics(part)
    return scored


def _shared_tags(found: TravelledRun, origin: str, by: str) -> dict[str, str]:
    record = found.record
    tags = {names.STUDY: record.study, names.HOME: record.home, names.IMPORTED: origin, names.IMPORTED_BY: by}
    return tags | ({names.MEMBER: record.member} if record.member else {})


def _study_run(store: TrackingStore, experiment: str, found: TravelledRun, origin: str, by: str) -> str:
    """Return the run of the trial's study, made where it is not there; nothing where the study is not known."""
    study = found.study
    if study is None:
        return ""
    for run in reading.search(store, [experiment], f"tags.`{names.KIND}` = 'study'"):
        told = [run.data.tags.get(name, "") for name in (names.STUDY, names.HOME, names.MEMBER)]
        if told == [study.name, found.record.home, study.member]:
            return str(run.info.run_id)
    tags = {names.KIND: "study", **_shared_tags(found, origin, by)}
    with _made(store, experiment, study.name, tags) as run:
        log_batch(store, run, names.study_parameters(study), {})
        with store.artifacts(run) as folder:
            (folder / names.RECORD).write_text(study.to_json(), encoding="utf-8")
    return str(run.info.run_id)


@contextmanager
def _made(store: TrackingStore, experiment: str, name: str, tags: Mapping[str, str]) -> Iterator[Any]:
    """Hand out a new run, finished afterwards, or dropped where that fails."""
    run = store.client.create_run(experiment, start_time=time.time_ns() // 1_000_000, tags=dict(tags), run_name=name)
    try:
        yield run
        store.client.set_terminated(run.info.run_id, "FINISHED")
    except BaseException:
        with suppress(Exception):
            store.client.delete_run(run.info.run_id)
        raise


def _drop_unfinished(store: TrackingStore, experiment: str, by: str) -> None:
    """Drop what a dead process of this home left half-tracked of another import."""
    for run in reading.search(store, [experiment], f"tags.`{names.IMPORTED_BY}` = '{by}'"):
        if run.info.status == "RUNNING":
            store.client.delete_run(run.info.run_id)


def _copy(found: TravelledRun, folder: Path) -> None:
    for name, record in found.records.items():
        (folder / name).write_text(record.to_json(), encoding="utf-8")
    for name in found.arrays:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copyfile(found.folder / name, folder / name)
