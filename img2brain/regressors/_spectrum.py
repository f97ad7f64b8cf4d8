"""The spectrum of a Gram matrix: what linear and ridge regression share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from img2brain._arrays import namespace
from img2brain.moments import Moments

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues and eigenvectors of the Gram matrix of centred features, and the cross-products seen along them.

    Attributes
    ----------
    values : ndarray, shape (n_features,)
        Eigenvalues, ascending; exactly 0 where rounding is all there is.
    vectors : ndarray, shape (n_features, n_features)
        Eigenvectors, as columns.
    cross : ndarray, shape (n_features, n_voxels)
        The cross-products in that basis.
    """

    values: Array
    vectors: Array
    cross: Array

    @classmethod
    def of(cls, moments: Moments) -> Spectrum:
        """Decompose the Gram matrix of `moments`."""
        xp = namespace(moments.xx)
        values, vectors = xp.linalg.eigh(moments.xx)
        floor = 4 * max(moments.n, len(values)) * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
        return cls(xp.where(values > floor, values, 0.0), vectors, vectors.T @ moments.xy)

    def solve(self, alpha: float) -> Array:
        """Return the coefficients that minimise ||Y - XB||^2 + alpha ||B||^2, those of least norm where alpha is 0.

        A direction without variance has no cross-products but rounding, so it is left out.
        """
        xp, kept = namespace(self.values), self.values > 0
        gains = xp.where(kept, 1.0 / (xp.where(kept, self.values, 1.0) + alpha), 0.0)
        coef: Array = self.vectors @ (gains[:, None] * self.cross)
        return coef
