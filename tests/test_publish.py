from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import pearsonr

from img2brain.errors import DataError, ModelError, StoreError
from img2brain.home import Home
from img2brain.model import EncodingModel
from img2brain.records import Estimate, TrialRecord
from img2brain.registered import load_model, predict_to_file
from img2brain.study.runner import run_study
from img2brain.study.setting import Setting, make_ready
from img2brain.tracking._store import TrackingStore
from img2brain.tracking._uri import local_folder
from img2brain.tracking.reading import TrackedTrial, find_trial
from img2brain.tracking.registry import Registry
from img2brain.tracking.tracker import Tracker

if TYPE_CHECKING:
    from tests.conftest import Finished, MakeSpec, NewHome

Array = NDArray[Any]
TOLERANCE = 1e-3  # of the predictions' spread: float32 activations of some 10^5 features


@pytest.fixture(scope="module")
def setting(finished: Finished) -> Setting:
    return make_ready(finished.spec, Home(finished.home))


@pytest.fixture(scope="module")
def model(finished: Finished) -> EncodingModel:
    return load_model("sample@champion", finished.home)


@pytest.fixture(scope="module")
def pictures(setting: Setting) -> list[Path]:
    return [setting.dataset.images[row] for row in setting.split.confirmation]


@pytest.fixture(scope="module")
def refitted(setting: Setting, finished: Finished) -> Array:
    """The predictions for the confirmation rows, from the cache alone."""
    spec = finished.outcome.best.spec
    return setting.publisher().refit(spec, setting.bank(spec))[1]


def assert_close(found: Array, expected: Array) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=TOLERANCE * expected.std())


def test_the_model_agrees_with_the_refit_from_the_cache(
    model: EncodingModel, pictures: list[Path], refitted: Array
) -> None:
    assert_close(model.predict(pictures), refitted)


def test_the_confirmation_score_is_that_of_the_models_own_predictions(
    model: EncodingModel, pictures: list[Path], setting: Setting, finished: Finished
) -> None:
    responses = setting.dataset.confirmation(setting.split)
    predictions = model.predict(pictures)
    scores = [pearsonr(predictions[:, i], responses[:, i]).statistic for i in range(20)]
    assert np.median(scores) == pytest.approx(finished.outcome.published.score, abs=1e-3)


def test_every_regressor_agrees_once_published(
    setting: Setting, finished: Finished, pictures: list[Path], tracker: Tracker
) -> None:
    publisher, best = setting.publisher(), finished.outcome.best.spec
    for regressor, parameters in {"ridge": {"alpha": 1e3}, "k_neighbors": {"n_neighbors": 3}, "linear": {}}.items():
        spec = best.model_copy(update={"regressor": regressor, "parameters": parameters, "n_components": 8})
        bank = setting.bank(spec)
        fitted, predictions = publisher.refit(spec, bank)
        assert_close(
            publisher.model(a_record(tracker, finished).model_copy(update={"spec": spec}), fitted, bank, None).predict(
                pictures
            ),
            predictions,
        )


def test_the_refit_is_to_all_development_rows(setting: Setting, finished: Finished) -> None:
    spec = finished.outcome.best.spec.model_copy(update={"regressor": "linear", "parameters": {}})
    regressor, _ = setting.publisher().refit(spec, setting.bank(spec))
    bank, rows = setting.bank(spec), setting.split.development
    coordinates = bank.components(spec.layer, rows, 16).coordinates[rows]
    responses = setting.dataset.development(setting.split).responses(rows)
    np.testing.assert_allclose(coordinates.mean(axis=0), 0, atol=1e-3 * coordinates.std())
    np.testing.assert_allclose(
        np.asarray(regressor.predict(coordinates)).mean(axis=0), responses.mean(axis=0), atol=1e-5
    )


def test_the_search_never_sees_the_confirmation_responses(
    recordings: Path, tmp_path: Path, new_home: NewHome, make_spec: MakeSpec, finished: Finished
) -> None:
    shutil.copytree(recordings, tmp_path / "sample")
    path = tmp_path / "sample" / "testfMRI" / "test.npy"
    np.save(path, 1e6 * np.random.default_rng(0).standard_normal(np.load(path).shape).astype(np.float32))
    outcome = run_study(make_spec(tmp_path / "sample"), new_home(warm=True))
    assert [(t.parameters, t.score) for t in outcome.trials] == [
        (t.parameters, t.score) for t in finished.outcome.trials
    ]
    assert outcome.published is not None
    assert outcome.published.score != finished.outcome.published.score


@pytest.fixture
def tracker(finished_copy: Path, setting: Setting) -> Tracker:
    return Tracker(Home(finished_copy), setting.record(setting.name))


def a_record(tracker: Tracker, finished: Finished) -> TrialRecord:
    return tracker.records()[finished.outcome.best.number]


def publish(setting: Setting, tracker: Tracker, finished: Finished, number: int) -> Any:
    record = tracker.records()[number]
    return setting.publisher().publish(record, tracker.finished()[number], setting.bank(record.spec), tracker)


def test_publishing_twice_registers_once(setting: Setting, tracker: Tracker, finished: Finished) -> None:
    again = publish(setting, tracker, finished, finished.outcome.best.number)
    assert (again.registered.version, again.is_champion, again.reason) == ("1", True, "the champion already")
    assert again.score == finished.outcome.published.score
    other = next(t.number for t in finished.outcome.trials if t.spec.layer == "features.12")
    first, second = (publish(setting, tracker, finished, other) for _ in range(2))
    assert first.registered.version == second.registered.version == "2"


