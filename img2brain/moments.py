"""Moments: all that a linear regressor, or the score of one, needs to know of images and voxels.

An image becomes a rank-one term of a Gram matrix, a voxel a column of the cross-products. What is kept is centred and
in float64: Pearson r from float32 sums is off by 2e-5, from these by 3e-14.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from img2brain._arrays import beside, empty, in_blocks, namespace, slices, to_device, to_numpy
from img2brain.errors import DataError, ShapeError

Array = NDArray[np.float64]
BLOCK = (1024, 1024)


@dataclass(frozen=True, eq=False)
class Moments:
    """Means, centred Gram matrix and centred cross-products of X (n_images, n_features) with Y (n_images, n_voxels).

    Attributes
    ----------
    n : int
        Number of images.
    mean_x : ndarray, shape (n_features,)
        Mean of each feature.
    mean_y : ndarray, shape (n_voxels,)
        Mean of each voxel.
    xx : ndarray, shape (n_features, n_features)
        Gram matrix of the centred features.
    xy : ndarray, shape (n_features, n_voxels)
        Cross-products of the centred features and voxels.
    yy : ndarray, shape (n_voxels,)
        Sum of squares of each centred voxel; exactly 0 where the voxel is constant.

    Notes
    -----
    On the CPU these are NumPy arrays, on another device tensors there; what is computed from them is of the same kind.

    Examples
    --------
    >>> moments = Moments.from_rows([[0.0], [2.0]], [[1.0, 5.0], [3.0, 5.0]])
    >>> moments.xy
    array([[2., 0.]])
    """

    n: int
    mean_x: Array
    mean_y: Array
    xx: Array
    xy: Array
    yy: Array

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.mean_x)

    @property
    def n_voxels(self) -> int:
        """Number of voxels."""
        return len(self.mean_y)

    @classmethod
    def from_rows(cls, X: ArrayLike, Y: ArrayLike, block: tuple[int, int] = BLOCK, device: str = "cpu") -> Moments:
        """Accumulate the moments of rows, block by block.

        Parameters
        ----------
        X : array_like, shape (n_images, n_features)
            Features, of any real type.
        Y : array_like, shape (n_images, n_voxels)
            Responses, of any real type; a memory map is read once and never held whole.
        block : tuple of int
            Images and voxels that are converted to float64 at a time.
        device : str
            Where to compute, and to keep the moments: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

        Returns
        -------
        Moments
            In float64.

        Raises
        ------
        ShapeError
            Where an array is not 2-D or empty, or their rows do not match.
        DataError
            Where a value is not finite, or too large to be squared.
        DeviceError
            Where the device is not there.

        Notes
        -----
        n_images x n_features x (n_features + n_voxels) multiplications. Centred by the pairwise update of Chan, Golub
        and LeVeque (1983): a block merges with the images before it by one more centred row, so that it costs nothing
        beside the product itself.
        """
        X, Y = _matching(np.asanyarray(X), np.asanyarray(Y))
        return cls.from_blocks(((X[rows], Y[rows]) for rows in slices(len(X), block[0])), block[1], device)

    @classmethod
    def from_blocks(
        cls, blocks: Iterable[tuple[NDArray[Any], NDArray[Any]]], width: int = BLOCK[1], device: str = "cpu"
    ) -> Moments:
        """Accumulate the moments of rows that come in blocks, so that the whole need not be in memory.

        Parameters
        ----------
        blocks : iterable of (X, Y)
            At least one, of at least one row each, as `from_rows` takes them.
        width : int
            Voxels that are converted to float64 at a time.
        device : str
            As for `from_rows`.
        """
        sums: Moments | None = None
        for X, Y in blocks:
            sums = (sums or cls._none(X.shape[1], Y.shape[1]).to(device))._add(X, Y, width)
        if sums is None:
            raise ShapeError("Moments need at least one block of rows. Got none.")
        return _finite(sums)

    @classmethod
    def _none(cls, k: int, v: int) -> Moments:
        return cls(0, np.zeros(k), np.zeros(v), np.zeros((k, k)), np.zeros((k, v)), np.zeros(v))

    def to(self, device: str) -> Moments:
        """Return the moments on a device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``."""
        names = [field.name for field in fields(self)[1:]]
        return replace(self, **{name: to_device(getattr(self, name), device) for name in names})

    def merge(self, other: Moments) -> Moments:
        """Return the moments of the images of both.

        Raises
        ------
        ShapeError
            Where the features or voxels of the two differ in number.
        """
        if self.xy.shape != other.xy.shape:
            raise ShapeError(
                f"Moments that merge must agree in features and voxels. Got {self.xy.shape} and {other.xy.shape}."
            )
        n = self.n + other.n
        dx, dy = other.mean_x - self.mean_x, other.mean_y - self.mean_y
        share = other.n / n if n else 0.0
        weight = self.n * share
        return Moments(
            n=n,
            mean_x=self.mean_x + share * dx,
            mean_y=self.mean_y + share * dy,
            xx=self.xx + other.xx + weight * dx[:, None] * dx,
            xy=self.xy + other.xy + (weight * dx)[:, None] * dy,
            yy=self.yy + other.yy + weight * dy**2,
        )

    def leading(self, k: int) -> Moments:
        """Return the moments of the first `k` features, as views.

        Raises
        ------
        ShapeError
            Where there are fewer than `k` features, or `k` is below 1.
        """
        if not 1 <= k <= self.n_features:
            raise ShapeError(f"The number of leading features must be from 1 to {self.n_features}. Got {k}.")
        return replace(self, mean_x=self.mean_x[:k], xx=self.xx[:k, :k], xy=self.xy[:k])

    def voxels(self, which: slice | NDArray[np.bool_]) -> Moments:
        """Return the moments of a range of voxels, as views, or of those of a mask."""
        return replace(self, mean_y=self.mean_y[which], xy=self.xy[:, which], yy=self.yy[which])

    def _add(self, X: NDArray[Any], Y: NDArray[Any], width: int) -> Moments:
        """Add rows to these sums in place; only the number and `mean_x` are new."""
        xp, left = namespace(self.xx), empty((self.n_features, len(X) + 1), self.xx)

        def add(part: slice) -> None:
            with np.errstate(over="ignore", invalid="ignore"):
                Yc, self.mean_y[part] = _centred(Y[:, part], self.n, self.mean_y[part])
                self.xy[:, part] += left @ Yc
                self.yy[part] += xp.einsum("ij,ij->j", Yc, Yc)

        with np.errstate(over="ignore", invalid="ignore"):
            Xc, mean_x = _centred(X, self.n, self.mean_x)
            self.xx[...] += Xc.T @ Xc
            left[...] = Xc.T
        in_blocks(add, self.n_voxels, width, self.xx)
        return replace(self, n=self.n + len(X), mean_x=mean_x)


def _centred(rows: NDArray[Any], n: int, mean: Array) -> tuple[Array, Array]:
    """Centre rows on their own mean and append the row that merges them with `n` earlier ones; return also that mean.

    The first row is taken off before the mean, so that a constant column gives exact zeros.
    """
    m = len(rows)
    centred = empty((m + 1, rows.shape[1]), mean)
    values = centred[:m]
    values[...] = beside(rows, mean)
    first = values[0] + 0.0
    values -= first
    offset = values.mean(axis=0)
    values -= offset
    step = first + offset - mean
    centred[m] = math.sqrt(n * m / (n + m)) * step
    return centred, mean + step * (m / (n + m)) if n else first + offset


def _matching(X: NDArray[Any], Y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    if X.ndim != 2 or Y.ndim != 2 or len(X) != len(Y):
        raise ShapeError(f"X and Y must be 2-D with as many rows each. Got X {X.shape} and Y {Y.shape}.")
    if not X.size or not Y.size:
        raise ShapeError(f"X and Y must not be empty. Got X {X.shape} and Y {Y.shape}.")
    return X, Y


def _finite(moments: Moments) -> Moments:
    """Refuse sums that are not finite: NaN, infinity, or a value whose square overflows, leaves its trace in them."""
    for name, squares in (("X", moments.xx.diagonal()), ("Y", moments.yy)):
        bad = np.flatnonzero(~np.isfinite(to_numpy(squares)))
        if bad.size:
            raise DataError(
                f"{name} must be finite. Got NaN, infinity or too large a value in column {bad[0]} ({bad.size} in all)."
            )
    return moments
