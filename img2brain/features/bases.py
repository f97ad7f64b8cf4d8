"""Bases beside the leading principal components: every component there is, and sparse random projections.

What a basis keeps of the activations is enough to give the coordinates of all images for any choice of rows. A space
of several layers, its *blocks*, is made of what is kept of each, divided by the scale of the block.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_matrix

from img2brain import digest
from img2brain._quiet import ignored
from img2brain.errors import FitError
from img2brain.features import pca
from img2brain.features.activations import Activations, Rows
from img2brain.features.pca import CONSTANT, Axes, Components
from img2brain.spec import ALL, SRP

F64 = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]

_BLOCK_BYTES = 1 << 28
_SEED = 0
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Kept:
    """What is kept of one block.

    Attributes
    ----------
    arrays : mapping of str to ndarray
        What `Basis.keep` gave, or the projections of `pca.compress`.
    scale : float
        What its activations are divided by.
    """

    arrays: Arrays
    scale: float = 1.0


class Keeper(ABC):
    """Makes of the activations of a block what is kept of it."""

    @property
    @abstractmethod
    def key(self) -> Mapping[str, Any]:
        """All that what it keeps depends on, beside the activations."""

    @abstractmethod
    def keep(self, values: Activations) -> dict[str, NDArray[Any]]:
        """Reduce the activations of a block to what coordinates are made of."""

    @abstractmethod
    def most_bytes(self, n_images: int) -> int:
        """Return the most that what it keeps of so many images takes."""


class Basis(Keeper):
    """What features are reduced to."""

    @abstractmethod
    def components(self, parts: Sequence[Kept], rows: Rows) -> Components:
        """Return the coordinates of all images, fitted to some rows; raises `FitError` where these do not vary."""

    @abstractmethod
    def axes(self, kept: Kept, values: Activations, components: Components, rows: Rows) -> Axes:
        """Return what takes the activations of a block to its share of the coordinates."""


class Every(Basis):
    """All principal components: an orthonormal basis of everything that varies over the fitted rows.

    A penalty on the norm of the weights, as ridge regression has it, does not depend on the basis: to fit the
    coordinates is to fit the features themselves, and as many coordinates as there are rows stand for any number of
    features. So do distances.

    Notes
    -----
    Of more features than images the Gram matrix of the images is kept, of fewer the features; all in float64. The
    activations are read once, n_images^2 x n_features multiplications; an eigendecomposition for each choice of rows.
    With centred activations A = U S V' of the fitted rows, coordinates of any images B are B V = B A' U S^-1.
    """

    @property
    def key(self) -> Mapping[str, Any]:
        """Nothing but the name."""
        return {"basis": ALL}

    def keep(self, values: Activations) -> dict[str, NDArray[Any]]:
        """Keep the features where they are few, otherwise the Gram matrix of the images."""
        if values.n_features <= values.n_images:
            return {"features": values.rows(np.arange(values.n_images)).float().cpu().numpy()}
        gram = np.zeros((values.n_images, values.n_images))
        for part in values.ranges(_width(values)):
            centred = values.columns(part).double().cpu().numpy()
            centred -= centred.mean(axis=0)
            gram += centred @ centred.T
        return {"gram": gram}

    def most_bytes(self, n_images: int) -> int:
        """Return what a Gram matrix takes."""
        return 8 * n_images**2

    def components(self, parts: Sequence[Kept], rows: Rows) -> Components:
        """Return as many coordinates as the fitted rows span dimensions, in float64."""
        if all("features" in part.arrays for part in parts):
            scaled = [part.arrays["features"].astype(np.float64) / part.scale for part in parts]
            return _of_features(np.concatenate(scaled, axis=1), rows)
        return _of_gram(reduce(np.add, map(_gram, parts)), rows)

    def axes(self, kept: Kept, values: Activations, components: Components, rows: Rows) -> Axes:
        """Return the principal axes; those of several blocks stand one below another."""
        weights = components.coordinates[rows] / components.variances / kept.scale**2
        found = np.empty((values.n_features, weights.shape[1]), np.float32)
        shift = np.zeros(weights.shape[1])
        for part in values.ranges(_width(values)):
            fitted = values.columns(part)[torch.from_numpy(rows).to(values.device)].double().cpu().numpy()
            mean = fitted.mean(axis=0)
            axes = (fitted - mean).T @ weights
            found[part] = axes
            shift += mean @ axes
        return Axes(found, shift.astype(np.float32))


@dataclass(frozen=True)
class SparseProjection(Basis):
    """Sparse random projections, with scikit-learn's numbers: ``SparseRandomProjection(size, random_state=0)``.

    Parameters
    ----------
    size : int
        Coordinates.
    before, after : tuple of int
        Widths of the blocks before and after this one in a space of several: one matrix projects them all.

    Notes
    -----
    An entry of the matrix is +-sqrt(sqrt(n_features) / size) with probability 1 / sqrt(n_features), and else 0 (Li,
    Hastie and Church, 2006). Distances are kept within 10 % in some ``4 log(n) / (.1^2 / 2 - .1^3 / 3)`` coordinates
    of n images (Johnson and Lindenstrauss, 1984; `n_components_of`).
    """

    size: int
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    @property
    def key(self) -> Mapping[str, Any]:
        """What the matrix depends on."""
        return {"basis": f"{SRP}:{self.size}", "before": list(self.before), "after": list(self.after), "seed": _SEED}

    def keep(self, values: Activations) -> dict[str, NDArray[Any]]:
        """Project all images."""
        found = np.zeros((values.n_images, self.size), np.float32)
        for rows, (projected,) in values.each(self._projected):
            found[rows] = projected.numpy()
        return {"projected": found}

    def most_bytes(self, n_images: int) -> int:
        """Return what the projections take."""
        return 4 * n_images * self.size

    def components(self, parts: Sequence[Kept], rows: Rows) -> Components:
        """Return the projections, as they are: no rows have a say but in the scales of several blocks."""
        found = sum(part.arrays["projected"] / np.float32(part.scale) for part in parts)
        variances = np.square(found[rows] - found[rows].mean(axis=0, dtype=np.float64)).sum(axis=0)  # type: ignore[index]
        if not variances.any():
            raise FitError(CONSTANT)
        return Components(np.asarray(found, np.float32), variances)

    def axes(self, kept: Kept, values: Activations, components: Components, rows: Rows) -> Axes:
        """Return the matrix."""
        found = self._matrix(values.n_features).T.toarray() / np.float32(kept.scale)
        return Axes(np.asarray(found, np.float32), np.zeros(self.size, np.float32))

    def _projected(self, block: torch.Tensor, _rows: slice) -> tuple[torch.Tensor]:
        found = (self._matrix(block.shape[1]) @ block.float().cpu().numpy().T).T
        return (torch.from_numpy(np.ascontiguousarray(found)),)

    def _matrix(self, n_features: int) -> csr_matrix:
        """Return the part of the matrix that projects this block, (size, n_features)."""
        return _part(self.size, sum(self.before), n_features, sum(self.after))


class Norms(Keeper):
    """What the total variance of a block over any rows follows from: see `scale`.

    Parameters
    ----------
    rows : ndarray of int
        The rows whose mean the distances of all images are taken from.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    @property
    def key(self) -> Mapping[str, Any]:
        """The rows."""
        return {"basis": "norms", "rows": digest.of_array(self._rows.astype(np.int64))}

    def keep(self, values: Activations) -> dict[str, NDArray[Any]]:
        """Keep the squared distance of each image."""
        found = np.zeros(values.n_images)
        for part in values.ranges(_width(values)):
            block = values.columns(part).double().cpu().numpy()
            found += np.square(block - block[self._rows].mean(axis=0)).sum(axis=1)
        return {"norms": found}

    def most_bytes(self, n_images: int) -> int:
        """Return what the distances take."""
        return 8 * n_images

    def scale(self, norms: F64, projected: NDArray[Any], rows: Rows) -> float:
        """Return what a block is divided by: the root of its total variance, the sum over its features, over some rows.

        ``s^2 = (sum_i |x_i - m|^2 - n |m_rows - m|^2) / n`` over the n rows i, where m is the mean that the norms are
        counted from; how far the mean of the rows is from it is seen in the projections. All blocks so have a total
        variance of 1.

        Raises
        ------
        FitError
            If the block does not vary over the rows.
        """
        moved = projected[rows].mean(axis=0, dtype=np.float64) - projected[self._rows].mean(axis=0, dtype=np.float64)
        total = float(norms[rows].mean() - moved @ moved)
        if not total > _ROUNDING * float(norms.mean()):
            raise FitError(CONSTANT)
        return math.sqrt(total)


