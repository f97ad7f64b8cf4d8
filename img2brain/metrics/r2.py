"""Coefficient of determination of predictions."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from img2brain.metrics.base import Array, Metric, Sums, undefined_as_nan


class R2(Metric):
    """1 - (sum of squared errors) / (sum of squares of the centred responses); NaN where the responses are constant.

    At most 1; 0 for the mean response as the prediction of every image, and below 0 for worse ones. The ``r2_score`` of
    scikit-learn for each output.

    Examples
    --------
    >>> Y, P = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]), np.array([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    >>> R2().from_rows(Y, P)
    array([0.5, nan])
    """

    label: ClassVar[str] = "R²"
    kind: ClassVar[Literal["correlation", "determination", "other"]] = "determination"

    def from_rows(self, Y: Array, P: Array) -> Array:
        """Compare predictions with responses, voxel by voxel."""
        return self.from_sums(Sums.from_rows(Y, P))

    def from_sums(self, sums: Sums) -> Array:
        """Return 1 - (yy - 2 yp + pp + n (mean_y - mean_p)^2) / yy."""
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            error = sums.yy - 2 * sums.yp + sums.pp + sums.n * (sums.mean_y - sums.mean_p) ** 2
            score = np.minimum(1 - error / sums.yy, 1.0)
        return undefined_as_nan(score, (sums.yy > 0) & np.isfinite(score))

    def ceiling(self, share: Array) -> Array:
        """Return the score of a perfect model: the share of the variance that can be explained."""
        return share


COMPONENT = R2()
