from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import pearsonr

from img2brain.crown import _Contender, _verdict
from img2brain.errors import DataError, ModelError, StoreError, TrackingError
from img2brain.home import Home
from img2brain.leaderboard.collect import collect
from img2brain.model import EncodingModel
from img2brain.records import TrialRecord
from img2brain.registered import crown_model, load_model, predict_to_file
from img2brain.statistics.bootstrap import Summaries
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
    return [setting.first.dataset.images[row] for row in setting.first.split.confirmation]


@pytest.fixture(scope="module")
def refitted(setting: Setting, finished: Finished) -> Array:
    """The predictions for the confirmation rows, from the cache alone."""
    spec = finished.outcome.best.spec
    return setting.first.publisher().refit(spec, setting.first.bank(spec))[1][:, :]


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
    responses = setting.first.dataset.confirmation(setting.first.split)
    predictions = model.predict(pictures)
    scores = [pearsonr(predictions[:, i], responses[:, i]).statistic for i in range(20)]
    assert np.median(scores) == pytest.approx(finished.outcome.published.score, abs=1e-3)


def test_every_regressor_agrees_once_published(
    setting: Setting, finished: Finished, pictures: list[Path], tracker: Tracker
) -> None:
    publisher, best = setting.first.publisher(), finished.outcome.best.spec
    for regressor, parameters in {"ridge": {"alpha": 1e3}, "k_neighbors": {"n_neighbors": 3}, "linear": {}}.items():
        spec = best.model_copy(update={"regressor": regressor, "parameters": parameters, "n_components": 8})
        bank = setting.first.bank(spec)
        fitted, predictions = publisher.refit(spec, bank)
        assert_close(
            publisher.model(a_record(tracker, finished).model_copy(update={"spec": spec}), fitted, bank, None).predict(
                pictures
            ),
            predictions[:, :],
        )


def test_the_refit_is_to_all_development_rows(setting: Setting, finished: Finished) -> None:
    spec = finished.outcome.best.spec.model_copy(update={"regressor": "linear", "parameters": {}})
    regressor, _ = setting.first.publisher().refit(spec, setting.first.bank(spec))
    bank, rows = setting.first.bank(spec), setting.first.split.development
    coordinates = bank.components(spec.layer, rows, 16).coordinates[rows]
    responses = setting.first.dataset.development(setting.first.split).responses(rows)
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
    return setting.first.publisher().publish(
        record, tracker.finished()[number], setting.first.bank(record.spec), tracker
    )


@pytest.mark.parametrize("spoilt", ["axes", "regressor", "network"])
def test_a_model_that_is_saved_wrongly_is_not_registered_and_the_champion_stays(
    setting: Setting, tracker: Tracker, finished: Finished, monkeypatch: pytest.MonkeyPatch, spoilt: str
) -> None:
    load = EncodingModel.load

    def spoil(folder: Path) -> EncodingModel:
        model = replace(load(folder), golden=None)
        if spoilt == "axes":
            return replace(model, axes=replace(model.axes, axes=model.axes.axes[::-1]))
        if spoilt == "network":
            return replace(model, tensors={name: value * 1.5 for name, value in model.tensors.items()})
        model.regressor.intercept_ = model.regressor.intercept_ + 0.1
        return model

    registry = Registry(tracker.store)
    number = next(t.number for t in finished.outcome.trials if t.succeeded and t.spec.regressor == "ridge")
    before = registry.versions()
    assert number != finished.outcome.best.number
    monkeypatch.setattr(EncodingModel, "load", spoil)
    with pytest.raises(ModelError, match=r"The saved model must predict what it was made from\. .* champion stays\."):
        publish(setting, tracker, finished, number)
    assert registry.versions() == before


def test_publishing_twice_registers_once(setting: Setting, tracker: Tracker, finished: Finished) -> None:
    again = publish(setting, tracker, finished, finished.outcome.best.number)
    assert (again.registered.version, again.is_champion, again.reason) == ("1", True, "the champion already")
    assert again.score == finished.outcome.published.score
    other = next(t.number for t in finished.outcome.trials if t.spec.layer == "features.12")
    first, second = (publish(setting, tracker, finished, other) for _ in range(2))
    assert first.registered.version == second.registered.version == "2"


