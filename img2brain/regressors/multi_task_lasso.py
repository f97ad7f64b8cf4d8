"""Multi-task lasso: all voxels use the same features."""

from __future__ import annotations

from img2brain.regressors._sparse import MultiTaskRegressor


class MultiTaskLasso(MultiTaskRegressor):
    """Minimise 1/(2n) ||Y - XB||^2 + alpha ||B||_21, the sum of the norms of the rows of B.

    Parameters
    ----------
    alpha : float
        Strength of the penalty, > 0, in units of X times the norm over voxels of Y: it grows with the number of voxels.
    max_iter : int
        The most sweeps of coordinate descent.
    tol : float
        Duality gap at which it is done, as a fraction of the mean square of Y.

    Notes
    -----
    n_features^3 multiplications a sweep, and n_features^2 x n_voxels once.

    Examples
    --------
    >>> MultiTaskLasso(alpha=2.5).fit([[-1.0], [1.0]], [[-3.0, -4.0], [3.0, 4.0]]).coef_
    array([[1.5],
           [2. ]])
    """


COMPONENT = MultiTaskLasso
