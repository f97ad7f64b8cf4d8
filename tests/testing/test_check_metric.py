"""The conformance suite of metrics: passed by one from elsewhere, and failed by broken ones, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest

from img2brain.metrics.base import Array, Metric, Sums, undefined_as_nan
from img2brain.metrics.noise_normalised_r2 import NoiseNormalisedR2
from img2brain.metrics.pearson import Pearson
from img2brain.metrics.r2 import R2
from img2brain.testing import check_metric, metric_checks


class NearMisses(Metric):
    """The share of images whose response is predicted within one standard deviation, from rows."""

    label: ClassVar[str] = "near misses"
    summary = "mean"

    def from_rows(self, Y: Array, P: Array) -> Array:
        spread = Y.std(axis=0)
        constant = np.ptp(Y, axis=0) == 0
        return undefined_as_nan((np.abs(Y - P) < spread).mean(axis=0), ~constant)


class SquaredErrors(NearMisses):
    def from_rows(self, Y: Array, P: Array) -> Array:
        return undefined_as_nan(((Y - P) ** 2).mean(axis=0), np.ptp(Y, axis=0) > 0)


class ZeroWhereUndefined(Pearson):
    def from_rows(self, Y: Array, P: Array) -> Array:
        return np.nan_to_num(super().from_rows(Y, P))


class Warns(Metric):
    label: ClassVar[str] = "warns"

    def from_rows(self, Y: Array, P: Array) -> Array:
        found: Array = 1 - ((Y - P) ** 2).sum(axis=0) / ((Y - Y.mean(axis=0)) ** 2).sum(axis=0)
        return found


class Ranked(NearMisses):
    def from_rows(self, Y: Array, P: Array) -> Array:
        return np.sort(super().from_rows(Y, P))


class AmongVoxels(NearMisses):
    def from_rows(self, Y: Array, P: Array) -> Array:
        return super().from_rows(Y, P - P.mean(axis=1, keepdims=True))


class Writes(NearMisses):
    def from_rows(self, Y: Array, P: Array) -> Array:
        P -= P.mean(axis=0) - Y.mean(axis=0)
        return super().from_rows(Y, P)


class Narrow(NearMisses):
    def from_rows(self, Y: Array, P: Array) -> Any:
        return super().from_rows(Y, P).astype(np.float32)


class Chance(NearMisses):
    def from_rows(self, Y: Array, P: Array) -> Array:
        return super().from_rows(Y, P) + 0.01 * np.random.default_rng().random(Y.shape[1])


class Neighbours(NearMisses):
    def from_rows(self, Y: Array, P: Array) -> Array:
        return super().from_rows(np.diff(Y, axis=0), np.diff(P, axis=0)) if len(Y) > 1 else np.full(Y.shape[1], np.nan)


class LeavesFiles(NearMisses):
    def from_rows(self, Y: Array, P: Array) -> Array:
        np.save("scores.npy", Y)
        return super().from_rows(Y, P)


class PaysForGivingUp(Pearson):
    def from_rows(self, Y: Array, P: Array) -> Array:
        return np.where(np.ptp(P, axis=0) == 0, 1.0, super().from_rows(Y, P))


class ForgetsTheMeans(R2):
    def from_sums(self, sums: Sums) -> Array:
        return super().from_sums(Sums(sums.n, sums.mean_p, sums.mean_p, sums.yy, sums.pp, sums.yp))

    def from_rows(self, Y: Array, P: Array) -> Array:
        return R2().from_rows(Y, P)


class OneSumAtATime(R2):
    def from_sums(self, sums: Sums) -> Array:
        each = (sums.voxels(slice(i, i + 1)) for i in range(len(sums.yy)))
        return np.array([R2().from_sums(one)[0] for one in each])


class WritesToSums(Pearson):
    def from_sums(self, sums: Sums) -> Array:
        sums.yp[...] /= np.sqrt(np.where(sums.yy > 0, sums.yy, 1.0))
        return super().from_sums(Sums(sums.n, sums.mean_y, sums.mean_p, np.sign(sums.yy), sums.pp, sums.yp))


class SaysThatItIsScaleFree(R2):
    scale_free: ClassVar[bool] = True


class WrongCeiling(R2):
    def ceiling(self, share: Array) -> Array:
        return np.nan_to_num(share)


class Unnamed(Metric):
    def from_rows(self, Y: Array, P: Array) -> Array:
        return Pearson().from_rows(Y, P)


class Mode(Pearson):
    summary = "mode"  # type: ignore[assignment]


class KeepsAllVoxels(NoiseNormalisedR2):
    def voxels(self, which: slice) -> Self:
        return self


class TakesAnyCeiling(NoiseNormalisedR2):
    def from_sums(self, sums: Sums) -> Array:
        bound = self if self.share is not None else self.with_ceiling(np.ones(sums.yy.shape[-1]))
        return NoiseNormalisedR2.from_sums(bound, sums)


class DividesByZero(NoiseNormalisedR2):
    def from_rows(self, Y: Array, P: Array) -> Array:
        if self.share is None:
            return super().from_rows(Y, P)
        with np.errstate(divide="ignore"):
            return 100 * np.minimum(np.maximum(Pearson().from_rows(Y, P), 0) ** 2 / self.share, 1)


def failures(metric: Any) -> dict[str, str]:
    """What the suite says, by check."""
    try:
        check_metric(metric)
    except AssertionError as error:
        return dict(line.split(": ", 1) for line in str(error).splitlines())
    return {}


@pytest.mark.parametrize("metric", [NearMisses, NearMisses()])
def test_a_metric_from_elsewhere_passes(metric: Any) -> None:
    assert failures(metric) == {}


@pytest.mark.parametrize(
    ("broken", "check", "says"),
    [
        (Unnamed, "complete", "'label' must be a name. Got None."),
        (Metric, "complete", "It must define 'from_rows'."),
        (lambda: "r", "complete", "It must extend Metric. Got str."),
        (Mode, "complete", "'summary' must be 'median' or 'mean'. Got 'mode'."),
        (SquaredErrors, "a_perfect_prediction_is_best", "must score at least as high"),
        (ZeroWhereUndefined, "constant_responses_are_undefined", "must be NaN. Got 0.0."),
        (Warns, "constant_responses_are_undefined", "must not raise RuntimeWarning"),
        (PaysForGivingUp, "constant_predictions_do_not_pay", "must be NaN, or score below"),
        (Ranked, "voxels_keep_their_places", "must be scored in that order"),
        (AmongVoxels, "a_range_of_voxels_is_scored_alike", "must score as among all"),
        (KeepsAllVoxels, "a_range_of_voxels_is_scored_alike", "must not raise ValueError"),
        (Writes, "inputs_are_left_alone", "P must not be written to."),
        (WritesToSums, "inputs_are_left_alone", "must not write to the sums"),
        (Narrow, "scores_have_the_shape_of_the_voxels", "must be in float64. Got float32."),
        (Chance, "scores_are_repeatable", "the same scores each time"),
        (Neighbours, "images_may_come_in_any_order", "must give the same scores"),
        (ForgetsTheMeans, "sums_are_enough", "must give what 'from_rows' gives"),
        (OneSumAtATime, "sums_may_have_any_shape", "must give scores of that shape"),
        (SaysThatItIsScaleFree, "scale_free_is_true", "must change no score"),
        (SaysThatItIsScaleFree, "resamples_are_scores_of_repeated_rows", "as the rows it repeats"),
        (WrongCeiling, "the_ceiling_is_one_of_each_voxel", "NaN where the share is not known"),
        (TakesAnyCeiling, "a_ceiling_is_asked_for", "Nothing was raised."),
        (DividesByZero, "an_unknown_ceiling_is_undefined", "must be NaN"),
        (LeavesFiles, "nothing_is_written", "Got scores.npy."),
    ],
)
def test_a_broken_metric_fails_by_name(
    broken: Any, check: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = failures(broken)
    assert says in found[check]
    with pytest.raises(AssertionError):
        dict(metric_checks())[check](broken)


def test_what_is_incomplete_is_not_asked_for_more() -> None:
    assert list(failures(Unnamed)) == ["complete"]
