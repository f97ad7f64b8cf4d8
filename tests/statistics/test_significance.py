"""Significance against scipy and statsmodels-like plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy.stats import kstest, pearsonr

from img2brain.statistics.significance import benjamini_hochberg, holm, p_of_difference, p_of_r

P = arrays.arrays(np.float64, st.integers(1, 20), elements=st.floats(0, 1))


def test_p_of_r_is_that_of_scipy() -> None:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 40, 9))
    found = [pearsonr(x[:, i], y[:, i], alternative="greater") for i in range(9)]
    np.testing.assert_allclose(
        p_of_r(np.array([item.statistic for item in found]), 40), [item.pvalue for item in found]
    )


@given(P)
def test_the_false_discovery_rate_is_the_least_of_all_thresholds(p: NDArray[np.float64]) -> None:
    rates = {threshold: len(p) * threshold / (p <= threshold).sum() for threshold in p}
    expected = [min(rate for threshold, rate in rates.items() if threshold >= value) for value in p]
    np.testing.assert_allclose(benjamini_hochberg(p), np.minimum(expected, 1))


@given(P)
def test_holm_is_what_stepping_down_gives(p: NDArray[np.float64]) -> None:
    corrected, highest = holm(p), 0.0
    for rank, place in enumerate(np.argsort(p, kind="stable")):
        highest = max(highest, (len(p) - rank) * p[place])
        assert corrected[place] == pytest.approx(min(1.0, highest))


def test_undefined_ones_are_no_tests() -> None:
    p = np.array([0.01, np.nan, 0.2])
    np.testing.assert_allclose(holm(p), [0.02, np.nan, 0.2])
    np.testing.assert_allclose(benjamini_hochberg(p), [0.02, np.nan, 0.2])
    assert np.isnan(benjamini_hochberg(np.full(3, np.nan))).all()


def test_differences_of_equal_predictors_have_uniform_p() -> None:
    random, p = np.random.default_rng(0), []
    for _ in range(500):
        signal = random.standard_normal(60)
        one, other, y = (signal + random.standard_normal(60) for _ in range(3))
        r = np.corrcoef([y, one, other])
        p.append(p_of_difference(r[:1, 1], r[:1, 2], r[1:2, 2], 60)[0])
    assert kstest(p, "uniform").pvalue > 0.01


def test_equal_predictions_do_not_differ() -> None:
    assert p_of_difference(np.array([0.3]), np.array([0.3]), np.array([1.0]), 30).tolist() == [1.0]


def test_no_correlation_of_two_images_is_above_chance() -> None:
    assert np.isnan(p_of_r(np.array([1.0, -1.0]), 2)).all()
