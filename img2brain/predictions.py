"""Predictions that are made when they are read: for some rows and voxels at a time, never for all together.

Of 1000 images and 300,000 voxels they are 2.4 GB in float64. A linear regressor makes any part of them as fast as it
could be read; of others they are made at once and held.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from img2brain._arrays import frozen, slices
from img2brain._mapped import release
from img2brain.errors import FitError, failing_in
from img2brain.metrics.base import Metric

F64 = NDArray[np.float64]
Floats = NDArray[np.floating]
Voxels = slice | NDArray[np.bool_]

BLOCK = 8192  # voxels that are looked at together
_BLOCK_BYTES = 1 << 28  # of their responses, in float64


@runtime_checkable
class PredictsVoxels(Protocol):
    """A fitted regressor that can be had for some of its voxels."""

    def voxels(self, which: Voxels) -> Any:
        """Return the regressor of some voxels."""
        ...


class Predictions(ABC):
    """Predictions (n_images, n_voxels) in float64, read by rows and voxels as an array is.

    Attributes
    ----------
    shape : tuple of int
        Numbers of images and voxels.

    Examples
    --------
    >>> held = HeldPredictions(np.arange(6.0).reshape(2, 3))
    >>> held[:1].shape, held[:, 1:]
    ((1, 3), array([[1., 2.],
           [4., 5.]]))
    """

    shape: tuple[int, int]

    @overload
    def __getitem__(self, place: slice) -> Predictions: ...

    @overload
    def __getitem__(self, place: tuple[slice, slice]) -> F64: ...

    def __getitem__(self, place: slice | tuple[slice, slice]) -> Predictions | F64:
        return self.made(*place) if isinstance(place, tuple) else self.of_rows(place)

    @abstractmethod
    def made(self, rows: slice, part: slice) -> F64:
        """Make those of some rows and voxels."""

    @abstractmethod
    def of_rows(self, rows: slice) -> Predictions:
        """Return those of some rows, which are yet to be made."""

    def of_voxels(self, which: NDArray[np.bool_]) -> Predictions:
        """Return those of some voxels."""
        return HeldPredictions(self.made(slice(None), slice(None))[:, which])


class HeldPredictions(Predictions):
    """Predictions that were made."""

    def __init__(self, values: F64) -> None:
        self._values = values
        self.shape = (len(values), values.shape[1])

    def made(self, rows: slice, part: slice) -> F64:
        """Return a view."""
        return self._values[rows, part]

    def of_rows(self, rows: slice) -> Predictions:
        """Return a view."""
        return HeldPredictions(self._values[rows])


class ByVoxels(Predictions):
    """Predictions of a regressor that can be had for some of its voxels.

    Parameters
    ----------
    regressor : PredictsVoxels
        Fitted.
    X : ndarray (n_images, n_features)
        What it predicts from.
    n_voxels : int
        How many voxels it predicts.
    name : str
        What messages call it.
    """

    def __init__(self, regressor: PredictsVoxels, X: Floats, n_voxels: int, name: str) -> None:
        self._regressor, self._X, self._name = regressor, X, name
        self.shape = (len(X), n_voxels)

    def made(self, rows: slice, part: slice) -> F64:
        """Predict."""
        with failing_in(self._name):
            found = self._regressor.voxels(part).predict(self._X[rows])
        return _checked(found, (len(self._X[rows]), len(range(*part.indices(self.shape[1])))), self._name)

    def of_rows(self, rows: slice) -> Predictions:
        """Return those of the same regressor."""
        return ByVoxels(self._regressor, self._X[rows], self.shape[1], self._name)

    def of_voxels(self, which: NDArray[np.bool_]) -> Predictions:
        """Keep no more of the regressor than is needed."""
        return ByVoxels(self._regressor.voxels(which), self._X, int(which.sum()), self._name)


class Stacked(Predictions):
    """Predictions of some images, and below them those of others."""

    def __init__(self, parts: Sequence[Predictions]) -> None:
        self._parts = parts
        self.shape = (sum(part.shape[0] for part in parts), parts[0].shape[1])

    def made(self, rows: slice, part: slice) -> F64:
        """Make those of each."""
        return np.concatenate([item.made(slice(None), part) for item in self._parts])[rows]

    def of_rows(self, rows: slice) -> Predictions:
        """Return them as they are made."""
        return HeldPredictions(self.made(rows, slice(None)))


class Chosen(Predictions):
    """Predictions of which each voxel has its own source.

    Parameters
    ----------
    choice : ndarray (n_voxels,)
        Number of each voxel's source.
    sources : mapping of int to Predictions
        Each of the voxels that chose it alone, in their order.
    n_images : int
        Number of images.
    """

    def __init__(self, choice: NDArray[np.intp], sources: dict[int, Predictions], n_images: int) -> None:
        self._choice, self._sources = choice, sources
        self.shape = (n_images, len(choice))

    def made(self, rows: slice, part: slice) -> F64:
        """Make those of each source, and put them in their places."""
        start, stop, _ = part.indices(self.shape[1])
        found = np.empty((len(range(*rows.indices(self.shape[0]))), stop - start))
        for number, source in self._sources.items():
            own = self._choice[start:stop] == number
            first = int((self._choice[:start] == number).sum())
            found[:, own] = source.made(rows, slice(first, first + int(own.sum())))
        return found

    def of_rows(self, rows: slice) -> Predictions:
        """Return those of the same choice."""
        sources = {number: source.of_rows(rows) for number, source in self._sources.items()}
        return Chosen(self._choice, sources, len(range(*rows.indices(self.shape[0]))))


def predictions_of(regressor: Any, X: Floats, n_voxels: int, name: str) -> Predictions:
    """Return what a fitted regressor predicts, made at once where it has to be.

    Parameters
    ----------
    regressor : object
        Fitted.
    X : ndarray (n_images, n_features)
        What it predicts from.
    n_voxels : int
        How many voxels it predicts.
    name : str
        What messages call it, such as ``"The regressor 'ridge'"``.

    Raises
    ------
    FitError
        Where they are made, if they are not finite, or of another shape.
    """
    if not len(X):
        return HeldPredictions(np.empty((0, n_voxels)))
    if isinstance(regressor, PredictsVoxels):
        return ByVoxels(regressor, X, n_voxels, name)
    with failing_in(name):
        found = regressor.predict(X)
    return HeldPredictions(_checked(found, (len(X), n_voxels), name))


def n_together_of(n_images: int) -> int:
    """Return how many voxels of so many images are looked at together.

    Examples
    --------
    >>> n_together_of(1000), n_together_of(73_000)
    (8192, 459)
    """
    return max(1, min(BLOCK, _BLOCK_BYTES // (8 * max(1, n_images))))


def scored(metric: Metric, Y: Floats, P: Any, n_together: int | None = None) -> F64:
    """Score predictions, a range of voxels after another, so that no more of them is ever made.

    Parameters
    ----------
    metric : Metric
        What scores them.
    Y : ndarray (n_images, n_voxels)
        Responses.
    P : Predictions or ndarray (n_images, n_voxels)
        Predictions.
    n_together : int, optional
        Voxels of a range; by default as many as `n_together_of` says.

    Returns
    -------
    ndarray (n_voxels,)
    """
    parts = list(slices(Y.shape[1], n_together or n_together_of(len(Y))))
    found = [metric.voxels(part).from_rows(*of_voxels(Y, P, part)) for part in parts]
    return np.concatenate(found) if len(parts) > 1 else found[0]


def of_voxels(Y: Floats, P: Any, part: slice) -> tuple[F64, F64]:
    """Return responses and predictions of a range of voxels, in float64, as nobody can write to them."""
    responses = frozen(np.asarray(Y[:, part], np.float64))
    release(Y)
    return responses, frozen(np.asarray(P[:, part], np.float64))


def _checked(found: Any, shape: tuple[int, int], name: str) -> F64:
    """Return predictions in float64, if they are what a regressor must predict."""
    values: F64 = np.asarray(found, np.float64)
    if values.shape != shape or not np.isfinite(values).all():
        what = f"shape {values.shape}" if values.shape != shape else "NaN or infinity"
        raise FitError(f"{name} must predict finite numbers of shape {shape}. Got {what}.")
    return values
