from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from img2brain.result import WHOLE, Scored, TrialResult, summaries_of, summary_of
from img2brain.spec import TrialSpec

correlations = st.lists(st.floats(-1, 1), min_size=1, max_size=40)


@given(correlations)
def test_of_defined_scores_it_is_numpys(scores: list[float]) -> None:
    found = summary_of(np.array(scores))
    levels = {"q05": 5, "q25": 25, "median": 50, "q75": 75, "q95": 95}
    for name, level in levels.items():
        assert found[name] == pytest.approx(np.percentile(scores, level), abs=1e-12)
    assert found["mean"] == pytest.approx(np.mean(scores), abs=1e-12)
    assert found["max"] == max(scores)
    assert (found["n_voxels"], found["n_undefined"], found["n_constant"]) == (len(scores), 0, 0)


@given(correlations, st.integers(0, 5))
def test_constant_voxels_are_left_out(scores: list[float], n_constant: int) -> None:
    with_constant = summary_of(np.array(scores + [np.nan] * n_constant), n_constant)
    assert with_constant["median"] == summary_of(np.array(scores))["median"]
    assert with_constant["n_undefined"] == with_constant["n_constant"] == n_constant


@given(correlations, st.integers(1, 5))
def test_giving_up_on_voxels_never_pays(scores: list[float], n_given_up: int) -> None:
    ranked = sorted(scores)
    given_up = summary_of(np.array([np.nan] * min(n_given_up, len(ranked)) + ranked[n_given_up:]))
    assert not given_up["median"] > summary_of(np.array(scores))["median"]


def test_a_median_that_leans_on_an_undefined_voxel_is_undefined() -> None:
    assert math.isnan(summary_of(np.array([np.nan, np.nan, 0.5]))["median"])
    assert summary_of(np.array([np.nan, 0.2, 0.5]))["median"] == 0.2
    assert math.isnan(summary_of(np.array([np.nan]))["mean"])
    assert math.isnan(summary_of(np.array([np.nan]), 1)["median"])


def test_regions_are_summarised_apart_and_constant_voxels_left_out_of_each() -> None:
    accuracy, constant = np.array([0.1, np.nan, 0.3, np.nan]), np.array([False, True, False, False])
    found = summaries_of(accuracy, {"all": np.array([0, 1]), "V1": np.array([2, 3])}, constant)
    assert (found["all"]["median"], found["all"]["n_constant"]) == (0.1, 1)
    assert math.isnan(found["V1"]["median"]), "a constant prediction ranks lowest"
    assert (found[WHOLE]["n_undefined"], found[WHOLE]["n_constant"]) == (2, 1)
    assert (found[WHOLE]["median"], found[WHOLE]["mean"]) == (0.1, 0.2)


def test_a_result_shows_the_objective() -> None:
    spec = TrialSpec(
        backbone="b", weights="w", weights_digest="d", preprocessing="p", layer="l", n_components=1, regressor="linear"
    )
    accuracies = {"first": np.array([0.1, 0.2, 0.6]), "second": np.array([0.5, 0.5, 0.5])}
    constant = np.zeros(3, dtype=bool)

    def result(summary: Literal["median", "mean"]) -> TrialResult:
        found = {
            name: Scored(name, summary, array, summaries_of(array, {}, constant)) for name, array in accuracies.items()
        }
        return TrialResult(spec, found, None, {})

    assert result("median").score == pytest.approx(0.2)
    assert result("mean").score == pytest.approx(0.3)
    np.testing.assert_array_equal(result("mean").accuracy, accuracies["first"])
