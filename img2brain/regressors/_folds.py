"""Alpha chosen by k-fold cross-validation on the training rows, from the moments of the folds alone.

The moments of each fold are accumulated once. A fold is scored by a regressor that was fitted to the merged moments of
the others; its sum of squared errors follows from its own moments. So the rows are read once, whatever the number of
alphas, and no prediction is ever made.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from img2brain._arrays import column_products, empty, gpu_step, in_blocks, to_numpy
from img2brain.errors import FitError
from img2brain.moments import Moments
from img2brain.regressors._limits import ALPHAS, FLAG, FOLDS, Limits
from img2brain.regressors.base import Array, LinearRegressor, PenalisedRegressor, folds_of, merged

N_ALPHAS = 20
ALPHAS_LIMITS = {"alphas": ALPHAS, "cv": FOLDS}
PER_VOXEL_OPTIONS = ("alphas", "cv", "per_voxel")
PER_VOXEL_LIMITS = {**ALPHAS_LIMITS, "per_voxel": FLAG}


@dataclass(eq=False, repr=False)
class FoldedRegressor(LinearRegressor):
    """Base of those that choose alpha by cross-validation, then fit all rows at that alpha.

    A parameter is a field with its default, and the constructor follows from the fields.

    Attributes
    ----------
    plain : type of PenalisedRegressor
        What is fitted at each alpha. Without ``alphas``, 20 of them span its own search range.
    refitted : tuple of str
        What is taken from the plain regressor that is fitted to all rows.
    block : int
        Voxels whose folds are scored at a time.
    alphas_ : ndarray, shape (n_alphas,)
        What alpha was chosen from, descending.
    cv_scores_ : ndarray, shape (n_alphas,), or (n_alphas, n_voxels) where each voxel has its own alpha
        Score of each alpha, mean over the folds; higher is better.
    alpha_ : float, or ndarray of shape (n_voxels,)
        The best alpha; of equally good ones the largest.
    """

    plain: ClassVar[type[PenalisedRegressor[Any]]]
    limits: ClassVar[Limits] = ALPHAS_LIMITS
    options: ClassVar[tuple[str, ...]] = ("alphas", "cv")
    arrays: ClassVar[tuple[str, ...]] = ("coef_", "intercept_", "alpha_")
    refitted: ClassVar[tuple[str, ...]] = ("coef_", "intercept_")
    block: ClassVar[int] = 1024
    alphas: ArrayLike | None = None
    cv: int = field(default=3, kw_only=True)
    per_voxel = False  # a parameter of some

    @property
    def n_folds(self) -> int:
        """Into how many runs of rows `fit_folds` wants the training rows to be divided."""
        return self.cv

    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        """Fit by way of the moments of the folds: scikit-learn's ``KFold(cv)``, in the order of the rows.

        Raises
        ------
        SpecError
            Where a parameter is not allowed.
        DataError
            Where a value is not finite or rows do not match (`ShapeError`).
        FitError
            Where there are fewer than two rows in a fold.
        """
        X, Y = self.checked_rows(X, Y)
        rows = Y.reshape(len(Y), -1)
        self.fit_folds([Moments.from_rows(X[fold], rows[fold]) for fold in folds_of(len(X), self.cv)])
        if Y.ndim == 1:
            self._drop_voxel_axis()
        return self

    def fit_folds(self, folds: Sequence[Moments]) -> Self:
        """Fit to the rows of `folds`, the moments of each fold; equal to `fit` on the rows themselves.

        Raises
        ------
        FitError
            Where there are fewer than two folds, or rows in a fold.
        """
        self.check_parameters()
        if len(folds) < 2 or min(fold.n for fold in folds) < 2:
            sizes = [fold.n for fold in folds]
            raise FitError(f"The {self.component_name()} needs at least 2 folds of at least 2 rows. Got {sizes}.")
        moments = merged(folds)
        self.alphas_ = self._candidates(moments)
        scores = np.mean([self._scores(train, held) for train, held in _partings(folds)], axis=0)
        self._choose(scores if self.per_voxel else scores.mean(axis=1))
        return self._refit(moments)

    @abstractmethod
    def _criterion(self, errors: Array, n: int, squares: Array) -> Array:
        """Score sums of squared errors (n_alphas, n_voxels) on `n` held-out rows, given the sums of squares there."""

    def _scores(self, train: Moments, held: Moments) -> Array:
        """Score every alpha on one fold, voxels in blocks."""
        seen_train, seen_held = self._reduced(train, _about(held, train))
        errors = empty((len(self.alphas_), seen_train.n_voxels), seen_train.xy)

        def measure(block: slice) -> None:
            part = seen_held.voxels(block)
            for row, coef in zip(errors, self._path(seen_train.voxels(block)), strict=True):
                row[block] = _squared_errors(coef, part)

        step = gpu_step(max(self.block, train.n_features), seen_train.xy)
        in_blocks(measure, seen_train.n_voxels, step, seen_train.xy)
        return self._criterion(to_numpy(errors), held.n, to_numpy(held.yy))

    def _reduced(self, train: Moments, held: Moments) -> tuple[Moments, Moments]:
        """Turn both into the coordinates in which a path costs least; the errors do not depend on them."""
        return train, held

    def _path(self, moments: Moments) -> Iterator[Array]:
        """Yield the coefficients (n_features, n_voxels) at each of `alphas_`."""
        path = self._at(self.alphas_[0]).solve_path(self.plain.factorise(moments), self.alphas_)
        return (coef for _, coef in path)

    def _candidates(self, moments: Moments) -> Array:
        if self.alphas is not None:
            return np.sort(np.asarray(self.alphas, dtype=np.float64))[::-1]
        range_ = self.plain.search["alpha"]
        return np.geomspace(range_.high, range_.low, N_ALPHAS) * self._at(1.0).alpha_scale(moments)

    def _at(self, alpha: float) -> PenalisedRegressor[Any]:
        """Return the plain regressor at an alpha, with the parameters that the two share."""
        plain = self.plain()
        shared = {name: value for name, value in self.get_params().items() if name in plain.get_params()}
        return plain.set_params(**shared, alpha=float(alpha))  # type: ignore[no-any-return]

    def _choose(self, scores: Array) -> None:
        self.cv_scores_ = scores
        best = self.alphas_[scores.argmax(axis=0)]
        self.alpha_: Any = best if self.per_voxel else float(best)

    def _refit(self, moments: Moments) -> Self:
        """Fit to all rows: the voxels that share an alpha together."""
        if not self.per_voxel:
            return self._join([self._at(self.alpha_).fit_moments(moments)], slice(None))
        alphas, group = np.unique(self.alpha_, return_inverse=True)
        parts = [self._at(alpha).fit_moments(moments.voxels(group == i)) for i, alpha in enumerate(alphas)]
        return self._join(parts, np.argsort(np.argsort(group, kind="stable")))

    def _join(self, parts: Sequence[Any], places: Any) -> Self:
        """Take what was fitted to parts of the voxels, in the order of the voxels."""
        for name in self.refitted:
            setattr(self, name, np.concatenate([getattr(part, name) for part in parts])[places])
        self.n_features_in_ = parts[0].n_features_in_
        return self

    def _drop_voxel_axis(self) -> None:
        super()._drop_voxel_axis()
        if self.per_voxel:
            self.alpha_, self.cv_scores_ = float(self.alpha_[0]), self.cv_scores_[:, 0]


def _partings(folds: Sequence[Moments]) -> Iterator[tuple[Moments, Moments]]:
    """Yield, for each fold, the moments of the others and its own."""
    for i, held in enumerate(folds):
        yield merged([*folds[:i], *folds[i + 1 :]]), held


def _about(held: Moments, train: Moments) -> Moments:
    """Return the moments of the held-out rows about the means of the training rows, which a prediction starts from."""
    dx, dy = held.mean_x - train.mean_x, held.mean_y - train.mean_y
    return replace(
        held,
        xx=held.xx + held.n * dx[:, None] * dx,
        xy=held.xy + held.n * dx[:, None] * dy,
        yy=held.yy + held.n * dy**2,
    )


def _squared_errors(coef: Array, held: Moments) -> Array:
    """Return ||y - Xb||^2 = y'y - 2 b'X'y + b'X'Xb of each voxel."""
    errors: Array = held.yy + column_products(coef, held.xx @ coef) - 2.0 * column_products(coef, held.xy)
    return errors
