"""The lasso family against the conditions of its minimum and a second solver, and what it must keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from img2brain.errors import FitError
from img2brain.moments import Moments
from img2brain.regressors._descent import EachVoxel, PenalisedLeastSquares, descend
from img2brain.regressors.elastic_net import ElasticNet
from img2brain.regressors.lasso import Lasso
from img2brain.regressors.multi_task_elastic_net import MultiTaskElasticNet
from img2brain.regressors.multi_task_lasso import MultiTaskLasso

Array = NDArray[np.float64]
SINGLE, TOGETHER = [Lasso, ElasticNet], [MultiTaskLasso, MultiTaskElasticNet]
ALL = SINGLE + TOGETHER


def some_rows(seed: int = 0, n: int = 60, k: int = 20, v: int = 8) -> tuple[Array, Array]:
    """Correlated features, so that one sweep is not enough."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, k)) + 0.7 * rng.standard_normal((n, 1))
    return X, X @ (rng.standard_normal((k, v)) * (rng.random((k, 1)) < 0.5)) + rng.standard_normal((n, v))


def below_scale(kind: Any, moments: Moments, share: float, **parameters: Any) -> Any:
    return kind(alpha=share * kind(**parameters).alpha_scale(moments), **parameters)


def sizes(kind: Any, W: Array) -> Array:
    """What the penalty adds up: absolute values, or norms of rows."""
    return np.abs(W) if kind in SINGLE else np.linalg.norm(W, axis=1, keepdims=True)


def objective(regressor: Any, X: Array, Y: Array, W: Array) -> float:
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    l1, l2 = regressor.alpha * regressor.l1_ratio, regressor.alpha * (1 - regressor.l1_ratio)
    penalties = l1 * sizes(type(regressor), W).sum() + 0.5 * l2 * (W**2).sum()
    return float(0.5 * ((Y - X @ W) ** 2).sum() / len(X) + penalties)


def by_proximal_gradient(regressor: Any, X: Array, Y: Array, n_steps: int = 20_000) -> Array:
    """Minimise by plain gradient steps and thresholds, accelerated: slow, short, and another way altogether."""
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    l1, l2 = regressor.alpha * regressor.l1_ratio, regressor.alpha * (1 - regressor.l1_ratio)
    step = 1.0 / (np.linalg.norm(X, 2) ** 2 / len(X) + l2)
    W = ahead = np.zeros((X.shape[1], Y.shape[1]))
    momentum = 1.0
    for _ in range(n_steps):
        moved = ahead - step * (X.T @ (X @ ahead - Y) / len(X) + l2 * ahead)
        size = sizes(type(regressor), moved)
        new = moved * np.maximum(1 - step * l1 / np.maximum(size, 1e-300), 0)
        momentum, before = (1 + np.sqrt(1 + 4 * momentum**2)) / 2, momentum
        W, ahead = new, new + (before - 1) / momentum * (new - W)
    return W


@pytest.mark.parametrize("size", [(60, 20, 8), (15, 25, 6)])
@pytest.mark.parametrize("kind", ALL)
def test_equals_proximal_gradient(kind: Any, size: tuple[int, int, int]) -> None:
    X, Y = some_rows(1, *size)
    regressor = below_scale(kind, Moments.from_rows(X, Y), 0.05).fit(X, Y)
    peer = by_proximal_gradient(regressor, X, Y)
    np.testing.assert_allclose(regressor.coef_.T, peer, atol=1e-5)
    assert objective(regressor, X, Y, regressor.coef_.T) <= objective(regressor, X, Y, peer) + 1e-7


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from(ALL), st.floats(0.02, 0.9), st.integers(5, 40), st.integers(1, 40))
@example(6, Lasso, 0.125, 6, 6)  # more features in use than the rows have dimensions: sweeps take equal steps
@example(742793292, MultiTaskElasticNet, 0.24, 5, 32)  # a chunk of features at a time is all that are in use
def test_conditions_of_the_minimum_hold(seed: int, kind: Any, share: float, n: int, k: int) -> None:
    X, Y = some_rows(seed, n, k, 4)
    moments = Moments.from_rows(X, Y)
    regressor = below_scale(kind, moments, share, tol=1e-12, max_iter=20_000).fit_moments(moments)
    assert kind in TOGETHER or regressor.n_iter_ < 1000
    W = regressor.coef_.T
    l1, l2 = n * regressor.alpha * regressor.l1_ratio, n * regressor.alpha * (1 - regressor.l1_ratio)
    slope = moments.xy - moments.xx @ W - l2 * W
    size, slack = sizes(kind, W), 1e-4 * l1
    assert sizes(kind, slope).max() <= l1 + slack
    used = (size > 0) & np.ones_like(W, dtype=bool)
    np.testing.assert_allclose(slope[used], (l1 * W / np.maximum(size, 1e-300))[used], atol=slack)


@pytest.mark.parametrize("kind", ALL)
def test_the_gap_bounds_the_distance_from_the_minimum(kind: Any) -> None:
    X, Y = some_rows()
    moments = Moments.from_rows(X, Y)
    best = below_scale(kind, moments, 0.02, tol=1e-13, max_iter=50_000).fit(X, Y)
    for n_iter in (1, 2, 4, 6) if kind in SINGLE else (1, 2, 6, 20):
        with pytest.warns(ConvergenceWarning, match=f"The {kind.component_name()} did not converge in {n_iter} sweeps"):
            rough = below_scale(kind, moments, 0.02, tol=1e-13, max_iter=n_iter).fit(X, Y)
        above = objective(rough, X, Y, rough.coef_.T) - objective(best, X, Y, best.coef_.T)
        assert 0 < above <= rough.dual_gap_.sum() * (1 + 1e-9)
        assert not rough.converged_.all()
        assert rough.n_iter_ == n_iter
    assert best.converged_.all()
    assert best.dual_gap_.sum() < 1e-9


