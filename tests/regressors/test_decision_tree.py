"""The tree in plain arrays against scikit-learn's own predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeRegressor

from img2brain.errors import ModelError
from img2brain.metrics.pearson import pearson
from img2brain.regressors.decision_tree import DecisionTree


@pytest.mark.parametrize(
    "parameters", [{}, {"max_depth": 1}, {"max_depth": 4, "random_state": 3}, {"min_samples_leaf": 7}]
)
def test_equals_scikit_learn(parameters: dict[str, int]) -> None:
    rng = np.random.default_rng(0)
    # Few distinct values, so that many rows lie on a threshold and many splits are equally good.
    X, X_new = rng.integers(0, 9, (80, 5)) / 7, rng.integers(0, 9, (200, 5)) / 7
    Y = X[:, :1] + rng.standard_normal((80, 4))
    peer = DecisionTreeRegressor(**({"random_state": 0} | parameters)).fit(X, Y)
    for n_directions in (None, 4, 100):
        ours = DecisionTree(n_directions=n_directions, **parameters).fit(X, Y)
        np.testing.assert_allclose(ours.predict(X_new), peer.predict(X_new), atol=1e-12)
    alone = peer.fit(X, Y[:, 0]).predict(X_new)
    np.testing.assert_allclose(ours.fit(X, Y[:, 0]).predict(X_new), alone, atol=1e-12)


Rows = tuple[NDArray[np.float64], NDArray[np.float64]]


def some_rows(n: int, n_voxels: int = 300) -> Rows:
    """Voxels that share three signals, under noise of their own."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((n, 6))
    signals = np.stack([X[:, 0] > 0.3, X[:, 1], X[:, 2] * X[:, 3]], axis=1)
    return X, signals @ rng.standard_normal((3, n_voxels)) + 2 * rng.standard_normal((n, n_voxels))


@pytest.mark.parametrize("parameters", [{"max_depth": 3}, {"max_depth": 6}, {}, {"min_samples_leaf": 9}])
def test_few_directions_predict_as_well_as_all_voxels(parameters: dict[str, int]) -> None:
    X, Y = some_rows(1600)
    few, exact = (
        DecisionTree(n_directions=n_directions, **parameters).fit(X[:1200], Y[:1200]) for n_directions in (32, None)
    )
    r_few, r_exact = (np.median(pearson(Y[1200:], tree.predict(X[1200:]))) for tree in (few, exact))
    assert r_exact > 0.15
    assert r_few > r_exact - 0.01


def test_leaves_hold_the_mean_of_the_full_responses() -> None:
    class InBlocks(DecisionTree):
        block = 7

    X, Y = some_rows(90, 40)
    tree = InBlocks(max_depth=3, min_samples_leaf=4, n_directions=5).fit(X, Y)
    predicted = tree.predict(X)
    assert 2 < len(tree.value_) <= 8
    for leaf in tree.value_:
        members = (predicted == leaf).all(axis=1)
        assert members.sum() >= 4
        np.testing.assert_allclose(Y[members].mean(axis=0), leaf, atol=1e-12)


def test_directions_do_not_depend_on_the_means_of_voxels_or_the_type() -> None:
    X, Y = some_rows(90, 40)
    Y = (64 * Y).astype(np.int16)
    trees = [
        DecisionTree(max_depth=3, n_directions=4).fit(X, rows)
        for rows in (Y, Y.astype(np.float32), Y + np.float64(1000))
    ]
    for tree in trees[1:]:
        np.testing.assert_array_equal(tree.threshold_, trees[0].threshold_)
    np.testing.assert_allclose(trees[2].predict(X), trees[0].predict(X) + 1000)


def test_a_seed_gives_one_tree() -> None:
    X, Y = some_rows(200, 50)
    once, again, other = (DecisionTree(n_directions=2, random_state=seed).fit(X, Y) for seed in (0, 0, 1))
    np.testing.assert_array_equal(once.threshold_, again.threshold_)
    assert not np.array_equal(once.threshold_, other.threshold_)


def test_constant_responses_need_no_split() -> None:
    for n_directions in (None, 1):
        tree = DecisionTree(n_directions=n_directions).fit([[0.0], [1.0]], [[2.0, 3.0], [2.0, 3.0]])
        assert len(tree.value_) == 1
        np.testing.assert_array_equal(tree.predict([[9.0]]), [[2.0, 3.0]])


@pytest.mark.parametrize(
    ("name", "value"),
    [("left_", 0), ("right_", 0), ("right_", 10**6), ("left_", -2), ("feature_", 2), ("feature_", -1)],
)
def test_a_tree_that_leads_nowhere_is_refused(name: str, value: int) -> None:
    rng = np.random.default_rng(0)
    fitted = DecisionTree(max_depth=2).fit(rng.standard_normal((20, 2)), rng.standard_normal((20, 3)))
    arrays: dict[str, Any] = {key: array.copy() for key, array in fitted.to_arrays().items()}
    arrays[name][0] = value
    with pytest.raises(ModelError, match="does not fit together"):
        DecisionTree.from_arrays({}, arrays)
