"""Multi-task elastic net: all voxels use the same features, and their coefficients shrink."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from img2brain.regressors._sparse import L1_RATIO_LIMITS, L1_RATIO_SEARCH, MultiTaskRegressor
from img2brain.regressors.base import Limits, Space


@dataclass(eq=False, repr=False)
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

    search: ClassVar[Space] = {**MultiTaskRegressor.search, **L1_RATIO_SEARCH}
    limits: ClassVar[Limits] = {**MultiTaskRegressor.limits, **L1_RATIO_LIMITS}
    l1_ratio: float = field(default=0.5, kw_only=True)


COMPONENT = MultiTaskElasticNet
