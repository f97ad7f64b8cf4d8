"""Predictions that are made when they are read: the same numbers as all at once, and never all at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from img2brain.catalog import METRICS, REGRESSORS
from img2brain.confirm import BestLayers, ScoredRows
from img2brain.controls import Control
from img2brain.errors import FitError
from img2brain.predictions import ByVoxels, Chosen, HeldPredictions, Predictions, Stacked, predictions_of
from img2brain.spec import TrialSpec
from img2brain.statistics.noise_ceiling import given

N_IMAGES, N_VOXELS = 12, 700
Array = NDArray[np.float64]
SPEC = TrialSpec(backbone="b", weights="w", weights_digest="d", layer="l", n_components=1, regressor="linear",
                 preprocessing="weights")  # fmt: skip


def _rows(seed: int = 0) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    X = random.standard_normal((N_IMAGES, 4))
    return X, X @ random.standard_normal((4, N_VOXELS)) + random.standard_normal((N_IMAGES, N_VOXELS))


@pytest.mark.parametrize("name", ["ridge", "k_neighbors", "decision_tree"])
def test_parts_are_those_of_all_predictions(name: str) -> None:
    X, Y = _rows()
    regressor = REGRESSORS[name]().fit(X, Y)
    found = predictions_of(regressor, X, N_VOXELS, "The regressor")
    whole = regressor.predict(X)
    assert found.shape == whole.shape
    np.testing.assert_allclose(found[:, :], whole, atol=1e-12)
    np.testing.assert_allclose(found[2:7, 100:301], whole[2:7, 100:301], atol=1e-12)
    np.testing.assert_allclose(found[5:][:, 3:4], whole[5:, 3:4], atol=1e-12)
    np.testing.assert_allclose(found.of_voxels(np.arange(N_VOXELS) % 3 == 1)[:, :], whole[:, 1::3], atol=1e-12)
    np.testing.assert_allclose(Stacked([found[:4], found[4:]])[1:9, 2:5], whole[1:9, 2:5], atol=1e-12)


def test_each_voxel_has_its_own_source() -> None:
    choice = np.random.default_rng(0).integers(0, 3, N_VOXELS)
    wholes = [_rows(seed)[1] for seed in range(3)]
    chosen = Chosen(
        choice, {i: HeldPredictions(whole).of_voxels(choice == i) for i, whole in enumerate(wholes)}, N_IMAGES
    )
    expected = np.stack(wholes)[choice, :, np.arange(N_VOXELS)].T
    np.testing.assert_array_equal(chosen[:, :], expected)
    np.testing.assert_array_equal(chosen[3:8][1:, 50:60], expected[4:8, 50:60])


def test_no_image_is_predicted_at_no_voxel() -> None:
    assert predictions_of(None, np.empty((0, 2)), 5, "nobody")[:, :].shape == (0, 5)


@pytest.mark.parametrize(("made", "told"), [(np.full((3, 2), np.nan), "NaN or infinity"), (np.ones((3, 1)), "shape")])
def test_what_cannot_be_scored_is_refused_when_it_is_made(made: Array, told: str) -> None:
    class Odd:
        def voxels(self, which: Any) -> Any:
            return self

        def predict(self, X: Any) -> Array:
            return made

    with pytest.raises(FitError, match=f"'mine' must predict finite numbers of shape .*Got {told}"):
        predictions_of(Odd(), np.ones((3, 1)), 2, "The regressor 'mine'")[:, :]


class Watched(Predictions):
    """Predictions that are too many to be made together."""

    def __init__(self, whole: Array) -> None:
        self._whole = whole
        self.shape = (len(whole), whole.shape[1])

    def made(self, rows: slice, part: slice) -> Array:
        assert len(range(*part.indices(self.shape[1]))) <= 512, "gigabytes where there are many voxels"
        return self._whole[rows, part]

    def of_rows(self, rows: slice) -> Predictions:
        return Watched(self._whole[rows])


@pytest.mark.parametrize(
    "metric", ["pearson", "r2", pytest.param("spearman", marks=pytest.mark.slow), "noise_normalised_r2"]
)
def test_rows_are_scored_in_parts_as_they_are_whole(metric: str) -> None:
    _, Y = _rows()
    made, rival, own = (_rows(seed)[1] for seed in (1, 2, 3))
    choice = np.zeros(N_VOXELS, np.intp)

    def arrays(kind: Any, responses: Any, n_together: int) -> dict[str, NDArray[Any]]:
        ceiling = given(np.full(N_VOXELS, 0.5))
        rows = ScoredRows(responses, {}, {metric: METRICS[metric]}, ceiling, n_together=n_together)
        controls = [Control("shuffled", SPEC, kind(rival))]
        best = BestLayers(("one", "other"), choice, kind(own))
        return {"rows": np.array(rows.digest), **rows.report(kind(made), controls, best).arrays}

    whole = arrays(np.asarray, Y.astype(np.float32).astype(np.float64), N_VOXELS)
    are_narrow = metric != "noise_normalised_r2"  # a share of 100 has digits that float32 does not hold
    in_parts = arrays(Watched if are_narrow else HeldPredictions, Y.astype(np.float32), 100)
    assert whole.keys() == in_parts.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(in_parts[name], array, err_msg=name)


def test_predictions_that_float32_does_not_hold_are_kept_whole() -> None:
    _, Y = _rows()
    far = Y + 1e9
    kept = ScoredRows(far, {}, {"pearson": METRICS["pearson"]}, given(np.full(N_VOXELS, 0.5))).report(
        HeldPredictions(far)
    )
    np.testing.assert_array_equal(kept.arrays["predictions"], far)


def test_some_voxels_of_a_regressor_hold_no_others() -> None:
    X, Y = _rows()
    some = ByVoxels(REGRESSORS["ridge"]().fit(X, Y), X, N_VOXELS, "ridge").of_voxels(np.arange(N_VOXELS) < 2)
    assert some._regressor.coef_.base is None  # type: ignore[attr-defined]
    assert some._regressor.coef_.shape == (2, 4)  # type: ignore[attr-defined]
