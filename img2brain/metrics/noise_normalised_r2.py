"""Squared correlation as a share of what the noise lets be explained: the score of the Algonauts 2023 challenge."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np

from img2brain.errors import DataError
from img2brain.metrics.base import Array, Metric, Sums, undefined_as_nan
from img2brain.metrics.pearson import Pearson

_NAME = "noise_normalised_r2"


@dataclass(frozen=True, eq=False)
class NoiseNormalisedR2(Metric):
    """100 min(max(r, 0)^2 / share, 1), with r Pearson's and the share of the variance that can be explained.

    A constant prediction scores 0. NaN, which is left out of the mean over voxels and counted, where nothing can be
    explained, where that is not known, and where the responses are constant.

    Attributes
    ----------
    share : ndarray (n_voxels,), optional
        Share of the variance of each voxel that can be explained, 0..1; NaN where it is not known. See `with_ceiling`.

    Examples
    --------
    >>> Y, P = np.array([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]]), np.array([[1.0, 1.0], [3.0, 3.0], [2.0, 2.0]])
    >>> NoiseNormalisedR2().with_ceiling(np.array([0.5, 0.0])).from_rows(Y, P).round(2)
    array([21.43, nan])
    """

    label: ClassVar[str] = "noise-normalised r² (%)"
    summary: ClassVar[Literal["median", "mean"]] = "mean"
    scale_free: ClassVar[bool] = True

    share: Array | None = None

    def with_ceiling(self, share: Array) -> Self:
        """Return the metric for voxels of which this share of the variance can be explained.

        Raises
        ------
        DataError
            Where nothing is known to be explainable of any voxel.
        """
        if not (share > 0).any():
            raise DataError(f"{_NAME} needs a noise ceiling above 0 of some voxel. Got none of {share.size} voxels.")
        return replace(self, share=share)

    def voxels(self, which: slice) -> Self:
        """Return the metric for a range of voxels."""
        return self if self.share is None else replace(self, share=self.share[which])

    def from_rows(self, Y: Array, P: Array) -> Array:
        """Score predictions of responses, voxel by voxel."""
        return self.from_sums(Sums.from_rows(Y, P))

    def from_sums(self, sums: Sums) -> Array:
        """Score from the r that follows from the sums."""
        if self.share is None:
            raise DataError(f"{_NAME} must be told the noise ceiling of the voxels, by with_ceiling. Got none.")
        r = np.where(sums.pp > 0, Pearson().from_sums(sums), 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            score = 100 * np.minimum(np.maximum(r, 0.0) ** 2 / self.share, 1.0)
        return undefined_as_nan(score, (sums.yy > 0) & (self.share > 0) & np.isfinite(sums.mean_p))


COMPONENT = NoiseNormalisedR2()
