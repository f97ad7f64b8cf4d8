from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from safetensors.numpy import load_file

from img2brain.catalog import REGRESSORS
from img2brain.errors import TrackingError
from img2brain.home import Home
from img2brain.metrics.pearson import pearson
from img2brain.study.setting import Setting, make_ready
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.records import TrialRecord
from img2brain.tracking.tracker import Tracker, tracked_trials

if TYPE_CHECKING:
    from tests.conftest import Finished, NewHome

PAGES = ("optimisation_history", "parameter_importances", "layer_by_components", "accuracy_histograms", "regions")


@pytest.fixture(scope="module")
def store(finished: Finished) -> TrackingStore:
    return TrackingStore(Home(finished.home))


@pytest.fixture(scope="module")
def setting(finished: Finished) -> Setting:
    return make_ready(finished.spec, Home(finished.home))


@pytest.fixture(scope="module")
def runs(store: TrackingStore) -> dict[int, Any]:
    """The trials' runs by number, and the parent as number -1."""
    experiment = store.client.get_experiment_by_name("sample")
    found = store.client.search_runs([experiment.experiment_id])
    return {int(run.data.tags.get("img2brain.trial", -1)): run for run in found}


def artifacts(run: Any) -> Path:
    return Path(urlsplit(run.info.artifact_uri).path)


def test_one_parent_and_one_child_for_each_trial(runs: dict[int, Any], finished: Finished) -> None:
    assert sorted(runs) == list(range(-1, 9))
    parent = runs[-1]
    assert parent.info.run_name == finished.outcome.name
    for number in range(9):
        assert runs[number].data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert runs[number].info.run_name.startswith(f"{number:04d} squeezenet1_1 features.")
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert {urlsplit(run.info.artifact_uri).scheme for run in runs.values()} == {"file"}
    assert all(artifacts(run).is_relative_to(finished.home / "artifacts") for run in runs.values())


def test_parameters_say_all_that_a_score_depends_on(runs: dict[int, Any], finished: Finished, setting: Setting) -> None:
    for trial in finished.outcome.trials:
        found = runs[trial.number].data.params
        spec = trial.spec.model_dump(mode="json")
        expected = {key: str(value) for key, value in (spec | spec.pop("parameters")).items() if key != "parameters"}
        assert expected.items() <= found.items()
        assert found["trained"] == "untrained"
        assert found["dataset_digest"] == setting.dataset.digest
        assert found["split_digest"] == setting.split.digest
        assert (found["n_train"], found["n_validation"], found["n_confirmation"]) == ("43", "11", "6")
        assert (found["sampler"], found["seed"], found["study"]) == ("tpe", "1", finished.outcome.name)


def test_metrics_are_the_summary_and_the_time_of_each_stage(runs: dict[int, Any], finished: Finished) -> None:
    for trial in finished.outcome.trials:
        found = runs[trial.number].data.metrics
        assert found["median_r"] == trial.median_r
        assert found.keys() >= {"mean_r", "q05_r", "q25_r", "q75_r", "q95_r", "n_undefined", "n_voxels", "wall_s"}
        assert found.keys() >= {"features_s", "fit_s", "score_s"}
        assert found["wall_s"] >= found["fit_s"] >= 0
        accuracy = np.load(artifacts(runs[trial.number]) / "accuracy.npy", allow_pickle=False)
        assert accuracy.shape == (20,)
        assert np.median(accuracy) == pytest.approx(trial.median_r)
        assert found["q75_r"] == pytest.approx(np.percentile(accuracy, 75))


