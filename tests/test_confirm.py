"""The confirmation rows: nothing before publishing reads them, and what is said of them afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain.confirm import ALL, Confirmation, ceiling_of
from img2brain.datasets.base import Dataset, Rows
from img2brain.datasets.folder import FolderDataset
from img2brain.home import Home
from img2brain.metrics.pearson import pearson
from img2brain.statistics.noise_ceiling import from_repeats
from img2brain.study.runner import Run, run_study
from img2brain.study.setting import make_ready
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.tracker import run_array, tracked_trials

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
    home = Home(new_home(warm=True))
    setting = make_ready(make_spec(planted), home)
    kept = set(setting.split.confirmation.tolist())
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
    setting.extract()
    run = Run(setting, home)
    told = run.work_through()
    run._track_missing(told)
    # Its trials are, number for number, those of the study of the recordings themselves.
    before = {trial.number: trial for trial in finished.outcome.trials}
    for trial in told:
        assert trial.parameters == before[trial.number].parameters
        assert trial.median_r == before[trial.number].median_r
    with pytest.raises(AssertionError, match="the confirmation was read"):
        run._publish(told, run.tracker.finished())


def test_a_confirmation_is_logged_with_all_that_is_said_of_it(finished: Finished) -> None:
    store = TrackingStore(Home(finished.home))
    (trial,) = (item for item in tracked_trials(store) if item.registered)
    metrics, outcome = trial.metrics, finished.outcome
    assert metrics["confirmation_low"] <= metrics["confirmation_median_r"] <= metrics["confirmation_high"]
    assert metrics["confirmation_optimism"] == pytest.approx(
        outcome.best.median_r - outcome.published.confirmation_median_r
    )
    assert metrics["confirmation_count"] == 1
    for name in ("pixels", "shuffled"):
        assert f"confirmation_control_{name}_median_r" in metrics
        low, high = (metrics[f"confirmation_control_{name}_difference_{end}"] for end in ("low", "high"))
        assert low <= metrics[f"confirmation_control_{name}_difference"] <= high
    assert "confirmation_control_untrained_median_r" not in metrics, "an untrained network has no twin"
    setting = make_ready(finished.spec, Home(finished.home))
    for region in setting.dataset.rois:
        assert metrics[f"{region}/confirmation_low"] <= metrics[f"{region}/confirmation_median_r"]
        assert f"{region}/median_r" in metrics
    accuracy = run_array(store, trial.run_id, "confirmation/accuracy.npy")
    predictions = run_array(store, trial.run_id, "confirmation/predictions.npy")
    assert accuracy is not None
    assert predictions is not None
    responses = setting.dataset.confirmation(setting.split)
    np.testing.assert_allclose(accuracy, pearson(responses, predictions), atol=1e-5)
    assert run_array(store, trial.run_id, "confirmation/best_layer.npy") is not None


def test_a_second_model_on_the_same_rows_is_counted(
    finished_copy: Path, make_spec: MakeSpec, finished: Finished
) -> None:
    spec = make_spec(seed=2, trials=2)
    outcome = run_study(spec, finished_copy)
    counts = sorted(
        item.metrics["confirmation_count"]
        for item in tracked_trials(TrackingStore(Home(finished_copy)))
        if item.registered
    )
    assert outcome.published is not None
    assert counts == [1, 2]


def test_a_ceiling_comes_from_what_the_data_say(recordings: Path, tmp_path: Path, make_spec: MakeSpec) -> None:
    folder = tmp_path / "data"
    shutil.copytree(recordings, folder)
    for name in ("ncsnr.npy", "noise_ceiling.npy", "testfMRI/test_repeats.npy", "testfMRI/test_counts.npy"):
        (folder / name).unlink(missing_ok=True)

    def found() -> Any:
        dataset = FolderDataset.open(folder)
        return ceiling_of(dataset, dataset.split(make_spec().split))

    assert found().origin == "none"
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
    ceiling = np.full(20, 0.25)
    ceiling[:3] = 0.0
    np.save(folder / "noise_ceiling.npy", ceiling)
    dataset = FolderDataset.open(folder)
    split = dataset.split(run_spec(folder))
    confirmation = Confirmation(dataset, split)
    responses = dataset.confirmation(split)
    report = confirmation.report(responses, 1.0)
    assert report.summary["median_r"] == pytest.approx(1.0)
    assert report.summary["normalised_median_r"] == pytest.approx(2.0)
    assert report.summary["n_above_ceiling"] == 17
    assert report.summary["n_unreliable"] == 3
    assert report.facts["ceiling"] == "given"
    assert set(confirmation.regions) == {*json.loads((folder / "rois.json").read_text()), ALL}


def run_spec(folder: Path) -> Any:
    from img2brain.spec import SplitSpec

    del folder
    return SplitSpec()
