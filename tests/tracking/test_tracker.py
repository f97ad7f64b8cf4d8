from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from safetensors.numpy import load_file

from img2brain.catalog import REGRESSORS
from img2brain.errors import RecordError, TrackingError
from img2brain.home import Home
from img2brain.metrics.pearson import pearson
from img2brain.records import TrialRecord
from img2brain.result import TrialResult
from img2brain.spec import TrialSpec
from img2brain.study.setting import Setting, make_ready
from img2brain.tracking import names
from img2brain.tracking import tracker as tracker_module
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import read_study, read_trial, tracked_trials
from img2brain.tracking.tracker import Tracker

if TYPE_CHECKING:
    from tests.conftest import Finished, NewHome

TITLES = (
    "Search history",
    "Parameter importances",
    "Layers and components",
    "Accuracy of the voxels",
    "Regions of interest",
)


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
        assert runs[number].info.run_name.startswith(f"#{number} squeezenet1_1 features.")
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert {urlsplit(run.info.artifact_uri).scheme for run in runs.values()} == {"file"}
    assert all(artifacts(run).is_relative_to(finished.home / "artifacts") for run in runs.values())


def test_parameters_say_all_that_a_score_depends_on(runs: dict[int, Any], finished: Finished, setting: Setting) -> None:
    for trial in finished.outcome.trials:
        found = runs[trial.number].data.params
        spec = trial.spec.model_dump(mode="json")
        own = {f"{trial.spec.regressor}.{name}": str(value) for name, value in spec.pop("parameters").items()}
        assert ({key: str(value) for key, value in spec.items()} | own).items() <= found.items()
        assert (found["trained"], found["study"]) == ("untrained", finished.outcome.name)
        assert found["data.digest"] == setting.first.dataset.digest
    parent = runs[-1].data.params
    assert (parent["rows.n_train"], parent["rows.n_validation"], parent["rows.n_confirmation"]) == ("43", "11", "6")
    assert (parent["sampler"], parent["seed"], parent["study"]) == ("tpe", "1", finished.outcome.name)


def test_records_hold_what_was_tried_and_found(
    store: TrackingStore, runs: dict[int, Any], finished: Finished, setting: Setting
) -> None:
    study = read_study(store, runs[-1])
    assert study == setting.record(setting.name)
    for trial in finished.outcome.trials:
        record = read_trial(store, runs[trial.number]).record
        assert (record.number, record.study, record.home) == (trial.number, study.name, study.home)
        assert (record.spec, record.asked, record.score) == (trial.spec, trial.parameters, trial.score)
        assert (record.dataset, record.rows, record.code) == (study.dataset, study.rows, study.code)
        assert (record.dataset.digest, record.rows.split) == (setting.first.dataset.digest, setting.first.split.digest)
        assert set(record.metrics["pearson"].regions) == set(setting.first.dataset.rois)
        assert record.timings.keys() >= {"features_s", "fit_s", "score_s", "wall_s"}


def test_metrics_are_the_summary_and_the_time_of_each_stage(runs: dict[int, Any], finished: Finished) -> None:
    for trial in finished.outcome.trials:
        found = runs[trial.number].data.metrics
        assert found["pearson/median"] == trial.score
        assert found.keys() >= {f"pearson/{name}" for name in ("mean", "q05", "q25", "q75", "q95", "n_undefined")}
        assert found.keys() >= {"pearson/V1/median", "time/features_s", "time/fit_s", "time/score_s"}
        assert found["time/wall_s"] >= found["time/fit_s"] >= 0
        accuracy = np.load(artifacts(runs[trial.number]) / "accuracy.npy", allow_pickle=False)
        assert accuracy.shape == (20,)
        assert np.median(accuracy) == pytest.approx(trial.score)
        assert found["pearson/q75"] == pytest.approx(np.percentile(accuracy, 75))


def test_the_tracked_model_gives_the_tracked_scores_from_the_tracked_features(
    runs: dict[int, Any], finished: Finished, setting: Setting
) -> None:
    validation = setting.first.split.validation
    responses = setting.first.dataset.development(setting.first.split).responses(validation)
    for trial in finished.outcome.trials:
        folder = artifacts(runs[trial.number])
        features = np.load(folder / "features.npy", allow_pickle=False)
        assert features.shape == (60, trial.spec.n_components)
        described = json.loads((folder / "model" / "regressor.json").read_text())
        assert described["regressor"] == trial.spec.regressor
        assert described["parameters"] == pytest.approx(dict(trial.spec.parameters))
        kind = REGRESSORS[described["regressor"]]
        if described["keeps_rows"]:
            train = setting.first.split.train
            rows = setting.first.dataset.development(setting.first.split).responses(train)
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
        assert setting.first.dataset.digest.startswith(item.dataset.digest)
        assert json.loads(item.dataset.profile) == {"n_images": 60, "n_voxels": 20}


