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
from img2brain.features.pca import Compressed

Array = NDArray[Any]
KINDS = ("kernel", "activations")


def make(n_images: int, n_features: int, seed: int = 0, rank: int | None = None) -> NDArray[np.float32]:
    """Activations with falling variances about a large mean, as those of a network."""
    random = np.random.default_rng(seed)
    rank = rank or min(n_images, n_features)
    scales = 2.0 ** -np.arange(rank)[: min(rank, 12)].repeat(-(-rank // 12))[:rank]
    low = random.standard_normal((n_images, rank)) * scales
    return (low @ random.standard_normal((rank, n_features)) + 5).astype(np.float32)


def compressed_as(kind: str, activations: NDArray[np.float32]) -> Compressed:
    if kind == "activations":
        return Compressed("activations", activations)
    centred = activations.astype(np.float64) - activations.mean(axis=0, dtype=np.float64)
    return Compressed("kernel", centred @ centred.T)


def axes_of(activations: NDArray[np.float32], components: pca.Components, rows: Array, size: int = 7) -> pca.Axes:
    """Find the axes block by block, from activations less the mean of the first block."""
    offset = activations[:size].mean(axis=0)
    starts = range(0, len(activations), size)
    numbers = [np.arange(start, min(start + size, len(activations))) for start in starts]
    blocks = [(part, torch.from_numpy(activations[part] - offset)) for part in numbers]
    return pca.axes(blocks, offset, components, rows)


def assert_same_up_to_sign(found: Array, expected: Array, tolerance: float) -> None:
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(("n_images", "n_features", "kind"), [(30, 80, "kernel"), (60, 20, "activations")])
def test_compress_keeps_the_smaller_of_the_two(n_images: int, n_features: int, kind: str) -> None:
    activations = make(n_images, n_features)
    compressed = pca.compress(activations)
    assert compressed.kind == kind
    expected = activations if kind == "activations" else activations.astype(np.float64) @ activations.T
    np.testing.assert_allclose(compressed.values, expected, rtol=1e-5)


def test_a_kernel_of_many_columns_is_that_of_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    activations = make(30, 80)
    whole = pca.compress(activations).values
    monkeypatch.setattr(pca, "_COLUMNS", 7)
    np.testing.assert_allclose(pca.compress(activations).values, whole, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_scikit_learns(kind: str) -> None:
    activations, rows = make(50, 40), np.random.default_rng(1).permutation(50)[:33]
    reference = PCA(n_components=12, svd_solver="full").fit(activations[rows].astype(np.float64))
    found = pca.fit(compressed_as(kind, activations), rows, 12)
    assert found.scores.shape == (50, 12)
    assert_same_up_to_sign(found.scores, reference.transform(activations.astype(np.float64)), 1e-5)
    np.testing.assert_allclose(found.variances / (len(rows) - 1), reference.explained_variance_, rtol=1e-5)
    axes = axes_of(activations, found, rows)
    assert_same_up_to_sign(axes.axes, reference.components_.T, 1e-3)
    np.testing.assert_allclose(axes.mean, reference.mean_, rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(KINDS), st.integers(4, 40), st.integers(1, 60), st.integers(1, 60), st.integers(0, 5), st.data())
def test_axes_are_orthonormal_and_give_the_scores(
    kind: str, n_images: int, n_features: int, n_components: int, seed: int, data: st.DataObject
) -> None:
    activations = make(n_images, n_features, seed)
    rows = np.sort(np.random.default_rng(seed).permutation(n_images)[: data.draw(st.integers(3, n_images))])
    found = pca.fit(compressed_as(kind, activations), rows, n_components)
    n_found = found.scores.shape[1]
    assert n_found == len(found.variances) <= min(n_components, len(rows) - 1, n_features)
    assert (np.diff(found.variances) <= 0).all()
    axes = axes_of(activations, found, rows)
    scores = (activations.astype(np.float64) - axes.mean) @ axes.axes
    np.testing.assert_allclose(scores, found.scores, atol=2e-3 * np.abs(found.scores).max())
    np.testing.assert_allclose(axes.axes.T @ axes.axes, np.eye(n_found), atol=5e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_smaller_size_is_a_prefix(kind: str) -> None:
    compressed, rows = compressed_as(kind, make(40, 60)), np.arange(30)
    large, small = pca.fit(compressed, rows, 20), pca.fit(compressed, rows, 5)
    np.testing.assert_allclose(large.leading(5).scores, small.scores, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(large.leading(5).variances, small.variances, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_not_fitted_do_not_matter(kind: str) -> None:
    activations, rows = make(40, 60), np.arange(0, 40, 2)
    changed = activations.copy()
    changed[1::2] = 100 * make(20, 60, seed=9)
    found, other = (pca.fit(compressed_as(kind, item), rows, 6) for item in (activations, changed))
    np.testing.assert_allclose(found.scores[rows], other.scores[rows], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.variances, other.variances, rtol=1e-6)
    axes, others = (axes_of(item, found, rows) for item in (activations, changed))
    np.testing.assert_allclose(axes.mean, others.mean, rtol=1e-4)
    np.testing.assert_allclose(axes.axes, others.axes, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_components_than_the_rows_span(kind: str) -> None:
    activations = make(40, 60, rank=4)
    found = pca.fit(compressed_as(kind, activations), np.arange(30), 20)
    assert found.scores.shape == (40, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_activations_that_do_not_vary_are_refused(kind: str) -> None:
    activations = make(20, 30)
    activations[:15] = activations[0]
    with pytest.raises(FitError, match="do not vary over the training rows"):
        pca.fit(compressed_as(kind, activations), np.arange(15), 3)


def test_the_largest_score_of_a_component_is_positive() -> None:
    rows = np.arange(30)
    for kind in KINDS:
        scores = pca.fit(compressed_as(kind, make(40, 60)), rows, 8).scores[rows]
        assert (scores[np.abs(scores).argmax(axis=0), np.arange(8)] > 0).all()


def test_few_components_of_many_rows_come_from_another_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    compressed, rows = compressed_as("kernel", make(120, 200)), np.arange(100)
    dense = pca.fit(compressed, rows, 6)
    monkeypatch.setattr(pca, "_DENSE_EIGEN_ROWS", 50)
    sparse = pca.fit(compressed, rows, 6)
    np.testing.assert_allclose(sparse.variances, dense.variances, rtol=1e-9)
    np.testing.assert_allclose(sparse.scores, dense.scores, rtol=1e-5, atol=1e-5)
