"""Sums: all that a metric which needs no rows has to know of responses and predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from img2brain._arrays import beside, column_products, gpu_step, in_blocks, namespace, to_numpy
from img2brain.errors import ShapeError
from img2brain.moments import Moments

Array = NDArray[np.float64]
_BLOCK = 2048
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Sums:
    """Means and centred sums of responses and predictions of some images; those of other images add up to them.

    Attributes
    ----------
    n : int
        Number of images.
    mean_y, mean_p : ndarray, shape (..., n_voxels)
        Mean response and prediction.
    yy, pp, yp : ndarray, shape (..., n_voxels)
        Centred sums of squares and of products. Exactly 0 where the responses, or the predictions, are constant up to
        rounding.
    """

    n: int
    mean_y: Array
    mean_p: Array
    yy: Array
    pp: Array
    yp: Array

    @classmethod
    def from_rows(cls, Y: ArrayLike, P: ArrayLike) -> Sums:
        """Return the sums of rows (n_images, n_voxels)."""
        Y, P = np.asanyarray(Y), np.asanyarray(P)
        if Y.ndim != 2 or Y.shape != P.shape:
            raise ShapeError(f"Y and P must be 2-D and of one shape. Got Y {Y.shape} and P {P.shape}.")
        found = {name: np.zeros(Y.shape[1]) for name in ("mean_y", "mean_p", "yy", "pp", "yp")}

        def add(part: slice) -> None:
            (true, mean_y), (pred, mean_p) = centred(Y[:, part]), centred(P[:, part])
            squares = {"yy": (true, true), "pp": (pred, pred), "yp": (true, pred)}
            for name, (one, other) in squares.items():
                found[name][part] = column_products(one, other)
            found["mean_y"][part], found["mean_p"][part] = mean_y, mean_p

        if len(Y):
            in_blocks(add, Y.shape[1], _BLOCK // 4, found["yy"])
        return cls(len(Y), **found)._settled()

    @classmethod
    def from_moments(cls, coef: ArrayLike, intercept: ArrayLike, moments: Moments) -> Sums:
        """Return the sums of the predictions X @ coef + intercept on the rows of `moments`, without the rows.

        Parameters
        ----------
        coef : array_like, shape (n_features, n_voxels)
            Coefficients.
        intercept : array_like, shape (n_voxels,)
            Intercepts.
        moments : Moments
            Of the rows to score, as a rule not those of the fit; on any device.

        Returns
        -------
        Sums
            As NumPy arrays.

        Raises
        ------
        ShapeError
            Where the coefficients do not fit the moments.

        Notes
        -----
        n_features^2 x n_voxels multiplications, whatever the number of images.
        """
        B = beside(np.asarray(coef, dtype=np.float64), moments.xy)
        if tuple(B.shape) != tuple(moments.xy.shape):
            raise ShapeError(
                f"coef must have the shape of moments.xy. Got coef {tuple(B.shape)} and "
                f"moments.xy {tuple(moments.xy.shape)}."
            )
        pp, yp, mean_p = np.empty((3, moments.n_voxels))

        def add(part: slice) -> None:
            products = _products(B[:, part], moments.voxels(part))
            pp[part], yp[part], mean_p[part] = map(to_numpy, products)

        in_blocks(add, moments.n_voxels, gpu_step(_BLOCK, moments.xy), moments.xy)
        mean_p += np.asarray(intercept, np.float64)
        return cls(moments.n, to_numpy(moments.mean_y), mean_p, to_numpy(moments.yy), pp, yp)._settled()

    def merge(self, other: Sums) -> Sums:
        """Return the sums of the images of both (Chan, Golub and LeVeque, 1983)."""
        n = self.n + other.n
        dy, dp, weight = other.mean_y - self.mean_y, other.mean_p - self.mean_p, self.n * other.n / n
        return Sums(
            n=n,
            mean_y=self.mean_y + dy * (other.n / n),
            mean_p=self.mean_p + dp * (other.n / n),
            yy=self.yy + other.yy + weight * dy * dy,
            pp=self.pp + other.pp + weight * dp * dp,
            yp=self.yp + other.yp + weight * dy * dp,
        )._settled()

    def voxels(self, which: slice) -> Self:
        """Return the sums of a range of voxels."""
        parts = (getattr(self, name)[..., which] for name in ("mean_y", "mean_p", "yy", "pp", "yp"))
        return type(self)(self.n, *parts)

    def _settled(self) -> Sums:
        """Take for constant what varies by no more than rounding, or is not finite."""
        yy = np.where(self.yy > rounding(self.n, self.mean_y), self.yy, 0.0)
        pp = np.where(self.pp > rounding(self.n, self.mean_p), self.pp, 0.0)
        return Sums(self.n, self.mean_y, self.mean_p, yy, pp, self.yp)


def centred(columns: NDArray[Any]) -> tuple[Array, Array]:
    """Return centred columns and their means; the first row is taken off first: a constant gives exact zeros."""
    values = columns.astype(np.float64)
    first = values[0].copy()
    with np.errstate(over="ignore", invalid="ignore"):
        values -= first
        offset = values.mean(axis=0)
        values -= offset
    return values, first + offset


def rounding(n: int, mean: Array) -> Array:
    """Return the sum of squares that rounding alone can leave of `n` equal values."""
    return n * (4 * _EPS * mean) ** 2


def is_constant(columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which columns (n_images, n_voxels) vary by no more than rounding, or are not finite."""
    values, mean = centred(columns)
    with np.errstate(over="ignore", invalid="ignore"):
        varies: NDArray[np.bool_] = column_products(values, values) > rounding(len(values), mean)
    return ~varies


def _products(B: Array, moments: Moments) -> tuple[Array, Array, Array]:
    """Return the sums of squares of predictions, exactly 0 of a constant one, of products with responses, and means."""
    xp = namespace(B)
    fit = column_products(B, moments.xx @ B)
    # What rounding alone can leave of b'Gb, by Cauchy-Schwarz.
    bound = xp.sqrt(moments.xx.diagonal()) @ xp.abs(B)
    constant = 4 * len(B) * _EPS * bound**2
    return xp.where(fit > constant, fit, 0.0), column_products(B, moments.xy), moments.mean_x @ B


@runtime_checkable
class FromSums(Protocol):
    """A metric that needs no rows."""

    def from_sums(self, sums: Sums) -> Array:
        """Score from sums, whose arrays may have any shape (..., n_voxels)."""
        ...
