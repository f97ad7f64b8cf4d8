"""Activations -> projections -> principal components, for any choice of rows, without touching an image again.

What PCA needs of a layer is small: the images, projected on a basis that holds what varies between them.
`compress` finds them by the method that the shape asks for; from them `fit` gives the components of any rows at any
size, and `axes` the directions in feature space, which a model needs that meets new images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh

from img2brain.backbones import products
from img2brain.errors import FitError
from img2brain.features.activations import Activations, BlockSizes, Rows

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
Kind = Literal["features", "kernel", "sketch", "constant"]

EXACT_IMAGES = 1024
CONSTANT = "The activations do not vary over the training rows: there are no components."
_ROUNDING = 10 * float(np.finfo(np.float32).eps)  # It bounds the rounding of activations in float32.


@dataclass(frozen=True, eq=False)
class Compressed:
    """All that PCA needs of a layer.

    Attributes
    ----------
    kind : {"features", "kernel", "sketch", "constant"}
        How it was found: exactly, from few features or few images; or nearly, see `compress`; or that nothing varies.
    projected : ndarray (n_images, n_dimensions), float32
        All images, projected on a basis; without a column where they do not vary.
    basis : torch.Tensor (n_features, n_dimensions), optional
        The orthonormal basis of a sketch. That of few features is the features; that of few images is left implicit.
    origin : ndarray (n_dimensions,), optional
        The point, projected on the basis of a sketch, that `projected` is counted from.
    """

    kind: Kind
    projected: F32
    basis: torch.Tensor | None = None
    origin: F32 | None = None


@dataclass(frozen=True)
class Components:
    """Principal components of the images.

    Attributes
    ----------
    coordinates : ndarray (n_images, n_components)
        Of all images along the principal axes, fitted rows or not; a smaller size is a prefix. In float32, where they
        are all components in float64.
    variances : ndarray (n_components,)
        Sum of squares of each component over the fitted rows.
    """

    coordinates: NDArray[np.floating]
    variances: F64

    def leading(self, n_components: int) -> Components:
        """Return the first components; they are those of the smaller size."""
        return Components(self.coordinates[:, :n_components], self.variances[:n_components])


@dataclass(frozen=True)
class Axes:
    """Principal axes in feature space: ``coordinates = activations @ axes - shift``.

    Attributes
    ----------
    axes : ndarray (n_features, n_components), float32
        Orthonormal columns.
    shift : ndarray (n_components,), float32
        What the mean of the fitted rows comes to along each axis.
    """

    axes: F32
    shift: F32

    @classmethod
    def stacked(cls, shares: Sequence[Axes]) -> Axes:
        """Return the axes of several blocks of features that stand side by side."""
        return cls(np.concatenate([share.axes for share in shares]), np.sum([share.shift for share in shares], axis=0))

    def divided(self, by: float) -> Axes:
        """Return the axes divided by a number."""
        return Axes(self.axes / np.float32(by), self.shift / np.float32(by))

    def leading(self, n_components: int) -> Axes:
        """Return the first axes."""
        return Axes(self.axes[:, :n_components], self.shift[:n_components])


def sketch_size(n_components: int) -> int:
    """Return the dimensions of a sketch that holds so many components of any rows.

    Twice the components and some more (Halko, Martinsson and Tropp, 2011, advise 5 to 10 more; the others are for the
    components of some rows, which are not quite those of all), one column short of a multiple of 64.
    """
    return 64 * -(-(2 * n_components + 60) // 64) - 1


def most_projected(n_images: int, n_components: int, exact_images: int = EXACT_IMAGES) -> int:
    """Return how many numbers `compress` keeps of so many images at most, however many features there are."""
    return n_images * (n_images if n_images <= exact_images else sketch_size(n_components))


def work_bytes(n_features: int, dtype: torch.dtype, n_components: int) -> int:
    """Return the memory that `compress` and `axes` take beside activations of this width, or somewhat more."""
    size = sketch_size(n_components)
    n_sample = max(EXACT_IMAGES, 3 * size)
    return n_sample * n_features * dtype.itemsize + 3 * 4 * size * n_features + BlockSizes().n_bytes


def compress(
    activations: Activations,
    rows: Rows,
    n_components: int,
    *,
    exact_images: int = EXACT_IMAGES,
    size: int | None = None,
) -> Compressed:
    """Reduce the activations of a layer to what PCA needs of them.

    Parameters
    ----------
    activations : Activations
        Of all images.
    rows : ndarray of int
        The rows that a sketch is fitted to, and no others.
    n_components : int
        The most components that will be asked for.
    exact_images : int
        How many images are few.
    size : int, optional
        The dimensions of a sketch; by default what `sketch_size` says.

    Returns
    -------
    Compressed
        Exact for any rows where there are few images or few features. A sketch captures, of the variance that the
        components of the full PCA capture, all but some 1e-4 to 1e-3.

    Notes
    -----
    By shape, with n images, d features and a sketch of m dimensions:

    - few features (d <= m, or d below the number of few images): the activations themselves;
    - few images (n <= 1024): the images-by-images kernel, n^2 d multiplications;
    - otherwise a subspace iteration whose cost is linear in images, features and components, 3 n d m multiplications
      and two readings of the activations (Halko, Martinsson and Tropp, 2011, algorithm 4.4). It starts not from random
      directions but from the principal axes of 1024 images (or three times m), so that one iteration is enough.

    From activations in bfloat16 the search for the basis goes on in bfloat16; projections are added up in float32.
    """
    n_images, n_features = activations.n_images, activations.n_features
    size = size or sketch_size(n_components)
    if n_features <= (n_images if n_images <= exact_images else size):
        whole = activations.rows(np.arange(n_images))
        return Compressed("features", whole.float().cpu().numpy())
    try:
        if n_images <= exact_images:
            return Compressed("kernel", _projected_by_kernel(activations))
        return _sketch(activations, rows, size, max(exact_images, 3 * size))
    except FitError:  # It is `fit` that says so, to those who ask for components.
        return Compressed("constant", np.zeros((n_images, 0), np.float32))


def _sketch(activations: Activations, rows: Rows, size: int, n_first: int) -> Compressed:
    """Sketch all images, starting from the principal axes of the first `n_first` of the rows, in a random order."""
    sample = np.sort(np.random.default_rng(0).permutation(rows)[:n_first])
    first, centre = _first_axes(activations, sample, size)
    basis = _refined(activations, rows, first, centre)
    projected, origin = _projected(activations, basis, centre)
    return Compressed("sketch", projected.cpu().numpy(), basis, origin.cpu().numpy())


def fit(projected: F32, rows: Rows, n_components: int) -> Components:
    """Fit PCA to some rows, and give the coordinates of all.

    Parameters
    ----------
    projected : ndarray (n_images, n_dimensions)
        All images, projected on any orthonormal basis.
    rows : ndarray of int
        The rows that are fitted, and no others: neither mean nor axes depend on the rest.
    n_components : int
        At most; fewer where the fitted rows span fewer dimensions.

    Returns
    -------
    Components
        Signs are such that the largest coordinate of each component over the fitted rows is positive.

    Raises
    ------
    FitError
        If the activations do not vary over the fitted rows.
    """
    if not projected.shape[1]:
        raise FitError(CONSTANT)
    centred = projected - projected[rows].mean(axis=0, dtype=np.float64)
    fitted = centred[rows]
    if len(rows) < fitted.shape[1]:
        variances, vectors = _leading_eigenpairs(fitted @ fitted.T, n_components)
        rotation = fitted.T @ (vectors / np.sqrt(variances))
    else:
        variances, rotation = _leading_eigenpairs(fitted.T @ fitted, n_components)
    return Components(positive(centred @ rotation, rows).astype(np.float32), variances)


def positive(coordinates: F64, rows: Rows) -> F64:
    """Turn each column so that its largest value over some rows is positive, in place."""
    largest = np.abs(coordinates[rows]).argmax(axis=0)
    coordinates *= np.where(coordinates[rows][largest, np.arange(coordinates.shape[1])] < 0, -1.0, 1.0)
    return coordinates


def axes(compressed: Compressed, activations: Activations, components: Components, rows: Rows) -> Axes:
    """Find the principal axes in feature space.

    Parameters
    ----------
    compressed : Compressed
        Of the layer.
    activations : Activations
        What it was compressed from; read once where the basis is implicit.
    components : Components
        Fitted to `rows`.
    rows : ndarray of int
        The fitted rows.

    Returns
    -------
    Axes

    Notes
    -----
    With centred activations A = U S V' of the fitted rows and coordinates Z = U S, the axes are V = A' Z S^-2. The
    columns of Z sum to zero, so that activations that are not centred serve as well. The same holds of projections.
    """
    weights = components.coordinates[rows] / components.variances
    if compressed.kind == "kernel":
        found, mean = _weighted_sums(activations, rows, weights)
        return Axes(found, mean @ found)
    fitted = compressed.projected[rows].astype(np.float64)
    rotation, mean = fitted.T @ weights, fitted.mean(axis=0)
    if compressed.basis is None:
        return Axes(rotation.astype(np.float32), (mean @ rotation).astype(np.float32))
    turned = compressed.basis.float() @ torch.from_numpy(rotation).float().to(compressed.basis.device)
    return Axes(turned.cpu().numpy(), ((mean + compressed.origin) @ rotation).astype(np.float32))


def _weighted_sums(activations: Activations, rows: Rows, weights: F64) -> tuple[F32, F32]:
    """Return A' W and the mean of the rows, in one reading, for weights that sum to zero."""
    share = np.full((len(rows), 1), 1 / len(rows))
    spread = np.zeros((activations.n_images, weights.shape[1] + 1), np.float32)
    spread[rows] = np.concatenate([weights, share], axis=1)
    offset = activations.read(0, 1)[0].float()  # Sums of what is near zero keep their digits.
    (sums,) = activations.total(_weighted, torch.from_numpy(spread).to(activations.device), offset)
    sums[:, -1] += offset
    found = sums.cpu().numpy()
    return np.ascontiguousarray(found[:, :-1]), found[:, -1].copy()


