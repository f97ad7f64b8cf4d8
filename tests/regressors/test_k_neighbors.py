"""Nearest neighbours against scikit-learn's, away from ties and at them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsRegressor

from img2brain.errors import FitError, ModelError
from img2brain.regressors.k_neighbors import KNeighbors


@pytest.mark.parametrize("n_neighbors", [1, 5, 49, 50])
@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_equals_scikit_learn(n_neighbors: int, offset: float) -> None:
    class InBlocks(KNeighbors):
        block_bytes = 8 * 50 * 7

    rng = np.random.default_rng(0)
    X, Y, X_new = (
        rng.standard_normal((50, 6)) + offset,
        rng.standard_normal((50, 4)),
        rng.standard_normal((30, 6)) + offset,
    )
    peer = KNeighborsRegressor(n_neighbors).fit(X, Y)
    np.testing.assert_allclose(InBlocks(n_neighbors).fit(X, Y).predict(X_new), peer.predict(X_new), atol=1e-12)


def test_the_first_of_equally_near_images_count() -> None:
    X = np.array([[1.0], [-1.0], [1.0], [-1.0], [0.0]])
    Y = np.array([1.0, 10.0, 100.0, 1000.0, 10000.0])
    assert KNeighbors(3).fit(X, Y).predict([[0.0]]) * 3 == pytest.approx(10011.0)
    assert KNeighbors(2).fit(X, Y).predict([[2.0]]) * 2 == pytest.approx(101.0)


def test_an_image_is_its_own_neighbour() -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((40, 5)), rng.standard_normal((40, 3))
    np.testing.assert_array_equal(KNeighbors(1).fit(X, Y).predict(X), Y)


def test_more_neighbours_than_rows_are_refused() -> None:
    with pytest.raises(FitError, match=r"at least 5 rows \('n_neighbors'\). Got 4."):
        KNeighbors(5).fit(np.eye(4), np.eye(4))
    with pytest.raises(ModelError, match="does not fit together"):
        KNeighbors.from_arrays({"n_neighbors": 5}, KNeighbors(4).fit(np.eye(4), np.eye(4)).to_arrays())


def test_it_holds_the_rows_without_a_copy() -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((40, 5)), rng.standard_normal((40, 3)).astype(np.float32)
    fitted = KNeighbors(1).fit(X, Y)
    assert np.shares_memory(fitted.Y_, Y)
    assert fitted.predict(X).dtype == np.float64
