"""Pearson correlation of responses with predictions, per voxel: from rows, or from moments alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from img2brain.errors import ShapeError
from img2brain.moments import Moments

Array = NDArray[np.float64]
BLOCK = 2048
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
    A few passes over both arrays, in blocks of voxels, so that the copies in float64 stay small.

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
    for start in range(0, len(r), BLOCK):
        part = slice(start, start + BLOCK)
        true, true_norm = _centred(Y_true[:, part])
        pred, pred_norm = _centred(Y_pred[:, part])
        r[part] = np.einsum("ij,ij->j", true, pred) / true_norm / pred_norm
    return np.clip(r, -1.0, 1.0, out=r)


def pearson_from_moments(coef: ArrayLike, moments: Moments) -> Array:
    """Correlate Y with the predictions X @ coef on the rows of `moments`, without the rows.

    Parameters
    ----------
    coef : array_like, shape (n_features, n_voxels)
        Coefficients. An intercept changes nothing.
    moments : Moments
        Moments of the rows to score, as a rule not those of the fit.

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
    B = np.asarray(coef, dtype=np.float64)
    if B.shape != moments.xy.shape:
        raise ShapeError(
            f"coef must have the shape of moments.xy. Got coef {B.shape} and moments.xy {moments.xy.shape}."
        )
    r = np.empty(moments.n_voxels)
    for start in range(0, len(r), BLOCK):
        part = slice(start, start + BLOCK)
        r[part] = _r_of_block(B[:, part], moments.voxels(part))
    return r


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
    fit = np.einsum("ij,ij->j", B, moments.xx @ B)
    # What rounding alone can leave of b'Gb, by Cauchy-Schwarz.
    bound = np.sqrt(np.diagonal(moments.xx)) @ np.abs(B)
    constant = 4 * len(B) * _EPS * bound**2
    defined = (fit > constant) & (moments.yy > _rounding(moments.n, moments.mean_y))
    norm = np.sqrt(np.where(defined, fit, np.nan)) * np.sqrt(moments.yy)
    r: Array = np.einsum("ij,ij->j", B, moments.xy) / norm
    return np.clip(r, -1.0, 1.0, out=r)


COMPONENT = pearson
