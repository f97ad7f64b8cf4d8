"""The confirmation rows: nothing before publishing reads them, and what is said of them afterwards."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.metrics import r2_score

from img2brain.catalog import METRICS
from img2brain.confirm import ConfirmationRows, ScoredRows, confirmation_rows
from img2brain.controls import Control
from img2brain.datasets.base import Dataset, Rows
from img2brain.datasets.folder import FolderDataset
from img2brain.errors import DataError, FitError
from img2brain.home import Home
from img2brain.metrics.base import Metric
from img2brain.metrics.pearson import Pearson, pearson
from img2brain.spec import SplitSpec, TrialSpec
from img2brain.statistics.noise_ceiling import from_repeats, given, unknown
from img2brain.study.runner import Run, run_study
from img2brain.study.setting import make_ready
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import run_array, tracked_trials

if TYPE_CHECKING:
    from tests.conftest import Finished, MakeSpec, NewHome

MARK = 1234.5


@pytest.fixture
def planted(recordings: Path, tmp_path: Path) -> Path:
    """The recordings, with a mark in place of every confirmation response but the first."""
    folder = tmp_path / "sample"
    shutil.copytree(recordings, folder)
    path = folder / "testfMRI" / "test.npy"
    responses = np.load(path)
    responses[1:] = MARK * np.arange(1, len(responses))[:, None]
    np.save(path, responses)
    (folder / "testfMRI" / "test_repeats.npy").unlink(missing_ok=True)
    return folder


def test_nothing_before_publishing_reads_what_is_planted_in_the_confirmation_rows(
    planted: Path, make_spec: MakeSpec, new_home: NewHome, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = make_ready(make_spec(planted), Home(new_home(warm=True)))
    kept = set(setting.first.split.confirmation.tolist())
    assert kept
    read = FolderDataset.read_responses

    def watched(dataset: FolderDataset, rows: Rows) -> Any:
        assert not kept & set(rows.tolist()), "a confirmation row was read"
        found = read(dataset, rows)
        assert not np.isin(found, MARK * np.arange(1, 100)).any()
        return found

    def refused(*_: Any) -> Any:
        raise AssertionError("the confirmation was read")

    monkeypatch.setattr(FolderDataset, "read_responses", watched)
    for kind, name in ((Dataset, "confirmation"), (Dataset, "confirmation_repeats"), (FolderDataset, "read_repeats")):
        monkeypatch.setattr(kind, name, refused)
    setting.extraction.now()
    run = Run(setting, setting.name)
    told = run.work_through()
    run.track_missing(told)
    # Its trials are, number for number, those of the study of the recordings themselves.
    before = {trial.number: trial for trial in finished.outcome.trials}
    for trial in told:
        assert trial.parameters == before[trial.number].parameters
        assert trial.score == before[trial.number].score
    with pytest.raises((AssertionError, DataError), match="the confirmation was read"):
        run.publish(told, [run.members[0].tracker.finished()])


def test_a_confirmation_is_recorded_with_all_that_is_said_of_it(finished: Finished) -> None:
    store = TrackingStore(Home(finished.home))
    (trial,) = (item for item in tracked_trials(store) if item.confirmation)
    record, outcome = trial.confirmation, finished.outcome
    assert record is not None
    assert record.confirmed is not None
    part, whole = record.confirmed, record.confirmed.whole
    assert whole.score.low <= whole.score.estimate <= whole.score.high
    assert whole.score.estimate == outcome.published.score
    assert record.optimism == pytest.approx(outcome.best.score - outcome.published.score)
    assert (part.looks, part.n_images, whole.n_voxels) == (1, 6, 20)
    assert set(whole.controls) == {"pixels", "shuffled"}, "an untrained network has no twin"
    for control in whole.controls.values():
        assert control.difference.low <= control.difference.estimate <= control.difference.high
        assert control.difference.estimate == pytest.approx(whole.score.estimate - control.score, abs=1e-5)
    setting = make_ready(finished.spec, Home(finished.home))
    assert set(part.regions) == set(setting.first.dataset.rois) == set(trial.record.metrics["pearson"].regions)
    accuracy = run_array(store, trial.run_id, "confirmation/accuracy.npy")
    predictions = run_array(store, trial.run_id, "confirmation/predictions.npy")
    assert accuracy is not None
    assert predictions is not None
    responses = setting.first.dataset.confirmation(setting.first.split)
    np.testing.assert_allclose(accuracy, pearson(responses, predictions), atol=1e-5)
    for region, voxels in setting.first.dataset.rois.items():
        assert part.regions[region].score.estimate == pytest.approx(np.median(accuracy[voxels]))
        assert part.regions[region].n_voxels == len(voxels)
    choice = run_array(store, trial.run_id, "confirmation/best_layer.npy")
    assert choice is not None
    searched = {trial.spec.layer for trial in outcome.trials}
    assert set(record.best_layers) == searched
    assert choice.max() < len(searched)


def test_a_second_model_on_the_same_rows_is_counted(finished_copy: Path, make_spec: MakeSpec) -> None:
    outcome = run_study(make_spec(seed=2, trials=2), finished_copy)
    assert outcome.published is not None
    found = [item.confirmation for item in tracked_trials(TrackingStore(Home(finished_copy)))]
    assert sorted(item.confirmed.looks for item in found if item and item.confirmed) == [1, 2]


def test_a_ceiling_comes_from_what_the_data_say(
    recordings: Path, tmp_path: Path, make_spec: MakeSpec, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(recordings, folder)
    for name in ("ncsnr.npy", "noise_ceiling.npy", "testfMRI/test_repeats.npy", "testfMRI/test_counts.npy"):
        (folder / name).unlink(missing_ok=True)

    def found() -> Any:
        dataset = FolderDataset.open(folder)
        split = dataset.split(make_spec().split)
        return confirmation_rows(dataset, split, {"pearson": Pearson()}).parts["confirmation"].ceiling

    assert found().origin == "none"
    np.save(folder / "ncsnr.npy", np.ones(20))
    assert found().origin == "none"
    assert "ncsnr gives no noise ceiling without counts" in caplog.text
    (folder / "ncsnr.npy").unlink()
    test = np.load(folder / "testfMRI" / "test.npy")
    repeats = np.random.default_rng(0).standard_normal((len(test), 4, test.shape[1])) + test[:, None]
    np.save(folder / "testfMRI" / "test_repeats.npy", repeats.astype(np.float32))
    assert found().origin == "split halves"
    np.testing.assert_allclose(found().share, from_repeats(repeats.astype(np.float32)).share)
    np.save(folder / "ncsnr.npy", np.ones(test.shape[1]))
    assert found().origin == "ncsnr"
    np.testing.assert_allclose(found().share, 0.8)
    np.save(folder / "testfMRI" / "test_counts.npy", np.ones(len(test), dtype=np.int64))
    np.testing.assert_allclose(found().share, 0.5)
    np.save(folder / "noise_ceiling.npy", np.full(test.shape[1], 0.3))
    assert found().origin == "given"
    np.testing.assert_allclose(found().share, 0.3)


def test_shares_of_a_ceiling_are_not_clipped_and_count_what_they_leave_out(recordings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(recordings, folder)
    share = np.full(20, 0.25)
    share[:3] = 0.0
    np.save(folder / "noise_ceiling.npy", share)
    dataset = FolderDataset.open(folder)
    split = dataset.split(SplitSpec())
    rows = confirmation_rows(dataset, split, {"pearson": Pearson()})
    part = rows.report(dataset.confirmation(split))["confirmation"].part()
    assert part.whole.score.estimate == pytest.approx(1.0)
    ceiling = part.whole.ceiling
    assert ceiling is not None
    assert (ceiling.score, ceiling.normalised, ceiling.explained) == pytest.approx((0.5, 2.0, 4.0))
    assert (ceiling.n_unreliable, ceiling.n_above) == (3, 17)
    assert part.ceiling == "given"
    assert set(part.regions) == set(json.loads((folder / "rois.json").read_text()))


def test_every_number_follows_the_objective() -> None:
    random = np.random.default_rng(0)
    responses, noise = random.standard_normal((2, 80, 20))
    regions = {"all": np.arange(5), "左V1": np.arange(5, 20)}
    metrics = {
        "r2": METRICS["r2"],
        "pearson": METRICS["pearson"],
        "noise_normalised_r2": METRICS["noise_normalised_r2"],
    }
    rows = ScoredRows(responses, regions, metrics, given(np.full(20, 0.5)))
    report = rows.report(responses + 0.3 * noise, [shuffled_control(noise)])
    expected = r2_score(responses, responses + 0.3 * noise, multioutput="raw_values")
    np.testing.assert_allclose(np.asarray(report.arrays["accuracy"], np.float64), expected, atol=1e-6)
    for region, found in {"": report.part().whole, **report.part().regions}.items():
        voxels = regions[region] if region else np.arange(20)
        assert found.score.estimate == pytest.approx(np.median(expected[voxels]))
        assert found.score.low <= found.score.estimate <= found.score.high
        assert set(found.summaries) == set(metrics)
        worse = np.median(r2_score(responses[:, voxels], noise[:, voxels], multioutput="raw_values"))
        assert found.controls["shuffled"].score == pytest.approx(worse, rel=1e-4)
        assert found.controls["shuffled"].difference.low > 0
    ceiling = report.part().whole.ceiling
    assert ceiling is not None
    share = report.arrays["ceiling_share"][report.arrays["ceiling_reliable"]]
    assert ceiling.score == pytest.approx(np.median(share)), "the ceiling of R2 is the share itself"


def test_what_three_voxels_measured_is_kept() -> None:
    random = np.random.default_rng(0)
    responses, noise = random.standard_normal((2, 40, 9))
    predictions = responses + np.linspace(0.1, 3, 9) * noise
    predictions[:, 4] = 1.0  # undefined: it is none of the three
    arrays = ScoredRows(responses, {}, {"pearson": Pearson()}, unknown(9)).report(predictions).arrays
    accuracy = np.asarray(arrays["accuracy"], np.float64)
    best, median, worst = arrays["shown_voxels"]
    assert (accuracy[best], accuracy[worst]) == (np.nanmax(accuracy), np.nanmin(accuracy))
    assert np.isfinite(accuracy[median])
    np.testing.assert_array_equal(arrays["shown_measured"], responses[:, [best, median, worst]].astype(np.float32))


def test_tied_rows_stand_for_one_where_it_is_asked_how_sure_a_score_is() -> None:
    responses, noise = np.random.default_rng(0).standard_normal((2, 30, 6))
    showings, seen, pictures = np.tile(responses, (3, 1)), np.tile(responses + 2 * noise, (3, 1)), np.tile(range(30), 3)
    metrics = {"pearson": Pearson()}
    once = ScoredRows(responses, {}, metrics, unknown(6))
    naive, tied = (ScoredRows(showings, {}, metrics, unknown(6), units) for units in (None, pictures))
    assert (once.n_units, naive.n_units, tied.n_units, tied.n_images) == (30, 90, 30, 90)
    assert len({once.digest, naive.digest, tied.digest}) == 3
    assert tied.digest == ScoredRows(showings, {}, metrics, unknown(6), pictures + 5).digest
    assert naive.digest == ScoredRows(showings, {}, metrics, unknown(6), np.arange(90)).digest
    first, second = (rows.report(seen if rows is tied else responses + 2 * noise) for rows in (tied, once))
    assert first.part().whole.score.low == pytest.approx(second.part().whole.score.low, abs=1e-5)
    np.testing.assert_allclose(np.asarray(first.arrays["p"]), np.asarray(second.arrays["p"]), rtol=1e-6)


def test_a_metric_that_fails_on_resamples_alone_is_told_on_one_line() -> None:
    class Fragile(Metric):
        label = "fragile"

        def from_rows(self, Y: Any, P: Any) -> Any:
            if len(np.unique(Y[:, 0])) < len(Y):
                raise KeyError("a row that comes twice")
            return np.zeros(Y.shape[1])

    responses = np.random.default_rng(0).standard_normal((30, 4))
    rows = ScoredRows(responses, {}, {"fragile": Fragile()}, unknown(4))
    with pytest.raises(FitError, match=r"The metrics fragile must work on these rows\. Got KeyError: .*comes twice"):
        rows.report(responses + 1.0)


def shuffled_control(predictions: Any) -> Control:
    spec = TrialSpec(
        backbone="b", weights="w", weights_digest="d", preprocessing="p", layer="l", n_components=1, regressor="linear"
    )
    return Control("shuffled", spec, predictions)


@pytest.mark.parametrize("in_parts", [False, True])
def test_predictions_of_a_control_are_let_go_before_the_next_is_fitted(in_parts: bool) -> None:
    Y = np.random.default_rng(0).standard_normal((20, 3))
    spec = TrialSpec(
        backbone="b",
        weights="w",
        weights_digest="d",
        layer="l",
        n_components=1,
        regressor="linear",
        preprocessing="weights",
    )
    alive: list[weakref.ref[Any]] = []

    def controls() -> Iterator[Control]:
        for name in ("untrained", "pixels", "shuffled"):
            assert not any(one() is not None for one in alive), "gigabytes where there are many voxels"
            predictions = np.random.default_rng(1).standard_normal(Y.shape)
            alive.append(weakref.ref(predictions))
            item = Control(name, spec, predictions)
            del predictions
            yield item
            del item

    if in_parts:
        first, second = (ScoredRows(part, {}, {"pearson": Pearson()}, unknown(3)) for part in (Y[:12], Y[12:]))
        ConfirmationRows({"test": first, "ood": second}).report(Y, controls())
    else:
        ScoredRows(Y, {}, {"pearson": Pearson()}, unknown(3)).report(Y, controls())
    assert len(alive) == 3
