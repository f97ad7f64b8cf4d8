"""Spearman's correlation against two references, and where it is undefined."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr

from img2brain.metrics.base import FromSums
from img2brain.metrics.spearman import Spearman


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 30), st.integers(1, 40))
def test_equals_scipy_and_pandas_with_ties_too(seed: int, n: int, n_levels: int) -> None:
    rng = np.random.default_rng(seed)
    Y, P = rng.integers(0, n_levels, (2, n, 4)).astype(np.float64)
    P[:, 0] = rng.standard_normal(n)
    found = Spearman().from_rows(Y, P)
    varies = (np.ptp(Y, axis=0) > 0) & (np.ptp(P, axis=0) > 0)
    assert np.isfinite(found).tolist() == varies.tolist()
    for j in np.flatnonzero(varies):
        assert found[j] == pytest.approx(spearmanr(Y[:, j], P[:, j]).statistic, abs=1e-12)
        assert found[j] == pytest.approx(pd.Series(Y[:, j]).corr(pd.Series(P[:, j]), method="spearman"), abs=1e-12)


def test_only_the_order_counts() -> None:
    Y, P = np.random.default_rng(0).standard_normal((2, 40, 300))
    found = Spearman().from_rows(Y, P)
    np.testing.assert_allclose(Spearman().from_rows(np.exp(Y), P**3), found, atol=1e-12)
    np.testing.assert_allclose(Spearman().from_rows(Y, -P), -found, atol=1e-12)
    assert not isinstance(Spearman(), FromSums)
    assert Spearman().ceiling(np.ones(300)) is None


@pytest.mark.parametrize(
    "column", [np.full(30, 0.1), 0.1 + np.resize([0.0, 1.4e-17], 30), np.r_[np.nan, np.arange(29.0)]]
)
def test_undefined_is_nan_and_leaves_other_voxels(column: NDArray[np.float64]) -> None:
    rng = np.random.default_rng(0)
    bad, good = np.c_[column, rng.standard_normal(30)], rng.standard_normal((30, 2))
    for rho in (Spearman().from_rows(bad, good), Spearman().from_rows(good, bad)):
        assert np.isnan(rho).tolist() == [True, False]
