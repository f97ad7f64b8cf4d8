"""The score of the Algonauts 2023 challenge against two references, and what is left out of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr

from img2brain.errors import DataError
from img2brain.metrics.base import NeedsCeiling, Sums
from img2brain.metrics.noise_normalised_r2 import NoiseNormalisedR2
from img2brain.result import WHOLE
from img2brain.statistics.bootstrap import Bootstrap


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 30))
def test_equals_its_formula_by_two_correlations(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    Y, share = rng.standard_normal((n, 5)), rng.uniform(0.01, 1, 5)
    P = 0.5 * Y + rng.standard_normal((n, 5))
    found = NoiseNormalisedR2().with_ceiling(share).from_rows(Y, P)
    for correlations in (
        [pearsonr(Y[:, j], P[:, j]).statistic for j in range(5)],
        [np.corrcoef(Y[:, j], P[:, j])[0, 1] for j in range(5)],
    ):
        expected = [min(max(r, 0) ** 2 / nc, 1) * 100 for r, nc in zip(correlations, share, strict=True)]
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_what_is_known_of_a_voxel_decides_what_counts() -> None:
    rng = np.random.default_rng(0)
    Y, P = rng.standard_normal((2, 20, 6))
    P[:, :3] = Y[:, :3]
    P[:, 3], Y[:, 5] = 7.0, 1.0
    metric = NoiseNormalisedR2().with_ceiling(np.array([0.5, 0.0, np.nan, 0.5, 0.5, 0.5]))
    P[:, 4] = -Y[:, 4]
    found = metric.from_rows(Y, P)
    np.testing.assert_array_equal(found, [100.0, np.nan, np.nan, 0.0, 0.0, np.nan])
    np.testing.assert_array_equal(metric.from_sums(Sums.from_rows(Y, P)), found)
    np.testing.assert_array_equal(metric.voxels(slice(2, 5)).from_rows(Y[:, 2:5], P[:, 2:5]), found[2:5])


def test_it_asks_for_a_ceiling() -> None:
    assert isinstance(NoiseNormalisedR2(), NeedsCeiling)
    rows = np.random.default_rng(0).standard_normal((2, 9, 3))
    with pytest.raises(DataError, match=r"^noise_normalised_r2 must be told the noise ceiling [^\n]*\. Got none\.$"):
        NoiseNormalisedR2().from_rows(*rows)
    with pytest.raises(DataError, match=r"^noise_normalised_r2 needs a noise ceiling above 0 .* Got none of 3 voxels"):
        NoiseNormalisedR2().with_ceiling(np.array([0.0, np.nan, 0.0]))


def test_the_score_of_a_board_is_the_mean_over_the_voxels_that_count() -> None:
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((40, 1200))
    P, share = 0.3 * Y + rng.standard_normal(Y.shape), rng.uniform(0.2, 1, 1200)
    share[::7] = 0.0
    metric = NoiseNormalisedR2().with_ceiling(share)
    found = Bootstrap(Y, metric, 20).summaries(P, {"no ceiling": np.arange(0, 1200, 7)})
    assert found.how == "mean"
    assert found.interval(WHOLE).estimate == pytest.approx(np.nanmean(metric.from_rows(Y, P)))
    assert np.isnan(found.interval("no ceiling").estimate)
