"""K nearest neighbours."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from img2brain.errors import FitError
from img2brain.regressors._base import Array, Hyperparameter, RowsRegressor, Space, require
from img2brain.regressors._limits import COUNT, Limits

BLOCK_BYTES = 1 << 25


class KNeighbors(RowsRegressor):
    """Predict the mean response to the `n_neighbors` nearest training images (Euclidean distance).

    Parameters
    ----------
    n_neighbors : int
        Number of neighbours, >= 1.

    Notes
    -----
    One matrix product gives all distances, |x|^2 - 2 x't + |t|^2, in float64 and about the training mean, so that
    little cancels. Of training images at equal distance the first ones count.

    Examples
    --------
    >>> KNeighbors(n_neighbors=2).fit([[0.0], [1.0], [9.0]], [1.0, 3.0, 7.0]).predict([[0.4]])
    array([2.])
    """

    search: ClassVar[Space] = {"n_neighbors": Hyperparameter(1, 50, log=True, integer=True)}
    limits: ClassVar[Limits] = {"n_neighbors": COUNT}
    arrays = ("X_", "Y_")

    def __init__(self, n_neighbors: int = 5) -> None:
        self.n_neighbors = n_neighbors

    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        """Keep the rows.

        Raises
        ------
        FitError
            Where there are fewer rows than neighbours.
        """
        X, Y = self._checked_rows(X, Y)
        if len(X) < self.n_neighbors:
            raise FitError(f"The k_neighbors needs at least {self.n_neighbors} rows ('n_neighbors'). Got {len(X)}.")
        self.X_, self.Y_ = np.array(X), np.array(Y)
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Predict responses, in float64 and in the shape of the responses of the fit."""
        X = self._checked_features(X)
        out = np.empty((len(X), *self.Y_.shape[1:]))
        mean = self.X_.mean(axis=0, dtype=np.float64)
        train = self.X_ - mean
        step = max(1, BLOCK_BYTES // (8 * len(train)))
        for start in range(0, len(X), step):
            nearest = _nearest(X[start : start + step] - mean, train, self.n_neighbors)
            for row, which in enumerate(nearest, start):
                out[row] = self.Y_[which].mean(axis=0, dtype=np.float64)
        return out

    def _check_arrays(self) -> int:
        require(self.X_.ndim == 2 and self.Y_.ndim in (1, 2) and len(self.X_) == len(self.Y_) >= self.n_neighbors)
        return int(self.X_.shape[1])


def _nearest(X: Array, train: Array, k: int) -> NDArray[np.intp]:
    """Return the indices of the `k` rows of `train` nearest to each row of X, in no order."""
    # |x|^2 is the same for a whole row.
    distances = X @ (-2.0 * train.T)
    distances += np.einsum("ij,ij->i", train, train)
    nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
    farthest = np.take_along_axis(distances, nearest, axis=1).max(axis=1, keepdims=True)
    tied = np.flatnonzero(np.count_nonzero(distances <= farthest, axis=1) > k)
    nearest[tied] = np.argsort(distances[tied], axis=1, kind="stable")[:, :k]
    return nearest


COMPONENT = KNeighbors
