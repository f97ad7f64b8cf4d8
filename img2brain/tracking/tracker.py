"""Records -> runs: one parent run per study, one child run per trial."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from img2brain.home import Home
from img2brain.records import ConfirmationRecord, Record, StudyRecord, TrialRecord
from img2brain.records.code import this_code
from img2brain.result import TrialResult
from img2brain.tracking import names, reading
from img2brain.tracking._database import tell_sizes
from img2brain.tracking._local import open_to_read
from img2brain.tracking._store import TrackingStore, answering, look_and_add

Arrays = Mapping[str, NDArray[np.generic]]


class Tracker:
    """Tracks one study of one home, on one of its members where it has several.

    Runs belong to the home that made them, whose id they carry: on a shared server the runs of others, of a study of
    the same name too, are neither taken for one's own nor touched.

    Parameters
    ----------
    home : Home
        Holds the tracking store.
    study : StudyRecord
        The study, or that of one member: each has runs and a parent run of its own, in the experiment of its dataset.
        The parent run is made where it is not there.
    origin : str
        Where its data were read from, see `own_name.origin_of`.
    worker : str
        Who tracks.
    living : callable
        Takes workers, and returns those of them that live; by default none does but who tracks.
    """

    def __init__(
        self,
        home: Home,
        study: StudyRecord,
        origin: str = "",
        worker: str = "",
        living: Callable[[Iterable[str]], set[str]] = lambda _: set(),
    ) -> None:
        self.store = TrackingStore(home)
        self._worker, self._living = worker, living
        self._origin = origin
        self.study = study
        self.home = home
        self._experiment = self.store.experiment(study.dataset.name)
        self._runs = self.store if home.tracking_uri else open_to_read(home)  # by MLflow each metric of each is read
        with answering(self.store.uri):
            self.run = self._parent()

    def finished(self) -> dict[int, str]:
        """Return the run ids of the trials that are tracked whole, by number.

        Half-tracked runs of this study are dropped that nobody is at work on: those of dead workers, those that this
        worker left, and those of trials that are tracked whole, as where a server did not say that it had made a run.
        Nothing else ever is.
        """
        with answering(self.store.uri):
            found = self._own_trials()
            whole = [run for run in found if run.info.status != "RUNNING"]
            known = {_number(run): run.info.run_id for run in reversed(whole)}  # of two the first
            half = [run for run in found if run.info.status == "RUNNING"]
            self._drop([run for run in half if _number(run) in known])
            left = self._left([run for run in half if _number(run) not in known])
            # A worker may have tracked a trial whole and ended since its run was read: now none of them changes.
            now = [self.store.client.get_run(run.info.run_id) for run in left]
            self._drop([run for run in now if run.info.status == "RUNNING"])
            return {_number(run): run.info.run_id for run in now if run.info.status != "RUNNING"} | known

    def keep_first(self, number: int, run_id: str) -> None:
        """Drop a run of this worker where another, which thought it dead, tracked the same trial before."""
        if self.finished().get(number, run_id) != run_id:
            with answering(self.store.uri):
                self.store.client.delete_run(run_id)

    def _left(self, runs: Sequence[Any]) -> list[Any]:
        """Return those runs whose workers are not at work on them."""
        living = self._living(worker for run in runs if (worker := run.data.tags.get(names.WORKER)))
        return [run for run in runs if run.data.tags.get(names.WORKER) not in living - {self._worker}]

    def _drop(self, runs: Sequence[Any]) -> None:
        for run in runs:
            self.store.client.delete_run(run.info.run_id)

    def records(self) -> dict[int, TrialRecord]:
        """Return the records of the trials that are tracked whole, by number."""
        with answering(self.store.uri):
            runs = {number: self.store.client.get_run(run_id) for number, run_id in self.finished().items()}
            found = {number: reading.read_or_warn(self.store, run) for number, run in runs.items()}
            return {number: trial.record for number, trial in found.items() if trial is not None}

    def log_trial(
        self, record: TrialRecord, result: TrialResult | None = None, features: Callable[[], Path] | None = None
    ) -> str:
        """Track a trial, failed or not, as a child run.

        Parameters
        ----------
        record : TrialRecord
            What was tried and found.
        result : TrialResult, optional
            Its arrays and the fitted regressor; None where it failed.
        features : callable, optional
            Returns the file of the reduced features, ``.npy``, stored once for all trials that share them. It is asked
            again where the file is gone by the time that it is taken.

        Returns
        -------
        str
            The run id.

        Raises
        ------
        TrackingError
            If the store does not answer. The trial is not lost: it can be tracked again from the search log.
        """
        with answering(self.store.uri):
            tags = {names.KIND: "trial", names.TRIAL: str(record.number), names.PARENT: self.run.info.run_id}
            tags |= {names.WORKER: self._worker} if self._worker else {}
            run = self._create_run(f"#{record.number} {record.spec.label}"[:250], tags)
            self._log_batch(run, names.trial_parameters(record), names.trial_metrics(record))
            self._log_dataset(run)
            with self.store.artifacts(run) as folder:
                _write_record(folder, names.RECORD, record)
                if result is not None:
                    _write_result(folder, record, result)
            if features is not None:
                try:
                    self.store.attach(run, features(), "features.npy")
                except FileNotFoundError:
                    self.store.attach(run, features(), "features.npy")
            self.store.client.set_terminated(run.info.run_id, "FAILED" if record.failure else "FINISHED")
        return str(run.info.run_id)

    def log_confirmation(self, run_id: str, record: ConfirmationRecord, arrays: Mapping[str, Arrays]) -> None:
        """Add what the confirmation rows say to the run of the trial that was published.

        Parameters
        ----------
        run_id : str
            The run.
        record : ConfirmationRecord
            Becomes ``confirmation.json``.
        arrays : mapping of str to mapping of str to ndarray
            By the name of the part; become ``confirmation/NAME.npy``, those of a part that was named
            ``confirmation/PART/NAME.npy``.
        """
        self._log_rows(run_id, record, arrays, names.CONFIRMATION)

    def log_validation(self, run_id: str, record: ConfirmationRecord, arrays: Arrays) -> None:
        """Add intervals of a trial's own score: ``validation.json`` and ``validation/NAME.npy``."""
        self._log_rows(run_id, record, dict.fromkeys(record.parts, arrays), names.VALIDATION)

    def log_members(self, run_id: str, arrays: Arrays) -> None:
        """Add resamples that are joint over the members of a study: ``members/NAME.npy``."""
        with answering(self.store.uri), self.store.artifacts(self.store.client.get_run(run_id)) as folder:
            _write_arrays(folder / names.MEMBERS, arrays)

    def log_pages(self, pages: Mapping[str, Path], metrics: Mapping[str, float], note: str) -> None:
        """Add pages, summary metrics and a note in Markdown to the parent run."""
        with answering(self.store.uri):
            for name, path in pages.items():
                self.store.attach(self.run, path, name)
            self._log_batch(self.run, {}, metrics)
            self.store.client.set_tag(self.run.info.run_id, "mlflow.note.content", note)

    def close(self, status: str = "FINISHED") -> None:
        """Close the parent run."""
        with answering(self.store.uri):
            self.store.client.set_terminated(self.run.info.run_id, status)
        if self.home.tracking_uri is None:
            tell_sizes(self.home.database)

    def _parent(self) -> Any:
        """Return the parent run of this home's study, made where it is not there."""
        query = f"tags.`{names.STUDY}` = '{self.study.name}' and tags.`{names.KIND}` = 'study'"
        run = next(filter(self._is_own, reading.search(self.store, [self._experiment], query)), None)
        if run is not None:
            self.store.client.update_run(run.info.run_id, status="RUNNING")
            return run
        run = self._create_run(self.study.name, {names.KIND: "study", names.ORIGIN: self._origin})
        self._log_batch(run, names.study_parameters(self.study), {})
        self._log_dataset(run)
        with self.store.artifacts(run) as folder:
            _write_record(folder, names.RECORD, self.study)
        return run

    def _own_trials(self) -> list[Any]:
        query = f"tags.`{names.STUDY}` = '{self.study.name}' and tags.`{names.KIND}` = 'trial'"
        found = filter(self._is_own, reading.search(self._runs, [self._experiment], query))
        return [run for run in found if run.data.tags.get(names.TRIAL, "").isdecimal()]

    def _is_own(self, run: Any) -> bool:
        """Tell whether a run is of this home and member; those of the first format are, if they are in its own store.

        What was imported is no part of a search, whoever made it.
        """
        made_by = run.data.tags.get(names.HOME)
        if names.IMPORTED in run.data.tags or run.data.tags.get(names.MEMBER, "") != self.study.member:
            return False
        own = (*self.home.own_ids, self.study.home)
        return self.home.tracking_uri is None if made_by is None else made_by in own

    def _create_run(self, name: str, tags: Mapping[str, str]) -> Any:
        code = this_code()
        tags = {**tags, names.STUDY: self.study.name, names.HOME: self.study.home}
        tags |= {names.MEMBER: self.study.member} if self.study.member else {}
        tags |= {"mlflow.source.name": "img2brain", "mlflow.source.type": "LOCAL"}
        tags |= {"mlflow.source.git.commit": code.commit} if code.commit else {}
        return self.store.client.create_run(self._experiment, start_time=_now_ms(), tags=tags, run_name=name)

    def _log_batch(self, run: Any, parameters: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        log_batch(self.store, run, parameters, metrics)

    def _log_dataset(self, run: Any) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        facts = self.study.dataset
        profile = json.dumps({"n_images": facts.n_images, "n_voxels": facts.n_voxels})
        dataset = Dataset(facts.name, facts.digest[:32], "local", facts.source, None, profile)
        tags = [InputTag("mlflow.data.context", "search")]
        # MLflow looks for the dataset and then adds it: two studies of new data at once would both add it.
        with self.store.lock:
            look_and_add(lambda: self.store.client.log_inputs(run.info.run_id, [DatasetInput(dataset, tags)]))

    def _log_rows(self, run_id: str, record: ConfirmationRecord, arrays: Mapping[str, Arrays], name: str) -> None:
        with answering(self.store.uri):
            run = self.store.client.get_run(run_id)
            self._log_batch(run, {}, names.confirmation_metrics(record))
            with self.store.artifacts(run) as folder:
                for part, found in arrays.items():
                    _write_arrays(folder / names.part_folder(part), found)
                _write_record(folder, name, record)


def _number(run: Any) -> int:
    return int(run.data.tags[names.TRIAL])


def log_references(store: TrackingStore, home: str, records: Mapping[int, tuple[TrialRecord, Arrays]]) -> None:
    """Track results of others; those that are there already are left as they are.

    Parameters
    ----------
    store : TrackingStore
        Where to.
    home : str
        Id of the home that reads them.
    records : mapping of int to (TrialRecord, arrays)
        By number, of one study.
    """
    first = next(record for record, _ in records.values())
    where = store.experiment(first.dataset.name)
    with answering(store.uri):
        query = f"tags.`{names.STUDY}` = '{first.study}'"
        known = {run.data.tags.get(names.TRIAL) for run in reading.search(store, [where], query)}
        for number, (record, arrays) in records.items():
            if str(number) not in known:
                _log_reference(store, where, home, record, arrays)


def _log_reference(store: TrackingStore, experiment: str, home: str, record: TrialRecord, arrays: Arrays) -> None:
    tags = {names.KIND: "trial", names.STUDY: record.study, names.TRIAL: str(record.number), names.HOME: home}
    run = store.client.create_run(experiment, start_time=_now_ms(), tags=tags, run_name=record.spec.label[:250])
    log_batch(store, run, names.trial_parameters(record), names.trial_metrics(record))
    with store.artifacts(run) as folder:
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        _write_record(folder, names.RECORD, record)
    store.client.set_terminated(run.info.run_id, "FINISHED")


def log_batch(store: TrackingStore, run: Any, parameters: Mapping[str, str], metrics: Mapping[str, float]) -> None:
    """Log parameters and metrics at once: a call for each would take ten times as long."""
    from mlflow.entities import Metric, Param

    now = _now_ms()
    store.client.log_batch(
        run.info.run_id,
        metrics=[Metric(name, float(value), now, 0) for name, value in metrics.items()],
        params=[Param(name, value) for name, value in parameters.items()],
    )


def _write_arrays(folder: Path, arrays: Arrays) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for key, array in arrays.items():
        np.save(folder / f"{names.component_name(key)}.npy", array)


def _write_record(folder: Path, name: str, record: Record) -> None:
    """Write a record so that it is there whole or not at all."""
    unfinished = folder / f".{name}.unfinished"
    unfinished.write_text(record.to_json(), encoding="utf-8")
    unfinished.replace(folder / name)


def _write_result(folder: Path, record: TrialRecord, result: TrialResult) -> None:
    """Write accuracies and the fitted model; of one that keeps rows its settings alone: the features are logged.

    Coefficients are written as float32, as features and responses are: they give the accuracies within 1e-6, and they
    are nearly all that a trial takes of the disk.
    """
    for name, scored in result.metrics.items():
        np.save(folder / record.metrics[name].file, scored.accuracy)
    if result.constant is not None:
        np.save(folder / "constant.npy", result.constant)
    described = {
        "regressor": result.spec.regressor,
        "parameters": dict(result.spec.parameters),
        "keeps_rows": result.estimator.keeps_rows,
    }
    model = folder / "model"
    model.mkdir(exist_ok=True)
    (model / "regressor.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
    if not result.estimator.keeps_rows:
        arrays = {name: _float32(value) for name, value in result.estimator.to_arrays().items()}
        save_file(arrays, model / "regressor.safetensors")


def _float32(array: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(array, np.float32 if array.dtype == np.float64 else None, order="C")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