def test_the_parent_has_pages_and_a_note(runs: dict[int, Any], finished: Finished) -> None:
    (page,) = (artifacts(runs[-1]) / "pages").iterdir()
    text = page.read_text(encoding="utf-8")
    assert [text.count(title) for title in TITLES] == [1] * len(TITLES)
    assert 1_500_000 < len(text) < 2_500_000, "plotly's code is in it once, compressed"
    note = runs[-1].data.tags["mlflow.note.content"]
    assert f"**{finished.outcome.name}** on **sample**" in note
    assert "Registered as `sample` version 1: the first champion." in note
    assert runs[-1].data.metrics["n_trials"] == 9
    assert runs[-1].data.metrics["best"] == finished.outcome.best.score


def test_the_confirmation_is_with_the_published_trial_alone(
    store: TrackingStore, runs: dict[int, Any], finished: Finished
) -> None:
    best = finished.outcome.best.number
    records = {number: read_trial(store, run).confirmation for number, run in runs.items() if number >= 0}
    assert [number for number, record in records.items() if record] == [best]
    mirrored = [number for number, run in runs.items() if "confirmation/pearson/low" in run.data.metrics]
    assert mirrored == [best]
    accuracy = np.load(artifacts(runs[best]) / "confirmation" / "accuracy.npy")
    assert np.median(accuracy) == pytest.approx(finished.outcome.published.score)


def test_nothing_tracked_is_a_pickle(finished: Finished) -> None:
    names = {path.name for path in (finished.home / "artifacts").rglob("*") if path.is_file()}
    assert not {name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".joblib", ".cloudpickle"))}


@pytest.fixture
def result(finished: Finished, setting: Setting) -> TrialResult:
    return setting.first.evaluator().evaluate(finished.outcome.trials[0].spec)


def opened(home: Home, setting: Setting) -> Tracker:
    """The tracker of the study in a home."""
    return Tracker(home, setting.record(setting.name).model_copy(update={"home": home.id}))


def record(tracker: Tracker, setting: Setting, found: TrialResult | str, spec: TrialSpec) -> TrialRecord:
    return setting.first.trial_record(tracker.study, 0, spec, {"depth": 0.5}, found)


