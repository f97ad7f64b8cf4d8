"""Partial least squares from moments against scikit-learn's from rows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.cross_decomposition import PLSRegression
from sklearn.exceptions import ConvergenceWarning

from img2brain.errors import FitError
from img2brain.moments import Moments
from img2brain.regressors.pls import PLS

Array = NDArray[np.float64]


def some_rows(seed: int, n: int, k: int, v: int) -> tuple[Array, Array]:
    """Correlated features of unequal scale that are not centred, and noisy responses; twice as many rows as asked."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((2 * n, k)) * np.geomspace(1, 0.01, k) + 0.7 * rng.standard_normal((2 * n, 1)) + 3
    return X, X @ rng.standard_normal((k, v)) + rng.standard_normal((2 * n, v)) * np.linspace(0.1, 10, v) + 5


def pair(X: Array, Y: Array, **parameters: Any) -> tuple[Any, Any]:
    """Fit ours and scikit-learn's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return PLS(**parameters).fit(X, Y), PLSRegression(**parameters).fit(X, Y)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(12, 60), k=st.integers(1, 11), v=st.integers(1, 30),
    n_components=st.integers(1, 11), scale=st.booleans(), one_axis=st.booleans(),
)  # fmt: skip
def test_predicts_as_scikit_learn(
    seed: int, n: int, k: int, v: int, n_components: int, scale: bool, one_axis: bool
) -> None:
    X, Y = some_rows(seed, n, k, v)
    Y = Y[:, 0] if one_axis else Y
    ours, peer = pair(X[:n], Y[:n], n_components=min(n_components, k), scale=scale)
    expected = peer.predict(X[n:]).reshape(Y[n:].shape)
    np.testing.assert_allclose(ours.predict(X[n:]), expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("size", [(120, 30, 80), (30, 60, 12), (80, 20, 3)])
@pytest.mark.parametrize("scale", [True, False])
def test_takes_the_steps_of_scikit_learn(size: tuple[int, int, int], scale: bool) -> None:
    X, Y = some_rows(0, *size)
    ours, peer = pair(X, Y, n_components=12, scale=scale)
    assert ours.n_iter_ == max(peer.n_iter_)
    assert ours.converged_.shape == (12,)
    np.testing.assert_allclose(ours.coef_, peer.coef_, rtol=0, atol=1e-10 * np.abs(peer.coef_).max())


@pytest.mark.parametrize("max_iter", [1, 2, 5])
def test_stops_where_scikit_learn_does_and_says_so(max_iter: int) -> None:
    X, Y = some_rows(1, 40, 10, 12)
    ours, peer = pair(X, Y, n_components=3, max_iter=max_iter, tol=1e-15)
    np.testing.assert_allclose(ours.predict(X), peer.predict(X), atol=1e-9)
    assert not ours.converged_.any()
    with pytest.warns(ConvergenceWarning, match=f"The pls did not converge in {max_iter} steps in 3 of 3 directions"):
        PLS(n_components=3, max_iter=max_iter, tol=1e-15).fit(X, Y)


def test_all_directions_are_least_squares() -> None:
    X, Y = some_rows(2, 40, 6, 4)
    ours = PLS(n_components=6).fit(X, Y)
    expected = np.linalg.lstsq(X - X.mean(axis=0), Y - Y.mean(axis=0))[0]
    np.testing.assert_allclose(ours.coef_.T, expected, atol=1e-8)


def test_more_directions_than_the_rows_span_are_refused() -> None:
    X, Y = some_rows(3, 4, 12, 3)
    message = r"^The 'n_components' of pls must be at most 7, the dimensions that the rows span\. Got 8\.$"
    with pytest.raises(FitError, match=message):
        PLS(n_components=8).fit(X, Y)
    PLS(n_components=7).fit(X, Y)
    doubled = np.concatenate([X[:, :2], X[:, :2] * 3 + 1], axis=1)
    with pytest.raises(FitError, match="must be at most 2"):
        PLS(n_components=3).fit(doubled, Y)


def test_directions_end_where_nothing_is_left_to_tell() -> None:
    rng = np.random.default_rng(4)
    X = rng.standard_normal((40, 5))
    X, _ = np.linalg.qr(X - X.mean(axis=0))
    Y = np.outer(X[:, 0], [1.0, -2.0])
    fitted = PLS(n_components=5, scale=False).fit(X, Y)
    assert len(fitted.converged_) < 5
    np.testing.assert_allclose(fitted.predict(X), Y, atol=1e-12)
    constant = PLS(n_components=3).fit(X, np.full((40, 2), 0.1))
    assert not constant.coef_.any()
    np.testing.assert_allclose(constant.intercept_, 0.1)


def test_constant_features_and_voxels_have_no_part() -> None:
    X, Y = some_rows(5, 40, 5, 6)
    plain = PLS(n_components=3).fit(X, Y)
    fitted = PLS(n_components=3).fit(np.insert(X, 2, 0.1, axis=1), np.insert(Y, 0, 0.3, axis=1))
    np.testing.assert_allclose(np.delete(fitted.coef_, 2, axis=1)[1:], plain.coef_, atol=1e-10)
    assert not fitted.coef_[0].any()
    assert not fitted.coef_[:, 2].any()


def test_moments_are_those_of_any_number_of_rows_and_folds() -> None:
    X, Y = some_rows(6, 40, 9, 7)
    folds = [Moments.from_rows(X[start : start + 16], Y[start : start + 16]) for start in range(0, 80, 16)]
    by_folds, by_rows = PLS(n_components=4).fit_folds(folds), PLS(n_components=4).fit(X, Y)
    np.testing.assert_allclose(by_folds.coef_, by_rows.coef_, atol=1e-10)
    again = PLS.from_arrays(by_rows.get_params(), by_rows.to_arrays())
    assert set(by_rows.to_arrays()) == {"coef_", "intercept_"}
    np.testing.assert_array_equal(again.predict(X), by_rows.predict(X))
