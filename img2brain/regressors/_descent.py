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

from img2brain.errors import FitError

Array = NDArray[np.float64]
CHUNK = 16
CHECK_EVERY = 5


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
        size: Array = np.abs(W)
        return size

    def totals(self, values: Array) -> Array:
        """Return the values."""
        return values


class Together:
    """The sum of the norms of rows: a feature serves all voxels or none."""

    def sizes(self, W: Array) -> Array:
        """Return the norms of rows."""
        norms: Array = np.sqrt(np.einsum("...j,...j->...", W, W))[..., None]
        return norms

    def totals(self, values: Array) -> Array:
        """Return the sum."""
        total: Array = values.sum(axis=-1, keepdims=True)
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
        for chunk in (features[start : start + CHUNK] for start in range(0, len(features), CHUNK)):
            G = self.gram[np.ix_(chunk, chunk)]
            rest = self.cross[chunk] - self.gram[np.ix_(chunk, features)] @ W[features]
            for i, j in enumerate(chunk):
                change = self._minimum(rest[i] + G[i, i] * W[j], G[i, i]) - W[j]
                if change.any():
                    W[j] += change
                    rest[i + 1 :] -= G[i + 1 :, i, None] * change

    def measure(self, W: Array) -> tuple[Array, Array]:
        """Return the objective of each problem and its duality gap, an upper bound on its height above the minimum.

        The residual is scaled until it is feasible in the dual problem; the ridge term counts as further rows of X,
        whose responses are 0 (Zou and Hastie, 2005, lemma 1).
        """
        total, sizes = self.penalty.totals, self.penalty.sizes
        slope = self.cross - self.gram @ W
        fit = total(np.einsum("ij,ij->j", W, self.cross))
        ridge = self.l2 * total(np.einsum("ij,ij->j", W, W))
        residual = self.squares - fit - total(np.einsum("ij,ij->j", W, slope)) + ridge
        penalty = self.l1 * sizes(W).sum(axis=0)
        scale = self.l1 / np.maximum(sizes(slope - self.l2 * W).max(axis=0), self.l1)
        return 0.5 * residual + penalty, 0.5 * (1 + scale**2) * residual + penalty - scale * (self.squares - fit)

    def advance(self, W: Array, n_sweeps: int) -> tuple[Array, Array]:
        """Return better coefficients and their gaps: sweep over the features in use, once over all, and extrapolate."""
        trail = [W]
        for i in range(n_sweeps):
            in_use = trail[-1].any(axis=1) if i < n_sweeps - 1 else np.diagonal(self.gram) > 0
            trail.append(trail[-1].copy())
            self.sweep(trail[-1], np.flatnonzero(in_use))
        W, (objective, gap) = trail[-1], self.measure(trail[-1])
        if n_sweeps < 3:
            return W, gap
        ahead = self.extrapolate(trail)
        objective_ahead, gap_ahead = self.measure(ahead)
        better = objective_ahead < objective
        return np.where(better, ahead, W), np.where(better, gap_ahead, gap)

    def extrapolate(self, trail: Sequence[Array]) -> Array:
        """Combine iterates so that their combined step is least (Anderson, 1965; Bertrand and Massias, 2021)."""
        steps = np.diff(trail, axis=0)
        products = self.penalty.totals(np.einsum("ikj,lkj->ilj", steps, steps)).T
        size = np.trace(products, axis1=1, axis2=2)[:, None, None]
        weights = np.linalg.solve(products + (1e-10 * size + 1e-300) * np.eye(len(steps)), np.ones((len(steps), 1)))
        weights /= weights.sum(axis=1, keepdims=True)
        ahead: Array = sum(weight.T * W for weight, W in zip(weights.swapaxes(0, 1), trail[1:], strict=True))
        return ahead

    def only(self, which: NDArray[np.bool_]) -> Problem:
        """Return some of the problems, where voxels are independent."""
        return Problem(
            self.gram, self.cross.compress(which, axis=1), self.squares[which], self.l1, self.l2, self.penalty
        )

    def _minimum(self, pull: Array, curvature: float) -> Array:
        """Return the best coefficients of one feature, given what the others leave to it."""
        size = self.penalty.sizes(pull)
        kept = np.maximum(size - self.l1, 0.0) / np.maximum(size, self.l1)
        return np.asarray(pull * (kept / (curvature + self.l2)))


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
    """

    coef: Array
    gap: Array
    n_iter: int
    converged: NDArray[np.bool_]


def descend(problem: Problem, tol: float, max_iter: int) -> Solution:
    """Minimise the objective by cyclic coordinate descent.

    Parameters
    ----------
    problem : Problem
        What to minimise.
    tol : float
        A problem is done when its duality gap is at most `tol` times its sum of squares.
    max_iter : int
        The most sweeps.

    Returns
    -------
    Solution

    Raises
    ------
    FitError
        Where the gap is not a number: the moments belong to no data.

    Notes
    -----
    Problems that are done are dropped. On a diagonal Gram matrix (principal components of the same rows) the first
    sweep is exact; where features are correlated, an extrapolation after every few sweeps spares most of them.
    Friedman, Hastie and Tibshirani (2010); stopping as in scikit-learn.
    """
    coef, gaps = np.zeros_like(problem.cross), np.empty_like(problem.squares)
    goal = tol * problem.squares
    todo: slice | NDArray[np.intp] = slice(None)
    part, W, n_iter = problem, coef, 0
    while n_iter < max_iter:
        n_sweeps = min(CHECK_EVERY if n_iter else 1, max_iter - n_iter)
        W, gap = part.advance(W, n_sweeps)
        n_iter += n_sweeps
        coef[:, todo], gaps[todo] = W, gap
        left = ~(gap <= goal[todo])
        if not left.any():
            break
        if not left.all():
            todo, part, W = np.arange(len(gaps))[todo][left], part.only(left), W.compress(left, axis=1)
    if not np.isfinite(gaps).all():
        raise FitError("The duality gap is not a number: the moments belong to no data.")
    return Solution(coef, gaps, n_iter, gaps <= goal)