@pytest.mark.parametrize("kind", ALL)
def test_the_scale_of_alpha_is_the_least_that_leaves_nothing_in_half_of_the_voxels(kind: Any) -> None:
    moments = Moments.from_rows(*some_rows(v=9))  # odd, so that the scale is that of one voxel
    left = below_scale(kind, moments, 1.000001).fit_moments(moments).coef_.any(axis=1)
    assert left.sum() == (4 if kind in SINGLE else 0)
    left = below_scale(kind, moments, 0.99).fit_moments(moments).coef_.any(axis=1)
    assert left.sum() >= (5 if kind in SINGLE else 9)
    assert kind().alpha_scale(Moments.from_rows(np.eye(3), np.ones((3, 1)))) == 1.0


@pytest.mark.parametrize("kind", [ElasticNet, MultiTaskElasticNet])
@pytest.mark.parametrize("l1_ratio", [0.1, 0.9])
def test_the_scale_of_alpha_follows_the_share_of_the_lasso(kind: Any, l1_ratio: float) -> None:
    moments = Moments.from_rows(*some_rows())
    assert kind(l1_ratio=l1_ratio).alpha_scale(moments) == pytest.approx(
        kind(l1_ratio=1.0).alpha_scale(moments) / l1_ratio
    )


@pytest.mark.parametrize("kind", ALL)
def test_the_first_sweeps_are_enough_on_principal_components(kind: Any) -> None:
    X, Y = some_rows()
    X = X - X.mean(axis=0)
    moments = Moments.from_rows(X @ np.linalg.svd(X, full_matrices=False)[2].T, Y)
    regressor = below_scale(kind, moments, 0.05).fit_moments(moments)
    assert regressor.n_iter_ == 2
    assert regressor.converged_.all()


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_coefficients_scale_with_the_responses(kind: Any, factor: float) -> None:
    X, Y = some_rows()
    once = kind(alpha=0.1, l1_ratio=1.0) if kind in (ElasticNet, MultiTaskElasticNet) else kind(alpha=0.1)
    more = clone(once).set_params(alpha=0.1 * factor)
    np.testing.assert_allclose(more.fit(X, factor * Y).coef_ / factor, once.fit(X, Y).coef_, atol=1e-6)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_one_unit_for_all_changes_only_alpha(kind: Any, factor: float) -> None:
    X, Y = some_rows()
    small, large = kind(alpha=0.1), kind(alpha=0.1 * factor**2)
    np.testing.assert_allclose(large.fit(factor * X, factor * Y).coef_, small.fit(X, Y).coef_, atol=1e-6)


@pytest.mark.parametrize("kind", SINGLE)
def test_a_voxel_does_not_depend_on_the_others(kind: Any) -> None:
    class InBlocks(kind):  # type: ignore[misc]
        block = 3

    X, Y = some_rows(v=11)
    Y *= np.geomspace(0.3, 3, 11)
    together = kind(alpha=0.05).fit(X, Y).coef_
    alone = [kind(alpha=0.05).fit(X, Y[:, j]).coef_ for j in range(11)]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(InBlocks(alpha=0.05).fit(X, Y).coef_, together, atol=1e-6)


@pytest.mark.parametrize("kind", TOGETHER)
def test_voxels_share_their_features(kind: Any) -> None:
    moments = Moments.from_rows(*some_rows())
    used = below_scale(kind, moments, 0.3).fit_moments(moments).coef_ != 0
    assert 0 < used.any(axis=0).sum() < moments.n_features
    np.testing.assert_array_equal(used.all(axis=0), used.any(axis=0))


@pytest.mark.parametrize("kind", TOGETHER)
def test_a_rotation_of_voxels_rotates_the_coefficients(kind: Any) -> None:
    X, Y = some_rows(v=5)
    rotation, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((5, 5)))
    regressor = kind(alpha=0.3)
    np.testing.assert_allclose(
        regressor.fit(X, Y).coef_.T @ rotation, regressor.fit(X, Y @ rotation).coef_.T, atol=1e-6
    )


@pytest.mark.parametrize(("mixed", "pure"), [(ElasticNet, Lasso), (MultiTaskElasticNet, MultiTaskLasso)])
def test_without_ridge_an_elastic_net_is_a_lasso(mixed: Any, pure: Any) -> None:
    X, Y = some_rows()
    np.testing.assert_array_equal(mixed(alpha=0.1, l1_ratio=1.0).fit(X, Y).coef_, pure(alpha=0.1).fit(X, Y).coef_)


def test_one_voxel_is_the_same_together_or_alone() -> None:
    X, Y = some_rows(v=1)
    np.testing.assert_allclose(MultiTaskLasso(alpha=0.1).fit(X, Y).coef_, Lasso(alpha=0.1).fit(X, Y).coef_, atol=1e-6)


@pytest.mark.parametrize("kind", ALL)
def test_a_constant_feature_is_left_out(kind: Any) -> None:
    X, Y = some_rows()
    with_constant = np.insert(X, 3, 0.1, axis=1)
    fitted = kind(alpha=0.05).fit(with_constant, Y)
    assert not fitted.coef_[:, 3].any()
    np.testing.assert_allclose(np.delete(fitted.coef_, 3, axis=1), kind(alpha=0.05).fit(X, Y).coef_, atol=1e-6)


def test_moments_of_no_data_are_refused() -> None:
    problem = PenalisedLeastSquares(np.eye(2), np.full((2, 1), np.nan), np.ones(1), 0.1, 0.0, EachVoxel())
    with pytest.raises(FitError, match="belong to no data"):
        descend(problem, 1e-8, 10)
