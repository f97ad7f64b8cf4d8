"""Lasso, each voxel on its own, with an alpha that is chosen by cross-validation."""

from __future__ import annotations

from typing import ClassVar

from numpy.typing import ArrayLike

from img2brain.regressors._limits import Limits
from img2brain.regressors._sparse_folds import LASSO_CV_LIMITS, SparseFoldedRegressor
from img2brain.regressors.lasso import Lasso


class LassoCV(SparseFoldedRegressor):
    """Minimise 1/(2n) ||y - Xb||^2 + alpha ||b||_1 for each voxel.

    Alpha is the one of the least mean squared error on held-out rows, mean over the folds.

    Parameters
    ----------
    alphas : array_like of float, optional
        What to choose from, each > 0, in units of X times Y. By default 20 values over the four decades below the one
        that leaves half of the voxels no coefficient.
    cv : int
        Number of folds, >= 2: runs of rows, as those of scikit-learn's ``KFold(cv)``.
    per_voxel : bool
        Choose an alpha for each voxel; one for all, by the mean error of the voxels, otherwise.
    max_iter : int
        The most sweeps of coordinate descent at an alpha.
    tol : float
        Duality gap at which a voxel is done, as a fraction of its mean square.

    Notes
    -----
    n_features^2 x n_voxels multiplications a sweep and for the errors, at each alpha and fold.

    Examples
    --------
    >>> X = [[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]]
    >>> LassoCV(alphas=(0.1, 1.0)).fit(X, [1.0, 3.0, 5.0, 7.0, 9.0, 11.0]).alpha_
    0.1
    """

    plain = Lasso
    limits: ClassVar[Limits] = LASSO_CV_LIMITS

    def __init__(
        self,
        alphas: ArrayLike | None = None,
        cv: int = 3,
        per_voxel: bool = False,
        max_iter: int = 10_000,
        tol: float = 1e-10,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.per_voxel = per_voxel
        self.max_iter = max_iter
        self.tol = tol


COMPONENT = LassoCV
