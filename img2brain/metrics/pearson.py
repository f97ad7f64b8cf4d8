"""Pearson correlation of responses with predictions."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from img2brain.metrics.base import Array, Metric, Sums, undefined_as_nan


class Pearson(Metric):
    """Pearson r in [-1, 1]; NaN where responses or predictions are constant up to rounding, or not finite.

    Examples
    --------
    >>> Y, P = np.array([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]]), np.array([[2.0, 0.0], [4.0, 1.0], [8.0, 2.0]])
    >>> Pearson().from_rows(Y, P)
    array([ 1., nan])
    """

    label: ClassVar[str] = "Pearson r"
    scale_free: ClassVar[bool] = True
    kind: ClassVar[Literal["correlation", "determination", "other"]] = "correlation"

    def from_rows(self, Y: Array, P: Array) -> Array:
        """Correlate responses with predictions, voxel by voxel."""
        return self.from_sums(Sums.from_rows(Y, P))

    def from_sums(self, sums: Sums) -> Array:
        """Return r = yp / sqrt(yy pp)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            r = sums.yp / np.sqrt(sums.yy) / np.sqrt(sums.pp)
        defined = (sums.yy > 0) & (sums.pp > 0) & np.isfinite(r)
        return undefined_as_nan(np.clip(r, -1.0, 1.0), defined)

    def ceiling(self, share: Array) -> Array:
        """Return the r of a perfect model: the square root of the share of the variance that can be explained."""
        return np.sqrt(share)


def pearson(Y: ArrayLike, P: ArrayLike) -> Array:
    """Correlate responses with predictions, voxel by voxel: `Pearson` of any real arrays (n_images, n_voxels)."""
    return Pearson().from_sums(Sums.from_rows(Y, P))


COMPONENT = Pearson()