def other_layer(finished: Finished) -> int:
    """The number of a trial that is not the best."""
    return int(next(t.number for t in finished.outcome.trials if t.spec.layer == "features.12"))


def resampled(tracker: Tracker, number: int, value: float | None) -> None:
    """Let every resample of a confirmation have scored something else, or none be stored."""
    run = tracker.store.client.get_run(tracker.finished()[number])
    with tracker.store.artifacts(run) as folder:
        for name in ("estimate", "resampled"):
            path = folder / "confirmation" / f"summaries_{name}.npy"
            array = np.load(path)
            path.unlink()
            if value is not None:
                np.save(path, np.full_like(array, value))


def unjudged(tracker: Tracker, version: str) -> None:
    """Leave a version as a process leaves it that ends between registration and judgement."""
    tracker.store.client.delete_model_version_tag("sample", version, "img2brain.decided")


@pytest.mark.parametrize(
    ("champions", "moves", "reason"),
    [
        (-0.99, True, r"above version 1, the champion before: confirmation difference \+\d.\d+ \[\+.*\], p = \S+"),
        (
            0.99,
            False,
            r"below version 1, the champion: confirmation difference -\d.\d+ \[-.*\], p = .*; it keeps the crown",
        ),
    ],
)
def test_the_champion_moves_only_where_it_is_beaten(
    setting: Setting, tracker: Tracker, finished: Finished, champions: float, moves: bool, reason: str
) -> None:
    number = other_layer(finished)
    assert not publish(setting, tracker, finished, number).is_champion, "six images tell little apart"
    resampled(tracker, finished.outcome.best.number, champions)
    resampled(tracker, number, 0.0)
    unjudged(tracker, "2")
    published = publish(setting, tracker, finished, number)
    assert published.is_champion is moves
    assert re.fullmatch(reason, published.reason), published.reason
    champion = Registry(tracker.store).champion("sample")
    assert champion is not None
    assert champion.version == ("2" if moves else "1")
    assert (champion.tags["img2brain.crowned"] == published.reason) is moves
    again = publish(setting, tracker, finished, other_layer(finished))
    assert again.reason == ("the champion already" if moves else f"decided before: {published.reason}")
    versions = Registry(tracker.store).versions("sample")
    assert [item.version for item in versions if "img2brain.crowned" in item.tags] == [champion.version]
    assert [item.version for item in versions if "img2brain.decided" not in item.tags] == [champion.version]


def test_a_champion_that_is_not_told_apart_keeps_the_crown(
    setting: Setting, tracker: Tracker, finished: Finished, finished_copy: Path
) -> None:
    score = publish(setting, tracker, finished, other_layer(finished)).score
    resampled(tracker, finished.outcome.best.number, score - 0.02)
    unjudged(tracker, "2")
    published = publish(setting, tracker, finished, other_layer(finished))
    assert published.reason.startswith("tied with version 1, the champion: confirmation difference +0.0200 [-")
    assert published.reason.endswith("; it keeps the crown")
    assert not published.is_champion
    board = [row for row in collect(Home(finished_copy), "sample") if row.place]
    assert {row.place.group for row in board if row.place} == {1}, "a tie of the crown is a tie of the board"


def test_all_models_of_the_rows_are_counted_as_comparisons() -> None:
    random = np.random.default_rng(0)
    drawn = 0.5 + 0.1 * random.standard_normal((2000, 1))

    def contender(version: str, score: float) -> Any:
        return _Contender(
            version, Summaries(("",), np.array([score]), drawn + score + 0.01 * random.random(drawn.shape))
        )

    two = [contender("2", 0.5095), contender("1", 0.5)]
    assert _verdict(two, "version 1, the champion", "confirmation")[0]
    many = [*two, *(contender(str(number), 0.5) for number in range(3, 9))]
    won, reason = _verdict(many, "version 1, the champion", "confirmation")
    assert not won
    assert "tied with version 1, the champion" in reason
    assert "among 8 models" in reason


