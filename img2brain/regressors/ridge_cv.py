"""Ridge regression whose alpha is chosen by cross-validation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np

from img2brain._arrays import beside, namespace
from img2brain.moments import Moments
from img2brain.regressors._folds import PER_VOXEL_LIMITS, PER_VOXEL_OPTIONS, FoldedRegressor
from img2brain.regressors._limits import Limits
from img2brain.regressors._spectrum import Spectrum
from img2brain.regressors.base import Array
from img2brain.regressors.ridge import Ridge


@dataclass(eq=False, repr=False)
class RidgeCV(FoldedRegressor):
    """Minimise ||Y - XB||^2 + alpha ||B||^2, at the alpha of the largest R2 on held-out rows, mean over the folds.

    Parameters
    ----------
    alphas : array_like of float, optional
        What to choose from, each > 0, in squared units of X. By default 20 values over eight decades about the mean
        eigenvalue of the Gram matrix.
    cv : int
        Number of folds, >= 2: runs of rows, as those of scikit-learn's ``KFold(cv)``.
    per_voxel : bool
        Choose an alpha for each voxel; one for all, by the mean R2 of the voxels, otherwise.

    Notes
    -----
    One eigendecomposition a fold, then n_features^2 x n_voxels multiplications for each alpha and fold: seen along the
    eigenvectors of the training rows, the coefficients at an alpha are a product of elements. A voxel that is constant
    on held-out rows has R2 = 0 there.

    Examples
    --------
    >>> X = [[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]]
    >>> RidgeCV(alphas=(0.1, 10.0)).fit(X, [1.0, 3.0, 5.0, 7.0, 9.0, 11.0]).alpha_
    0.1
    """

    plain = Ridge
    limits: ClassVar[Limits] = PER_VOXEL_LIMITS
    options = PER_VOXEL_OPTIONS
    per_voxel: bool = field(default=False, kw_only=True)

    def _criterion(self, errors: Array, n: int, squares: Array) -> Array:
        varies = squares > 0
        r2: Array = np.where(varies, 1.0 - errors / np.where(varies, squares, 1.0), 0.0)
        return r2

    def _reduced(self, train: Moments, held: Moments) -> tuple[Moments, Moments]:
        """Turn features into the eigenvectors of the training rows."""
        spectrum = Spectrum.of(train)
        axes = spectrum.vectors
        return (
            replace(train, xx=namespace(axes).diag(spectrum.values), xy=spectrum.cross),
            replace(held, xx=axes.T @ held.xx @ axes, xy=axes.T @ held.xy),
        )

    def _path(self, moments: Moments) -> Iterator[Array]:
        xp, values = namespace(moments.xx), moments.xx.diagonal()[:, None]
        for alpha in self.alphas_.tolist():
            yield xp.where(values > 0, 1.0 / (values + alpha), 0.0) * moments.xy

    def _refit(self, moments: Moments) -> Self:
        """Fit to all rows, from one eigendecomposition."""
        spectrum = Spectrum.of(moments)
        values, alphas = spectrum.values[:, None], beside(np.atleast_1d(self.alpha_), spectrum.values)
        gains = namespace(values).where(values > 0, 1.0 / (values + alphas), 0.0)
        coef = spectrum.vectors @ (gains * spectrum.cross)
        return self._set_coef(coef, moments)


COMPONENT = RidgeCV