def _weighted(block: torch.Tensor, rows: slice, weights: torch.Tensor, offset: torch.Tensor) -> tuple[torch.Tensor]:
    return ((block.float() - offset).T @ weights[rows],)


def _projected_by_kernel(activations: Activations) -> F32:
    """Return U S of the centred activations.

    Notes
    -----
    In float64; from bfloat16, whose own rounding is larger, in float32.
    """
    values = activations.read(0, activations.n_images)
    kernel = torch.zeros((len(values), len(values)), dtype=torch.float64, device=values.device)
    # What was bfloat16 before takes the fast way.
    with products.of("medium" if values.dtype == torch.bfloat16 else "highest"):
        for part in activations.ranges():
            block = values[:, part].to(torch.float32 if values.dtype == torch.bfloat16 else torch.float64)
            centred = block - block.mean(dim=0)
            kernel += centred @ centred.T
    variances, vectors = _leading_eigenpairs(kernel.cpu().numpy(), len(values), floor=1e-9)
    return (vectors * np.sqrt(variances)).astype(np.float32)


def _first_axes(activations: Activations, sample: Rows, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the principal axes and the mean of a sample of the images, all in the type of the activations."""
    values = activations.rows(sample)
    centre = torch.cat([values[:, part].mean(dim=0, dtype=torch.float32) for part in activations.ranges()])
    centre = centre.to(values.dtype)
    kernel = torch.zeros((len(values), len(values)), device=values.device)
    for part in activations.ranges():
        block = values[:, part].sub_(centre[part])
        kernel += block @ block.T
    kernel -= kernel.mean(dim=0) + kernel.mean(dim=1, keepdim=True) - kernel.mean()
    if not kernel.diagonal().max() > 0:
        raise FitError(CONSTANT)
    weights = _leading_directions(kernel, size).to(values.dtype)
    return torch.cat([values[:, part].T @ weights for part in activations.ranges()]), centre


def _leading_directions(kernel: torch.Tensor, size: int) -> torch.Tensor:
    """Return what turns rows into axes, for nearly the largest eigenvalues of their kernel.

    Such that projections on the axes are of order 1, whatever the unit of the activations: their squares stay finite.
    """
    start = torch.Generator().manual_seed(0)
    block = torch.randn((len(kernel), size), generator=start).to(kernel.device)
    for _ in range(3):
        block = torch.linalg.qr(kernel @ block)[0]
    values, vectors = torch.linalg.eigh((block.T @ kernel @ block).double())
    kept = values > values[-1].clamp_min(0) * _ROUNDING
    directions: torch.Tensor = block @ (vectors[:, kept] / values[kept]).flip(1).float()
    return directions


def _refined(activations: Activations, rows: Rows, first: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """Return the orthonormal basis that one subspace iteration over the rows makes of the first axes.

    Notes
    -----
    The last column of the products adds up the activations themselves, to centre them exactly afterwards.
    """
    fitted = torch.zeros((activations.n_images, 1), dtype=first.dtype, device=first.device)
    fitted[torch.from_numpy(rows).to(first.device)] = 1
    work = partial(_products, parts=list(activations.ranges()))
    sums, total = activations.total(work, fitted, first, -(centre @ first))
    return _orthonormal(sums[:, :-1].addr_(sums[:, -1], total, alpha=-1 / len(rows))).to(first.dtype)


def _products(
    block: torch.Tensor,
    rows: slice,
    fitted: torch.Tensor,
    first: torch.Tensor,
    offset: torch.Tensor,
    parts: Sequence[slice],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a block of rows adds to the products of the activations with their projections, and to the latter."""
    projected = torch.addmm(offset, block, first) * fitted[rows]
    columns = torch.cat([projected, fitted[rows]], dim=1)
    sums = torch.empty((len(first), columns.shape[1]), device=first.device)
    for features in parts:
        sums[features] = block[:, features].T @ columns
    return sums, projected.sum(dim=0, dtype=torch.float32)


def _orthonormal(columns: torch.Tensor) -> torch.Tensor:
    """Return an orthonormal basis of the columns, the strongest direction first, by way of their Gram matrix."""
    scales = 1 / columns.norm(dim=0).clamp_min(torch.finfo(torch.float32).tiny)
    columns = columns.mul_(scales)
    gram = (columns.T @ columns).double()
    values, vectors = torch.linalg.eigh(gram)
    strong = values > 1e-5 * values[-1]
    whitening = vectors[:, strong] / values[strong].sqrt()
    along = whitening.T @ gram / scales
    rotation = whitening @ torch.linalg.eigh(along @ along.T)[1].flip(1)
    basis: torch.Tensor = columns @ rotation.float()
    return basis


def _projected(
    activations: Activations, basis: torch.Tensor, centre: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (A - centre) @ basis in float32, and the projection of that centre.

    Notes
    -----
    Products of a range of features round to the type of the basis, their sum does not. Taking the centre off before
    that leaves, in bfloat16, errors of about a thousandth of each projection.
    """
    parts = list(activations.ranges())
    offsets = [-(centre[features] @ basis[features]) for features in parts]
    found = torch.empty((activations.n_images, basis.shape[1]), device=basis.device)
    for rows, (projected,) in activations.each(partial(_projections, parts=parts), basis, torch.stack(offsets)):
        found[rows] = projected
    return found, -torch.stack(offsets).float().sum(dim=0)


def _projections(
    block: torch.Tensor, _rows: slice, basis: torch.Tensor, offsets: torch.Tensor, parts: Sequence[slice]
) -> tuple[torch.Tensor]:
    found = torch.zeros((len(block), basis.shape[1]), device=basis.device)
    for features, offset in zip(parts, offsets, strict=True):
        found += torch.addmm(offset, block[:, features], basis[features])
    return (found,)


def _leading_eigenpairs(matrix: F64, n_pairs: int, floor: float = _ROUNDING) -> tuple[F64, F64]:
    """Return the largest eigenvalues, falling, and their vectors, as far as they exceed `floor` of the largest."""
    size = len(matrix)
    n_pairs = min(n_pairs, size)
    values, vectors = eigh(matrix, subset_by_index=[size - n_pairs, size - 1])
    values, vectors = values[::-1], vectors[:, ::-1]
    n_kept = int((values > max(values[0], 0.0) * floor).sum())
    if n_kept == 0:
        raise FitError(CONSTANT)
    return values[:n_kept], vectors[:, :n_kept]