def with_score(monkeypatch: pytest.MonkeyPatch, finished: Finished, value: float) -> None:
    """Let the confirmation of the first champion have scored something else."""
    best, read = finished.outcome.best.number, find_trial

    def changed(store: TrackingStore, run_id: str) -> TrackedTrial | None:
        found = read(store, run_id)
        if found is None or found.record.number != best or found.confirmation is None:
            return found
        part = found.confirmation.confirmed
        assert part is not None
        whole = part.whole.model_copy(update={"score": Estimate(estimate=value)})
        parts = {"confirmation": part.model_copy(update={"whole": whole})}
        return replace(found, confirmation=found.confirmation.model_copy(update={"parts": parts}))

    monkeypatch.setattr("img2brain.publish.find_trial", changed)


@pytest.mark.parametrize(("champions", "moves"), [(-0.99, True), (0.99, False)])
def test_the_champion_moves_only_where_it_is_beaten(
    setting: Setting,
    tracker: Tracker,
    finished: Finished,
    champions: float,
    moves: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_score(monkeypatch, finished, champions)
    other = next(t.number for t in finished.outcome.trials if t.spec.layer == "features.12")
    published = publish(setting, tracker, finished, other)
    assert published.is_champion is moves
    beats = "beats the champion: confirmation" if moves else "does not beat the champion: confirmation"
    assert published.reason.startswith(beats)
    champion = Registry(tracker.store).champion("sample")
    assert champion is not None
    assert champion.version == ("2" if moves else "1")


def test_a_champion_on_other_rows_is_not_compared(
    setting: Setting, tracker: Tracker, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, best = find_trial, tracker.finished()[finished.outcome.best.number]

    def elsewhere(store: TrackingStore, run_id: str) -> TrackedTrial | None:
        found = read(store, run_id)
        if found is None or run_id != best:
            return found
        rows = found.record.rows.model_copy(update={"digest": "others"})
        return replace(found, record=found.record.model_copy(update={"rows": rows}))

    monkeypatch.setattr("img2brain.publish.find_trial", elsewhere)
    other = next(t.number for t in finished.outcome.trials if t.spec.layer == "features.12")
    published = publish(setting, tracker, finished, other)
    assert not published.is_champion
    assert published.reason == "version 1, the champion, was scored on other rows or data: not compared"


def test_without_confirmation_rows_the_validation_rows_decide(
    recordings: Path, tmp_path: Path, new_home: NewHome, make_spec: MakeSpec
) -> None:
    shutil.copytree(recordings, tmp_path / "sample")
    shutil.rmtree(tmp_path / "sample" / "testfMRI")
    (tmp_path / "sample" / "testfMRI").mkdir()
    layers = [{"name": "squeezenet1_1", "weights": "random:0", "layers": ["features.12"]}]
    home, spec = new_home(), make_spec(tmp_path / "sample", trials=2, split={"confirmation": 0.0}, backbones=layers)
    published = run_study(spec, home).published
    assert published is not None
    assert np.isnan(published.score)
    assert published.is_champion
    assert load_model("sample", home).about["scores"]["confirmation"] is None


def test_models_are_loaded_by_name_and_by_folder(finished: Finished, model: EncodingModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    assert load_model(str(tmp_path)).spec == load_model("sample", finished.home).spec == finished.outcome.best.spec
    with pytest.raises(ModelError, match=r"No model is registered as 'smaple'\. Did you mean 'sample'\?"):
        load_model("smaple", finished.home)


def test_no_home_is_made_where_a_model_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"There is no home at .*nowhere: no study was run there\."):
        load_model("sample", tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_no_file_of_the_registered_model_is_a_pickle(finished: Finished) -> None:
    source = TrackingStore(Home(finished.home)).client.get_model_version("sample", "1").source
    folder = local_folder(source)
    assert folder is not None
    assert folder.is_relative_to(finished.home / "artifacts" / "models")
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"MLmodel", "flavor.py", "artifacts/model/model.json"} <= names
    assert {Path(name).suffix for name in names} <= {"", ".py", ".json", ".yaml", ".txt", ".safetensors"}
    described = (folder / "MLmodel").read_text()
    assert "model_code_path: " in described
    assert "python_model:" not in described, "that would be a pickle"
    for name in names:
        assert not (folder / name).read_bytes().startswith((b"\x80\x04", b"\x80\x05", b"PK")), name


def test_predictions_are_written_whole(
    model: EncodingModel, pictures: list[Path], refitted: Array, tmp_path: Path
) -> None:
    assert predict_to_file(model, pictures, tmp_path / "out.npy") == (6, 20)
    assert_close(np.load(tmp_path / "out.npy"), refitted)
    predict_to_file(model, [pictures[0].parent], tmp_path / "folder.npy")
    assert_close(np.load(tmp_path / "folder.npy"), refitted)
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"bad")
    with pytest.raises(DataError, match=r"bad\.png"):
        predict_to_file(model, [tmp_path / "good.png", tmp_path / "bad.png"], tmp_path / "none.npy")
    with pytest.raises(DataError, match=r"must end in \.npy\. Got .*out\.txt\."):
        predict_to_file(model, pictures, tmp_path / "out.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.png", "folder.npy", "good.png", "out.npy"]
    assert replace(model).predict([]).shape == (0, 20)
