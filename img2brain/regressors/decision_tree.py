"""Decision tree."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from sklearn.tree import DecisionTreeRegressor

from img2brain._arrays import slices
from img2brain.regressors._limits import COUNT, COUNT_OR_NONE, SEED, Limits
from img2brain.regressors.base import Array, Hyperparameter, Regressor, Space, require

LEAF = -1


class DecisionTree(Regressor):
    """Predict the mean response in a leaf of one tree for all voxels, grown to reduce the squared error.

    Parameters
    ----------
    max_depth : int, optional
        The most splits on a way from root to leaf; without a limit by default.
    min_samples_leaf : int
        The fewest images in a leaf.
    n_directions : int, optional
        Splits are chosen by the squared error along this many directions of the responses, those in which most of
        their variance lies; by that of the voxels themselves where it is None, or not below the number of voxels.
    random_state : int
        Which of equally good splits is taken, and where the search for directions starts.

    Attributes
    ----------
    left_, right_ : ndarray of int, shape (n_nodes,)
        Children of each node, or -1.
    feature_ : ndarray of int, shape (n_nodes,)
        The feature that a node asks for.
    threshold_ : ndarray, shape (n_nodes,)
        The largest value that goes left.
    value_ : ndarray, shape (n_leaves, n_voxels), or (n_leaves,) for one response given as (n_images,)
        Mean response of the images of each leaf, in the order of their nodes.
    n_inputs_ : int
        Number of features.

    Notes
    -----
    Growing costs n_images x n_features x n_directions additions a level, whatever the number of voxels. The directions
    are those of a randomised range finder after one power iteration (Halko, Martinsson and Tropp, 2011): noise that
    voxels do not share is left out of the splits.

    Examples
    --------
    >>> DecisionTree(max_depth=1).fit([[0.0], [1.0], [9.0]], [1.0, 3.0, 8.0]).predict([[0.5], [7.0]])
    array([2., 8.])
    """

    search: ClassVar[Space] = {"max_depth": Hyperparameter(1, 12, integer=True)}
    limits: ClassVar[Limits] = {
        "max_depth": COUNT_OR_NONE,
        "min_samples_leaf": COUNT,
        "n_directions": COUNT_OR_NONE,
        "random_state": SEED,
    }
    arrays = ("left_", "right_", "feature_", "threshold_", "value_", "n_inputs_")
    block: ClassVar[int] = 1024  # voxels whose means are taken at a time

    def __init__(
        self,
        max_depth: int | None = None,
        min_samples_leaf: int = 1,
        n_directions: int | None = 32,
        random_state: int = 0,
    ) -> None:
        self.max_depth = max_depth
        self.min_samples_leaf = min_samples_leaf
        self.n_directions = n_directions
        self.random_state = random_state

    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        """Grow the tree."""
        X, Y = self.checked_rows(X, Y)
        rows = Y.reshape(len(Y), -1)
        tree = DecisionTreeRegressor(
            max_depth=self.max_depth, min_samples_leaf=self.min_samples_leaf, random_state=self.random_state
        )
        tree = tree.fit(X, self._targets(rows)).tree_
        self.left_, self.right_ = tree.children_left.copy(), tree.children_right.copy()
        self.feature_, self.threshold_ = tree.feature.copy(), tree.threshold.copy()
        self.value_ = _means(rows, self._leaves(X), self.block).reshape(-1, *Y.shape[1:])
        self.n_inputs_ = X.shape[1]
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Predict responses, in float64 and in the shape of the responses of the fit."""
        leaves = self._leaves(self.checked_features(X))
        values: Array = self.value_[leaves]
        return values

    def _targets(self, Y: NDArray[Any]) -> NDArray[Any]:
        """Return what the splits are chosen by."""
        if self.n_directions is None or Y.shape[1] <= self.n_directions:
            return Y
        # Columns that are centred have no part in the means of the voxels, which so need not be taken off.
        Y = Y.astype(np.result_type(Y, np.float32), copy=False)
        start = np.random.default_rng(self.random_state).standard_normal((Y.shape[1], self.n_directions))
        directions, _ = np.linalg.qr(Y.T @ _centred(Y @ start.astype(Y.dtype)))
        return _centred(Y @ directions)

    def _leaves(self, X: NDArray[np.number]) -> NDArray[np.intp]:
        """Return the number of the leaf of each row, all rows one level down at a time."""
        # Grown on float32 values: other roundings could fall on the other side of a threshold.
        X = X.astype(np.float32)
        nodes = np.zeros(len(X), dtype=np.intp)
        rows = np.arange(len(X)) if self.left_[0] != LEAF else np.arange(0)
        while rows.size:
            at = nodes[rows]
            goes_left = X[rows, self.feature_[at]] <= self.threshold_[at]
            nodes[rows] = np.where(goes_left, self.left_[at], self.right_[at])
            rows = rows[self.left_[nodes[rows]] != LEAF]
        return (np.cumsum(self.left_ == LEAF) - 1)[nodes]

    def check_arrays(self) -> int:
        """Check that the nodes are a tree, and return the number of features."""
        n_nodes, inner = len(self.left_), self.left_ != LEAF
        require(n_nodes > 0 and self.value_.ndim in (1, 2) and len(self.value_) == np.count_nonzero(~inner))
        require(self.left_.shape == self.right_.shape == self.feature_.shape == self.threshold_.shape == (n_nodes,))
        require(all(array.dtype.kind == "i" for array in (self.left_, self.right_, self.feature_)))
        require(bool(((self.feature_[inner] >= 0) & (self.feature_[inner] < self.n_inputs_)).all()))
        for children in (self.left_[inner], self.right_[inner]):
            # A child comes after its parent, so that every way down ends.
            require(bool(((children > np.flatnonzero(inner)) & (children < n_nodes)).all()))
        return int(self.n_inputs_)


def _centred(columns: NDArray[Any]) -> NDArray[Any]:
    centred: NDArray[Any] = columns - columns.mean(axis=0)
    return centred


def _means(Y: NDArray[Any], leaves: NDArray[np.intp], step: int) -> Array:
    """Return the mean response in each leaf, so many voxels at a time."""
    counts = np.bincount(leaves)
    shares = csr_array((1.0 / counts[leaves], (leaves, np.arange(len(Y)))), shape=(len(counts), len(Y)))
    means = np.empty((len(counts), Y.shape[1]))
    for block in slices(Y.shape[1], step):
        means[:, block] = shares @ Y[:, block].astype(np.float64)
    return means


COMPONENT = DecisionTree
