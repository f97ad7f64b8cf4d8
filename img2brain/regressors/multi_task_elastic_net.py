"""Multi-task elastic net: all voxels use the same features, and their coefficients shrink."""

from __future__ import annotations

from typing import ClassVar

from img2brain.regressors._base import Space
from img2brain.regressors._limits import Limits
from img2brain.regressors._sparse import ELASTIC_NET_LIMITS, ELASTIC_NET_SEARCH, MultiTaskRegressor


class MultiTaskElasticNet(MultiTaskRegressor):
    """Minimise 1/(2n) ||Y - XB||^2 + alpha l1_ratio ||B||_21 + alpha (1 - l1_ratio) / 2 ||B||^2.

    Parameters
    ----------
    alpha : float
        Strength of both penalties, > 0.
    l1_ratio : float
        Share of the norms of rows in the penalty, above 0 and at most 1 (0 would be a ridge).
    max_iter : int
        The most sweeps of coordinate descent.
    tol : float
        Duality gap at which it is done, as a fraction of the mean square of Y.

    Notes
    -----
    n_features^3 multiplications a sweep, and n_features^2 x n_voxels once.

    Examples
    --------
    >>> MultiTaskElasticNet(alpha=5.0).fit([[-1.0], [1.0]], [[-3.0, -4.0], [3.0, 4.0]]).coef_.round(6)
    array([[0.428571],
           [0.571429]])
    """

    search: ClassVar[Space] = ELASTIC_NET_SEARCH
    limits: ClassVar[Limits] = ELASTIC_NET_LIMITS

    def __init__(self, alpha: float = 1.0, l1_ratio: float = 0.5, max_iter: int = 10_000, tol: float = 1e-10) -> None:
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.max_iter = max_iter
        self.tol = tol


COMPONENT = MultiTaskElasticNet
