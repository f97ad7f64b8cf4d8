"""Multi-task lasso whose alpha is chosen by cross-validation."""

from __future__ import annotations

from img2brain.regressors._sparse_folds import MultiTaskFoldedRegressor
from img2brain.regressors.multi_task_lasso import MultiTaskLasso


class MultiTaskLassoCV(MultiTaskFoldedRegressor):
    """Minimise 1/(2n) ||Y - XB||^2 + alpha ||B||_21.

    Alpha is the one of the least mean squared error on held-out rows, mean over the folds.

    Parameters
    ----------
    alphas : array_like of float, optional
        What to choose from, each > 0, in units of X times the norm over voxels of Y. By default 20 values
        over the four decades below the one that leaves no coefficient.
    cv : int
        Number of folds, >= 2: runs of rows, as those of scikit-learn's ``KFold(cv)``.
    max_iter : int
        The most sweeps of coordinate descent at an alpha.
    tol : float
        Duality gap at which it is done, as a fraction of the mean square of Y.

    Notes
    -----
    n_features^3 multiplications a sweep at each alpha and fold, and n_features^2 x n_voxels once a fold: both fits and
    errors are computed on voxels rotated into as many targets as there are features.

    Examples
    --------
    >>> X, Y = [[0.0], [1.0], [2.0], [3.0]], [[1.0, 0.0], [3.0, 1.0], [5.0, 2.0], [7.0, 3.0]]
    >>> MultiTaskLassoCV(alphas=(0.1, 1.0), cv=2).fit(X, Y).alpha_
    0.1
    """

    plain = MultiTaskLasso


COMPONENT = MultiTaskLassoCV
