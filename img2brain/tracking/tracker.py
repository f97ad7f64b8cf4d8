"""Studies and trials as MLflow runs: one parent run per study, one child run per trial."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from img2brain import digest
from img2brain.home import Home
from img2brain.result import TrialResult
from img2brain.tracking._store import TrackingStore, answering
from img2brain.tracking.records import StudyRecord, TrackedTrial, TrialRecord

if TYPE_CHECKING:
    from img2brain.confirm import Report

_PAGE = 1000
_PARAMETER_LENGTH = 6000
_PARENT, _REGIONS = "mlflow.parentRunId", "regions.json"
KIND, STUDY, TRIAL, ROWS = "img2brain.kind", "img2brain.study", "img2brain.trial", "img2brain.rows"
FAILURE, REGISTERED, DATASET = "img2brain.failure", "img2brain.registered", "img2brain.dataset"
CONFIRMATION, CEILING, NOTE = "img2brain.confirmation", "img2brain.ceiling", "img2brain.note"


class Tracker:
    """Tracks one study, and finds what is tracked.

    Parameters
    ----------
    home : Home
        Holds the tracking store.
    study : StudyRecord
        The study; its parent run is made where it is not there.
    """

    def __init__(self, home: Home, study: StudyRecord) -> None:
        self.store = TrackingStore(home)
        self.study = study
        self._experiment = self.store.experiment(study.experiment)
        with answering(self.store.uri):
            self.run = self._parent()

    def finished(self) -> dict[int, str]:
        """Return the run ids of the trials that are tracked whole, by number, and drop the half-tracked ones."""
        found: dict[int, str] = {}
        with answering(self.store.uri):
            for run in _search(self.store, [self._experiment], f"tags.`{STUDY}` = '{self.study.name}'"):
                number = run.data.tags.get(TRIAL)
                if number is None:
                    continue
                if run.info.status == "RUNNING" or int(number) in found:
                    self.store.client.delete_run(run.info.run_id)
                else:
                    found[int(number)] = run.info.run_id
        return found

    def log_trial(self, trial: TrialRecord) -> str:
        """Track a trial, failed or not, as a child run.

        Parameters
        ----------
        trial : TrialRecord
            What was tried and found.

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
            run = self._create_run(f"{trial.number:04d} {trial.spec.label}"[:250], self._trial_tags(trial))
            self._log_batch(run, self._trial_parameters(trial), _trial_metrics(trial))
            self._log_dataset(run)
            if trial.result is not None:
                self._log_arrays(run, trial, trial.result)
            self.store.client.set_terminated(run.info.run_id, "FAILED" if trial.failure else "FINISHED")
        return str(run.info.run_id)

    def log_confirmation(self, run_id: str, report: Report, count: int) -> None:
        """Add what the confirmation rows say to the run of the trial that was published.

        Parameters
        ----------
        run_id : str
            The run.
        report : Report
            Metrics become ``confirmation_NAME`` and ``REGION/confirmation_NAME``, arrays ``confirmation/NAME.npy``.
        count : int
            How many models were scored on these rows, with this one.
        """
        metrics = {_confirmation_name(name): value for name, value in report.summary.items()}
        self._log_report(run_id, metrics | {"confirmation_count": count}, report, "confirmation")

    def log_validation(self, run_id: str, report: Report) -> None:
        """Add intervals of a trial's own score: ``low``, ``high``, ``REGION/low`` ..., and ``validation/NAME.npy``."""
        metrics = {_region_name(name): value for name, value in report.summary.items()}
        self._log_report(run_id, metrics, report, "validation")

    def _log_report(self, run_id: str, metrics: Mapping[str, float], report: Report, part: str) -> None:
        with answering(self.store.uri):
            run = self.store.client.get_run(run_id)
            self._log_batch(run, {}, metrics)
            with self.store.artifacts(run) as folder:
                (folder / part).mkdir(exist_ok=True)
                for name, array in report.arrays.items():
                    np.save(folder / part / f"{name}.npy", array)
            self.tag(run_id, {f"img2brain.{name}": text for name, text in report.facts.items()})

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        with answering(self.store.uri):
            for name, value in tags.items():
                self.store.client.set_tag(run_id, name, value)

    def log_pages(self, pages: Mapping[str, Path], metrics: Mapping[str, float], note: str) -> None:
        """Add pages, summary metrics and a note in Markdown to the parent run."""
        with answering(self.store.uri):
            for name, path in pages.items():
                self.store.attach(self.run, path, name)
            self._log_batch(self.run, {}, metrics)
            self.tag(self.run.info.run_id, {"mlflow.note.content": note})

    def close(self, status: str = "FINISHED") -> None:
        """Close the parent run."""
        with answering(self.store.uri):
            self.store.client.set_terminated(self.run.info.run_id, status)

    def _parent(self) -> Any:
        tags = {KIND: "study", STUDY: self.study.name, ROWS: self.study.rows_digest} | _versions()
        query = f"tags.`{STUDY}` = '{self.study.name}' and tags.`{KIND}` = 'study'"
        run = next(_search(self.store, [self._experiment], query), None)
        if run is None:
            run = self._create_run(self.study.name, tags, parent=False)
            self._log_batch(run, self.study.parameters, {})
            self._log_dataset(run)
            if self.study.regions:
                with self.store.artifacts(run) as folder:
                    (folder / _REGIONS).write_text(json.dumps(self.study.regions), encoding="utf-8")
        else:
            self.store.client.update_run(run.info.run_id, status="RUNNING")
        return run

    def _trial_tags(self, trial: TrialRecord) -> dict[str, str]:
        tags = {KIND: "trial", STUDY: self.study.name, TRIAL: str(trial.number), ROWS: self.study.rows_digest}
        tags[DATASET] = json.dumps(dict(self.study.dataset))
        return tags | ({FAILURE: trial.failure} if trial.failure else {}) | _versions()

    def _trial_parameters(self, trial: TrialRecord) -> dict[str, str]:
        spec = trial.spec.model_dump(mode="json")
        values = {**spec.pop("parameters"), **spec, "trained": trial.trained, **self.study.parameters}
        return {name: str(value) for name, value in values.items()}

    def _create_run(self, name: str, tags: Mapping[str, str], *, parent: bool = True) -> Any:
        if parent:
            tags = {**tags, _PARENT: self.run.info.run_id}
        return self.store.client.create_run(self._experiment, start_time=_now_ms(), tags=dict(tags), run_name=name)

    def _log_batch(self, run: Any, parameters: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric, Param

        now = _now_ms()
        self.store.client.log_batch(
            run.info.run_id,
            metrics=[Metric(name, float(value), now, 0) for name, value in metrics.items()],
            params=[Param(name, value[:_PARAMETER_LENGTH]) for name, value in parameters.items()],
        )

    def _log_dataset(self, run: Any) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        facts = self.study.dataset
        profile = json.dumps({name: value for name, value in facts.items() if name.startswith("n_")})
        dataset = Dataset(facts["name"], facts["digest"][:32], "local", facts["source"], None, profile)
        tags = [InputTag("mlflow.data.context", "search")]
        self.store.client.log_inputs(run.info.run_id, [DatasetInput(dataset, tags)])

    def _log_arrays(self, run: Any, trial: TrialRecord, result: TrialResult) -> None:
        with self.store.artifacts(run) as folder:
            _write_arrays(folder, result)
        if trial.features_file is not None:
            self.store.attach(run, trial.features_file, "features.npy")


def experiments(store: TrackingStore) -> list[str]:
    """Name the experiments of the store, one for each dataset."""
    with answering(store.uri):
        names = (item.name for item in store.client.search_experiments())
        return sorted(name for name in names if name != "Default")


def tracked_trials(store: TrackingStore, experiment: str | None = None) -> list[TrackedTrial]:
    """Find the finished trials in the store, of one experiment or of all."""
    with answering(store.uri):
        experiments = [item for item in store.client.search_experiments() if experiment in (None, item.name)]
        ids = [item.experiment_id for item in experiments]
        query = f"tags.`{KIND}` = 'trial' and attributes.status = 'FINISHED'"
        return [_as_tracked(run) for run in _search(store, ids, query)] if ids else []


def _as_tracked(run: Any) -> TrackedTrial:
    tags = run.data.tags
    return TrackedTrial(
        run_id=run.info.run_id,
        study=tags[STUDY],
        number=int(tags[TRIAL]),
        rows_digest=tags[ROWS],
        parameters=dict(run.data.params),
        metrics=dict(run.data.metrics),
        dataset=json.loads(tags.get(DATASET, "{}")),
        registered=tags.get(REGISTERED, ""),
        confirmation=tags.get(CONFIRMATION, ""),
        ceiling=tags.get(CEILING, ""),
        note=tags.get(NOTE, ""),
    )


@dataclass(frozen=True, eq=False)
class Reference:
    """A result of others, to be tracked as it was published.

    Attributes
    ----------
    number : int
        Its place in the list.
    parameters, metrics : mapping
        As those of a trial.
    accuracy : ndarray (n_voxels,)
        Pearson r of each voxel.
    note : str
        What has to be known of it.
    rows_digest : str
        Names the rows that it was scored on.
    dataset : mapping of str to str
        Name and digest of the data.
    """

    number: int
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    accuracy: np.ndarray[Any, Any]
    note: str
    rows_digest: str
    dataset: Mapping[str, str]


def log_references(store: TrackingStore, experiment: str, study: str, references: Iterable[Reference]) -> None:
    """Track results of others; those that are there already are left as they are."""
    where = store.experiment(experiment)
    with answering(store.uri):
        known = {run.data.tags.get(TRIAL) for run in _search(store, [where], f"tags.`{STUDY}` = '{study}'")}
        for item in references:
            if str(item.number) not in known:
                _log_reference(store, where, study, item)


def _log_reference(store: TrackingStore, experiment: str, study: str, item: Reference) -> None:
    from mlflow.entities import Metric, Param

    tags = {KIND: "trial", STUDY: study, TRIAL: str(item.number), ROWS: item.rows_digest, NOTE: item.note}
    tags[DATASET] = json.dumps(dict(item.dataset))
    name = f"{item.parameters['backbone']} {item.parameters['layer']} {item.parameters['regressor']}"
    run = store.client.create_run(experiment, start_time=_now_ms(), tags=tags, run_name=name)
    now = _now_ms()
    store.client.log_batch(
        run.info.run_id,
        metrics=[Metric(key, float(value), now, 0) for key, value in item.metrics.items()],
        params=[Param(key, value) for key, value in item.parameters.items()],
    )
    with store.artifacts(run) as folder:
        np.save(folder / "accuracy.npy", item.accuracy)
    store.client.set_terminated(run.info.run_id, "FINISHED")


def run_array(store: TrackingStore, run_id: str, name: str) -> np.ndarray[Any, Any] | None:
    """Read an array that is an artifact of a run, or None where it has none of this name."""
    with answering(store.uri):
        return store.array(store.client.get_run(run_id), name)


def study_regions(store: TrackingStore, run_id: str) -> dict[str, list[int]]:
    """Read the regions of interest of the study that a trial belongs to: voxels by name."""
    with answering(store.uri):
        parent = store.client.get_run(run_id).data.tags.get(_PARENT)
        text = store.text(store.client.get_run(parent), _REGIONS) if parent else None
    regions: dict[str, list[int]] = json.loads(text) if text else {}
    return regions


def _search(store: TrackingStore, experiments: list[str], query: str) -> Iterator[Any]:
    token = None
    while True:
        page = store.client.search_runs(experiments, query, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _confirmation_name(name: str) -> str:
    return _region_name(name, "confirmation_")


def _region_name(name: str, prefix: str = "") -> str:
    region, slash, own = name.rpartition("/")
    return f"{metric_name(region)}{slash}{prefix}{own}"


def metric_name(text: str) -> str:
    """Make a name of others one that MLflow takes: what it does not allow becomes an underscore.

    Examples
    --------
    >>> metric_name("V1 (left)/peri")
    'V1 _left__peri'
    """
    return re.sub(r"[^\w\-. ]", "_", text, flags=re.ASCII)


def _trial_metrics(trial: TrialRecord) -> dict[str, float]:
    if trial.result is None:
        return {"wall_s": trial.wall_s}
    regions = {f"{metric_name(name)}/median_r": value for name, value in trial.result.region_medians.items()}
    return {**trial.result.summary, **regions, **trial.result.timings, "wall_s": trial.wall_s}


def _write_arrays(folder: Path, result: TrialResult) -> None:
    """Write accuracies and the fitted model; of one that keeps rows its settings alone: the features are logged.

    Coefficients are written as float32, as features and responses are: they give the accuracies within 1e-6, and they
    are nearly all that a trial takes of the disk.
    """
    np.save(folder / "accuracy.npy", result.scores)
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


def _float32(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(array, np.float32 if array.dtype == np.float64 else None)


@cache
def _versions() -> dict[str, str]:
    """Name the code: its version, the digest of its files, and its commit where it runs from a checkout."""
    package = Path(__file__).parents[1]
    code = digest.of_digests(digest.of_file(path) for path in sorted(package.rglob("*.py")))
    tags = {"img2brain.version": version("img2brain"), "img2brain.code_digest": code}
    tags |= {"mlflow.source.name": "img2brain", "mlflow.source.type": "LOCAL"}
    return tags | _commit(package.parent)


def _commit(folder: Path) -> dict[str, str]:
    if not (folder / ".git").exists():
        return {}
    asked = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    with suppress(OSError, subprocess.SubprocessError):
        found = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
        return {"mlflow.source.git.commit": found}
    return {}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
