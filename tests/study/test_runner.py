from __future__ import annotations

import errno
import logging
import math
import shutil
import sqlite3
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors import SafetensorError

from img2brain.errors import FitError, ResourceError, SpecError, TrackingError
from img2brain.evaluate import Evaluator
from img2brain.home import Home
from img2brain.records import TrialRecord
from img2brain.regressors.ridge import Ridge
from img2brain.spec import StudySpec, parse
from img2brain.study.runner import run_study
from img2brain.study.search import stored_trials
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import read_trial
from img2brain.tracking.tracker import Tracker

if TYPE_CHECKING:
    from tests.conftest import Finished, Kept, MakeSpec, NewHome

    Read = Callable[..., Kept]


TOO_MANY = {"name": "k_neighbors", "n_neighbors": 1000}  # more than there are rows


def test_a_study_ends_with_a_champion(finished: Finished) -> None:
    outcome = finished.outcome
    assert [trial.number for trial in outcome.trials] == list(range(9))
    assert outcome.best.score == max(trial.score for trial in outcome.trials)
    assert outcome.published.is_champion
    assert outcome.published.registered.name == "sample"
    assert -1 < outcome.published.score < 1


def test_a_study_goes_on_where_it_was_left(
    finished: Finished, new_home: NewHome, make_spec: MakeSpec, kept: Read
) -> None:
    home = new_home(warm=True)
    assert len(run_study(make_spec(trials=4), home).trials) == 4
    whole = run_study(make_spec(trials=9), home)
    expected = kept(finished.home)
    found = kept(home)
    assert found.told == expected.told
    assert sorted(found.tracked) == list(range(9))
    assert found.n_runs == 9
    assert {status for status, _ in found.tracked.values()} == {"FINISHED"}
    assert whole.best is not None
    assert whole.best.spec.layer == finished.outcome.best.spec.layer
    assert whole.published is not None
    assert whole.published.score == pytest.approx(finished.outcome.published.score, abs=1e-6)
    assert len(run_study(make_spec(trials=4), home).trials) == 9, "never fewer than there are"
    assert kept(home).n_runs == 9


@pytest.mark.parametrize(
    ("changes", "n_trials"),
    [({"sampler": "random", "trials": 5}, 5), ({"sampler": "grid", "regressors": ["linear"], "trials": None}, 9)],
)
def test_each_sampler_works(new_home: NewHome, make_spec: MakeSpec, changes: dict[str, Any], n_trials: int) -> None:
    trials = run_study(make_spec(**changes), new_home(warm=True)).trials
    assert len({trial.spec.digest for trial in trials}) == len(trials) == n_trials


def test_a_changed_space_is_a_new_study_and_is_told_why(
    finished: Finished, finished_copy: Path, make_spec: MakeSpec, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "img2brain"):
        outcome = run_study(make_spec(regressors=["linear"], trials=2), finished_copy)
        assert "small differs from the stored study" in caplog.text
        assert "in space: starting the new study" in caplog.text
        caplog.clear()
        run_study(make_spec(seed=2, trials=1), finished_copy)
        assert "in space, seed: starting the new study" in caplog.text, "of the last one"
    stored = stored_trials(Home(finished_copy))
    assert len(stored) == 3
    assert stored[finished.outcome.name] == finished.outcome.trials
    assert {trial.spec.regressor for trial in stored[outcome.name]} == {"linear"}