def test_a_champion_that_cannot_be_compared_keeps_the_crown(
    setting: Setting, tracker: Tracker, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    resampled(tracker, finished.outcome.best.number, None)
    published = publish(setting, tracker, finished, other_layer(finished))
    named = "not compared with version 1, the champion"
    absent = f"{named}: resamples of the confirmation rows are not there; it keeps the crown"
    assert (published.is_champion, published.reason) == (False, absent)
    read, best = find_trial, tracker.finished()[finished.outcome.best.number]

    def elsewhere(store: TrackingStore, run_id: str) -> TrackedTrial | None:
        found = read(store, run_id)
        if found is None or run_id != best:
            return found
        rows = found.record.rows.model_copy(update={"digest": "others"})
        return replace(found, record=found.record.model_copy(update={"rows": rows}))

    def by_another_objective(store: TrackingStore, run_id: str) -> TrackedTrial | None:
        found = read(store, run_id)
        if found is None or run_id != best:
            return found
        return replace(found, record=found.record.model_copy(update={"objective": "r2"}))

    monkeypatch.setattr("img2brain.crown.find_trial", elsewhere)
    unjudged(tracker, "2")
    published = publish(setting, tracker, finished, other_layer(finished))
    assert not published.is_champion
    assert published.reason == f"{named}, which was scored on other rows or data; it keeps the crown"
    monkeypatch.setattr("img2brain.crown.find_trial", by_another_objective)
    unjudged(tracker, "2")
    published = publish(setting, tracker, finished, other_layer(finished))
    assert published.reason == f"{named}, which was scored by another objective (r2); it keeps the crown"
    monkeypatch.setattr("img2brain.crown.find_trial", read)
    tracker.store.client.delete_run(best)
    unjudged(tracker, "2")
    published = publish(setting, tracker, finished, other_layer(finished))
    assert published.reason == f"{named}, whose run is gone; it keeps the crown"


def test_a_version_is_crowned_by_hand_or_nothing_is(
    setting: Setting, tracker: Tracker, finished: Finished, finished_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(setting, tracker, finished, other_layer(finished))
    alias = type(tracker.store.client).set_registered_model_alias

    def failing(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(type(tracker.store.client), "set_registered_model_alias", failing)
    with pytest.raises(TrackingError, match="No space left"):
        crown_model("sample/2", finished_copy)
    assert Registry(tracker.store).find("sample@champion").version == "1"
    monkeypatch.setattr(type(tracker.store.client), "set_registered_model_alias", alias)
    said = crown_model("sample/2", finished_copy, by="Ann")
    champion = Registry(tracker.store).find("sample@champion")
    assert (champion.version, champion.tags["img2brain.crowned"]) == ("2", said)
    assert said == "by hand of Ann, in place of version 1"
    assert crown_model("models:/sample/2", finished_copy) == "the champion already"
    for reference in ("sample", "sample@champion", "sample/"):
        with pytest.raises(ModelError, match=r"must be named as NAME/VERSION\. Got"):
            crown_model(reference, finished_copy)
    with pytest.raises(ModelError, match=r"has no version 7\. It has version 2, 1\."):
        crown_model("sample/7", finished_copy)


def test_a_crown_that_was_given_by_hand_stays_when_a_study_goes_on(
    setting: Setting, tracker: Tracker, finished: Finished, finished_copy: Path
) -> None:
    publish(setting, tracker, finished, other_layer(finished))
    resampled(tracker, finished.outcome.best.number, -0.99)
    resampled(tracker, other_layer(finished), 0.0)
    unjudged(tracker, "2")
    assert publish(setting, tracker, finished, other_layer(finished)).is_champion
    said = crown_model("sample/1", finished_copy, by="Ann")
    again = publish(setting, tracker, finished, other_layer(finished))
    assert (again.is_champion, again.reason) == (False, f"decided before: version 1 was crowned: {said}")
    tags = {item.version: item.tags.get("img2brain.crowned") for item in Registry(tracker.store).versions("sample")}
    assert tags == {"1": said, "2": None}
    assert not publish(setting, tracker, finished, other_layer(finished)).is_champion


@pytest.mark.parametrize("by", ["x\ny", "x" * 201, "\x1b[31mAnn", "a\u202eb"])
def test_who_crowns_by_hand_is_named_on_one_line(finished_copy: Path, by: str) -> None:
    with pytest.raises(ModelError, match="must be named on one line of at most 200 printable characters") as refused:
        crown_model("sample/1", finished_copy, by=by)
    assert str(refused.value).isprintable()


def test_a_long_version_number_is_shortened(finished_copy: Path) -> None:
    with pytest.raises(ModelError, match=r"has no version '9+\.\.\.'\. It has version 1\.") as refused:
        crown_model(f"sample/{'9' * 5000}", finished_copy)
    assert len(str(refused.value)) < 200


def test_a_difference_of_so_few_images_that_nothing_is_known_is_a_tie() -> None:
    drawn = np.full((50, 1), 0.9)
    two = [
        _Contender(v, Summaries(("",), drawn[0] - i, drawn - i, "median", "correlation", 3)) for i, v in enumerate("21")
    ]
    won, reason = _verdict(two, "version 1, the champion", "confirmation")
    assert not won
    assert reason == (
        "tied with version 1, the champion: confirmation difference +1.0000, no interval; it keeps the crown"
    )


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
    again = run_study(make_spec(tmp_path / "sample", trials=3, split={"confirmation": 0.0}, backbones=layers), home)
    assert again.published is not None
    if again.published.registered.version != "1":
        assert "version 1, the champion: validation difference" in again.published.reason


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
    assert {Path(name).suffix for name in names} <= {
        "",
        ".py",
        ".json",
        ".yaml",
        ".txt",
        ".safetensors",
        ".npy",
        ".png",
        ".md",
        ".svg",
    }
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
    with pytest.raises(DataError, match=r"must end in \.npy, \.csv or \.parquet\. Got .*out\.txt\."):
        predict_to_file(model, pictures, tmp_path / "out.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.png", "folder.npy", "good.png", "out.npy"]
    assert replace(model).predict([]).shape == (0, 20)


@pytest.mark.parametrize(
    "step",
    [
        "log_model_artifacts",
        pytest.param("log_outputs", marks=pytest.mark.slow),
        pytest.param("finalize_logged_model", marks=pytest.mark.slow),
    ],
)
def test_a_publication_that_is_cut_off_leaves_no_half_model(
    step: str, setting: Setting, tracker: Tracker, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = type(tracker.store.client)
    work = getattr(client, step)

    def failing(self: Any, *words: Any, **_: Any) -> None:
        if step == "log_model_artifacts":
            model_id, folder = words
            Path(folder, "digests.json").unlink()
            work(self, model_id, folder)
        raise OSError("No space left on device")

    monkeypatch.setattr(client, step, failing)
    with pytest.raises(TrackingError, match="No space left"):
        publish(setting, tracker, finished, other_layer(finished))
    monkeypatch.setattr(client, step, work)
    run_id = publish(setting, tracker, finished, other_layer(finished)).registered.run_id
    experiment = tracker.store.client.get_run(run_id).info.experiment_id
    found = tracker.store.client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    assert [str(item.status) for item in found] == ["READY"]
    outputs = tracker.store.client.get_run(run_id).outputs.model_outputs
    assert [item.model_id for item in outputs] == [found[0].model_id]
    with Registry(tracker.store).files(Registry(tracker.store).find("sample/2")) as folder:
        assert (folder / "model.json").is_file()


def test_a_run_that_is_registered_under_another_name_too_has_a_model_for_each(
    setting: Setting, tracker: Tracker, finished: Finished
) -> None:
    registry = Registry(tracker.store)
    run_id = publish(setting, tracker, finished, other_layer(finished)).registered.run_id
    with registry.files(registry.find("sample/2")) as folder:
        registry.register("another", folder, run_id, 20, {})
    for name in ("sample/2", "another/1"):  # each is what it was sealed as
        with registry.files(registry.find(name)) as folder:
            assert (folder / "model.json").is_file()
