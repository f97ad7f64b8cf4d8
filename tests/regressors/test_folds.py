"""Cross-validated alphas against scikit-learn's and himalaya's, fitted and scored on rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import linear_model
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score

from img2brain.errors import FitError
from img2brain.moments import Moments
from img2brain.regressors._folds import FoldedRegressor
from img2brain.regressors.base import folds_of
from img2brain.regressors.elastic_net_cv import ElasticNetCV
from img2brain.regressors.lasso_cv import LassoCV
from img2brain.regressors.multi_task_elastic_net_cv import MultiTaskElasticNetCV
from img2brain.regressors.multi_task_lasso_cv import MultiTaskLassoCV
from img2brain.regressors.ridge_cv import RidgeCV

Array = NDArray[np.float64]
ALPHAS = (0.03, 100.0, 0.3, 3.0)
EXACT = {"tol": 1e-12, "max_iter": 100_000}
PER_VOXEL: list[Any] = [
    (RidgeCV, linear_model.Ridge(), "r2"),
    (LassoCV, linear_model.Lasso(**EXACT), "neg_mean_squared_error"),
    (ElasticNetCV, linear_model.ElasticNet(**EXACT), "neg_mean_squared_error"),
]
TOGETHER: list[Any] = [
    (MultiTaskLassoCV, linear_model.MultiTaskLasso(**EXACT), "neg_mean_squared_error"),
    (MultiTaskElasticNetCV, linear_model.MultiTaskElasticNet(**EXACT), "neg_mean_squared_error"),
]
ALL: list[type[FoldedRegressor]] = [kind for kind, _, _ in PER_VOXEL + TOGETHER]
# Images, features, voxels: folds of unequal size, and of fewer rows than features.
SIZES = [(100, 8, 7), (40, 30, 12)]


def some_rows(n: int, k: int, v: int, seed: int = 0) -> tuple[Array, Array]:
    """Features and responses that are not centred, whose voxels differ in signal, drifting from fold to fold."""
    rng = np.random.default_rng(seed + n)
    X = rng.standard_normal((n, k)) * np.linspace(2, 0.5, k) + rng.standard_normal(k) + np.linspace(0, 1, n)[:, None]
    signal = X @ (rng.standard_normal((k, v)) * (rng.random((k, 1)) < 0.5))
    return X, signal * np.linspace(0, 2, v) + 3 * rng.standard_normal((n, v)) + 5


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kind", "plain", "scoring"), PER_VOXEL + TOGETHER)
def test_one_alpha_for_all_is_that_of_a_grid_search(
    kind: Any, plain: Any, scoring: str, size: tuple[int, int, int]
) -> None:
    X, Y = some_rows(*size)
    ours = kind(ALPHAS).fit(X, Y)
    peer = GridSearchCV(plain, {"alpha": ours.alphas_}, scoring=scoring, cv=KFold(3)).fit(X, Y)
    np.testing.assert_allclose(ours.cv_scores_, peer.cv_results_["mean_test_score"], rtol=1e-5)
    assert ours.alpha_ == peer.best_params_["alpha"]
    np.testing.assert_allclose(ours.coef_, peer.best_estimator_.coef_, atol=1e-5)
    np.testing.assert_allclose(ours.intercept_, peer.best_estimator_.intercept_, atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kind", "plain", "scoring"), PER_VOXEL)
def test_an_alpha_per_voxel_is_that_of_a_search_in_each(
    kind: Any, plain: Any, scoring: str, size: tuple[int, int, int]
) -> None:
    X, Y = some_rows(*size)
    ours = kind(ALPHAS, per_voxel=True, cv=4).fit(X, Y)
    for j, y in enumerate(Y.T):
        peer = GridSearchCV(plain, {"alpha": ours.alphas_}, scoring=scoring, cv=4).fit(X, y)
        np.testing.assert_allclose(ours.cv_scores_[:, j], peer.cv_results_["mean_test_score"], rtol=1e-5, atol=1e-9)
        assert ours.alpha_[j] == peer.best_params_["alpha"]
        np.testing.assert_allclose(ours.coef_[j], peer.best_estimator_.coef_, atol=1e-5)
    assert len(set(ours.alpha_)) > 1, "else this shows little"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("ours", "peer"),
    [
        (RidgeCV(ALPHAS), linear_model.RidgeCV(ALPHAS, cv=KFold(3))),
        (MultiTaskLassoCV(ALPHAS), linear_model.MultiTaskLassoCV(alphas=list(ALPHAS), cv=3, **EXACT)),
        (MultiTaskElasticNetCV(ALPHAS), linear_model.MultiTaskElasticNetCV(alphas=list(ALPHAS), cv=3, **EXACT)),
    ],
)
def test_equals_scikit_learns_own_cross_validation(ours: Any, peer: Any, size: tuple[int, int, int]) -> None:
    X, Y = some_rows(*size)
    ours, peer = clone(ours).fit(X, Y), clone(peer).fit(X, Y)
    assert ours.alpha_ == peer.alpha_
    np.testing.assert_allclose(ours.coef_, peer.coef_, atol=1e-5)


@pytest.mark.parametrize(
    ("ours", "peer"),
    [
        (LassoCV(ALPHAS, per_voxel=True), linear_model.LassoCV(alphas=list(ALPHAS), cv=3, **EXACT)),
        (
            ElasticNetCV(ALPHAS, per_voxel=True, l1_ratio=0.8),
            linear_model.ElasticNetCV(alphas=list(ALPHAS), l1_ratio=0.8, cv=3, **EXACT),
        ),
    ],
)
def test_equals_scikit_learns_own_cross_validation_in_each_voxel(ours: Any, peer: Any) -> None:
    X, Y = some_rows(*SIZES[0])
    ours = clone(ours).fit(X, Y)
    peers = [clone(peer).fit(X, y) for y in Y.T]
    np.testing.assert_array_equal(ours.alpha_, [item.alpha_ for item in peers])
    np.testing.assert_allclose(ours.coef_, [item.coef_ for item in peers], atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.filterwarnings("ignore:Solving ridge is slower:UserWarning")
def test_ridge_equals_himalaya(size: tuple[int, int, int]) -> None:
    himalaya = pytest.importorskip("himalaya.ridge")
    scoring = pytest.importorskip("himalaya.scoring")
    X, Y = some_rows(*size)
    alphas = np.logspace(-2, 4, 20)
    ours = RidgeCV(alphas, per_voxel=True).fit(X, Y)
    peer = himalaya.RidgeCV(alphas, fit_intercept=True, cv=3, solver_params={"score_func": scoring.r2_score}).fit(X, Y)
    np.testing.assert_allclose(ours.alpha_, peer.best_alphas_, rtol=1e-9)
    np.testing.assert_allclose(ours.coef_.T, peer.coef_, atol=1e-8)
    np.testing.assert_allclose(ours.intercept_, peer.intercept_, atol=1e-8)
    np.testing.assert_allclose(ours.cv_scores_.max(axis=0), peer.cv_scores_, atol=1e-8)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(6, 40), st.integers(1, 9), st.integers(1, 6), st.integers(2, 3))
def test_a_score_from_moments_is_that_of_predictions(seed: int, n: int, k: int, v: int, cv: int) -> None:
    X, Y = some_rows(n, k, v, seed)
    ours = RidgeCV((0.1, 10.0), cv=cv).fit(X, Y)
    rows = [cross_val_score(linear_model.Ridge(alpha), X, Y, cv=cv, scoring="r2").mean() for alpha in (10.0, 0.1)]
    np.testing.assert_allclose(ours.cv_scores_, rows, rtol=1e-6, atol=1e-8)


@given(st.integers(2, 50), st.integers(2, 9))
def test_folds_are_those_of_scikit_learn(n: int, cv: int) -> None:
    expected = [held.tolist() for _, held in KFold(min(n, cv)).split(np.empty(n))]
    assert [list(range(n))[fold] for fold in folds_of(n, cv)] == expected
    assert folds_of(n, 1) == [slice(0, n)]


@pytest.mark.parametrize("kind", ALL)
def test_moments_of_folds_are_enough(kind: Any) -> None:
    X, Y = some_rows(*SIZES[0])
    folds = [Moments.from_rows(X[held], Y[held]) for _, held in KFold(3).split(X)]
    by_rows, by_folds = kind().fit(X, Y), kind().fit_folds(folds)
    np.testing.assert_array_equal(by_rows.coef_, by_folds.coef_)
    np.testing.assert_array_equal(by_rows.cv_scores_, by_folds.cv_scores_)
    assert by_rows.n_features_in_ == by_folds.n_features_in_ == X.shape[1]


@pytest.mark.parametrize("kind", [RidgeCV, LassoCV, ElasticNetCV])
def test_blocks_of_voxels_change_nothing(kind: Any) -> None:
    class InBlocks(kind):  # type: ignore[misc]
        block = 3

    X, Y = some_rows(90, 4, 11)
    whole = kind(per_voxel=True).fit(X, Y)
    blocks = InBlocks(per_voxel=True).fit(X, Y)
    np.testing.assert_allclose(whole.cv_scores_, blocks.cv_scores_, rtol=1e-9)
    np.testing.assert_array_equal(whole.alpha_, blocks.alpha_)


@pytest.mark.parametrize(("kind", "per_voxel"), [(kind, False) for kind in ALL] + [(kind, True) for kind in ALL[:3]])
def test_moments_may_be_tensors(kind: Any, per_voxel: bool, device: str) -> None:
    X, Y = some_rows(*SIZES[0])
    Y[:, 1] = 2.0
    folds = [Moments.from_rows(X[fold], Y[fold]) for fold in folds_of(len(X), 3)]
    parameters = {"per_voxel": True} if per_voxel else {}
    by_arrays = kind(**parameters).fit_folds(folds)
    by_tensors = kind(**parameters).fit_folds([fold.to(device) for fold in folds])
    for name in (*kind.arrays, "cv_scores_", "alphas_"):
        found = getattr(by_tensors, name)
        assert isinstance(found, float | np.ndarray)
        np.testing.assert_allclose(found, getattr(by_arrays, name), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", ALL)
def test_default_alphas_span_the_search_range_of_the_plain_regressor(kind: Any) -> None:
    X, Y = some_rows(*SIZES[0])
    fitted = kind().fit(X, Y)
    scale = kind.plain().alpha_scale(Moments.from_rows(X, Y))
    range_ = kind.plain.search["alpha"]
    assert len(fitted.alphas_) == 20
    np.testing.assert_allclose(fitted.alphas_[[0, -1]], [range_.high * scale, range_.low * scale], rtol=1e-9)
    np.testing.assert_allclose(np.diff(np.log(fitted.alphas_), 2), 0, atol=1e-9)


@pytest.mark.parametrize("kind", [RidgeCV, LassoCV, ElasticNetCV])
def test_what_is_fitted_has_an_entry_for_each_voxel_or_one_for_all(kind: Any) -> None:
    X, Y = some_rows(*SIZES[0])
    each, shared = kind(ALPHAS, per_voxel=True).fit(X, Y), kind(ALPHAS).fit(X, Y)
    assert (each.alpha_.shape, each.cv_scores_.shape) == ((7,), (4, 7))
    assert isinstance(shared.alpha_, float)
    assert shared.cv_scores_.shape == (4,)
    single = kind(ALPHAS, per_voxel=True).fit(X, Y[:, 2])
    assert isinstance(single.alpha_, float)
    assert (single.alpha_, single.coef_.shape, single.cv_scores_.shape) == (each.alpha_[2], (8,), (4,))
    if kind is not RidgeCV:
        assert each.converged_.shape == (7,)


def test_of_equally_good_alphas_the_largest_is_taken() -> None:
    X, Y = some_rows(*SIZES[0])
    Y[:, 1] = 2.0
    fitted = RidgeCV(ALPHAS, per_voxel=True).fit(X, Y)
    assert fitted.alpha_[1] == max(ALPHAS)
    assert not fitted.cv_scores_[:, 1].any()
    assert fitted.intercept_[1] == pytest.approx(2.0)
    assert LassoCV((1e3, 1e4)).fit(X, Y).alpha_ == 1e4


def test_a_voxel_that_is_constant_in_a_fold_still_has_a_score() -> None:
    X, Y = some_rows(*SIZES[0])
    Y[:40, 1] = 0.5
    fitted = RidgeCV(per_voxel=True).fit(X, Y)
    assert np.isfinite(fitted.cv_scores_).all()
    assert np.isfinite(fitted.coef_).all()


@pytest.mark.parametrize("kind", ALL)
def test_too_few_rows_for_the_folds_are_refused(kind: Any) -> None:
    X, Y = some_rows(7, 2, 2)
    with pytest.raises(FitError, match=r"needs at least 2 folds of at least 2 rows\. Got \[2, 2, 2, 1\]\."):
        kind(cv=4).fit(X, Y)
    with pytest.raises(FitError, match=r"Got \[1, 1, 1, 1, 1, 1, 1\]\."):
        kind(cv=100).fit(X, Y)
    with pytest.raises(FitError, match=r"Got \[7\]\."):
        kind().fit_folds([Moments.from_rows(X, Y)])
    kind().fit(X, Y)


@pytest.mark.parametrize("kind", ALL)
def test_the_alpha_is_stored(kind: Any) -> None:
    X, Y = some_rows(*SIZES[0])
    fitted = kind().fit(X, Y)
    again = kind.from_arrays(fitted.get_params(), fitted.to_arrays())
    np.testing.assert_array_equal(again.alpha_, fitted.alpha_)
