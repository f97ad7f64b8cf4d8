"""The lasso family with alpha chosen by cross-validation: one voxel at a time, or all together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from img2brain._arrays import empty, namespace
from img2brain.moments import Moments
from img2brain.regressors._folds import ALPHAS_LIMITS, PER_VOXEL_LIMITS, PER_VOXEL_OPTIONS, FoldedRegressor
from img2brain.regressors._limits import Limits
from img2brain.regressors._rotation import near
from img2brain.regressors._sparse import LASSO_LIMITS
from img2brain.regressors.base import Array

LASSO_CV_LIMITS = {**ALPHAS_LIMITS, **{name: limit for name, limit in LASSO_LIMITS.items() if name != "alpha"}}


@dataclass(eq=False, repr=False)
class SparseFoldedRegressor(FoldedRegressor):
    """Base of those that choose by the mean squared error.

    Attributes
    ----------
    converged_ : ndarray of bool, shape (n_voxels,), or (1,) where voxels are fitted together
        Whether the fit to all rows is within the tolerance.
    n_iter_ : int
        The most sweeps over the features that any voxel took in that fit.
    """

    limits: ClassVar[Limits] = LASSO_CV_LIMITS
    refitted = ("coef_", "intercept_", "converged_")
    max_iter: int = field(default=10_000, kw_only=True)
    tol: float = field(default=1e-10, kw_only=True)

    def _criterion(self, errors: Array, n: int, squares: Array) -> Array:
        return -errors / n

    def _join(self, parts: Sequence[Any], places: Any) -> Self:
        self.n_iter_ = max(part.n_iter_ for part in parts)
        return super()._join(parts, places)


@dataclass(eq=False, repr=False)
class PerVoxelFoldedRegressor(SparseFoldedRegressor):
    """Base of those that fit each voxel on its own."""

    limits: ClassVar[Limits] = {**LASSO_CV_LIMITS, **PER_VOXEL_LIMITS}
    options = PER_VOXEL_OPTIONS
    per_voxel: bool = field(default=False, kw_only=True)


class MultiTaskFoldedRegressor(SparseFoldedRegressor):
    """Base of those that fit all voxels together, at one alpha by nature."""

    def _criterion(self, errors: Array, n: int, squares: Array) -> Array:
        """Return the mean over voxels, one column for all."""
        return super()._criterion(errors.sum(axis=1, keepdims=True), n, squares) / len(squares)

    def _reduced(self, train: Moments, held: Moments) -> tuple[Moments, Moments]:
        """Rotate voxels into as many targets as there are features, all that the penalty and the sum of errors see."""
        basis, triangle = namespace(train.xy).linalg.qr(train.xy.T)
        return near(_targets(train, basis, triangle.T)), near(_targets(held, basis, held.xy @ basis))


def _targets(moments: Moments, basis: Array, xy: Array) -> Moments:
    """Return the moments of rotated voxels. Of their squares the sum alone is known, and used."""
    yy = empty((basis.shape[1],), basis)
    yy[:] = moments.yy.sum() / basis.shape[1]
    return replace(moments, mean_y=moments.mean_y @ basis, xy=xy, yy=yy)