def test_tracking_again_what_was_half_tracked_leaves_one_run(
    result: TrialResult, setting: Setting, new_home: NewHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = opened(Home(new_home()), setting)
    trial = record(tracker, setting, result, result.spec)

    def fail(*args: Any) -> None:
        raise OSError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(tracker_module, "_write_result", fail)
        with pytest.raises(TrackingError, match="cut off"):
            tracker.log_trial(trial, result)
    assert tracker.finished() == {}, "a half-tracked trial is not tracked"
    run_id = tracker.log_trial(trial, result)
    assert tracker.finished() == {0: run_id}
    tracker.log_trial(trial, result)
    assert tracker.finished() == {0: run_id}, "the first one counts, and the second is not deleted"
    assert [item.record for item in tracked_trials(tracker.store)] == [trial], "and is not on a board twice"
    assert tracker.records() == {0: trial}


def test_a_run_is_kept_whose_worker_ends_while_it_is_looked_at(
    result: TrialResult, setting: Setting, new_home: NewHome
) -> None:
    home = Home(new_home())
    worker = opened(home, setting)
    tags = {names.KIND: "trial", names.TRIAL: "0", names.PARENT: worker.run.info.run_id, names.WORKER: "other"}
    run = worker._create_run("#0", tags)

    def living(workers: Iterable[str]) -> set[str]:
        """Tell that none of some workers lives: one of them has just tracked its trial, and ended."""
        assert set(workers) == {"other"}
        worker.store.client.set_terminated(run.info.run_id)
        return set()

    record_of_study = setting.record(setting.name).model_copy(update={"home": home.id})
    tracker = Tracker(home, record_of_study, worker="this", living=living)
    assert tracker.finished() == {0: run.info.run_id}
    assert worker.store.client.get_run(run.info.run_id).info.lifecycle_stage == "active"


def test_a_failed_trial_is_tracked_with_its_reason(result: TrialResult, setting: Setting, new_home: NewHome) -> None:
    tracker = opened(Home(new_home()), setting)
    trial = record(tracker, setting, "FitError: too few rows.", result.spec)
    run = tracker.store.client.get_run(tracker.log_trial(trial))
    assert run.info.status == "FAILED"
    assert read_trial(tracker.store, run).record == trial
    assert tracked_trials(tracker.store) == []
    assert tracker.finished() == {0: run.info.run_id}


def test_runs_of_other_homes_are_neither_ours_nor_touched(
    result: TrialResult, setting: Setting, new_home: NewHome
) -> None:
    ours, theirs = Home(new_home("ours")), Home(new_home("theirs"))
    first = opened(ours, setting)
    trial = record(first, setting, result, result.spec)
    second = opened(theirs, setting)
    second.store, second._runs = first.store, first._runs  # one server for both
    second._experiment = first._experiment
    second.run = second._parent()
    run_id = first.log_trial(trial, result)
    half = first._create_run("half", {names.KIND: "trial", names.TRIAL: "1"}).info.run_id
    assert second.run.info.run_id != first.run.info.run_id, "two homes, two studies"
    assert second.finished() == {}
    assert first.store.client.get_run(half).info.lifecycle_stage == "active", "another's trial may be at work"
    assert first.finished() == {0: run_id}
    assert first.store.client.get_run(half).info.lifecycle_stage == "deleted"
    other = second.log_trial(trial.model_copy(update={"home": theirs.id}), result)
    assert (first.finished(), second.finished()) == ({0: run_id}, {0: other})
    assert {item.record.home for item in tracked_trials(first.store)} == {ours.id, theirs.id}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (Path.unlink, r"The file record\.json of the run \w+ is not there\."),
        (lambda path: path.write_text(path.read_text()[:100]), r"must be a trial record in JSON\. Got: "),
        (lambda path: path.write_bytes(b"\xff\xfe"), r"must be a trial record in JSON\. Got: "),
        (lambda path: path.write_text('{"format": 99}'), r"of a newer version of img2brain"),
        (
            lambda path: path.write_text(path.read_text().replace('"pearson"', '"other"', 1)),
            r"must be one of img2brain\. Got KeyError",
        ),
        (
            lambda path: path.write_text(path.read_text().replace('"median":', '"middle":')),
            r"must be one of img2brain\. Got KeyError",
        ),
        (lambda path: path.write_text("[" * 50_000), r"must be a trial record in JSON\. Got: lists and tables must be"),
    ],
)
def test_a_spoilt_record_is_said_and_keeps_no_other_from_being_read(
    result: TrialResult,
    setting: Setting,
    new_home: NewHome,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Path], object],
    message: str,
) -> None:
    tracker = opened(Home(new_home()), setting)
    trial = record(tracker, setting, result, result.spec)
    spoilt = tracker.store.client.get_run(tracker.log_trial(trial, result))
    other = trial.model_copy(update={"number": 1})
    tracker.log_trial(other, result)
    spoil(artifacts(spoilt) / names.RECORD)
    assert [item.record for item in tracked_trials(tracker.store)] == [other]
    assert re.search(rf"the run {spoilt.info.run_id} is left out: .*{message}", caplog.text)
    with pytest.raises(RecordError, match=message):
        read_trial(tracker.store, spoilt)


def test_regions_whose_names_mlflow_does_not_take_stay_apart() -> None:
    regions = ["左V1", "右V1", "V1 (left)", "V1 _left_", "V1.left", "a/b", "a.2f.b", "all", "V1"]
    mirrored = [names.region_name(name) for name in regions]
    assert len(set(mirrored)) == len(regions)
    assert all(re.fullmatch(r"[\w\-. ]+", name, flags=re.ASCII) for name in mirrored)


def test_a_study_has_one_parent_however_often_it_is_opened(
    finished: Finished, setting: Setting, new_home: NewHome
) -> None:
    home = Home(new_home())
    first, second = opened(home, setting), opened(home, setting)
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


def test_what_another_machine_adds_meanwhile_is_taken(
    result: TrialResult, setting: Setting, new_home: NewHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(new_home())
    first, other = TrackingStore(home), TrackingStore(home)
    look = first.client.get_experiment_by_name

    def look_too_soon(name: str) -> Any:
        monkeypatch.setattr(first.client, "get_experiment_by_name", look)
        other.client.create_experiment(name)
        return None

    monkeypatch.setattr(first.client, "get_experiment_by_name", look_too_soon)
    assert first.experiment("here") == other.experiment("here")


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


def test_the_tracked_trials_of_a_home_are_found_without_the_metrics_of_all_runs(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(finished.home)
    tracker = Tracker(home, read_study(store := TrackingStore(home), _parent_of(store)))
    monkeypatch.delattr(type(tracker.store.client), "search_runs")
    assert sorted(tracker.finished()) == list(range(9))
    tracker.close()


def _parent_of(store: TrackingStore) -> Any:
    experiment = store.client.get_experiment_by_name("sample")
    (found,) = store.client.search_runs([experiment.experiment_id], f"tags.`{names.KIND}` = 'study'")
    return found
