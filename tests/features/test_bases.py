from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.random_projection import SparseRandomProjection

from img2brain.errors import FitError
from img2brain.features.activations import Activations, BlockSizes, InMemory, OnDisk
from img2brain.features.bases import Every, Kept, Norms, SparseProjection, n_components_of
from img2brain.moments import Moments
from img2brain.regressors.ridge import COMPONENT as RIDGE

Array = NDArray[Any]
CPU = torch.device("cpu")


def make(n_images: int, n_features: int, seed: int = 0) -> NDArray[np.float32]:
    """Activations with falling variances about a large mean."""
    random = np.random.default_rng(seed)
    scales = 1 / np.arange(1, n_features + 1)
    turn = np.linalg.qr(random.standard_normal((n_features, n_features)))[0]
    values: NDArray[np.float64] = random.standard_normal((n_images, n_features)) * scales @ turn + 3
    return values.astype(np.float32)


def held(activations: Array, folder: Path | None = None) -> Activations:
    sizes, (n_images, n_features) = BlockSizes(n_bytes=1 << 12, n_features=7), activations.shape
    kept: Activations = (
        InMemory(n_images, n_features, torch.float32, CPU, sizes)
        if folder is None
        else OnDisk(n_images, n_features, torch.float32, folder / "x.bin", sizes=sizes)
    )
    kept.append(torch.from_numpy(activations))
    return kept


def fitted(coordinates: Array, responses: Array, rows: Array, alpha: float) -> Array:
    """Predict all images by ridge regression on the coordinates, from moments as a trial does."""
    moments = Moments.from_rows(coordinates[rows], responses[rows])
    found: Array = RIDGE(alpha=alpha).fit_folds([moments]).predict(coordinates)
    return found


def direct(features: Array, responses: Array, rows: Array, alpha: float) -> Array:
    """Predict all images by solving for the weights of the features themselves."""
    X, Y = features.astype(np.float64), responses
    centre, level = X[rows].mean(axis=0), Y[rows].mean(axis=0)
    fitted = X[rows] - centre
    weights = np.linalg.solve(fitted.T @ fitted + alpha * np.eye(X.shape[1]), fitted.T @ (Y[rows] - level))
    found: Array = (X - centre) @ weights + level
    return found


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("n_images", "n_features"), [(60, 20), (60, 50), (60, 200), (30, 400)])
def test_ridge_on_all_components_is_ridge_on_all_features(n_images: int, n_features: int, alpha: float) -> None:
    features, rows = make(n_images, n_features), np.arange(0, n_images, 2)
    responses = np.random.default_rng(1).standard_normal((n_images, 5))
    kept = Every().keep(held(features))
    assert set(kept) == ({"features"} if n_features <= n_images else {"gram"})
    found = fitted(Every().components([Kept(kept)], rows).coordinates, responses, rows, alpha)
    ridge = Ridge(alpha=alpha).fit(features[rows].astype(np.float64), responses[rows])
    np.testing.assert_allclose(found, ridge.predict(features.astype(np.float64)), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found, direct(features, responses, rows, alpha), rtol=0, atol=1e-6)


@given(st.integers(4, 25), st.integers(2, 40), st.floats(1e-2, 1e4), st.integers(0, 99))
@settings(max_examples=30)
def test_whatever_the_shape(n_images: int, n_features: int, alpha: float, seed: int) -> None:
    features, rows = make(n_images, n_features, seed), np.arange(n_images - 1)
    responses = np.random.default_rng(seed).standard_normal((n_images, 2))
    found = Every().components([Kept(Every().keep(held(features)))], rows)
    predicted = fitted(found.coordinates, responses, rows, alpha)
    np.testing.assert_allclose(predicted, direct(features, responses, rows, alpha), rtol=0, atol=1e-6)
    assert len(found.variances) <= min(len(rows) - 1, n_features)


