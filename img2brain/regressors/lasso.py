"""Lasso, each voxel on its own."""

from __future__ import annotations

from img2brain.regressors._sparse import PerVoxelRegressor


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


COMPONENT = Lasso