@cache
def n_components_of(n_images: int) -> int:
    """Return the Johnson-Lindenstrauss size of so many images, as scikit-learn's ``n_components = "auto"`` has it.

    Examples
    --------
    >>> n_components_of(1000)
    5920
    """
    from sklearn.random_projection import johnson_lindenstrauss_min_dim

    return int(johnson_lindenstrauss_min_dim(n_images, eps=0.1))


@lru_cache(maxsize=1)
def _part(size: int, before: int, n_features: int, after: int) -> csr_matrix:
    """Draw a matrix and return a range of its columns; blocks of rows are multiplied by it in turn."""
    whole = projection(size, before + n_features + after)
    return whole[:, before : before + n_features].astype(np.float32)


def projection(size: int, n_features: int) -> csr_matrix:
    """Draw the matrix of a sparse random projection, (size, n_features), in float64."""
    from sklearn.exceptions import DataDimensionalityWarning
    from sklearn.random_projection import SparseRandomProjection

    with ignored(DataDimensionalityWarning):  # as many coordinates as features, or more, are no mistake here
        drawn = SparseRandomProjection(size, random_state=_SEED).fit(csr_matrix((2, n_features)))
    return csr_matrix(drawn.components_)


def _width(values: Activations) -> int:
    """Return how many features of all images are worked on at a time, in float64."""
    return max(1, _BLOCK_BYTES // (8 * values.n_images))


def _gram(part: Kept) -> F64:
    """Return the Gram matrix of the images, about any point."""
    if "gram" in part.arrays:
        return part.arrays["gram"] if part.scale == 1 else part.arrays["gram"] / part.scale**2
    features = part.arrays["features"].astype(np.float64) / part.scale
    features -= features.mean(axis=0)
    return features @ features.T


def _of_features(features: F64, rows: Rows) -> Components:
    centred = features - features[rows].mean(axis=0)
    fitted = centred[rows]
    if len(rows) <= fitted.shape[1]:
        return _of_gram(centred @ centred.T, rows)
    variances, axes = _eigenpairs(fitted.T @ fitted)
    return _signed(centred @ axes, variances, rows)


def _of_gram(gram: F64, rows: Rows) -> Components:
    """Centre the Gram matrix on the mean of some rows, and return the coordinates of all images."""
    centred = gram[:, rows]
    means = centred.mean(axis=1)
    centred -= means[:, None]  # in place: of many images each copy is a gigabyte
    centred -= (means[rows] - means[rows].mean())[None]
    variances, vectors = _eigenpairs(centred[rows])
    return _signed(centred @ (vectors / np.sqrt(variances)), variances, rows)


def _eigenpairs(matrix: F64) -> tuple[F64, F64]:
    """Return the eigenvalues above rounding, falling, and their vectors."""
    values, vectors = eigh(matrix)
    floor = 4 * len(matrix) * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
    kept = np.flatnonzero(values > floor)[::-1]
    if not len(kept):
        raise FitError(CONSTANT)
    return values[kept], vectors[:, kept]


def _signed(coordinates: F64, variances: F64, rows: Rows) -> Components:
    return Components(pca.positive(coordinates, rows), variances)


def work_bytes(n_images: int) -> int:
    """Return the memory that `Every.keep` takes, or somewhat more."""
    return 2 * 8 * n_images**2 + 3 * _BLOCK_BYTES