def test_the_tracked_model_gives_the_tracked_scores_from_the_tracked_features(
    runs: dict[int, Any], finished: Finished, setting: Setting
) -> None:
    validation = setting.split.validation
    responses = setting.dataset.development(setting.split).responses(validation)
    for trial in finished.outcome.trials:
        folder = artifacts(runs[trial.number])
        features = np.load(folder / "features.npy", allow_pickle=False)
        assert features.shape == (60, trial.spec.n_components)
        described = json.loads((folder / "model" / "regressor.json").read_text())
        assert described["regressor"] == trial.spec.regressor
        assert described["parameters"] == pytest.approx(dict(trial.spec.parameters))
        kind = REGRESSORS[described["regressor"]]
        if described["keeps_rows"]:
            train = setting.split.train
            rows = setting.dataset.development(setting.split).responses(train)
            regressor = kind(**described["parameters"]).fit(features[train], rows)
        else:
            arrays = load_file(folder / "model" / "regressor.safetensors")
            regressor = kind.from_arrays(described["parameters"], arrays)
        scores = pearson(responses, regressor.predict(features[validation]))
        np.testing.assert_allclose(scores, np.load(folder / "accuracy.npy"), atol=1e-6)


def test_equal_features_take_their_space_once(runs: dict[int, Any], finished: Finished) -> None:
    by_content: dict[tuple[str, int], set[int]] = {}
    for trial in finished.outcome.trials:
        path = artifacts(runs[trial.number]) / "features.npy"
        by_content.setdefault((trial.spec.layer, trial.spec.n_components), set()).add(path.stat().st_ino)
    assert all(len(nodes) == 1 for nodes in by_content.values())
    assert len(by_content) < 9, "some trials share their features"


def test_the_dataset_is_an_input_and_the_code_a_tag(runs: dict[int, Any], setting: Setting) -> None:
    for run in runs.values():
        (item,) = run.inputs.dataset_inputs
        assert item.dataset.name == "sample"
        assert setting.dataset.digest.startswith(item.dataset.digest)
        assert json.loads(item.dataset.profile) == {"n_images": "60", "n_voxels": "20"}
        assert run.data.tags["img2brain.version"] == version("img2brain")


def test_the_parent_has_pages_and_a_note(runs: dict[int, Any], finished: Finished) -> None:
    for name in PAGES:
        text = (artifacts(runs[-1]) / "pages" / f"{name}.html").read_text(encoding="utf-8")
        assert "<html" in text.lower()
        assert len(text) > 10_000
    note = runs[-1].data.tags["mlflow.note.content"]
    assert f"**{finished.outcome.name}** on **sample**" in note
    assert "Registered as `sample` version 1: the first champion." in note
    assert runs[-1].data.metrics["n_trials"] == 9
    assert runs[-1].data.metrics["best_median_r"] == finished.outcome.best.median_r


def test_the_confirmation_is_with_the_published_trial_alone(runs: dict[int, Any], finished: Finished) -> None:
    best = finished.outcome.best.number
    confirmed = [number for number, run in runs.items() if "confirmation_q05_r" in run.data.metrics]
    assert confirmed == [best]
    accuracy = np.load(artifacts(runs[best]) / "confirmation" / "accuracy.npy")
    assert np.median(accuracy) == pytest.approx(finished.outcome.published.confirmation_median_r)
    assert runs[best].data.tags["img2brain.registered"] == "sample v1"


def test_nothing_tracked_is_a_pickle(finished: Finished) -> None:
    names = {path.name for path in (finished.home / "artifacts").rglob("*") if path.is_file()}
    assert not {name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".joblib", ".cloudpickle"))}


def record(finished: Finished, setting: Setting, number: int) -> TrialRecord:
    spec = finished.outcome.trials[number].spec
    return TrialRecord(number, spec, "untrained", setting.evaluator().evaluate(spec))


