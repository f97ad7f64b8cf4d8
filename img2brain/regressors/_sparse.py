"""The lasso family as regressors: one voxel at a time, or all together."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from img2brain._arrays import beside, in_blocks, is_tensor, namespace, slices, to_numpy
from img2brain.moments import Moments
from img2brain.regressors._descent import EachVoxel, PenalisedLeastSquares, Penalty, Solution, Together, descend
from img2brain.regressors._limits import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Limits
from img2brain.regressors._rotation import near, rotated
from img2brain.regressors.base import Array, Hyperparameter, PenalisedRegressor, Space, State

LASSO_SEARCH = {"alpha": Hyperparameter(1e-4, 1.0, log=True, relative=True)}
LASSO_LIMITS = {"alpha": POSITIVE, "max_iter": COUNT, "tol": NOT_NEGATIVE}
L1_RATIO_SEARCH = {"l1_ratio": Hyperparameter(0.1, 0.9)}
L1_RATIO_LIMITS = {"l1_ratio": SHARE}


@dataclass(eq=False, repr=False)
class SparseRegressor(PenalisedRegressor[State]):
    """Base of the lasso family.

    A parameter is a field with its default, and the constructor follows from the fields.

    Attributes
    ----------
    dual_gap_ : ndarray, shape (n_voxels,), or (1,) where voxels are fitted together
        Upper bound on how far the objective is above its minimum.
    converged_ : ndarray of bool, of the same shape
        Whether the gap is within the tolerance.
    n_iter_ : int
        The most sweeps over the features that any voxel took.
    """

    search: ClassVar[Space] = LASSO_SEARCH
    limits: ClassVar[Limits] = LASSO_LIMITS
    penalty: ClassVar[Penalty]
    alpha: float = 1.0
    max_iter: int = field(default=10_000, kw_only=True)
    tol: float = field(default=1e-10, kw_only=True)
    l1_ratio = 1.0  # a parameter of the elastic nets

    def alpha_scale(self, moments: Moments) -> float:
        """Return the alpha that leaves no coefficient: in half of the voxels, or in all that are fitted together.

        Where voxels are fitted each on its own, a few strong ones must not set the scale for the rest.
        """
        self.check_parameters()
        each = to_numpy(self.penalty.sizes(moments.xy)).max(axis=0)
        return float(np.median(each)) / (moments.n * self.l1_ratio) or 1.0

    def solve(self, state: State) -> Array:
        """Return the coefficients; sets `dual_gap_`, `converged_` and `n_iter_`."""
        return self.solve_from(state, None)

    def _minimise(self, moments: Moments, squares: Array, start: Array | None) -> Solution:
        l1, l2 = moments.n * self.alpha * self.l1_ratio, moments.n * self.alpha * (1.0 - self.l1_ratio)
        problem = PenalisedLeastSquares(moments.xx, moments.xy, squares, l1, l2, self.penalty)
        return descend(problem, self.tol, self.max_iter, start)

    def _report(self, solutions: Sequence[Solution], n: int) -> None:
        """Set what is known of the convergence, and warn as scikit-learn does."""
        self.dual_gap_ = np.concatenate([to_numpy(solution.gap) for solution in solutions]) / n
        self.converged_ = np.concatenate([to_numpy(solution.converged) for solution in solutions])
        self.n_iter_ = max(solution.n_iter for solution in solutions)
        missed = int((~self.converged_).sum())
        if missed:
            warnings.warn(
                f"The {self.component_name()} did not converge in {self.n_iter_} sweeps in {missed} of "
                f"{len(self.converged_)} problems. Raise 'max_iter' or 'tol'.",
                ConvergenceWarning,
                stacklevel=4,
            )


class PerVoxelRegressor(SparseRegressor[Moments]):
    """Base of those that fit each voxel on its own.

    Attributes
    ----------
    block : int
        Voxels that are fitted at a time.
    """

    penalty = EachVoxel()
    block: ClassVar[int] = 2560

    @classmethod
    def factorise(cls, moments: Moments) -> Moments:
        """Return the moments: coordinate descent needs nothing else."""
        return moments

    def solve_from(self, state: Moments, start: Array | None) -> Array:
        """Return the coefficients, voxels in blocks, so that the work beside the coefficients stays small."""
        blocks = list(slices(state.n_voxels, self.block))
        solutions: list[Any] = [None] * len(blocks)
        coef: Array = namespace(state.xy).zeros_like(state.xy)

        def solve(part: slice) -> None:
            solution = self._minimise(state.voxels(part), state.yy[part], None if start is None else start[:, part])
            coef[:, part] = solution.coef
            solutions[part.start // self.block] = replace(solution, coef=coef[:, part])

        in_blocks(solve, state.n_voxels, self.block, state.xy)
        self._report(solutions, state.n)
        return coef


@dataclass(frozen=True, eq=False)
class Rotated:
    """Moments whose voxels are rotated into at most as many targets as there are features.

    Attributes
    ----------
    moments : Moments
        Those of the targets, on the processor where they are few; `mean_y` and `yy` are left those of the voxels.
    basis : ndarray, shape (n_voxels, n_targets)
        Orthonormal columns, from targets to voxels.
    """

    moments: Moments
    basis: Array


class MultiTaskRegressor(SparseRegressor[Rotated]):
    """Base of those that fit all voxels together.

    The penalty sees voxels through the norms of rows of coefficients only, and those do not change when voxels are
    rotated. So the cross-products are rotated into a triangle, and the cost of a sweep does not depend on the number of
    voxels.
    """

    penalty = Together()

    @classmethod
    def factorise(cls, moments: Moments) -> Rotated:
        """Rotate the voxels."""
        basis, cross = rotated(moments.xy, moments.yy)
        return Rotated(near(replace(moments, xy=cross)), basis)

    def solve_from(self, state: Rotated, start: Array | None) -> Array:
        """Return the coefficients, found among the targets."""
        turned = None if start is None else start @ state.basis
        if not is_tensor(state.moments.xy) and turned is not None:
            turned = to_numpy(turned)
        solution = self._minimise(state.moments, state.moments.yy.sum(0, keepdims=True), turned)
        self._report([solution], state.moments.n)
        coef: Array = beside(solution.coef, state.basis) @ state.basis.T
        return coef
