"""Elastic net, each voxel on its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from img2brain.regressors._sparse import L1_RATIO_LIMITS, L1_RATIO_SEARCH, PerVoxelRegressor
from img2brain.regressors.base import Limits, Space


@dataclass(eq=False, repr=False)
class ElasticNet(PerVoxelRegressor):
    """Minimise 1/(2n) ||y - Xb||^2 + alpha l1_ratio ||b||_1 + alpha (1 - l1_ratio) / 2 ||b||^2 for each voxel.

    Parameters
    ----------
    alpha : float
        Strength of both penalties, > 0.
    l1_ratio : float
        Share of the absolute values in the penalty, above 0 and at most 1 (0 would be a ridge).
    max_iter : int
        The most sweeps of coordinate descent.
    tol : float
        Duality gap at which a voxel is done, as a fraction of its mean square.

    Notes
    -----
    n_features^2 x n_voxels multiplications a sweep; two sweeps on principal components of the same images.

    Examples
    --------
    >>> ElasticNet(alpha=1.0).fit([[-1.0], [1.0]], [-2.0, 2.0]).coef_
    array([1.])
    """

    search: ClassVar[Space] = {**PerVoxelRegressor.search, **L1_RATIO_SEARCH}
    limits: ClassVar[Limits] = {**PerVoxelRegressor.limits, **L1_RATIO_LIMITS}
    l1_ratio: float = field(default=0.5, kw_only=True)


COMPONENT = ElasticNet
