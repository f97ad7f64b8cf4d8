"""Linear and ridge regression against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from img2brain.moments import Moments
from img2brain.regressors.linear import Linear
from img2brain.regressors.ridge import Ridge

seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(4, 20), st.integers(1, 12), st.integers(1, 4))


def some_moments(seed: int, size: tuple[int, int, int]) -> tuple[Moments, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n, k, v = size
    X, Y = rng.standard_normal((n, k)) + 1, rng.standard_normal((n, v)) - 1
    return Moments.from_rows(X, Y), X - X.mean(axis=0), Y - Y.mean(axis=0)


@given(seeds, sizes, st.floats(1e-2, 1e4))
def test_ridge_solves_the_normal_equations(seed: int, size: tuple[int, int, int], alpha: float) -> None:
    moments, X, Y = some_moments(seed, size)
    coef = Ridge(alpha).fit_moments(moments).coef_.T
    np.testing.assert_allclose(X.T @ (Y - X @ coef), alpha * coef, atol=1e-9)


@given(seeds, sizes)
def test_linear_is_least_squares_of_least_norm(seed: int, size: tuple[int, int, int]) -> None:
    moments, X, Y = some_moments(seed, size)
    smallest = np.linalg.svd(X, compute_uv=False)[: min(X.shape[0] - 1, X.shape[1])].min()
    coef = Linear().fit_moments(moments).coef_.T
    np.testing.assert_allclose(coef, np.linalg.pinv(X, rcond=1e-7) @ Y, atol=1e-10 / min(smallest, 1) ** 3)


@given(seeds, sizes, st.floats(-5, 5))
def test_coefficients_scale_with_the_responses(seed: int, size: tuple[int, int, int], factor: float) -> None:
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((size[0], size[1])), rng.standard_normal((size[0], size[2]))
    for regressor in (Ridge(0.5), Linear()):
        once = regressor.fit(X, Y).coef_
        np.testing.assert_allclose(
            regressor.fit(X, factor * Y).coef_, factor * once, atol=1e-9 * (1 + np.abs(once).max())
        )


@pytest.mark.parametrize("size", [(30, 6, 3), (10, 20, 3)])
def test_ridge_tends_to_linear(size: tuple[int, int, int]) -> None:
    moments, _, _ = some_moments(0, size)
    linear = Linear().fit_moments(moments).coef_
    off = [np.abs(Ridge(alpha).fit_moments(moments).coef_ - linear).max() for alpha in (1e-2, 1e-4, 1e-6)]
    assert off[0] > off[1] > off[2]
    assert off[2] < 1e-5


def test_equal_and_constant_features_share_the_least_norm() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 1))
    X = np.hstack([x, x, np.full_like(x, 3.0)])
    for regressor in (Linear(), Ridge(1e-9)):
        np.testing.assert_allclose(regressor.fit(X, 4 * x).coef_, [[2.0, 2.0, 0.0]], atol=1e-7)


def test_the_scale_of_alpha_halves_the_average_direction() -> None:
    rng = np.random.default_rng(0)
    X, _ = np.linalg.qr(rng.standard_normal((40, 5)) - 0.3)
    X = 7 * (X - X.mean(axis=0))
    moments = Moments.from_rows(X, X)
    assert Ridge().alpha_scale(moments) == pytest.approx(np.linalg.eigvalsh(X.T @ X).mean())
    assert Ridge().alpha_scale(Moments.from_rows(10 * X, X)) == pytest.approx(100 * Ridge().alpha_scale(moments))
    assert Ridge().alpha_scale(Moments.from_rows(np.ones((3, 2)), np.ones((3, 1)))) == 1.0
