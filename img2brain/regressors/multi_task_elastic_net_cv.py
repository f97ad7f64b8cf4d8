"""Multi-task elastic net whose alpha is chosen by cross-validation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from img2brain.regressors._sparse import L1_RATIO_LIMITS, L1_RATIO_SEARCH
from img2brain.regressors._sparse_folds import MultiTaskFoldedRegressor
from img2brain.regressors.base import Limits, Space
from img2brain.regressors.multi_task_elastic_net import MultiTaskElasticNet


@dataclass(eq=False, repr=False)
class MultiTaskElasticNetCV(MultiTaskFoldedRegressor):
    """Minimise 1/(2n) ||Y - XB||^2 + alpha l1_ratio ||B||_21 + alpha (1 - l1_ratio) / 2 ||B||^2.

    Alpha is the one of the least mean squared error on held-out rows, mean over the folds.

    Parameters
    ----------
    alphas : array_like of float, optional
        What to choose from, each > 0, in units of X times the norm over voxels of Y. By default 20 values
        over the four decades below the one that leaves no coefficient.
    cv : int
        Number of folds, >= 2: runs of rows, as those of scikit-learn's ``KFold(cv)``.
    l1_ratio : float
        Share of the norms of rows in the penalty, above 0 and at most 1 (0 would be a ridge).
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
    >>> MultiTaskElasticNetCV(alphas=(0.1, 1.0), cv=2).fit(X, Y).alpha_
    0.1
    """

    plain = MultiTaskElasticNet
    search: ClassVar[Space] = L1_RATIO_SEARCH
    limits: ClassVar[Limits] = {**MultiTaskFoldedRegressor.limits, **L1_RATIO_LIMITS}
    l1_ratio: float = field(default=0.5, kw_only=True)


COMPONENT = MultiTaskElasticNetCV