@pytest.fixture(scope="module")
def flat(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings with features of their own, 40 numbers that span 11 components."""
    folder, random = tmp_path_factory.mktemp("flat") / "data", np.random.default_rng(0)
    shutil.copytree(recordings, folder)
    matrix = random.standard_normal((60, 11)) @ random.standard_normal((11, 40))
    for name, rows in (("training", matrix[:54]), ("test", matrix[54:])):
        (folder / f"{name}Features").mkdir()
        np.save(folder / f"{name}Features" / "flat.npy", rows)
    return folder


def test_more_components_than_a_layer_spans_are_taken_as_these(
    flat: Path, new_home: NewHome, make_spec: MakeSpec, caplog: pytest.LogCaptureFixture
) -> None:
    grid = {"sampler": "grid", "trials": None, "n_components": [5, 30, 20], "regressors": ["linear", "pls"]}
    outcome = run_study(make_spec(flat, backbones=[{"name": "given", "weights": "none"}], **grid), new_home())
    asked = [(trial.spec.regressor, trial.spec.n_components) for trial in outcome.trials]
    assert set(asked) == {("linear", 5), ("pls", 5), ("linear", 11), ("pls", 11)}
    assert asked.count(("linear", 11)) == 1
    assert all(trial.succeeded for trial in outcome.trials)
    assert caplog.text.count("given flat spans 11 components over the training rows: n_components of more are") == 1


def test_a_failing_trial_is_recorded_and_the_search_goes_on(flat: Path, new_home: NewHome, make_spec: MakeSpec) -> None:
    home = new_home()
    grid = {"sampler": "grid", "trials": None, "n_components": [5], "regressors": ["linear", TOO_MANY]}
    layers = [{"name": "given", "weights": "none"}]
    outcome = run_study(make_spec(flat, backbones=layers, **grid), home)
    good, bad = outcome.trials
    assert good.succeeded
    assert bad.failure.startswith("FitError: ")
    store = TrackingStore(Home(home))
    experiment = store.client.get_experiment_by_name(outcome.published.registered.name if outcome.published else "")
    runs = store.client.search_runs([experiment.experiment_id], "attributes.status = 'FAILED'")
    records = [read_trial(store, run).record for run in runs]
    assert [(record.number, record.failure, record.succeeded) for record in records] == [(1, bad.failure, False)]
    assert math.isnan(records[0].score)
    with pytest.raises(FitError, match=r"All 1 trial of small-\w+ failed, the last one: FitError: "):
        run_study(make_spec(flat, backbones=layers, **grid | {"regressors": [TOO_MANY]}), home)


def test_more_components_than_training_rows_are_refused(new_home: NewHome, make_spec: MakeSpec) -> None:
    with pytest.raises(SpecError, match=r"'n_components' must be below the number of training rows, 43\. Got 43\."):
        run_study(make_spec(n_components=[43]), new_home())


def test_what_was_not_tracked_is_tracked_by_the_next_run(
    new_home: NewHome, make_spec: MakeSpec, kept: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_trial, failed = Tracker.log_trial, set()

    def unsteady(self: Tracker, record: TrialRecord, *others: Any) -> str:
        if record.number in (0, 2) and record.number not in failed:
            failed.add(record.number)
            raise TrackingError("no answer")
        return log_trial(self, record, *others)

    monkeypatch.setattr(Tracker, "log_trial", unsteady)
    home = new_home(warm=True)
    for n_told in (1, 3):
        with pytest.raises(TrackingError, match="no answer"):
            run_study(make_spec(trials=4), home)
        assert len(kept(home).told) == n_told, "what is told is safe, and nothing is asked in vain"
    run_study(make_spec(trials=4), home)
    assert sorted(kept(home).tracked) == [0, 1, 2, 3]


def test_a_store_that_fails_loses_nothing(
    finished: Finished, new_home: NewHome, make_spec: MakeSpec, kept: Read
) -> None:
    home = new_home(warm=True)
    with sqlite3.connect(home / "mlflow.db") as database:
        database.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON metrics BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
        )
    database.close()
    with pytest.raises(TrackingError, match=r"The tracking store .*mlflow\.db does not answer: .*disk I/O error"):
        run_study(make_spec(), home)
    assert len(kept(home).told) == 1, "it stops at once"
    with sqlite3.connect(home / "mlflow.db") as database:
        database.execute("DROP TRIGGER broken")
    database.close()
    run_study(make_spec(), home)
    found = kept(home)
    assert found.told == kept(finished.home).told
    assert (sorted(found.tracked), found.n_runs) == (list(range(9)), 9)
    assert {status for status, _ in found.tracked.values()} == {"FINISHED"}


class CudaOutOfMemoryError(RuntimeError):
    """What PyTorch raises where a GPU has no room, by its message."""


def _raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


LACKS = {
    "memory": (MemoryError(), r"memory ran out\."),
    "numpy": (np._core._exceptions._ArrayMemoryError((9, 9), np.dtype(float)), r"memory ran out \(Unable to allocate"),  # type: ignore[attr-defined]
    "torch": (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
              "can't allocate memory"),
    "cuda": (CudaOutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee more."), "CUDA out of memory"),
    "a full disk": (OSError(errno.ENOSPC, "No space left on device", "some.npy"), "some.npy: No space left on device"),
    "a stale mount": (OSError(errno.ESTALE, "Stale file handle"), "Stale file handle"),
    "too many files": (OSError(errno.EMFILE, "Too many open files", "a"), "a: Too many open files"),
    "in Rust": (SafetensorError("Error while serializing: I/O error: No space left (os error 28)"), "No space left"),
    "as a cause": (_raised_from(ValueError("no fit"), MemoryError()), r"memory ran out\."),
}  # fmt: skip


PLACES = {"evaluate": (Evaluator, "evaluate"), "scale": (Evaluator, "alpha_scale"), "regressor": (Ridge, "fit_folds")}


@pytest.mark.parametrize(("place", "lack"), [("scale", "memory"), ("regressor", "cuda"), *product(["evaluate"], LACKS)])
def test_what_gives_out_is_no_result(
    finished: Finished,
    new_home: NewHome,
    make_spec: MakeSpec,
    kept: Read,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    lack: str,
) -> None:
    (error, message), where = LACKS[lack], PLACES[place]
    whole, ahead = getattr(*where), iter([error])

    def giving_out(*args: Any) -> Any:
        if len(kept(home).told) and (first := next(ahead, None)):
            raise first
        return whole(*args)

    home = new_home(warm=True)
    monkeypatch.setattr(*where, giving_out)
    with pytest.raises(ResourceError, match=message):
        run_study(make_spec(trials=4), home)
    assert 1 <= len(kept(home).told) < 4
    run_study(make_spec(trials=4), home)
    assert kept(home).told == kept(finished.home).told[:4], "asked again, and found as by an undisturbed study"
    assert {status for status, _ in kept(home).tracked.values()} == {"FINISHED"}


def test_a_layer_that_does_not_vary_fails_its_trials_alone(
    tmp_path: Path, new_home: NewHome, caplog: pytest.LogCaptureFixture
) -> None:
    random, folder = np.random.default_rng(0), tmp_path / "flat"
    for name in ("trainingFeatures", "trainingfMRI"):
        (folder / name).mkdir(parents=True)
    lively = random.standard_normal((60, 8)).astype(np.float32)
    np.save(folder / "trainingFeatures" / "lively.npy", lively)
    np.save(folder / "trainingFeatures" / "flat.npy", np.ones((60, 8), np.float32))
    np.save(
        folder / "trainingfMRI" / "training.npy", lively[:, :5] + random.standard_normal((60, 5)).astype(np.float32)
    )
    table = {
        "name": "flat", "sampler": "grid", "n_components": [4], "dataset": {"path": str(folder)},
        "regressors": ["linear"], "backbones": [{"name": "given", "weights": "none"}],
    }  # fmt: skip
    outcome = run_study(parse(StudySpec, table, "the test's study"), new_home())
    failures = {trial.spec.layer: trial.failure for trial in outcome.trials}
    assert "do not vary over the training rows" in failures["flat"]
    assert failures["lively"] == ""
    assert outcome.best is not None
    assert "given flat: The activations do not vary" in caplog.text
