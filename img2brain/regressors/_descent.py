"""Coordinate descent on a Gram matrix, for many responses at once: what the lasso family shares.

With the centred Gram matrix G = X'X, cross-products C = X'Y and sums of squares s of Y, the objective in units of a sum
of squares is

    1/2 ||Y - XW||^2 + l1 |W| + l2/2 ||W||^2,

where |W| is either the sum of absolute values, so that each voxel is a problem of its own (`EachVoxel`), or the sum of
the norms of W's rows, one problem for all voxels (`Together`). The images do not appear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from img2brain._arrays import beside, namespace, slices, to_numpy
from img2brain.errors import FitError

Array = NDArray[np.float64]
CHUNK = 16
CHECK_EVERY = 5
WORTH_DROPPING = 0.8  # while more problems than this share are left, a copy of them costs more than the others do


class Penalty(Protocol):
    """How the penalty couples the responses."""

    def sizes(self, W: Array) -> Array:
        """Return what is penalised, shape (..., n_problems): the last axis of W, reduced within each problem."""

    def totals(self, values: Array) -> Array:
        """Add up values of the responses, shape (..., n_responses), within each problem."""


class EachVoxel:
    """The sum of absolute values: voxels are independent."""

    def sizes(self, W: Array) -> Array:
        """Return absolute values."""
        size: Array = abs(W)
        return size

    def totals(self, values: Array) -> Array:
        """Return the values."""
        return values


class Together:
    """The sum of the norms of rows: a feature serves all voxels or none."""

    def sizes(self, W: Array) -> Array:
        """Return the norms of rows."""
        xp = namespace(W)
        norms: Array = xp.sqrt(xp.einsum("...j,...j->...", W, W))[..., None]
        return norms

    def totals(self, values: Array) -> Array:
        """Return the sum."""
        total: Array = values.sum(-1, keepdims=True)
        return total


@dataclass(frozen=True, eq=False)
class Problem:
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
        each change is passed on at once. So the steps are those of plain cyclic descent, at the pace of a matrix
        product.
        """
        gram, used = self.gram[features[:, None], features], W[features]
        for chunk in slices(len(features), CHUNK):
            G, part = gram[chunk, chunk], used[chunk]
            rest = self.cross[features[chunk]] - gram[chunk] @ used
            for i in range(len(G)):
                change = self._minimum(rest[i] + G[i, i] * part[i], G[i, i]) - part[i]
                if change.any():
                    part[i] += change
                    rest[i + 1 :] -= G[i + 1 :, i, None] * change
        W[features] = used

    def measure(self, W: Array) -> tuple[Array, Array]:
        """Return the objective of each problem and its duality gap, an upper bound on its height above the minimum.

        The residual is scaled until it is feasible in the dual problem; the ridge term counts as further rows of X,
        whose responses are 0 (Zou and Hastie, 2005, lemma 1).
        """
        xp, total, sizes = namespace(W), self.penalty.totals, self.penalty.sizes
        slope = self.cross - self.gram @ W
        fit = total(xp.einsum("ij,ij->j", W, self.cross))
        ridge = self.l2 * total(xp.einsum("ij,ij->j", W, W))
        residual = self.squares - fit - total(xp.einsum("ij,ij->j", W, slope)) + ridge
        penalty = self.l1 * sizes(W).sum(0)
        scale = self.l1 / xp.amax(sizes(slope - self.l2 * W), 0).clip(min=self.l1)
        return 0.5 * residual + penalty, 0.5 * (1 + scale**2) * residual + penalty - scale * (self.squares - fit)

    def advance(self, W: Array, n_sweeps: int) -> tuple[Array, Array]:
        """Return better coefficients and their gaps: sweep over the features in use, once over all, and extrapolate."""
        trail = [W]
        for i in range(n_sweeps):
            in_use = trail[-1].any(1) if i < n_sweeps - 1 else self.gram.diagonal() > 0
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
        steps = xp.diff(xp.stack(trail), axis=0)
        products = xp.moveaxis(self.penalty.totals(xp.einsum("ikj,lkj->ilj", steps, steps)), -1, 0)
        size, n = xp.einsum("jii->j", products)[:, None, None], len(steps)
        regular = products + (1e-10 * size + 1e-300) * beside(np.eye(n), products)
        weights = xp.linalg.solve(regular, beside(np.ones((len(products), n, 1)), products))
        weights = weights / weights.sum(1, keepdims=True)
        ahead: Array = sum(weight.T * W for weight, W in zip(xp.moveaxis(weights, 1, 0), trail[1:], strict=True))
        return ahead

    def only(self, which: NDArray[np.bool_]) -> Problem:
        """Return some of the problems, where voxels are independent."""
        return Problem(self.gram, self.cross[:, which], self.squares[which], self.l1, self.l2, self.penalty)

    def _minimum(self, pull: Array, curvature: float) -> Array:
        """Return the best coefficients of one feature, given what the others leave to it."""
        size = self.penalty.sizes(pull)
        kept = (size - self.l1).clip(min=0.0) / size.clip(min=self.l1)
        found: Array = pull * (kept / (curvature + self.l2))
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


def descend(problem: Problem, tol: float, max_iter: int, start: Array | None = None) -> Solution:
    """Minimise the objective by cyclic coordinate descent.

    Parameters
    ----------
    problem : Problem
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
    correlated, an extrapolation after every few sweeps spares most of them.
    Friedman, Hastie and Tibshirani (2010); stopping as in scikit-learn.
    """
    xp = namespace(problem.cross)
    coef = xp.zeros_like(problem.cross) if start is None else start + 0.0
    gaps, goal = xp.zeros_like(problem.squares), tol * problem.squares
    todo: slice | NDArray[np.intp] = slice(None)
    part, W, n_iter = problem, coef, 0
    while n_iter < max_iter:
        n_sweeps = min(1 if n_iter < 2 else CHECK_EVERY, max_iter - n_iter)
        W, gap = part.advance(W, n_sweeps)
        n_iter += n_sweeps
        coef[:, todo], gaps[todo] = W, gap
        left = to_numpy(~(gap <= goal[todo]))
        if not left.any():
            break
        if left.mean() < WORTH_DROPPING:
            todo, part, W = np.arange(len(gaps))[todo][left], part.only(left), W[:, left]
    if not xp.isfinite(gaps).all():
        raise FitError("The duality gap is not a number: the moments belong to no data.")
    return Solution(coef, gaps, n_iter, gaps <= goal)
