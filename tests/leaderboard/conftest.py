"""Rows to rank, made of records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from img2brain.leaderboard.rows import Row
from img2brain.records import (
    Against,
    CodeRecord,
    ConfirmationRecord,
    DatasetRecord,
    Estimate,
    MetricRecord,
    NetworkRecord,
    PartRecord,
    RegionRecord,
    RowsRecord,
    TrialRecord,
)
from img2brain.records.confirmation import CONFIRMATION
from img2brain.spec import TrialSpec
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.names import CONFIRMATION as CONFIRMATION_FILE
from img2brain.tracking.names import HOME, KIND, RECORD, STUDY, TRIAL

MakeRow = Callable[..., Row]

DATASET = {"name": "sample", "digest": "d" * 64, "n_images": 60, "n_voxels": 100}
ROWS = {"digest": "r" * 64, "split": "5" * 64, "n_train": 40, "n_validation": 10, "n_confirmation": 10}
SPEC: dict[str, Any] = {
    "backbone": "alexnet",
    "weights": "random:0",
    "weights_digest": "w" * 64,
    "preprocessing": "weights",
    "layer": "features.12",
    "n_components": 30,
    "regressor": "ridge",
}
METRIC = {"label": "Pearson r", "summary": "median"}


def trial_record(**changes: Any) -> TrialRecord:
    """The record of a trial, with what the test cares about changed."""
    number, score = changes.pop("number", 0), changes.pop("score", 0.25)
    spec = {name: changes.pop(name, value) for name, value in SPEC.items()}
    alpha = changes.pop("alpha", 1.0)
    parameters = changes.pop("parameters", {}) | ({} if alpha is None else {"alpha": alpha})
    objective, metric = changes.pop("objective", "pearson"), METRIC | changes.pop("metric", {})
    whole = {"median": score, "mean": score, "n_undefined": float(changes.pop("n_undefined", 0))}
    found: dict[str, Any] = {
        "study": "quick",
        "number": number,
        "spec": TrialSpec(**spec, parameters=parameters),
        "dataset": DatasetRecord(**DATASET | changes.pop("dataset", {})),
        "rows": RowsRecord(**ROWS | changes.pop("rows", {})),
        "network": NetworkRecord(digest="n" * 64, trained=changes.pop("trained", "untrained")),
        "code": CodeRecord(version="0", digest="c" * 64),
        "objective": objective,
        "metrics": {objective: MetricRecord(**metric, whole=whole), **changes.pop("others", {})},
    }
    return TrialRecord(**found | changes)


def region_record(score: float, n_voxels: int = 100, **fields: Any) -> RegionRecord:
    """What rows say over some voxels: a score with an interval of .1 around it."""
    return RegionRecord(
        n_voxels=n_voxels, score=Estimate(estimate=score, low=score - 0.05, high=score + 0.05), **fields
    )


def against(score: float, difference: float) -> Against:
    """What a control scored, and a difference that is told apart from 0."""
    return Against(score=score, difference=Estimate(estimate=difference, low=difference / 2, high=2 * difference))


def confirmation_of(
    trial: TrialRecord, whole: RegionRecord, regions: Mapping[str, RegionRecord] | None = None, **part: Any
) -> ConfirmationRecord:
    """The confirmation of a trial."""
    metric = trial.metrics[trial.objective]
    fields: dict[str, Any] = {"rows": "confirming", "n_images": 10, "whole": whole, "regions": regions or {}}
    found = PartRecord(**fields | part)
    return ConfirmationRecord(
        study=trial.study,
        number=trial.number,
        objective=trial.objective,
        label=metric.label,
        summary=metric.summary,
        validation=trial.score,
        parts={CONFIRMATION: found},
    )


def make(**changes: Any) -> Row:
    """A row: fields of `Row` and of its trial, or `confirmed`, its score on the confirmation rows."""
    own: dict[str, Any] = {name: changes.pop(name) for name in tuple(changes) if name in Row.__dataclass_fields__}
    confirmed = changes.pop("confirmed", None)
    trial = trial_record(**changes)
    if confirmed is not None:
        whole = confirmed if isinstance(confirmed, RegionRecord) else region_record(confirmed)
        own["confirmation"] = confirmation_of(trial, whole)
    usual: dict[str, Any] = {"run_id": f"{trial.number:032x}", "trial": trial}
    return Row(**usual | own)


@pytest.fixture(scope="session")
def make_row() -> MakeRow:
    """A row of a leaderboard, with what the test cares about changed."""
    return make


def track(
    store: TrackingStore,
    record: TrialRecord,
    confirmation: ConfirmationRecord | None = None,
    arrays: Mapping[str, np.ndarray[Any, Any]] | None = None,
) -> str:
    """Track the records of a trial as they are, with arrays, and return the run's id."""
    tags = {KIND: "trial", STUDY: record.study, TRIAL: str(record.number), HOME: record.home}
    run = store.client.create_run(store.experiment(record.dataset.name), tags=tags)
    with store.artifacts(run) as folder:
        (folder / RECORD).write_text(record.to_json(), encoding="utf-8")
        if confirmation is not None:
            (folder / CONFIRMATION_FILE).write_text(confirmation.to_json(), encoding="utf-8")
        for name, array in (arrays or {}).items():
            (folder / name).parent.mkdir(exist_ok=True)
            np.save(folder / f"{name}.npy", array)
    store.client.set_terminated(run.info.run_id, "FINISHED")
    return str(run.info.run_id)
