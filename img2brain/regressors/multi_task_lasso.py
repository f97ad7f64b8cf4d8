"""Multi-task lasso: all voxels use the same features."""

from __future__ import annotations

from typing import ClassVar

from img2brain.regressors._base import Space
from img2brain.regressors._limits import Limits
from img2brain.regressors._sparse import LASSO_LIMITS, LASSO_SEARCH, MultiTaskRegressor


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

    search: ClassVar[Space] = LASSO_SEARCH
    limits: ClassVar[Limits] = LASSO_LIMITS

    def __init__(self, alpha: float = 1.0, max_iter: int = 10_000, tol: float = 1e-10) -> None:
        self.alpha = alpha
        self.max_iter = max_iter
        self.tol = tol


COMPONENT = MultiTaskLasso
