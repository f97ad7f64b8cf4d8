"""Lasso, each voxel on its own."""

from __future__ import annotations

from typing import ClassVar

from img2brain.regressors._base import Space
from img2brain.regressors._limits import Limits
from img2brain.regressors._sparse import LASSO_LIMITS, LASSO_SEARCH, PerVoxelRegressor


class Lasso(PerVoxelRegressor):
    """Minimise 1/(2n) ||y - Xb||^2 + alpha ||b||_1 for each voxel.

    Parameters
    ----------
    alpha : float
        Strength of the penalty, > 0, in units of X times Y.
    max_iter : int
        The most sweeps of coordinate descent.
    tol : float
        Duality gap at which a voxel is done, as a fraction of its mean square.

    Notes
    -----
    n_features^2 x n_voxels multiplications a sweep; two sweeps on principal components of the same images.

    Examples
    --------
    >>> Lasso(alpha=0.5).fit([[-1.0], [1.0]], [-2.0, 2.0]).coef_
    array([1.5])
    """

    search: ClassVar[Space] = LASSO_SEARCH
    limits: ClassVar[Limits] = LASSO_LIMITS

    def __init__(self, alpha: float = 1.0, max_iter: int = 10_000, tol: float = 1e-10) -> None:
        self.alpha = alpha
        self.max_iter = max_iter
        self.tol = tol


COMPONENT = Lasso
