"""The coefficient of determination against two references, and where it is undefined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from img2brain.metrics.base import Sums
from img2brain.metrics.r2 import R2


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.floats(-100, 100), st.floats(0.01, 100))
def test_equals_scikit_learn_and_its_definition(seed: int, n: int, offset: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    Y, P = rng.standard_normal((2, n, 4))
    Y, P = scale * Y + offset, scale * (Y + P)
    found = R2().from_rows(Y, P)
    by_definition = 1 - ((Y - P) ** 2).sum(axis=0) / ((Y - Y.mean(axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose(found, r2_score(Y, P, multioutput="raw_values"), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found, by_definition, rtol=1e-9, atol=1e-9)


def test_a_constant_prediction_is_defined() -> None:
    Y = np.random.default_rng(0).standard_normal((20, 3)) + 5
    mean, other = np.tile(Y.mean(axis=0), (20, 1)), np.full((20, 3), 3.0)
    np.testing.assert_allclose(R2().from_rows(Y, mean), 0.0, atol=1e-12)
    expected = r2_score(Y, other, multioutput="raw_values")
    assert (expected < -1).all()
    np.testing.assert_allclose(R2().from_rows(Y, other), expected, rtol=1e-12)


def test_a_perfect_prediction_scores_one_at_any_offset() -> None:
    Y = np.random.default_rng(0).standard_normal((50, 200)) + 1e6
    found = R2().from_rows(Y, Y)
    assert found.max() <= 1.0
    np.testing.assert_allclose(found, 1.0, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_undefined_is_nan(bad: float) -> None:
    rng = np.random.default_rng(0)
    Y, P = rng.standard_normal((2, 20, 4))
    Y[:, 1], Y[0, 2], P[0, 3] = 0.1, bad, bad
    assert np.isnan(R2().from_rows(Y, P)).tolist() == [False, True, True, True]
    assert np.isnan(R2().from_rows(Y[:1], P[:1])).all()


def test_the_ceiling_is_the_share() -> None:
    """A perfect model, which predicts the signal, reaches the share of the variance in expectation."""
    rng = np.random.default_rng(0)
    share = np.array([0.2, 0.5, 0.9])
    signal = np.sqrt(share) * rng.standard_normal((100_000, 3))
    Y = signal + np.sqrt(1 - share) * rng.standard_normal(signal.shape)
    np.testing.assert_allclose(R2().from_rows(Y, signal), R2().ceiling(share), atol=0.01)


def test_sums_may_have_any_leading_shape() -> None:
    rng = np.random.default_rng(0)
    pairs = rng.standard_normal((6, 2, 15, 4))
    each = [Sums.from_rows(Y, P) for Y, P in pairs]
    stacked = {
        name: np.stack([getattr(item, name) for item in each]).reshape(2, 3, 4)
        for name in ("mean_y", "mean_p", "yy", "pp", "yp")
    }
    expected = np.reshape([R2().from_rows(Y, P) for Y, P in pairs], (2, 3, 4))
    np.testing.assert_array_equal(R2().from_sums(Sums(15, **stacked)), expected)
