"""From what was found to arrays and back: the record that follows is the same, number for number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from img2brain.catalog import METRICS
from img2brain.confirm import BestLayers, PartResult, ScoredRows
from img2brain.controls import Control
from img2brain.errors import RecordError, ShapeError
from img2brain.findings import Findings, estimate_of
from img2brain.spec import TrialSpec
from img2brain.statistics.noise_ceiling import NoiseCeiling, given, unknown

N_IMAGES, N_VOXELS = 40, 12
REGIONS = {"V1": np.arange(5), "all but one": np.arange(1, N_VOXELS)}
SPEC = TrialSpec(
    backbone="b", weights="w", weights_digest="d", preprocessing="p", layer="l", n_components=1, regressor="linear"
)


def scored(metrics: tuple[str, ...], ceiling: NoiseCeiling) -> PartResult:
    """Rows with a voxel that is constant and one whose prediction is, a model, two controls, and best layers."""
    random = np.random.default_rng(0)
    responses, *noise = random.standard_normal((5, N_IMAGES, N_VOXELS))
    responses[:, 3] = 1.5
    predictions = responses + noise[0]
    predictions[:, 4] = 0.0
    rows = ScoredRows(responses, REGIONS, {name: METRICS[name] for name in metrics}, ceiling)
    controls = [Control(name, SPEC, values) for name, values in zip(("pixels", "shuffled"), noise[1:], strict=False)]
    return rows.report(predictions, controls, BestLayers(("a", "b"), np.zeros(N_VOXELS, np.intp), responses + noise[3]))


@pytest.mark.parametrize("ceiling", [unknown(N_VOXELS), given(np.linspace(0, 1, N_VOXELS))], ids=["none", "given"])
@pytest.mark.parametrize("metrics", [("pearson",), ("r2", "pearson"), ("spearman", "r2")], ids=str)
def test_the_arrays_give_the_record_again(metrics: tuple[str, ...], ceiling: NoiseCeiling) -> None:
    result = scored(metrics, ceiling)
    part, objective = result.part(looks=3), METRICS[metrics[0]]
    again = Findings.from_arrays(result.arrays.get, metrics, part, objective.summary, objective.ceiling)
    assert again.part(REGIONS, looks=3, **result.facts).model_dump_json() == part.model_dump_json()
    assert part.whole.summaries[metrics[0]]["n_constant"] == 1
    estimates = estimate_of(result.arrays["accuracy"], result.arrays["constant"], REGIONS, objective.summary)
    np.testing.assert_allclose(again.summaries.estimate, estimates, rtol=1e-12)


def test_a_rival_without_resamples_is_left_out_and_an_absent_array_is_named() -> None:
    result = scored(("pearson",), unknown(N_VOXELS))
    part = result.part()
    arrays = {name: array for name, array in result.arrays.items() if name != "control_pixels_resampled"}
    assert set(Findings.from_arrays(arrays.get, ("pearson",), part, "median").controls) == {"shuffled"}
    del arrays["summaries_resampled"]
    with pytest.raises(RecordError, match=r"The array summaries_resampled must be there"):
        Findings.from_arrays(arrays.get, ("pearson",), part, "median")


def test_resamples_are_stored_so_that_nothing_of_them_is_lost() -> None:
    stored: dict[str, Any] = {name: scored((name,), unknown(N_VOXELS)).arrays for name in ("pearson", "r2")}
    assert stored["pearson"]["summaries_resampled"].dtype == np.float32
    assert stored["r2"]["summaries_resampled"].dtype == np.float64


def test_resamples_of_other_draws_are_not_paired() -> None:
    random = np.random.default_rng(1)
    responses, noise = random.standard_normal((2, N_IMAGES, N_VOXELS))
    metrics = {"pearson": METRICS["pearson"]}
    one, other = (
        ScoredRows(responses, {}, metrics, unknown(N_VOXELS), units).report(responses + noise).findings.summaries
        for units in (None, np.arange(N_IMAGES) // 2)
    )
    assert (one - one).resampled.any() == np.False_
    with pytest.raises(ShapeError, match="the same resamples"):
        one - other
