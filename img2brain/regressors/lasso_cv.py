"""Lasso, each voxel on its own, with an alpha that is chosen by cross-validation."""

from __future__ import annotations

from img2brain.regressors._sparse_folds import PerVoxelFoldedRegressor
from img2brain.regressors.lasso import Lasso


class LassoCV(PerVoxelFoldedRegressor):
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


COMPONENT = LassoCV