@pytest.mark.parametrize("n_features", [20, 200])
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_axes_take_new_activations_to_the_coordinates(n_features: int, kind: str, tmp_path: Path) -> None:
    features, rows = make(40, n_features), np.arange(0, 40, 3)
    values = held(features, tmp_path if kind == "disk" else None)
    kept = Kept(Every().keep(values))
    found = Every().components([kept], rows)
    axes = Every().axes(kept, values, found, rows)
    expected = features.astype(np.float64) @ axes.axes - axes.shift
    np.testing.assert_allclose(expected, found.coordinates, atol=1e-5)


def test_several_blocks_are_one_space_of_equal_shares() -> None:
    one, other, rows = make(30, 12), 50 * make(30, 80, 1), np.arange(20)
    scales = [float(np.sqrt(block[rows].var(axis=0, dtype=np.float64).sum())) for block in (one, other)]
    parts = [Kept(Every().keep(held(block)), scale) for block, scale in zip((one, other), scales, strict=True)]
    found = Every().components(parts, rows)
    joined = np.concatenate([block / scale for block, scale in zip((one, other), scales, strict=True)], axis=1)
    centred = joined - joined[rows].mean(axis=0)
    np.testing.assert_allclose(found.coordinates @ found.coordinates[rows].T, centred @ centred[rows].T, atol=1e-4)
    shares = [Every().axes(part, held(block), found, rows) for part, block in zip(parts, (one, other), strict=True)]
    coordinates = sum(block @ axes.axes - axes.shift for block, axes in zip((one, other), shares, strict=True))
    np.testing.assert_allclose(coordinates, found.coordinates, atol=1e-4)


@pytest.mark.parametrize("size", [3, 40])
@pytest.mark.parametrize("n_features", [1, 30, 200])
def test_a_sparse_projection_has_scikit_learns_numbers(n_features: int, size: int) -> None:
    features, rows = make(25, n_features), np.arange(15)
    values, basis = held(features), SparseProjection(size)
    found = basis.components([Kept(basis.keep(values))], rows)
    theirs = SparseRandomProjection(size, random_state=0)
    with pytest.warns(Warning, match="number of components") if size > n_features else nullcontext():
        theirs.fit(features[rows])
    np.testing.assert_allclose(found.coordinates, theirs.transform(features), rtol=1e-4, atol=1e-4)
    axes = basis.axes(Kept({}), values, found, rows)
    np.testing.assert_allclose(features @ axes.axes - axes.shift, found.coordinates, rtol=1e-4, atol=1e-4)


def test_one_matrix_projects_several_blocks() -> None:
    one, other = make(20, 10), make(20, 30, 1)
    first, second = SparseProjection(6, (), (30,)), SparseProjection(6, (10,), ())
    found = first.components([Kept(first.keep(held(one))), Kept(second.keep(held(other)))], np.arange(20))
    theirs = SparseRandomProjection(6, random_state=0).fit_transform(np.concatenate([one, other], axis=1))
    np.testing.assert_allclose(found.coordinates, theirs, rtol=1e-4, atol=1e-4)


def test_norms_give_the_total_variance_of_any_rows() -> None:
    features, rows = make(40, 60), np.arange(0, 30)
    norms = Norms(rows)
    kept = norms.keep(held(features))["norms"]
    for some in (rows, np.arange(0, 40, 2), np.arange(5)):
        total = features[some].var(axis=0, dtype=np.float64).sum()
        assert norms.scale(kept, features, some) ** 2 == pytest.approx(total, rel=1e-6)
    with pytest.raises(FitError, match="do not vary"):
        norms.scale(kept, features, np.array([3, 3]))


@pytest.mark.parametrize("n_features", [3, 30])
def test_what_does_not_vary_has_no_components(n_features: int) -> None:
    flat = np.ones((10, n_features), np.float32)
    for basis in (Every(), SparseProjection(4)):
        with pytest.raises(FitError, match="do not vary"):
            basis.components([Kept(basis.keep(held(flat)))], np.arange(10))


def test_the_johnson_lindenstrauss_size_is_scikit_learns() -> None:
    theirs = SparseRandomProjection(random_state=0).fit(np.zeros((100, 9000)))
    assert n_components_of(100) == theirs.n_components_
