"""Elastic net, each voxel on its own, with an alpha that is chosen by cross-validation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from img2brain.regressors._sparse import L1_RATIO_LIMITS, L1_RATIO_SEARCH
from img2brain.regressors._sparse_folds import PerVoxelFoldedRegressor
from img2brain.regressors.base import Limits, Space
from img2brain.regressors.elastic_net import ElasticNet


@dataclass(eq=False, repr=False)
class ElasticNetCV(PerVoxelFoldedRegressor):
    """Minimise 1/(2n) ||y - Xb||^2 + alpha l1_ratio ||b||_1 + alpha (1 - l1_ratio) / 2 ||b||^2 for each voxel.

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
    l1_ratio : float
        Share of the absolute values in the penalty, above 0 and at most 1 (0 would be a ridge).
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
    >>> ElasticNetCV(alphas=(0.1, 1.0)).fit(X, [1.0, 3.0, 5.0, 7.0, 9.0, 11.0]).alpha_
    0.1
    """

    plain = ElasticNet
    search: ClassVar[Space] = L1_RATIO_SEARCH
    limits: ClassVar[Limits] = {**PerVoxelFoldedRegressor.limits, **L1_RATIO_LIMITS}
    l1_ratio: float = field(default=0.5, kw_only=True)


COMPONENT = ElasticNetCV
