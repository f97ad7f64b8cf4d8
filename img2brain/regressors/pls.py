"""Partial least squares."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from img2brain._arrays import beside, namespace, to_numpy
from img2brain.errors import FitError
from img2brain.moments import Moments
from img2brain.regressors._rotation import rotated
from img2brain.regressors.base import (
    COUNT,
    FLAG,
    NOT_NEGATIVE,
    Array,
    Hyperparameter,
    Limits,
    MomentsRegressor,
    Space,
)

EPS = float(np.finfo(np.float64).eps)


@dataclass(eq=False, repr=False)
class PLS(MomentsRegressor[Moments]):
    """Regress Y on the few directions of X that covary most with Y, as scikit-learn's ``PLSRegression``.

    Each direction w maximises ||Y'Xw|| over unit vectors; what it explains is taken off X and Y before the next.

    Parameters
    ----------
    n_components : int
        Number of directions, >= 1 and at most the dimensions that the rows span. Not the number of principal components
        that a study reduces features to: these are the features here.
    scale : bool
        Divide features and voxels by their standard deviations first.
    max_iter : int
        The most steps of the power method for a direction.
    tol : float
        A direction is found when the square of its change in a step is below this.

    Attributes
    ----------
    converged_ : ndarray of bool, shape (n_directions,)
        Whether the power method came to its tolerance. There are fewer directions than asked for where fewer tell all
        that X tells of Y.
    n_iter_ : int
        The most steps that any direction took.

    Notes
    -----
    NIPALS sees rows only through products of features with each other and with voxels, and voxels only through sums
    over them. So it runs on moments, with voxels rotated into as many targets as there are features: n_features^2 x
    n_voxels multiplications once, n_features^3 a direction and n_features^2 a step, whatever the number of images
    (Wold, 1975; Dayal and MacGregor, 1997). Its directions depend on `tol`, and are those of scikit-learn at the same.
    The precision is that of a Gram matrix, as in `Linear`.

    Examples
    --------
    >>> PLS(n_components=1).fit([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]], [1.0, 2.0, 3.0]).coef_.round(6)
    array([0.714286, 0.357143])
    """

    search: ClassVar[Space] = {"n_components": Hyperparameter(1, 32, log=True, integer=True, within_features=True)}
    limits: ClassVar[Limits] = {"n_components": COUNT, "scale": FLAG, "max_iter": COUNT, "tol": NOT_NEGATIVE}
    n_components: int = 2
    scale: bool = field(default=True, kw_only=True)
    max_iter: int = field(default=500, kw_only=True)
    tol: float = field(default=1e-6, kw_only=True)

    @classmethod
    def factorise(cls, moments: Moments) -> Moments:
        """Return the moments: the scales of voxels, before which nothing can be shared, are a parameter."""
        return moments

    def solve(self, state: Moments) -> Array:
        """Return the coefficients; sets `converged_` and `n_iter_`.

        Raises
        ------
        FitError
            Where the rows span fewer dimensions than there shall be directions.
        """
        x_scale, y_scale = self._scales(state.xx.diagonal(), state.n), self._scales(state.yy, state.n)
        gram = to_numpy(state.xx / x_scale / x_scale[:, None])
        self._require_dimensions(gram, state.n)
        basis, cross = rotated(state.xy / x_scale[:, None] / y_scale, state.yy)
        coef = self._nipals(gram, to_numpy(cross), to_numpy(basis))
        found: Array = beside(coef, basis) @ basis.T / x_scale[:, None] * y_scale
        return found

    def _scales(self, squares: Array, n: int) -> Array:
        """Return the standard deviations that belong to sums of squares, and 1 where one is 0."""
        xp = namespace(squares)
        scales: Array = xp.where(squares > 0, xp.sqrt(squares / (n - 1)), 1.0) if self.scale else squares * 0.0 + 1.0
        return scales

    def _require_dimensions(self, gram: Array, n: int) -> None:
        values = np.linalg.eigvalsh(gram)
        n_found = int(np.count_nonzero(values > 4 * max(n, len(gram)) * EPS * values[-1]))
        if self.n_components > n_found:
            raise FitError(
                f"The 'n_components' of pls must be at most {n_found}, the dimensions that the rows span. "
                f"Got {self.n_components}."
            )

    def _nipals(self, gram: Array, cross: Array, basis: Array) -> Array:
        """Return the coefficients of the targets, shape (n_features, n_targets)."""
        found: list[tuple[Array, Array, Array]] = []
        steps: list[int] = []
        rounding = len(gram) * EPS * np.linalg.norm(cross)
        while len(found) < self.n_components and np.linalg.norm(cross) > rounding:
            w, n_steps = self._direction(cross, basis)
            square = w @ gram @ w
            p, q = gram @ w / square, cross.T @ w / square
            gram, cross = gram - square * np.outer(p, p), cross - square * np.outer(p, q)
            found.append((w, p, q))
            steps.append(n_steps)
        self._report(np.array(steps, dtype=int))
        if not found:
            return np.zeros_like(cross)
        W, P, Q = (np.array(vectors) for vectors in zip(*found, strict=True))
        coef: Array = W.T @ np.linalg.solve(P @ W.T, Q)
        return coef

    def _direction(self, cross: Array, basis: Array) -> tuple[Array, int]:
        """Return the direction of the largest covariance, and the steps to it from that of the first voxel."""
        rounding = EPS * np.linalg.norm(cross)
        w = _unit(next(column for column in map(cross.dot, basis) if np.linalg.norm(column) > rounding))
        if len(basis) == 1:
            return w, 1
        product = cross @ cross.T
        for n_steps in range(2, self.max_iter + 1):
            before, w = w, _unit(product @ w)
            if np.sum((w - before) ** 2) < self.tol:
                return w, n_steps
        return w, self.max_iter

    def _report(self, steps: NDArray[np.intp]) -> None:
        """Set what is known of the convergence, and warn as scikit-learn does."""
        self.converged_ = steps < self.max_iter
        self.n_iter_ = int(steps.max(initial=0))
        if not self.converged_.all():
            warnings.warn(
                f"The pls did not converge in {self.n_iter_} steps in {np.count_nonzero(~self.converged_)} of "
                f"{len(steps)} directions. Raise 'max_iter' or 'tol'.",
                ConvergenceWarning,
                stacklevel=4,
            )


def _unit(vector: Array) -> Array:
    unit: Array = vector / np.linalg.norm(vector)
    return unit


COMPONENT = PLS
