from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from img2brain.result import TrialResult, summarise
from img2brain.spec import TrialSpec

correlations = st.lists(st.floats(-1, 1), min_size=1, max_size=40)


@given(correlations)
def test_of_defined_scores_it_is_numpys(scores: list[float]) -> None:
    found = summarise(np.array(scores))
    levels = {"q05_r": 5, "q25_r": 25, "median_r": 50, "q75_r": 75, "q95_r": 95}
    for name, level in levels.items():
        assert found[name] == pytest.approx(np.percentile(scores, level), abs=1e-12)
    assert found["mean_r"] == pytest.approx(np.mean(scores), abs=1e-12)
    assert found["max_r"] == max(scores)
    assert (found["n_voxels"], found["n_undefined"], found["n_silent"]) == (len(scores), 0, 0)


@given(correlations, st.integers(0, 5))
def test_silent_voxels_are_left_out(scores: list[float], n_silent: int) -> None:
    with_silent = summarise(np.array(scores + [np.nan] * n_silent), n_silent)
    assert with_silent["median_r"] == summarise(np.array(scores))["median_r"]
    assert with_silent["n_undefined"] == with_silent["n_silent"] == n_silent


@given(correlations, st.integers(1, 5))
def test_giving_up_on_voxels_never_pays(scores: list[float], n_given_up: int) -> None:
    ranked = sorted(scores)
    given_up = summarise(np.array([np.nan] * min(n_given_up, len(ranked)) + ranked[n_given_up:]))
    assert not given_up["median_r"] > summarise(np.array(scores))["median_r"]


def test_a_median_that_leans_on_an_undefined_voxel_is_undefined() -> None:
    assert math.isnan(summarise(np.array([np.nan, np.nan, 0.5]))["median_r"])
    assert summarise(np.array([np.nan, 0.2, 0.5]))["median_r"] == 0.2
    assert math.isnan(summarise(np.array([np.nan]))["mean_r"])
    assert math.isnan(summarise(np.array([np.nan]), 1)["median_r"])


def test_a_result_shows_the_objective() -> None:
    spec = TrialSpec(
        backbone="b", weights="w", weights_digest="d", preprocessing="p", layer="l", n_components=1, regressor="linear"
    )
    assert TrialResult(spec, np.array([0.1, 0.3]), 0, None, {}).median_r == pytest.approx(0.2)
