"""Nothing that was trained on is scored: repeated pictures, repeated rows of features and groups, in every division."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from img2brain.backbones import pixels
from img2brain.datasets._ties import Ties
from img2brain.datasets.base import Dataset
from img2brain.datasets.folder import FolderDataset
from img2brain.errors import SpecError
from img2brain.home import Home
from img2brain.metrics.pearson import pearson
from img2brain.records import TiesRecord
from img2brain.refit import Refit
from img2brain.spec import StudySpec, TrialSpec, parse
from img2brain.study.runner import run_study
from img2brain.study.setting import Setting, make_ready
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import tracked_trials

if TYPE_CHECKING:
    from tests.conftest import NewHome

Array = NDArray[Any]

N_PICTURES, N_SESSIONS, N_VOXELS = 40, 3, 1000
CHANCE = 0.2  # A model that has not met the pictures scores less, of however few rows.
MEMORY = 0.25  # One that has met them scores more.


def _spec(folder: Path, name: str = "given", weights: str = "none", **changes: Any) -> StudySpec:
    table = {
        "name": "leak", "sampler": "grid", "device": "cpu", "n_components": [19],
        "regressors": [{"name": "ridge", "alpha": [1.0]}], "dataset": {"path": folder},
        "split": {"confirmation": 0.2}, "backbones": [{"name": name, "weights": weights}],
    }  # fmt: skip
    return parse(StudySpec, table | changes, "the test's study")


def _features(folder: Path, rows: Array, responses: Array, n_test: int = 0, groups: Array | None = None) -> Path:
    """Write rows of features with the responses to them, the last ones as test rows."""
    parts = {"training": slice(0, len(rows) - n_test), "test": slice(len(rows) - n_test, len(rows))}
    for name, part in list(parts.items())[: 2 if n_test else 1]:
        (folder / f"{name}Features").mkdir(parents=True)
        (folder / f"{name}fMRI").mkdir()
        np.save(folder / f"{name}Features" / "f.npy", rows[part])
        np.save(folder / f"{name}fMRI" / f"{name}.npy", responses[part])
        if groups is not None:
            np.save(folder / f"{name}fMRI" / f"{name}_groups.npy", groups[part])
    return folder


@dataclass
class Case:
    """Recordings of which nothing can be foretold of rows that were not met, and how a study divides them."""

    rows: Array
    shown: Array
    split: dict[str, Any] = field(default_factory=lambda: {"confirmation": 0.2})
    n_test: int = 0
    groups: Array | None = None

    def write(self, folder: Path) -> Path:
        """Write them as a folder."""
        patterns = np.random.default_rng(0).standard_normal((N_PICTURES, N_VOXELS))
        noise = np.random.default_rng(3).standard_normal((len(self.rows), N_VOXELS))
        return _features(folder, self.rows, patterns[self.shown] + 0.5 * noise, self.n_test, self.groups)


ONE = np.random.default_rng(1).standard_normal((N_PICTURES, 19))
SHOWN = np.tile(np.arange(N_PICTURES), N_SESSIONS)
JITTER = np.random.default_rng(4).standard_normal((len(SHOWN), 19)) / 1000
TESTED = np.concatenate([np.arange(30), np.arange(30), np.arange(18), np.arange(30, 36)])
CASES = {
    "repeated rows": Case(ONE[SHOWN], SHOWN),
    "in folds": Case(ONE[SHOWN], SHOWN, {"confirmation": 0.2, "folds": 4}),
    "the preset": Case(ONE[SHOWN[:72]], SHOWN[:72], {"preset": "img2brain-2023"}),
    "test rows that were trained on": Case(ONE[TESTED], TESTED, {}, 24),
    "groups": Case(ONE[SHOWN] + JITTER, SHOWN, groups=SHOWN),
    "groups that hold test rows": Case(ONE[TESTED] + JITTER[: len(TESTED)], TESTED, {}, 24, TESTED),
}


def _scores(dataset: Dataset, case: Case, home: Home) -> list[float]:
    """Score a trial on the validation rows, and refitted on the confirmation rows, where there are any."""
    spec = _spec(Path("unused"), split=case.split)
    setting = make_ready(spec, home, dataset)
    setting.extraction.now()
    trial, evaluator = _trial(setting), setting.first.evaluator()
    validation = evaluator.evaluate(trial).score
    split = setting.first.split
    if not len(split.confirmation):
        return [validation]
    _, predictions = Refit(dataset.development(split), split, setting.first.n_components)(
        trial, setting.first.bank(trial)
    )
    return [validation, float(np.median(pearson(dataset.confirmation(split), predictions[:, :])))]


def _trial(setting: Setting, regressor: str = "ridge", **parameters: Any) -> TrialSpec:
    key = next(iter(setting.first.banks))
    return TrialSpec(
        backbone=key[0], weights="none", weights_digest=key[1], preprocessing=key[2], layer="f", n_components=19,
        regressor=regressor, parameters=parameters or {"alpha": 1.0},
    )  # fmt: skip


def _untied(dataset: FolderDataset) -> FolderDataset:
    """Forget which rows belong together."""
    vars(dataset)["ties"] = Ties.of(range(dataset.n_images))
    return dataset


@pytest.mark.parametrize("name", CASES)
def test_what_was_trained_on_is_not_scored(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    folder = case.write(tmp_path / "data")
    for score in _scores(FolderDataset.open(folder), case, Home(tmp_path / "home")):
        assert abs(score) < CHANCE
    assert max(_scores(_untied(FolderDataset.open(folder)), case, Home(tmp_path / "home"))) > MEMORY


def test_what_is_left_out_is_counted_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    case = CASES["test rows that were trained on"]
    setting = make_ready(_spec(case.write(tmp_path / "data"), split=case.split), Home(tmp_path / "home"))
    rows = setting.record("leak").rows
    assert rows.ties == TiesRecord(n_images=78, n_sets=30, left_out={"confirmation": 18})
    assert rows.n_confirmation == 6
    assert "tied 78 of 84 rows in 30 sets (equal pictures or features, or one group): each set stays" in caplog.text
    assert "left 18 confirmation rows out: they are tied to rows that are trained on or validate" in caplog.text


@pytest.mark.parametrize("split", [{"confirmation": 0.2}, {"confirmation": 0.2, "folds": 3}])
def test_alpha_is_not_chosen_on_rows_that_were_trained_on(split: dict[str, Any], tmp_path: Path) -> None:
    alphas = (1e-3, 1e4)
    folder = CASES["repeated rows"].write(tmp_path / "data")
    for dataset, expected in ((FolderDataset.open(folder), 1e4), (_untied(FolderDataset.open(folder)), 1e-3)):
        setting = make_ready(_spec(folder, split=split), Home(tmp_path / "home"), dataset)
        setting.extraction.now()
        trial = _trial(setting, "ridge_cv", alphas=alphas)
        fitted: Any = setting.first.evaluator().evaluate(trial).estimator
        refit = Refit(dataset.development(setting.first.split), setting.first.split, setting.first.n_components)
        again: Any = refit(trial, setting.first.bank(trial))[0]
        assert (fitted.alpha_, again.alpha_) == (expected, expected)


def test_a_size_that_ties_put_out_of_reach_is_lowered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, home = CASES["repeated rows"].write(tmp_path / "data"), Home(tmp_path / "home")
    assert make_ready(_spec(data, n_components=[5, 26, 30]), home).spec.n_components == (5, 25)
    assert "n_components of more than 25 are taken as 25: 26 training rows differ" in caplog.text
    n_train = make_ready(_spec(data), home).record("name").rows.n_train
    with pytest.raises(SpecError, match=rf"below the number of training rows, {n_train}\. Got {n_train}\."):
        make_ready(_spec(data, n_components=[n_train]), home)


def test_repeated_pictures_are_met_on_one_side_alone(
    tmp_path: Path, new_home: NewHome, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    home = Home(new_home())
    spec = _spec(_pictures(tmp_path / "pictures"), pixels.NAME, pixels.WEIGHTS)
    outcome = run_study(spec, home)
    assert outcome.best is not None
    assert outcome.published is not None
    assert abs(outcome.best.score) < CHANCE
    assert abs(outcome.published.score) < CHANCE
    assert "tied 120 of 120 rows in 40 sets (equal pictures or features, or one group)" in caplog.text
    (trial,) = tracked_trials(TrackingStore(home))
    assert (trial.record.rows.ties, trial.record.rows.n_confirmation) == (TiesRecord(n_images=120, n_sets=40), 24)
    page = (home.leaderboards / "pictures" / "index.html").read_text(encoding="utf-8")
    assert "of which 120 are tied in 40 sets, each on one side" in page


def _pictures(folder: Path) -> Path:
    """Write pictures that are shown in three sessions, each time as another file."""
    random = np.random.default_rng(2)
    (folder / "trainingIMG").mkdir(parents=True)
    (folder / "trainingfMRI").mkdir()
    for number in range(N_PICTURES):
        picture = Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize((32, 32))
        picture.save(folder / "trainingIMG" / f"0_{number:02}.png")
        picture.convert("RGBA").save(folder / "trainingIMG" / f"1_{number:02}.png", compress_level=0)
        picture.save(folder / "trainingIMG" / f"2_{number:02}.png", optimize=True, dpi=(90, 90))
    patterns = np.random.default_rng(0).standard_normal((N_PICTURES, N_VOXELS))
    responses = patterns[SHOWN] + 0.5 * random.standard_normal((len(SHOWN), N_VOXELS))
    np.save(folder / "trainingfMRI" / "training.npy", responses)
    return folder


def test_an_old_study_that_divided_tied_rows_gets_a_new_one_beside_it(
    tmp_path: Path, new_home: NewHome, caplog: pytest.LogCaptureFixture
) -> None:
    home, folder = Home(new_home()), CASES["repeated rows"].write(tmp_path / "data")
    old = run_study(_spec(folder), home, _untied(FolderDataset.open(folder)))
    new = run_study(_spec(folder), home)
    assert old.name != new.name
    assert f"leak differs from the stored study {old.name} in split: starting the new study {new.name}" in caplog.text
    assert old.published is not None
    assert new.published is not None
    assert old.published.score > MEMORY > CHANCE > abs(new.published.score)


def test_a_regressor_that_cannot_validate_within_one_set_is_refused_first(tmp_path: Path) -> None:
    rows, responses = np.random.default_rng(0).standard_normal((2, 60, 20))
    folder = _features(tmp_path / "data", rows, responses, 20, np.repeat([0, 1, 2, 3], [20, 20, 10, 10]))
    changes: dict[str, Any] = {"n_components": [3], "split": {"validation": 0.5}}
    with pytest.raises(SpecError, match=r"'ridge_cv' must be fitted to at least 2 sets of tied rows.* There are tied"):
        make_ready(_spec(folder, **changes, regressors=["ridge", "ridge_cv"]), Home(tmp_path / "home"))
    make_ready(_spec(folder, **changes), Home(tmp_path / "home"))


@pytest.mark.parametrize("regressor", ["ridge_cv", {"name": "ridge_cv", "cv": 5}])
def test_a_set_of_one_row_joins_another_in_a_cross_validation(regressor: Any, tmp_path: Path) -> None:
    rows, responses = np.random.default_rng(0).standard_normal((2, 57, 20))
    groups = np.repeat([0, 1, 2, 3, 4, 5], [12, 12, 12, 1, 10, 10])
    folder = _features(tmp_path / "data", rows, responses, 20, groups)
    spec = _spec(folder, n_components=[3], split={"validation": 0.3, "seed": 1}, regressors=[regressor])
    split = FolderDataset.open(folder).split(spec.split)
    assert sorted(np.unique(split.sets(split.train), return_counts=True)[1]) == [1, 12, 12]
    outcome = run_study(spec, Home(tmp_path / "home"))
    assert [trial.failure for trial in outcome.trials] == [""]


def test_a_set_of_one_row_beside_one_other_set_is_refused_first(tmp_path: Path) -> None:
    rows, responses = np.random.default_rng(0).standard_normal((2, 61, 20))
    folder = _features(tmp_path / "data", rows, responses, 20, np.repeat([0, 1, 2, 3, 4], [20, 1, 20, 10, 10]))
    changes: dict[str, Any] = {"n_components": [3], "split": {"validation": 0.5, "seed": 1}}
    with pytest.raises(SpecError, match=r"'ridge_cv' must be fitted to at least 2 sets of tied rows, not counting one"):
        make_ready(_spec(folder, **changes, regressors=["ridge_cv"]), Home(tmp_path / "home"))


def test_more_parts_than_pairs_of_rows_are_refused_first(tmp_path: Path) -> None:
    rows, responses = np.random.default_rng(0).standard_normal((2, 20, 20))
    folder = _features(tmp_path / "data", rows, responses)
    asked = _spec(folder, n_components=[3], regressors=["ridge", {"name": "lasso_cv", "cv": 7}])
    with pytest.raises(SpecError, match=r"of 'lasso_cv' must have at least 2 of the 13 training rows .*: 6 parts .* 7"):
        make_ready(asked, Home(tmp_path / "home"))
    make_ready(_spec(folder, n_components=[3], regressors=[{"name": "lasso_cv", "cv": 6}]), Home(tmp_path / "home"))
