"""A trial fitted again, to all development rows, from the cache: no image is touched and no response held whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain._mapped import Make
from img2brain.catalog import REGRESSORS
from img2brain.datasets.base import Development, Rows, Split
from img2brain.errors import failing_in
from img2brain.features.features import Features
from img2brain.moments import Moments
from img2brain.predictions import Predictions, predictions_of
from img2brain.regressors.base import Regressor
from img2brain.spec import TrialSpec

Floats = NDArray[np.floating]


class Refit:
    """Fits trials to all development rows, and predicts the confirmation rows.

    Parameters
    ----------
    development : Development
        Responses of the development rows: no others are needed.
    split : Split
        The rows.
    n_components : int
        The size that the components are stored at.
    device : str
        Where moments are taken and linear regressors fitted.
    """

    def __init__(self, development: Development, split: Split, n_components: int, device: str = "cpu") -> None:
        self._development = development
        self._split = split
        self._n_components = n_components
        self._device = device

    def __call__(self, spec: TrialSpec, bank: Features, shuffle: int | None = None) -> tuple[Regressor, Predictions]:
        """Fit a trial's regressor, and predict.

        Parameters
        ----------
        spec : TrialSpec
            The trial.
        bank : Features
            Features of its network.
        shuffle : int, optional
            A control: the responses are shuffled against the images with this seed.

        Returns
        -------
        regressor : Regressor
            Fitted to components that were fitted to the same rows.
        predictions : Predictions (n_confirmation, n_voxels)
            Made when they are read.
        """
        rows = self._split.development
        coordinates = spec.leading(bank.components(spec.space, rows, self._n_components)).coordinates
        answered = rows if shuffle is None else np.random.RandomState(shuffle).permutation(rows)
        name = f"The regressor {spec.regressor!r}"
        with failing_in(name):
            regressor = self._fitted(spec, coordinates, rows, answered)
        seen = coordinates[self._split.confirmation]
        return regressor, predictions_of(regressor, seen, self._development.n_voxels, name)

    def _fitted(self, spec: TrialSpec, coordinates: Floats, rows: Rows, answered: Rows) -> Any:
        regressor = REGRESSORS[spec.regressor](**spec.parameters)
        if not hasattr(regressor, "fit_folds"):
            return regressor.fit(coordinates[rows], self._development.responses(answered))
        parts = self._split.runs(rows, n_folds_of(regressor))
        folds = [moments_of(self._development, coordinates, rows[part], answered[part], self._device) for part in parts]
        return regressor.fit_folds(folds)


def n_folds_of(regressor: Any) -> int:
    """Return how many parts of the rows a regressor wants its moments in: 1, unless it says otherwise."""
    return int(getattr(regressor, "n_folds", 1))


def moments_of(
    development: Development,
    coordinates: Floats,
    rows: Rows,
    answered: Rows,
    device: str = "cpu",
    make: Make = np.zeros,
) -> Moments:
    """Take the moments of rows without their responses ever being in memory as a whole.

    Parameters
    ----------
    development : Development
        Reads the responses.
    coordinates : ndarray (n_images, n_components)
        Coordinates of all images along their principal axes.
    rows, answered : ndarray of int, shape (n,)
        The i-th of `rows` goes with the response to the i-th of `answered`.
    device : str
        Where the moments are kept.
    make : callable
        Makes the array of their cross-products, of a shape and a type.
    """
    return Moments.from_blocks(_blocks(development, coordinates, rows, answered), device=device, make=make)


def _blocks(
    development: Development, coordinates: Floats, rows: Rows, answered: Rows
) -> Iterator[tuple[Floats, Floats]]:
    start = 0
    for part, responses in development.blocks(answered):
        yield coordinates[rows[start : start + len(part)]], responses
        start += len(part)
