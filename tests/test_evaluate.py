from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsRegressor

from img2brain._mapped import scratch_array
from img2brain.catalog import REGRESSORS, Plugin
from img2brain.errors import FitError, ShapeError
from img2brain.evaluate import Evaluator
from img2brain.home import Home
from img2brain.metrics.base import Metric
from img2brain.regressors.k_neighbors import KNeighbors
from img2brain.result import WHOLE
from img2brain.spec import TrialSpec
from img2brain.study.runner import run_study
from img2brain.study.setting import Setting, make_ready
from img2brain.tracking.tracker import _float32

if TYPE_CHECKING:
    from tests.conftest import Finished, MakeSpec


@pytest.fixture(scope="module")
def setting(finished: Finished) -> Setting:
    return make_ready(finished.spec, Home(finished.home))


@pytest.fixture
def spec(finished: Finished) -> TrialSpec:
    assert finished.outcome.best is not None
    best: TrialSpec = finished.outcome.best.spec
    return best.model_copy(update={"layer": "features.5", "n_components": 8})


@pytest.mark.parametrize(
    ("regressor", "parameters", "reference"),
    [
        ("ridge", {"alpha": 100.0}, Ridge(alpha=100.0)),
        ("ridge_cv", {"alphas": (10.0, 1e3, 1e5), "cv": 4}, RidgeCV((10.0, 1e3, 1e5), cv=KFold(4))),
        ("k_neighbors", {"n_neighbors": 4}, KNeighborsRegressor(n_neighbors=4)),
    ],
)
def test_a_score_is_that_of_scikit_learn_and_scipy(
    setting: Setting, spec: TrialSpec, regressor: str, parameters: dict[str, Any], reference: Any
) -> None:
    trial = spec.model_copy(update={"regressor": regressor, "parameters": parameters})
    evaluator, split = setting.first.evaluator(), setting.first.split
    coordinates = evaluator.components(trial).coordinates.astype(np.float64)
    responses = setting.first.dataset.read_responses(np.arange(len(setting.first.dataset.images))).astype(np.float64)
    reference.fit(coordinates[split.train], responses[split.train])
    predictions = reference.predict(coordinates[split.validation])
    expected = [pearsonr(predictions[:, i], responses[split.validation, i]).statistic for i in range(20)]
    result = evaluator.evaluate(trial)
    np.testing.assert_allclose(result.accuracy, expected, atol=1e-6)
    assert result.score == pytest.approx(np.median(expected), abs=1e-6)
    assert result.timings.keys() >= {"features_s", "fit_s", "score_s"}


def test_more_components_than_the_layer_spans_are_refused(setting: Setting, spec: TrialSpec) -> None:
    with pytest.raises(FitError, match=r"features\.5 spans 16 components .* Got n_components = 17\."):
        setting.first.evaluator().evaluate(spec.model_copy(update={"n_components": 17}))


def test_a_relative_alpha_is_in_units_of_the_spectrum(setting: Setting, spec: TrialSpec) -> None:
    ridge = spec.model_copy(update={"regressor": "ridge", "parameters": {"alpha": 1.0}})
    scales = [
        setting.first.evaluator().alpha_scale(ridge.model_copy(update={"layer": f"features.{i}"})) for i in (2, 12)
    ]
    assert min(scales) > 0
    assert scales[0] != pytest.approx(scales[1], rel=0.1)


