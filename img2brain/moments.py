"""Moments: all that a linear regressor, or the score of one, needs to know of images and voxels.

An image becomes a rank-one term of a Gram matrix, a voxel a column of the cross-products. What is kept is centred and
in float64: Pearson r from float32 sums is off by 2e-5, from these by 3e-14, or where the rows themselves are float32
within 1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from img2brain._arrays import (
    beside,
    column_products,
    empty,
    gpu_step,
    in_blocks,
    is_tensor,
    slices,
    to_device,
    to_numpy,
)
from img2brain._mapped import Make
from img2brain.errors import DataError, ShapeError

Array = NDArray[np.float64]
BLOCK = (1024, 1024)
_RUN = 128  # rows whose squares are added up in float32
_SQUARES = (1e-25, 1e30)  # sums of squares that float32 holds with all its digits


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
            Images and voxels that are worked on at a time.
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
        beside the product itself. Where float32 holds both X and Y, NumPy takes the cross-products of a block in it,
        which is twice as fast, and adds the blocks up in float64; the Gram matrix, which decides how well a problem can
        be solved, is always in float64.
        """
        X, Y = _matching(np.asanyarray(X), np.asanyarray(Y))
        return cls.from_blocks(((X[rows], Y[rows]) for rows in slices(len(X), block[0])), block[1], device)

    @classmethod
    def from_blocks(
        cls,
        blocks: Iterable[tuple[NDArray[Any], NDArray[Any]]],
        width: int = BLOCK[1],
        device: str = "cpu",
        make: Make = np.zeros,
    ) -> Moments:
        """Accumulate the moments of rows that come in blocks, so that the whole need not be in memory.

        Parameters
        ----------
        blocks : iterable of (X, Y)
            At least one, of at least one row each, as `from_rows` takes them.
        width : int
            Voxels that are worked on at a time.
        device : str
            As for `from_rows`.
        make : callable
            Makes the array of the cross-products where they are taken on the processor: zeros of a shape and a type.
        """
        sums: Moments | None = None
        scratch = _Scratch()
        for X, Y in blocks:
            sums = (sums or cls._none(X.shape[1], Y.shape[1], device, make))._add(X, Y, width, scratch)
        if sums is None:
            raise ShapeError("Moments need at least one block of rows. Got none.")
        return _finite(sums)

    @classmethod
    def _none(cls, k: int, v: int, device: str, make: Make) -> Moments:
        cross = make((k, v), np.float64) if device == "cpu" else np.zeros((k, v))
        return cls(0, np.zeros(k), np.zeros(v), np.zeros((k, k)), cross, np.zeros(v)).to(device)

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

    def _add(self, X: NDArray[Any], Y: NDArray[Any], width: int, scratch: _Scratch) -> Moments:
        """Add rows to these sums in place; only the number and `mean_x` are new."""
        with np.errstate(over="ignore", invalid="ignore"):
            Xc, mean_x = _centred(X, self.n, self.mean_x, empty((len(X) + 1, self.n_features), self.xx))
        left = empty((self.n_features, len(Xc)), self.xx)
        left[...] = Xc.T
        is_narrow = not is_tensor(left) and all(np.can_cast(rows.dtype, np.float32) for rows in (X, Y))
        narrow = _Narrow.of(left) if is_narrow else None

        def add(part: slice) -> None:
            with scratch.held() as memory, np.errstate(over="ignore", under="ignore", invalid="ignore"):
                if part.start == 0:  # here, since the threads of a product outside would go on spinning in here
                    self.xx[...] += Xc.T @ Xc
                if narrow is None or not self._add_narrow(narrow, Y[:, part], part, memory):
                    Yc = empty((len(Xc), _width(part)), self.xx)
                    _, mean = _centred(Y[:, part], self.n, self.mean_y[part], Yc)
                    self._add_part(part, left @ Yc, mean, _squares(Yc))

        in_blocks(add, self.n_voxels, gpu_step(width, left, Xc), self.xx)
        return replace(self, n=self.n + len(X), mean_x=mean_x)

    def _add_narrow(self, narrow: _Narrow, rows: NDArray[Any], part: slice, memory: _Memory) -> bool:
        """Add some voxels by products in float32, unless float32 does not hold their squares."""
        n_features, n_rows = narrow.left.shape
        Yc, mean = _centred(rows, self.n, self.mean_y[part], memory.take("rows", (n_rows, _width(part)), np.float32))
        squares = _squares(Yc)
        if not _hold(squares, Yc):
            return False
        shape = n_features, _width(part)
        product = np.matmul(narrow.left, Yc, out=memory.take("product", shape, np.float32))
        xy = np.multiply(product, narrow.units, out=memory.take("xy", shape, np.float64))
        self._add_part(part, xy, mean, squares)
        return True

    def _add_part(self, part: slice, xy: Array, mean_y: Array, yy: Array) -> None:
        self.xy[:, part] += xy
        self.mean_y[part] = mean_y
        self.yy[part] += yy


@dataclass(frozen=True, eq=False)
class _Narrow:
    """Centred features in float32, in units of their own so that no product leaves its range."""

    left: NDArray[np.float32]
    units: Array

    @classmethod
    def of(cls, left: Array) -> _Narrow:
        largest = np.abs(left).max(axis=1, initial=0.0, keepdims=True)
        units = np.exp2(np.ceil(np.log2(np.where(largest > 0, largest, 1.0))))
        return cls((left / units).astype(np.float32), units)


class _Memory:
    """Arrays that are used again and again, by name."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def take(self, name: str, shape: tuple[int, int], kind: Any) -> NDArray[Any]:
        """Return an array of this shape with any content."""
        size = shape[0] * shape[1]
        if name not in self._arrays or self._arrays[name].size < size:
            self._arrays[name] = np.empty(size, kind)
        return self._arrays[name][:size].reshape(shape)


class _Scratch:
    """Memory for threads: the first touch of new memory can cost as much as the product that is written there."""

    def __init__(self) -> None:
        self._free: list[_Memory] = []

    @contextmanager
    def held(self) -> Iterator[_Memory]:
        """Hand out memory that nobody else holds."""
        memory = self._free.pop() if self._free else _Memory()
        try:
            yield memory
        finally:
            self._free.append(memory)


def _width(part: slice) -> int:
    return int(part.stop - part.start)


def _centred(rows: NDArray[Any], n: int, mean: Array, centred: NDArray[Any]) -> tuple[NDArray[Any], Array]:
    """Centre rows on their own mean and append the row that merges them with `n` earlier ones; return also that mean.

    The first row is taken off before the mean, so that a constant column gives exact zeros.
    """
    m = len(rows)
    values = centred[:m]
    values[...] = beside(rows, mean)
    first = values[0] + 0.0
    values -= first
    offset = values.mean(axis=0)
    values -= offset
    step = (first - mean) + offset
    centred[m] = math.sqrt(n * m / (n + m)) * step
    return centred, mean + step * (m / (n + m))


def _squares(centred: NDArray[Any]) -> Array:
    """Add up the squares of each column: within a run of rows in their own type, the runs in float64."""
    total: Array = empty((centred.shape[1],), centred)
    total[...] = 0.0
    for run in slices(len(centred), _RUN):
        total += column_products(centred[run], centred[run])
    return total


def _hold(squares: Array, centred: NDArray[np.float32]) -> bool:
    """Tell whether float32 holds the squares of all columns: constant ones, and ones of a usual size."""
    unusual = ~((squares > _SQUARES[0]) & (squares < _SQUARES[1]))
    return not (unusual.any() and centred[:, unusual].any())


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
