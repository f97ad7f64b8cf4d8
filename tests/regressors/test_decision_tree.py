"""The tree in plain arrays against scikit-learn's own predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.tree import DecisionTreeRegressor

from img2brain.errors import ModelError
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
    ours = DecisionTree(**parameters).fit(X, Y)
    np.testing.assert_array_equal(ours.predict(X_new), peer.predict(X_new))
    np.testing.assert_array_equal(ours.fit(X, Y[:, 0]).predict(X_new), peer.fit(X, Y[:, 0]).predict(X_new))


def test_constant_responses_need_no_split() -> None:
    tree = DecisionTree().fit([[0.0], [1.0]], [[2.0, 3.0], [2.0, 3.0]])
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
