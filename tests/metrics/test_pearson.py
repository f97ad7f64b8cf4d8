"""Pearson r against scipy's, where it is undefined, and what must not change it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import pearsonr

from img2brain.errors import ShapeError
from img2brain.metrics.base import Sums
from img2brain.metrics.pearson import Pearson, pearson
from img2brain.moments import Moments


@given(st.integers(0, 2**32 - 1), st.integers(3, 30), st.sampled_from([np.float16, np.float32, np.float64]))
def test_equals_scipy(seed: int, n: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    true: NDArray[Any] = rng.standard_normal((n, 4)).astype(dtype)
    pred = 3 * rng.standard_normal((n, 4)) + 5
    expected = [pearsonr(true[:, j].astype(np.float64), pred[:, j]).statistic for j in range(4)]
    np.testing.assert_allclose(pearson(true, pred), expected, atol=1e-12)


@given(
    st.integers(0, 2**32 - 1),
    st.floats(1e-6, 1e6),
    st.floats(-1e3, 1e3),
)
def test_affine_changes_leave_it(seed: int, scale: float, offset: float) -> None:
    rng = np.random.default_rng(seed)
    true, pred = rng.standard_normal((2, 20, 3))
    r = pearson(true, pred)
    np.testing.assert_allclose(pearson(true, scale * (pred + offset)), r, atol=1e-9)
    np.testing.assert_allclose(pearson(true, -scale * pred), -r, atol=1e-12)
    np.testing.assert_allclose(pearson(pred, true), r, atol=1e-12)


def test_more_voxels_than_a_block() -> None:
    rng = np.random.default_rng(0)
    true, pred = rng.standard_normal((2, 5, 5000))
    centred = [array - array.mean(axis=0) for array in (true, pred)]
    a, b = (array / np.linalg.norm(array, axis=0) for array in centred)
    np.testing.assert_allclose(pearson(true, pred), (a * b).sum(axis=0), atol=1e-12)


def test_stays_within_one() -> None:
    column = np.random.default_rng(0).standard_normal((50, 300))
    assert pearson(column, 0.1 * column + 7).max() <= 1.0
    assert pearson(column, -0.1 * column).min() >= -1.0


@pytest.mark.parametrize(
    "column",
    [
        np.zeros(30),
        np.full(30, 0.1),
        0.1 + np.resize([0.0, 1.4e-17], 30),
        np.r_[np.nan, np.arange(29.0)],
        np.r_[np.arange(29.0), np.inf],
    ],
)
def test_undefined_is_nan_and_leaves_other_voxels(column: NDArray[np.float64]) -> None:
    rng = np.random.default_rng(0)
    other = rng.standard_normal((30, 1))
    bad = np.c_[column, other]
    good = rng.standard_normal((30, 2))
    for r in (pearson(bad, good), pearson(good, bad)):
        assert np.isnan(r).tolist() == [True, False]


def test_one_image_has_no_correlation() -> None:
    assert np.isnan(pearson([[1.0, 2.0]], [[1.0, 3.0]])).all()


@pytest.mark.parametrize(("true", "pred"), [((3, 2), (3, 1)), ((3, 2), (2, 2)), ((3,), (3,))])
def test_shapes_that_do_not_fit_are_named(true: tuple[int, ...], pred: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as error:
        pearson(np.ones(true), np.ones(pred))
    assert f"Y {true} and P {pred}" in str(error.value)


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 8))
def test_moments_give_the_same(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    X, Y, coef = rng.standard_normal((n, k)) + 2, rng.standard_normal((n, 3)), rng.standard_normal((k, 3))
    r = Pearson().from_sums(Sums.from_moments(coef, 0.0, Moments.from_rows(X, Y)))
    np.testing.assert_allclose(r, pearson(Y, X @ coef + 4), atol=1e-8)
    np.testing.assert_allclose(
        Pearson().from_sums(Sums.from_moments(1e-9 * coef, 0.0, Moments.from_rows(X, 1e9 * Y - 3))), r, atol=1e-8
    )


def test_moments_know_what_is_undefined() -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((40, 3)), rng.standard_normal((40, 4))
    X = np.c_[X, X[:, 0]]
    Y[:, 1] = 0.3
    coef = rng.standard_normal((4, 4))
    coef[:, 2] = 0.0
    # Two equal features that cancel: the prediction is constant up to rounding.
    coef[:, 3] = [0.7, 0.0, 0.0, -0.7]
    r = Pearson().from_sums(Sums.from_moments(coef, 0.0, Moments.from_rows(X, Y)))
    assert np.isnan(r).tolist() == [False, True, True, True]


def test_coefficients_that_do_not_fit_are_refused() -> None:
    moments = Moments.from_rows(np.ones((3, 2)), np.ones((3, 4)))
    with pytest.raises(ShapeError, match=r"coef \(4, 2\) and moments.xy \(2, 4\)"):
        Pearson().from_sums(Sums.from_moments(np.ones((4, 2)), 0.0, moments))
