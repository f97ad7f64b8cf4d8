from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from img2brain.errors import FitError
from img2brain.features import pca
from img2brain.features.activations import BlockSizes, InMemory

Array = NDArray[Any]
KINDS = ("features", "kernel", "sketch")
CPU = torch.device("cpu")


def make(n_images: int, n_features: int, seed: int = 0, rank: int | None = None) -> NDArray[np.float32]:
    """Activations with falling variances about a large mean, as those of a network."""
    random = np.random.default_rng(seed)
    rank = rank or min(n_images, n_features)
    scales = 2.0 ** -np.arange(rank)[: min(rank, 12)].repeat(-(-rank // 12))[:rank]
    low = random.standard_normal((n_images, rank)) * scales
    return (low @ random.standard_normal((rank, n_features)) + 5).astype(np.float32)


def held(
    activations: NDArray[Any],
    dtype: torch.dtype = torch.float32,
    sizes: BlockSizes | None = None,
    device: torch.device = CPU,
) -> InMemory:
    kept = InMemory(len(activations), activations.shape[1], dtype, device, sizes)
    kept.append(torch.from_numpy(activations).to(device))
    return kept


def compressed_as(kind: str, activations: NDArray[np.float32], rows: Array, size: int = 50) -> pca.Compressed:
    """Compress by a method that is not the one of this small shape."""
    kept = held(wide_as(kind, activations), sizes=BlockSizes(n_features=17))
    exact_images, size = 0 if kind == "sketch" else 10**6, min(size, activations.shape[1] - 1)
    found = pca.compress(kept, rows, 5, exact_images=exact_images, size=size)
    assert found.kind == kind
    return found


def wide_as(kind: str, activations: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give what `compressed_as` compressed: the same images, with more features where few would be kept as they are."""
    return activations if kind == "features" else np.tile(activations, (1, 5)) / np.sqrt(5).astype(np.float32)


def assert_same_up_to_sign(found: Array, expected: Array, tolerance: float) -> None:
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(
    ("n_images", "n_features", "kind"),
    [(30, 80, "kernel"), (60, 20, "features"), (1024, 1025, "kernel"), (1100, 127, "features"), (1100, 128, "sketch")],
)
def test_the_shape_chooses_the_method(n_images: int, n_features: int, kind: str) -> None:
    assert pca.sketch_size(10) == 127
    activations = make(n_images, n_features, rank=30)
    assert pca.compress(held(activations), np.arange(n_images), 10).kind == kind


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(("n_images", "n_features"), [(300, 700), (600, 100), (1100, 700)])
def test_on_cuda_it_is_what_it_is_here(n_images: int, n_features: int) -> None:
    activations, rows = make(n_images, n_features), np.arange(0, n_images, 2)
    gpu = torch.device("cuda")
    here, there = (pca.compress(held(activations, device=device), rows, 10) for device in (CPU, gpu))
    assert there.kind == here.kind
    found, expected = (pca.fit(compressed.projected, rows, 10) for compressed in (there, here))
    assert_same_up_to_sign(found.coordinates, expected.coordinates, 1e-4)
    axes, beside = (
        pca.axes(compressed, held(activations, device=device), part, rows)
        for compressed, device, part in ((there, gpu, found), (here, CPU, expected))
    )
    assert_same_up_to_sign(axes.axes, beside.axes, 1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_scikit_learns(kind: str) -> None:
    activations, rows = make(50, 40), np.sort(np.random.default_rng(1).permutation(50)[:33])
    wide = wide_as(kind, activations)
    reference = PCA(n_components=12, svd_solver="full").fit(wide[rows].astype(np.float64))
    compressed = compressed_as(kind, activations, rows)
    found = pca.fit(compressed.projected, rows, 12)
    assert found.coordinates.shape == (50, 12)
    assert_same_up_to_sign(found.coordinates, reference.transform(wide.astype(np.float64)), 1e-4)
    np.testing.assert_allclose(found.variances / (len(rows) - 1), reference.explained_variance_, rtol=1e-4)
    axes = pca.axes(compressed, held(wide), found, rows)
    assert_same_up_to_sign(axes.axes, reference.components_.T, 1e-3)
    np.testing.assert_allclose(axes.shift, reference.mean_ @ axes.axes, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "subset"),
    [
        (torch.float32, 1.0),
        (torch.bfloat16, 0.8),
        pytest.param(torch.float32, 0.8, marks=pytest.mark.slow),
        pytest.param(torch.bfloat16, 1.0, marks=pytest.mark.slow),
    ],
)
def test_a_sketch_captures_what_the_full_pca_does(dtype: torch.dtype, subset: float) -> None:
    random = np.random.default_rng(3)
    spectrum = np.arange(1, 1501) ** -0.7
    low = random.standard_normal((3000, 1500)) * spectrum
    activations = (low @ random.standard_normal((1500, 1800)) / 40 + 1).astype(np.float32)
    kept = held(activations, dtype)
    whole = kept.read(0, 3000).double().numpy()
    compressed = pca.compress(kept, np.arange(3000), 30)
    assert compressed.kind == "sketch"
    rows = np.sort(random.permutation(3000)[: int(subset * 3000)])
    reference = PCA(n_components=30, svd_solver="full").fit(whole[rows])
    found = pca.fit(compressed.projected, rows, 30)
    captured = found.variances.sum() / (len(rows) - 1) / reference.explained_variance_.sum()
    assert 0.997 < captured < 1 + 1e-3
    exact = reference.transform(whole)[rows]
    cosines = np.linalg.svd(np.linalg.qr(exact)[0].T @ np.linalg.qr(found.coordinates[rows])[0])[1]
    assert (cosines**2).mean() > 0.99
    axes = pca.axes(compressed, kept, found, rows)
    error = (whole @ axes.axes - axes.shift - found.coordinates).std(axis=0) / found.coordinates.std(axis=0)
    assert error.max() < (3e-3 if dtype == torch.bfloat16 else 1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sketch_sees_the_fitted_rows_only(dtype: torch.dtype) -> None:
    activations, rows = make(1300, 400, rank=200), np.arange(0, 1300, 2)
    changed = activations.copy()
    changed[1::2] = 100 * make(650, 400, seed=9)
    found, other = (pca.compress(held(item, dtype), rows, 5) for item in (activations, changed))
    assert found.kind == "sketch"
    np.testing.assert_allclose(found.projected[rows], other.projected[rows], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("unit", [1e-6, 1e6, 1e9])
def test_the_unit_of_the_activations_does_not_matter(unit: float, dtype: torch.dtype) -> None:
    activations, rows = make(1300, 400, rank=200), np.arange(1100)
    plain, scaled = (pca.compress(held(activations * np.float32(scale), dtype), rows, 5) for scale in (1, unit))
    found, expected = (pca.fit(item.projected, rows, 5) for item in (scaled, plain))
    np.testing.assert_allclose(found.variances, expected.variances * unit**2, rtol=0.02)


@pytest.mark.parametrize("shape", [(40, 400), (1300, 400), (40, 4)], ids=["kernel", "sketch", "features"])
def test_there_are_no_components_of_what_does_not_vary(shape: tuple[int, int]) -> None:
    rows = np.arange(shape[0])
    compressed = pca.compress(held(np.ones(shape, np.float32)), rows, 5)
    assert len(compressed.projected) == shape[0]
    with pytest.raises(FitError, match="do not vary over the training rows"):
        pca.fit(compressed.projected, rows, 5)


def test_a_sketch_of_few_dimensions_has_no_more() -> None:
    activations = make(1300, 400, rank=4)
    compressed = pca.compress(held(activations), np.arange(1000), 5)
    assert pca.fit(compressed.projected, np.arange(1000), 5).coordinates.shape == (1300, 4)


@settings(max_examples=40)
@given(st.sampled_from(KINDS), st.integers(4, 40), st.integers(2, 60), st.integers(1, 60), st.integers(0, 5), st.data())
def test_axes_are_orthonormal_and_give_the_coordinates(
    kind: str, n_images: int, n_features: int, n_components: int, seed: int, data: st.DataObject
) -> None:
    if kind == "features":
        n_features = min(n_features, n_images)
    elif kind == "kernel":
        n_features = max(n_features, n_images)
    activations = make(n_images, n_features, seed)
    rows = np.sort(np.random.default_rng(seed).permutation(n_images)[: data.draw(st.integers(3, n_images))])
    compressed = compressed_as(kind, activations, rows)
    found = pca.fit(compressed.projected, rows, n_components)
    n_found = found.coordinates.shape[1]
    assert n_found == len(found.variances) <= min(n_components, len(rows) - 1, n_features)
    assert (np.diff(found.variances) <= 0).all()
    wide = wide_as(kind, activations)
    axes = pca.axes(compressed, held(wide), found, rows)
    coordinates = wide.astype(np.float64) @ axes.axes - axes.shift
    np.testing.assert_allclose(coordinates[rows], found.coordinates[rows], atol=2e-3 * np.abs(found.coordinates).max())
    np.testing.assert_allclose(axes.axes.T @ axes.axes, np.eye(n_found), atol=5e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_smaller_size_is_a_prefix(kind: str) -> None:
    rows = np.arange(30)
    projected = compressed_as(kind, make(40, 40), rows).projected
    large, small = pca.fit(projected, rows, 20), pca.fit(projected, rows, 5)
    np.testing.assert_allclose(large.leading(5).coordinates, small.coordinates, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(large.leading(5).variances, small.variances, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_not_fitted_do_not_matter(kind: str) -> None:
    activations, rows = make(40, 30), np.arange(0, 40, 2)
    changed = activations.copy()
    changed[1::2] = 3 * make(20, 30, seed=9)
    found, other = (compressed_as(kind, item, rows) for item in (activations, changed))
    ours, theirs = (pca.fit(item.projected, rows, 6) for item in (found, other))
    np.testing.assert_allclose(
        ours.coordinates[rows], theirs.coordinates[rows], rtol=1e-3, atol=1e-3 * ours.coordinates[rows].max()
    )
    np.testing.assert_allclose(ours.variances, theirs.variances, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_components_than_the_rows_span(kind: str) -> None:
    projected = compressed_as(kind, make(40, 40, rank=4), np.arange(30)).projected
    assert pca.fit(projected, np.arange(30), 20).coordinates.shape == (40, 4)


@pytest.mark.parametrize("kind", ["features", "kernel"])
def test_activations_that_do_not_vary_are_refused(kind: str) -> None:
    activations, rows = make(20, 20), np.arange(15)
    activations[:15] = activations[0]
    with pytest.raises(FitError, match="do not vary over the training rows"):
        pca.fit(compressed_as(kind, activations, rows).projected, rows, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_coordinate_of_a_component_is_positive(kind: str) -> None:
    rows = np.arange(30)
    coordinates = pca.fit(compressed_as(kind, make(40, 40), rows).projected, rows, 8).coordinates[rows]
    assert (coordinates[np.abs(coordinates).argmax(axis=0), np.arange(8)] > 0).all()
