"""Pearson correlation of responses with predictions, per voxel: from rows, or from moments alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from img2brain._arrays import beside, in_blocks, namespace, to_numpy
from img2brain.errors import ShapeError
from img2brain.moments import Moments

Array = NDArray[np.float64]
BLOCK = 512
_EPS = float(np.finfo(np.float64).eps)


def pearson(Y_true: ArrayLike, Y_pred: ArrayLike) -> Array:
    """Correlate responses with predictions, voxel by voxel.

    Parameters
    ----------
    Y_true : array_like, shape (n_images, n_voxels)
        Responses, of any real type.
    Y_pred : array_like, shape (n_images, n_voxels)
        Predictions.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        r in [-1, 1]; NaN where it is undefined: a column that is constant (up to rounding) or not finite, or fewer than
        two images.

    Raises
    ------
    ShapeError
        Where the two are not 2-D and of one shape.

    Notes
    -----
    A few passes over both arrays, in blocks of voxels, whose copies in float64 stay in the cache.

    Examples
    --------
    >>> pearson([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]], [[2.0, 0.0], [4.0, 1.0], [8.0, 2.0]])
    array([ 1., nan])
    """
    Y_true, Y_pred = np.asanyarray(Y_true), np.asanyarray(Y_pred)
    if Y_true.ndim != 2 or Y_true.shape != Y_pred.shape:
        raise ShapeError(
            f"Y_true and Y_pred must be 2-D and of one shape. Got Y_true {Y_true.shape} and Y_pred {Y_pred.shape}."
        )
    r = np.full(Y_true.shape[1], np.nan)
    if len(Y_true) < 2:
        return r

    def score(part: slice) -> None:
        true, true_norm = _centred(Y_true[:, part])
        pred, pred_norm = _centred(Y_pred[:, part])
        with np.errstate(invalid="ignore"):
            r[part] = np.einsum("ij,ij->j", true, pred) / true_norm / pred_norm

    in_blocks(score, len(r), BLOCK, r)
    return np.clip(r, -1.0, 1.0, out=r)


def pearson_from_moments(coef: ArrayLike, moments: Moments) -> Array:
    """Correlate Y with the predictions X @ coef on the rows of `moments`, without the rows.

    Parameters
    ----------
    coef : array_like, shape (n_features, n_voxels)
        Coefficients. An intercept changes nothing.
    moments : Moments
        Moments of the rows to score, as a rule not those of the fit; on any device.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        r as `pearson` gives it, within 1e-12 or so; NaN where a voxel or its prediction is constant.

    Raises
    ------
    ShapeError
        Where the coefficients do not fit the moments.

    Notes
    -----
    n_features^2 x n_voxels multiplications, whatever the number of images: r = b'c / sqrt(b'Gb s), with the Gram matrix
    G, the cross-products c and the sum of squares s of a voxel.
    """
    B = beside(np.asarray(coef, dtype=np.float64), moments.xy)
    if tuple(B.shape) != tuple(moments.xy.shape):
        raise ShapeError(
            f"coef must have the shape of moments.xy. Got coef {tuple(B.shape)} and "
            f"moments.xy {tuple(moments.xy.shape)}."
        )
    r = np.empty(moments.n_voxels)

    def score(part: slice) -> None:
        r[part] = to_numpy(_r_of_block(B[:, part], moments.voxels(part)))

    in_blocks(score, len(r), 4 * BLOCK, moments.xy)
    return np.clip(r, -1.0, 1.0, out=r)


@dataclass(frozen=True, eq=False)
class Agreement:
    """Sums of responses and predictions of some images, from which r follows; those of other images add up to them.

    Attributes
    ----------
    n : int
        Number of images.
    mean_y, mean_p : ndarray (n_voxels,)
        Mean response and prediction.
    yy, pp, yp : ndarray (n_voxels,)
        Centred sums of squares and of products.
    """

    n: int
    mean_y: Array
    mean_p: Array
    yy: Array
    pp: Array
    yp: Array

    @classmethod
    def from_moments(cls, coef: ArrayLike, intercept: ArrayLike, moments: Moments) -> Agreement:
        """Return the sums of predictions X @ coef + intercept, with `coef` (n_features, n_voxels), without the rows."""
        B, a, moments = np.asarray(coef, np.float64), np.asarray(intercept, np.float64), moments.to("cpu")
        pp, yp = np.empty(moments.n_voxels), np.empty(moments.n_voxels)

        def add(part: slice) -> None:
            pp[part] = np.einsum("ij,ij->j", B[:, part], moments.xx @ B[:, part])
            yp[part] = np.einsum("ij,ij->j", B[:, part], moments.xy[:, part])

        in_blocks(add, moments.n_voxels, 4 * BLOCK, B)
        return cls(moments.n, moments.mean_y, a + moments.mean_x @ B, moments.yy, pp, yp)

    def merge(self, other: Agreement) -> Agreement:
        """Return the sums of the images of both (Chan, Golub and LeVeque, 1983)."""
        n = self.n + other.n
        dy, dp, weight = other.mean_y - self.mean_y, other.mean_p - self.mean_p, self.n * other.n / n
        return Agreement(
            n=n,
            mean_y=self.mean_y + dy * (other.n / n),
            mean_p=self.mean_p + dp * (other.n / n),
            yy=self.yy + other.yy + weight * dy * dy,
            pp=self.pp + other.pp + weight * dp * dp,
            yp=self.yp + other.yp + weight * dy * dp,
        )

    @property
    def r(self) -> Array:
        """Pearson r per voxel, NaN where the responses or the predictions are constant."""
        defined = (self.yy > _rounding(self.n, self.mean_y)) & (self.pp > _rounding(self.n, self.mean_p))
        with np.errstate(invalid="ignore", divide="ignore"):
            r = np.where(defined, self.yp / np.sqrt(self.yy) / np.sqrt(self.pp), np.nan)
        return np.clip(r, -1.0, 1.0, out=r)


def _centred(columns: NDArray[Any]) -> tuple[Array, Array]:
    """Return centred columns and their norms; a norm is NaN where the column is constant up to rounding, or not finite.

    The first row is taken off before the mean, so that a constant gives exact zeros.
    """
    values = columns.astype(np.float64)
    first = values[0].copy()
    with np.errstate(over="ignore", invalid="ignore"):
        values -= first
        offset = values.mean(axis=0)
        values -= offset
        squares = np.einsum("ij,ij->j", values, values)
        defined = np.isfinite(squares) & (squares > _rounding(len(values), first + offset))
    return values, np.sqrt(np.where(defined, squares, np.nan))


def _rounding(n: int, mean: Array) -> Array:
    """Return the sum of squares that rounding alone can leave of `n` equal values."""
    return n * (4 * _EPS * mean) ** 2


def _r_of_block(B: Array, moments: Moments) -> Array:
    xp = namespace(B)
    fit = xp.einsum("ij,ij->j", B, moments.xx @ B)
    # What rounding alone can leave of b'Gb, by Cauchy-Schwarz.
    bound = xp.sqrt(moments.xx.diagonal()) @ xp.abs(B)
    constant = 4 * len(B) * _EPS * bound**2
    defined = (fit > constant) & (moments.yy > _rounding(moments.n, moments.mean_y))
    norm = xp.sqrt(xp.where(defined, fit, math.nan)) * xp.sqrt(moments.yy)
    r: Array = xp.einsum("ij,ij->j", B, moments.xy) / norm
    return r


COMPONENT = pearson