def test_voxels_that_are_constant_in_the_validation_rows_are_counted(
    recordings: Path, tmp_path: Path, make_spec: MakeSpec, finished: Finished, spec: TrialSpec
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(recordings, folder)
    rows = make_ready(finished.spec, Home(finished.home)).first.split.validation
    path = folder / "trainingfMRI" / "training.npy"
    responses = np.load(path)
    responses[rows, 3] = 0.5
    np.save(path, responses)
    result = make_ready(make_spec(folder), Home(finished.home)).first.evaluator().evaluate(spec)
    assert result.objective.summaries[WHOLE]["n_constant"] == 1
    assert np.isnan(result.accuracy[3])
    assert np.isfinite(np.delete(result.accuracy, 3)).all()
    assert result.score == pytest.approx(np.median(np.delete(result.accuracy, 3)))


@pytest.mark.parametrize(
    ("regressor", "parameters", "reference"),
    [
        ("ridge", {"alpha": 100.0}, Ridge(alpha=100.0)),
        ("ridge_cv", {"alphas": (10.0, 1e3, 1e5), "cv": 3}, RidgeCV((10.0, 1e3, 1e5), cv=KFold(3))),
        ("k_neighbors", {"n_neighbors": 4}, KNeighborsRegressor(n_neighbors=4)),
    ],
)
def test_folds_are_fitted_apart_and_scored_together(
    finished: Finished,
    make_spec: MakeSpec,
    spec: TrialSpec,
    regressor: str,
    parameters: dict[str, Any],
    reference: Any,
) -> None:
    setting = make_ready(make_spec(split={"seed": 3, "folds": 4}), Home(finished.home))
    setting.extraction.now()
    trial = spec.model_copy(update={"regressor": regressor, "parameters": parameters})
    evaluator, split = setting.first.evaluator(), setting.first.split
    assert len(split.folds) == 4
    assert sorted(split.scored) == split.development.tolist()
    responses = setting.first.dataset.development(split).responses
    bank, predictions = setting.first.bank(trial), []
    for fold in split.folds:
        assert not set(fold.train) & set(fold.validation)
        found = (
            bank.components(trial.layer, fold.train, setting.first.n_components)
            .leading(8)
            .coordinates.astype(np.float64)
        )
        np.testing.assert_allclose(found[fold.train].mean(axis=0), 0, atol=1e-4 * np.abs(found).max())
        reference.fit(found[fold.train], responses(fold.train).astype(np.float64))
        predictions.append(reference.predict(found[fold.validation]))
    together = np.concatenate(predictions)
    true = responses(split.scored)
    expected = [pearsonr(together[:, i], true[:, i]).statistic for i in range(20)]
    result = evaluator.evaluate(trial)
    np.testing.assert_allclose(result.accuracy, expected, atol=1e-5)
    np.testing.assert_allclose(evaluator.predict(trial)[1][:, :], together, atol=1e-4 * np.abs(together).max())
    assert result.objective.summaries.keys() == {WHOLE, *setting.first.dataset.rois}


def test_a_study_in_folds_runs_to_its_end(make_spec: MakeSpec, finished_copy: Path) -> None:
    outcome = run_study(make_spec(split={"seed": 3, "folds": 4}, trials=4), finished_copy)
    assert outcome.published is not None
    assert np.isfinite(outcome.published.score)


class Broken(KNeighbors):
    """A regressor of one's own that does something in `fit` that it must not do."""

    def __init__(self, how: str = "") -> None:
        super().__init__(n_neighbors=3)
        self.how = how

    def fit(self, X: Any, Y: Any) -> Any:
        if self.how == "writes":
            Y[:] = 0
        if self.how in ("predicts NaN", "predicts one voxel"):
            return super().fit(X, Y)
        if self.how == "exits":
            sys.exit(0)
        raise KeyError(self.how)

    def predict(self, X: Any) -> Any:
        return super().predict(X) * np.nan if self.how == "predicts NaN" else super().predict(X)[:, :1]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("writes", r"work on these rows\. Got ValueError: assignment destination is read-only"),
        ("exits", r"work on these rows\. Got SystemExit: 0"),
        ("fails", r"work on these rows\. Got KeyError: 'fails'"),
        ("predicts NaN", r"predict finite numbers of shape .* Got NaN or infinity"),
        ("predicts one voxel", r"predict finite numbers of shape .*, 20\)\. Got shape .*, 1\)"),
    ],
)
def test_a_regressor_that_misbehaves_fails_alone(
    setting: Setting, spec: TrialSpec, monkeypatch: pytest.MonkeyPatch, how: str, told: str
) -> None:
    monkeypatch.setitem(REGRESSORS._loaded, "broken", (Plugin.of("regressor", "broken", Path(__file__)), Broken))
    sound = spec.model_copy(update={"regressor": "k_neighbors", "parameters": {"n_neighbors": 3}})
    broken = spec.model_copy(update={"regressor": "broken", "parameters": {"how": how}})
    expected, evaluator = setting.first.evaluator().evaluate(sound), setting.first.evaluator()
    with pytest.raises(FitError, match=f"^The regressor 'broken' must {told}"):
        evaluator.evaluate(broken)
    np.testing.assert_array_equal(evaluator.evaluate(sound).accuracy, expected.accuracy)


class Odd(Metric):
    """A metric of one's own that does not do as it must."""

    label = "odd"

    def __init__(self, from_rows: Callable[[Any, Any], Any]) -> None:
        self._from_rows = from_rows

    def from_rows(self, Y: Any, P: Any) -> Any:
        return self._from_rows(Y, P)


def overwriting(Y: Any, P: Any) -> Any:
    P[:] = Y
    return np.ones(Y.shape[1])


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (lambda Y, P: 1.0, r"scores of the metric 'odd' must be of shape \(20,\)\. Got \(\)"),
        (lambda Y, P: np.ones(len(Y) + 1), r"scores of the metric 'odd' must be of shape \(20,\)"),
        (lambda Y, P: vars(Odd)["absent"], "The metric 'odd' must work on these rows. Got KeyError: 'absent'"),
        (lambda Y, P: np.full(20, -np.inf), r"scores of the metric 'odd' must be NaN or within 1e\+150\. Got inf\."),
        (overwriting, "The metric 'odd' must work on these rows. Got ValueError: .* read-only"),
    ],
)
def test_a_metric_that_misbehaves_is_told(
    setting: Setting, spec: TrialSpec, score: Callable[[Any, Any], Any], told: str
) -> None:
    sound = setting.first.evaluator()
    evaluator = Evaluator(
        sound._development, setting.first.split, sound._banks, setting.first.n_components, {"odd": Odd(score)}
    )
    with pytest.raises((FitError, ShapeError), match=told):
        evaluator.evaluate(spec.model_copy(update={"regressor": "k_neighbors", "parameters": {"n_neighbors": 3}}))


def test_moments_beyond_the_memory_for_them_are_in_arrays_that_are_made_for_them(
    setting: Setting, spec: TrialSpec, tmp_path: Path
) -> None:
    made: list[Any] = []

    def make(shape: tuple[int, ...], kind: Any) -> Any:
        made.append(scratch_array(tmp_path, shape, kind, large_bytes=1))
        return made[-1]

    sound, part = setting.first.evaluator(), setting.first
    parts = sound._development, part.split, sound._banks, part.n_components, part.metrics
    calm, narrow = (Evaluator(*parts, moments_bytes=n_bytes, make=make) for n_bytes in (1 << 30, 1))
    expected = calm.evaluate(spec)
    assert made == []
    found = narrow.evaluate(spec)
    assert [(type(array), len(array)) for array in made] == [(np.memmap, part.n_components)] * 2
    np.testing.assert_array_equal(found.estimator.coef_, expected.estimator.coef_)
    np.testing.assert_array_equal(found.accuracy, expected.accuracy)
    assert list(tmp_path.iterdir()) == []


def test_a_single_number_of_a_fit_is_stored_as_one() -> None:
    assert [_float32(np.asarray(number)).shape for number in (5, 0.5, [0.5])] == [(), (), (1,)]
