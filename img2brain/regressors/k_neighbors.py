"""K nearest neighbours."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from img2brain._arrays import in_blocks
from img2brain.errors import FitError
from img2brain.regressors._limits import COUNT, Limits
from img2brain.regressors.base import Array, Hyperparameter, Regressor, Space, require


class KNeighbors(Regressor):
    """Predict the mean response to the `n_neighbors` nearest training images (Euclidean distance).

    Parameters
    ----------
    n_neighbors : int
        Number of neighbours, >= 1.

    Notes
    -----
    One matrix product gives all distances, |x|^2 - 2 x't + |t|^2, in float64 and about the training mean, so that
    little cancels. Of training images at equal distance the first ones count. The rows are held, not copied, as in
    scikit-learn: do not write to them between `fit` and `predict`.

    Examples
    --------
    >>> KNeighbors(n_neighbors=2).fit([[0.0], [1.0], [9.0]], [1.0, 3.0, 7.0]).predict([[0.4]])
    array([2.])
    """

    search: ClassVar[Space] = {"n_neighbors": Hyperparameter(1, 50, log=True, integer=True)}
    limits: ClassVar[Limits] = {"n_neighbors": COUNT}
    arrays = ("X_", "Y_")
    block_bytes: ClassVar[int] = 1 << 23  # of the distances that are held at a time

    def __init__(self, n_neighbors: int = 5) -> None:
        self.n_neighbors = n_neighbors

    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        """Keep the rows.

        Raises
        ------
        FitError
            Where there are fewer rows than neighbours.
        """
        X, Y = self.checked_rows(X, Y)
        if len(X) < self.n_neighbors:
            raise FitError(f"The k_neighbors needs at least {self.n_neighbors} rows ('n_neighbors'). Got {len(X)}.")
        self.X_, self.Y_ = np.ascontiguousarray(X), np.ascontiguousarray(Y)
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Predict responses, in float64 and in the shape of the responses of the fit."""
        X = self.checked_features(X)
        mean = self.X_.mean(axis=0, dtype=np.float64)
        train, Y = self.X_ - mean, self.Y_.reshape(len(self.Y_), -1)
        slopes, squares = -2.0 * train.T, np.einsum("ij,ij->i", train, train)
        out = np.empty((len(X), Y.shape[1]))

        def average(rows: slice) -> None:
            distances = (X[rows] - mean) @ slopes
            distances += squares  # |x|^2 is the same for a whole row
            for sums, (first, *others) in zip(out[rows], _least(distances, self.n_neighbors).tolist(), strict=True):
                sums[:] = Y[first]
                for other in others:
                    np.add(sums, Y[other], out=sums)
            out[rows] /= self.n_neighbors

        in_blocks(average, len(X), max(1, self.block_bytes // (8 * len(train))), X)
        return out.reshape(-1, *self.Y_.shape[1:])

    def check_arrays(self) -> int:
        """Check that there are as many features as responses, and enough, and return the number of features."""
        require(self.X_.ndim == 2 and self.Y_.ndim in (1, 2) and len(self.X_) == len(self.Y_) >= self.n_neighbors)
        return int(self.X_.shape[1])


def _least(distances: Array, k: int) -> NDArray[np.intp]:
    """Return the indices of the `k` least distances of each row, in no order; of equal ones the first."""
    order = np.argpartition(distances, min(k, distances.shape[1] - 1), axis=1)[:, : k + 1]
    nearest, least = order[:, :k], np.take_along_axis(distances, order, axis=1)
    tied = np.flatnonzero((least[:, k:] <= least[:, :k].max(axis=1, keepdims=True)).any(axis=1))
    nearest[tied] = np.argsort(distances[tied], axis=1, kind="stable")[:, :k]
    return nearest


COMPONENT = KNeighbors
