"""Coordinate descent on a Gram matrix, for many responses at once: what the lasso family shares.

With the centred Gram matrix G = X'X, cross-products C = X'Y and sums of squares s of Y, the objective in units of a sum
of squares is

    1/2 ||Y - XW||^2 + l1 |W| + l2/2 ||W||^2,

where |W| is either the sum of absolute values, so that each voxel is a problem of its own (`EachVoxel`), or the sum of
the norms of W's rows, one problem for all voxels (`Together`). The images do not appear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement, pairwise
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from img2brain._arrays import beside, column_products, namespace, slices, to_numpy
from img2brain.errors import FitError

Array = NDArray[np.float64]
CHUNK = 16
CHECK_EVERY = 5
ORTHOGONAL = 1.001  # the most that a feature's row of the Gram matrix may add up to, in units of its own weight
WORTH_DROPPING = 0.8  # while more problems than this share are left, a copy of them costs more than the others do
LEAP_AFTER, LEAP_EVERY = 0.4, 0.05  # sweeps for each feature; what they cost is near what a leap costs
TINY = 1e-12  # of a feature's own weight, so that features that repeat others can be solved for
PIECE = 2**20  # entries of the systems of equations that are solved at a time


class Penalty(Protocol):
    """How the penalty couples the responses.

    Attributes
    ----------
    separable : bool
        Whether it is a sum over coefficients, so that each response is a problem of its own.
    """

    separable: ClassVar[bool]

    def sizes(self, W: Array) -> Array:
        """Return what is penalised, shape (..., n_problems): the last axis of W, reduced within each problem."""

    def shrunk(self, W: Array, by: float) -> Array:
        """Return W with every size less by some amount, and 0 where it was smaller than that."""

    def totals(self, values: Array) -> Array:
        """Add up values of the responses, shape (..., n_responses), within each problem."""


class EachVoxel:
    """The sum of absolute values: voxels are independent."""

    separable: ClassVar[bool] = True

    def sizes(self, W: Array) -> Array:
        """Return absolute values."""
        size: Array = abs(W)
        return size

    def shrunk(self, W: Array, by: float) -> Array:
        """Return values that are nearer to 0."""
        nearer: Array = W - W.clip(-by, by)
        return nearer

    def totals(self, values: Array) -> Array:
        """Return the values."""
        return values


class Together:
    """The sum of the norms of rows: a feature serves all voxels or none."""

    separable: ClassVar[bool] = False

    def sizes(self, W: Array) -> Array:
        """Return the norms of rows."""
        xp = namespace(W)
        norms: Array = xp.sqrt(xp.einsum("...j,...j->...", W, W))[..., None]
        return norms

    def shrunk(self, W: Array, by: float) -> Array:
        """Return rows that are nearer to 0."""
        size = self.sizes(W)
        nearer: Array = W * ((size - by).clip(min=0.0) / size.clip(min=by))
        return nearer

    def totals(self, values: Array) -> Array:
        """Return the sum."""
        total: Array = values.sum(-1, keepdims=True)
        return total


@dataclass(frozen=True, eq=False)
class PenalisedLeastSquares:
    """One objective, for one or many responses.

    Attributes
    ----------
    gram : ndarray, shape (n_features, n_features)
    cross : ndarray, shape (n_features, n_responses)
    squares : ndarray, shape (n_problems,)
        Sum of squares of Y within each problem.
    l1, l2 : float
        Strengths of the two penalties, in units of a sum of squares of X.
    penalty : Penalty
    """

    gram: Array
    cross: Array
    squares: Array
    l1: float
    l2: float
    penalty: Penalty

    def sweep(self, W: Array, features: NDArray[np.intp]) -> None:
        """Minimise over each of `features` in turn, in place.

        What the other features explain is taken off for `CHUNK` features at once, as one matrix product; within a chunk
        the changes of those before are. So the steps are those of plain cyclic descent, at the pace of a matrix
        product. Features that are orthogonal but for rounding do not wait for each other.
        """
        gram, used = self.gram[features[:, None], features], W[features]
        curvatures = gram.diagonal()[:, None]
        if (abs(gram).sum(1)[:, None] <= ORTHOGONAL * curvatures).all():
            W[features] = self._minimum(self.cross[features] - gram @ used + curvatures * used, curvatures)
            return
        for chunk in slices(len(features), CHUNK):
            G, part = gram[chunk, chunk], used[chunk]
            pull = self.cross[features[chunk]] - gram[chunk] @ used + curvatures[chunk] * part
            changes = -part
            for i in range(len(G)):
                if i:
                    pull[i] -= G[i, :i] @ changes[:i]
                part[i] = self._minimum(pull[i], G[i, i])
                changes[i] += part[i]
        W[features] = used

    def measure(self, W: Array) -> tuple[Array, Array]:
        """Return the objective of each problem and its duality gap, an upper bound on its height above the minimum.

        The residual is scaled until it is feasible in the dual problem; the ridge term counts as further rows of X,
        whose responses are 0 (Zou and Hastie, 2005, lemma 1).
        """
        xp, total, sizes = namespace(W), self.penalty.totals, self.penalty.sizes
        slope = self.cross - self.gram @ W
        beyond = slope - self.l2 * W if self.l2 else slope
        fit = total(column_products(W, self.cross))
        ridge = self.l2 * total(column_products(W, W))
        residual = self.squares - fit - total(column_products(W, slope)) + ridge
        penalty = self.l1 * sizes(W).sum(0)
        scale = self.l1 / xp.amax(sizes(beyond), 0).clip(min=self.l1)
        return 0.5 * residual + penalty, 0.5 * (1 + scale**2) * residual + penalty - scale * (self.squares - fit)

    def advance(self, W: Array, n_sweeps: int) -> tuple[Array, Array]:
        """Return better coefficients and their gaps: sweep over the features in use, once over all, and extrapolate."""
        trail = [W]
        for i in range(n_sweeps):
            in_use = trail[-1].any(1)
            if i == n_sweeps - 1 or not in_use.any():
                in_use = self.gram.diagonal() > 0
            trail.append(trail[-1] + 0.0)
            self.sweep(trail[-1], np.flatnonzero(to_numpy(in_use)))
        W, (objective, gap) = trail[-1], self.measure(trail[-1])
        if n_sweeps < 3:
            return W, gap
        ahead = self.extrapolate(trail)
        objective_ahead, gap_ahead = self.measure(ahead)
        better = objective_ahead < objective
        xp = namespace(W)
        return xp.where(better, ahead, W), xp.where(better, gap_ahead, gap)

    def extrapolate(self, trail: Sequence[Array]) -> Array:
        """Combine iterates so that their combined step is least (Anderson, 1965; Bertrand and Massias, 2021)."""
        xp = namespace(self.gram)
        steps = [after - before for before, after in pairwise(trail)]
        n = len(steps)
        product = {
            pair: self.penalty.totals(xp.einsum("kj,kj->j", *(steps[i] for i in pair)))
            for pair in combinations_with_replacement(range(n), 2)
        }
        products = xp.stack([xp.stack([product[min(i, j), max(i, j)] for j in range(n)], -1) for i in range(n)], -1)
        size = xp.einsum("jii->j", products)[:, None, None]
        regular = products + (1e-10 * size + 1e-300) * beside(np.eye(n), products)
        weights = xp.linalg.solve(regular, beside(np.ones((len(products), n, 1)), products))
        weights = weights / weights.sum(1, keepdims=True)
        ahead: Array = sum(weight.T * W for weight, W in zip(xp.moveaxis(weights, 1, 0), trail[1:], strict=True))
        return ahead

    def leap(self, W: Array) -> tuple[Array, Array]:
        """Return better coefficients and their gaps, where voxels are independent: the minimum for the signs they have.

        For given signs the objective is quadratic. Where some would change on the way to its minimum, the better of two
        points: where the first coefficient becomes 0 (Lee et al., 2007), and the end with all that changed at 0.
        """
        xp, (objective, gap) = namespace(W), self.measure(W)
        step = self._newton_step(W)
        turns = W * step < 0
        until = xp.where(turns, -W / xp.where(turns, step, 1.0), xp.inf)
        first = xp.amin(until, 0).clip(max=1.0)
        for ahead in (xp.where(until <= first, 0.0, W + first * step), xp.where(until < 1.0, 0.0, W + step)):
            objective_ahead, gap_ahead = self.measure(ahead)
            better = objective_ahead < objective
            W, gap = xp.where(better, ahead, W), xp.where(better, gap_ahead, gap)
            objective = xp.where(better, objective_ahead, objective)
        return W, gap

    def only(self, which: NDArray[np.bool_]) -> PenalisedLeastSquares:
        """Return some of the problems, where voxels are independent."""
        return replace(self, cross=self.cross[:, which], squares=self.squares[which])

    def _newton_step(self, W: Array) -> Array:
        """Return the step to the minimum for given signs, by a system of equations for each voxel's features in use."""
        xp = namespace(W)
        pull = (self.cross - self.gram @ W - self.l2 * W - self.l1 * xp.sign(W)).T
        used, step = (W != 0).T, xp.zeros_like(pull)
        by_size = xp.argsort(used.sum(1))  # systems of like size together
        for part in slices(len(by_size), max(1, PIECE // len(W) ** 2)):
            voxels = by_size[part][:, None]
            n = int(used[by_size[part][-1]].sum())
            features = xp.argsort(xp.where(used[by_size[part]], 0, 1))[:, :n]
            kept = used[voxels, features]
            gram = self.gram[features[:, :, None], features[:, None, :]]
            system = xp.where(kept[:, :, None] & kept[:, None, :], gram, 0.0)
            diagonal = xp.where(kept, self.gram.diagonal()[features] * (1.0 + TINY) + self.l2, 1.0)
            system[:, xp.arange(n), xp.arange(n)] = diagonal
            step[voxels, features] = xp.linalg.solve(system, (pull[voxels, features] * kept)[:, :, None])[:, :, 0]
        found: Array = step.T
        return found

    def _minimum(self, pull: Array, curvature: Array | float) -> Array:
        """Return the best coefficients of a feature, or of each, given what the others leave to it."""
        found: Array = self.penalty.shrunk(pull, self.l1) * (1.0 / (curvature + self.l2))
        return found


@dataclass(frozen=True, eq=False)
class Solution:
    """Coefficients, and how near to the minimum they are.

    Attributes
    ----------
    coef : ndarray, shape (n_features, n_responses)
    gap : ndarray, shape (n_problems,)
        Duality gap of each problem.
    n_iter : int
        Sweeps over the features.
    converged : ndarray of bool, shape (n_problems,)
        Whether the gap is within the tolerance.

    The arrays are of the kind of the problem's.
    """

    coef: Array
    gap: Array
    n_iter: int
    converged: NDArray[np.bool_]


def descend(problem: PenalisedLeastSquares, tol: float, max_iter: int, start: Array | None = None) -> Solution:
    """Minimise the objective by cyclic coordinate descent.

    Parameters
    ----------
    problem : PenalisedLeastSquares
        What to minimise.
    tol : float
        A problem is done when its duality gap is at most `tol` times its sum of squares.
    max_iter : int
        The most sweeps.
    start : ndarray, shape (n_features, n_responses), optional
        Where to start, such as the solution of a near problem; at 0 by default.

    Returns
    -------
    Solution

    Raises
    ------
    FitError
        Where the gap is not a number: the moments belong to no data.

    Notes
    -----
    Problems that are done are dropped, once they are many. On a diagonal Gram matrix (principal components of the same
    rows) the first sweep is exact, and where rounding left it nearly diagonal the second; where features are
    correlated, an extrapolation after every few sweeps spares most of them. Where voxels are independent, those that
    then are not done have nearly the signs of their minimum, and leap there: that bounds what the last of them cost.
    Friedman, Hastie and Tibshirani (2010); stopping as in scikit-learn.
    """
    xp = namespace(problem.cross)
    coef = xp.zeros_like(problem.cross) if start is None else start + 0.0
    gaps, goal = xp.zeros_like(problem.squares), tol * problem.squares
    todo: slice | NDArray[np.intp] = slice(None)
    part, W, n_iter = problem, coef, 0
    n_before_leap = LEAP_AFTER * len(coef)
    while n_iter < max_iter:
        n_sweeps = min(CHECK_EVERY if n_iter else 2, max_iter - n_iter)
        W, gap = part.advance(W, n_sweeps)
        n_iter += n_sweeps
        if n_iter >= n_before_leap and problem.penalty.separable:
            W, gap = part.leap(W)
            n_before_leap = n_iter + LEAP_EVERY * len(coef)
        coef[:, todo], gaps[todo] = W, gap
        left = to_numpy(~(gap <= goal[todo]))
        if not left.any():
            break
        if left.mean() < WORTH_DROPPING:
            todo, part, W = np.arange(len(gaps))[todo][left], part.only(left), W[:, left]
    if not xp.isfinite(gaps).all():
        raise FitError("The duality gap is not a number: the moments belong to no data.")
    return Solution(coef, gaps, n_iter, gaps <= goal)
