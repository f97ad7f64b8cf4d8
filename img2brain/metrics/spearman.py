"""Spearman correlation of responses with predictions."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from scipy.stats import rankdata

from img2brain._arrays import in_blocks
from img2brain.metrics.base import Array, Metric, Sums, undefined_as_nan
from img2brain.metrics.pearson import Pearson
from img2brain.sums import is_constant

_BLOCK = 128


class Spearman(Metric):
    """Pearson r of the ranks; NaN where responses or predictions are constant up to rounding, or not finite.

    Equal values share the mean of their ranks.

    Examples
    --------
    >>> Y, P = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]), np.array([[1.0, 0.0], [4.0, 1.0], [9.0, 2.0]])
    >>> Spearman().from_rows(Y, P)
    array([ 1., nan])
    """

    label: ClassVar[str] = "Spearman rho"
    scale_free: ClassVar[bool] = True
    kind: ClassVar[Literal["correlation", "determination", "other"]] = "correlation"

    def from_rows(self, Y: Array, P: Array) -> Array:
        """Correlate the ranks of responses with those of predictions, voxel by voxel."""
        found = np.empty(Y.shape[1])

        def score(part: slice) -> None:
            y, p = Y[:, part], P[:, part]
            rho = Pearson().from_sums(Sums.from_rows(rankdata(y, axis=0), rankdata(p, axis=0)))
            found[part] = undefined_as_nan(rho, ~is_constant(y) & ~is_constant(p))

        in_blocks(score, len(found), _BLOCK, found)
        return found


COMPONENT = Spearman()
