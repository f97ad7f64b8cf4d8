"""Multi-task elastic net whose alpha is chosen by cross-validation."""

from __future__ import annotations

from typing import ClassVar

from numpy.typing import ArrayLike

from img2brain.regressors._base import Space
from img2brain.regressors._limits import Limits
from img2brain.regressors._sparse_folds import (
    ELASTIC_NET_CV_SEARCH,
    MULTI_TASK_ELASTIC_NET_CV_LIMITS,
    MultiTaskFoldedRegressor,
)
from img2brain.regressors.multi_task_elastic_net import MultiTaskElasticNet


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
    search: ClassVar[Space] = ELASTIC_NET_CV_SEARCH
    limits: ClassVar[Limits] = MULTI_TASK_ELASTIC_NET_CV_LIMITS

    def __init__(
        self,
        alphas: ArrayLike | None = None,
        cv: int = 3,
        l1_ratio: float = 0.5,
        max_iter: int = 10_000,
        tol: float = 1e-10,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.l1_ratio = l1_ratio
        self.max_iter = max_iter
        self.tol = tol


COMPONENT = MultiTaskElasticNetCV