def test_tracking_again_what_was_half_tracked_leaves_one_run(
    finished: Finished, setting: Setting, new_home: NewHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(Home(new_home()), setting.record)
    trial = record(finished, setting, 0)

    def fail(*args: Any) -> None:
        raise OSError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "_log_arrays", fail)
        with pytest.raises(TrackingError, match="cut off"):
            tracker.log_trial(trial)
    assert tracker.finished() == {}, "a half-tracked trial is not tracked"
    run_id = tracker.log_trial(trial)
    assert tracker.finished() == {0: run_id}
    twice = tracker.log_trial(trial)
    assert len(tracker.finished()) == 1
    assert next(iter(tracker.finished().values())) in (run_id, twice)
    (found,) = tracked_trials(tracker.store)
    assert found.number == 0
    assert found.metrics["median_r"] == trial.result.median_r if trial.result else False


def test_a_failed_trial_is_tracked_with_its_reason(finished: Finished, setting: Setting, new_home: NewHome) -> None:
    tracker = Tracker(Home(new_home()), setting.record)
    trial = replace(record(finished, setting, 0), result=None, failure="FitError: too few rows.")
    run = tracker.store.client.get_run(tracker.log_trial(trial))
    assert run.info.status == "FAILED"
    assert run.data.tags["img2brain.failure"] == "FitError: too few rows."
    assert tracked_trials(tracker.store) == []
    assert tracker.finished() == {0: run.info.run_id}


def test_a_study_has_one_parent_however_often_it_is_opened(
    finished: Finished, setting: Setting, new_home: NewHome
) -> None:
    home = Home(new_home())
    first, second = Tracker(home, setting.record), Tracker(home, setting.record)
    assert first.run.info.run_id == second.run.info.run_id


def test_homes_in_one_process_are_kept_apart(new_home: NewHome) -> None:
    first, second = (TrackingStore(Home(new_home(name))) for name in "ab")
    first.experiment("here")
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert second.client.get_experiment_by_name("here") is None
    assert first.client.get_experiment_by_name("here").artifact_location.endswith("/a/artifacts")


@contextmanager
def reading(database: Path, before: str = "") -> Iterator[None]:
    """Read a database for as long as the block takes, as a page of the user interface may."""
    with closing(sqlite3.connect(database)) as reader:
        reader.execute(before)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM runs").fetchall()
        yield


def test_who_reads_the_store_keeps_nobody_from_writing(new_home: NewHome) -> None:
    home = Home(new_home())
    store = TrackingStore(home)
    with reading(home.database):
        assert store.experiment("here")


def test_a_store_of_the_old_kind_can_be_opened_while_it_is_read(new_home: NewHome) -> None:
    home = Home(new_home())
    with reading(home.database, before="PRAGMA journal_mode = DELETE"):
        assert TrackingStore(home).client.get_experiment_by_name("here") is None


def test_an_experiment_is_shown_as_training_runs(new_home: NewHome) -> None:
    store = TrackingStore(Home(new_home()))
    tags = store.client.get_experiment(store.experiment("here")).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_deleted_experiment_is_restored(new_home: NewHome) -> None:
    store = TrackingStore(Home(new_home()))
    number = store.experiment("here")
    store.client.delete_experiment(number)
    assert store.experiment("here") == number
    assert store.client.get_experiment(number).lifecycle_stage == "active"


def test_a_store_that_is_none_is_told_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    with pytest.raises(TrackingError, match=r"The tracking store /.*mlflow\.db does not answer: .*database"):
        TrackingStore(Home(tmp_path))


def test_a_server_that_is_not_there_is_told_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match=r"http://me:\*\*\*@127\.0\.0\.1:9 does not answer") as caught:
        TrackingStore(Home(tmp_path, "http://me:secret@127.0.0.1:9"))
    assert "secret" not in str(caught.value)


def test_no_telemetry(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys\nfrom img2brain.home import Home\nfrom img2brain.tracking._store import TrackingStore\n"
        "TrackingStore(Home(pathlib.Path(sys.argv[1])))\n"
        "from mlflow.telemetry.client import get_telemetry_client\nprint(get_telemetry_client())"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, env=environment
    )
    assert found.stdout.split() == ["None"], "it is turned off before MLflow is imported"
