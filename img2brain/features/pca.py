"""Activations -> principal components, exactly, for any choice of rows, without touching an image again.

A layer has far more features than there are images, so what PCA needs of it is small: the images-by-images kernel of
its activations (or the activations themselves where they have fewer features than there are images). From that, `fit`
gives the components of any rows at any size; `axes` gives the directions in feature space, which only a model that
meets new images needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh

from img2brain.errors import FitError

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
Rows = NDArray[np.intp]

_COLUMNS = 1 << 14
_EXACT_KERNEL_ROWS = 4096
_DENSE_EIGEN_ROWS = 2000


@dataclass(frozen=True)
class Compressed:
    """All that PCA needs of a layer.

    Attributes
    ----------
    kind : {"kernel", "activations"}
        What `values` holds.
    values : ndarray
        The kernel (n_images, n_images) of the centred activations, or the activations (n_images, n_features).
    """

    kind: Literal["kernel", "activations"]
    values: NDArray[np.floating]


@dataclass(frozen=True)
class Components:
    """Principal components of the images.

    Attributes
    ----------
    scores : ndarray (n_images, n_components), float32
        Of all images, fitted rows or not; a smaller size is a prefix.
    variances : ndarray (n_components,)
        Sum of squares of each component over the fitted rows.
    """

    scores: F32
    variances: F64

    def leading(self, n_components: int) -> Components:
        """Return the first components; they are those of the smaller size."""
        return Components(self.scores[:, :n_components], self.variances[:n_components])


@dataclass(frozen=True)
class Axes:
    """Principal axes in feature space: ``scores = (activations - mean) @ axes``.

    Attributes
    ----------
    mean : ndarray (n_features,), float32
        Mean of the fitted rows.
    axes : ndarray (n_features, n_components), float32
        Orthonormal columns.
    """

    mean: F32
    axes: F32

    def leading(self, n_components: int) -> Axes:
        """Return the first axes."""
        return Axes(self.mean, self.axes[:, :n_components])


def compress(activations: F32) -> Compressed:
    """Reduce the activations of a layer to what PCA needs of them.

    Parameters
    ----------
    activations : ndarray (n_images, n_features)
        Less any offset that is the same for all images. May be memory-mapped: it is read in blocks of columns.

    Returns
    -------
    Compressed
        Exact: nothing that PCA of any rows depends on is lost.

    Notes
    -----
    Cost n_images^2 n_features multiplications where there are more features than images, in float32, added up over
    blocks in float64.
    """
    n_images, n_features = activations.shape
    if n_features <= n_images:
        return Compressed("activations", np.array(activations))
    kernel = torch.zeros((n_images, n_images), dtype=torch.float64)
    columns = torch.from_numpy(activations)
    for start in range(0, n_features, _COLUMNS):
        block = columns[:, start : start + _COLUMNS]
        kernel += block @ block.T
    dtype = np.float64 if n_images <= _EXACT_KERNEL_ROWS else np.float32
    return Compressed("kernel", kernel.numpy().astype(dtype, copy=False))


def fit(compressed: Compressed, rows: Rows, n_components: int) -> Components:
    """Fit PCA to some rows, and give the scores of all.

    Parameters
    ----------
    compressed : Compressed
        Of all images.
    rows : ndarray of int
        The rows that are fitted, and no others: neither mean nor axes depend on the rest.
    n_components : int
        At most; fewer where the fitted rows span fewer dimensions.

    Returns
    -------
    Components
        Signs are such that the largest score of each component over the fitted rows is positive.

    Raises
    ------
    FitError
        If the activations do not vary over the fitted rows.
    """
    solve = _from_kernel if compressed.kind == "kernel" else _from_activations
    scores, variances = solve(compressed.values, rows, n_components)
    largest = np.abs(scores[rows]).argmax(axis=0)
    scores *= np.where(scores[rows][largest, np.arange(scores.shape[1])] < 0, -1.0, 1.0)
    return Components(scores.astype(np.float32), variances)


def axes(blocks: Iterable[tuple[Rows, torch.Tensor]], offset: F32, components: Components, rows: Rows) -> Axes:
    """Find the principal axes in feature space from the scores, in one pass over the activations.

    Parameters
    ----------
    blocks : iterable of (row numbers, activations)
        Activations (n, n_features) less `offset`, with the numbers of their images; only fitted ones count.
    offset : ndarray (n_features,)
        What was taken from the activations.
    components : Components
        Fitted to `rows`.
    rows : ndarray of int
        The fitted rows.

    Returns
    -------
    Axes

    Notes
    -----
    With centred activations A = U S V' of the fitted rows and scores Z = U S, the axes are V = A' Z S^-2. The columns
    of Z sum to zero, so that activations less any offset serve as well.
    """
    n_images, n_components = components.scores.shape
    weights = torch.zeros((n_images, n_components + 1))
    weights[rows, :-1] = torch.from_numpy(components.scores[rows] / components.variances).float()
    weights[rows, -1] = 1 / len(rows)  # gives the mean
    found = torch.zeros((len(offset), n_components + 1))
    for numbers, values in blocks:
        found.addmm_(values.T, weights[numbers])
    return Axes(offset + found[:, -1].numpy(), found[:, :-1].contiguous().numpy())


def _from_kernel(kernel: NDArray[np.floating], rows: Rows, n_components: int) -> tuple[F64, F64]:
    to_rows = np.asarray(kernel[:, rows], dtype=np.float64)
    row_means = to_rows[rows].mean(axis=0)
    to_rows -= to_rows.mean(axis=1, keepdims=True)
    to_rows -= row_means - row_means.mean()
    variances, vectors = _leading_eigenpairs(to_rows[rows], n_components)
    return to_rows @ (vectors / np.sqrt(variances)), variances


def _from_activations(activations: NDArray[np.floating], rows: Rows, n_components: int) -> tuple[F64, F64]:
    centred = activations - activations[rows].mean(axis=0, dtype=np.float64)
    variances, vectors = _leading_eigenpairs(centred[rows].T @ centred[rows], n_components)
    return centred @ vectors, variances


def _leading_eigenpairs(matrix: F64, n_pairs: int) -> tuple[F64, F64]:
    """Return the largest eigenvalues, falling, and their vectors, without those that are zero up to rounding."""
    size = len(matrix)
    n_pairs = min(n_pairs, size)
    if size > _DENSE_EIGEN_ROWS and n_pairs < size // 8:
        values, vectors = eigsh(matrix, k=n_pairs, v0=np.cos(np.arange(size, dtype=np.float64)))
    else:
        values, vectors = eigh(matrix, subset_by_index=[size - n_pairs, size - 1])
    order = np.argsort(values)[::-1]
    values, vectors = values[order], vectors[:, order]
    floor = max(values[0], 0.0) * 10 * np.finfo(np.float32).eps
    n_kept = int((values > floor).sum())
    if n_kept == 0:
        raise FitError("The activations do not vary over the training rows: there are no components.")
    return values[:n_kept], vectors[:, :n_kept]
