"""A trial fitted again, to all development rows, from the cache: no image is touched and no response held whole."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from img2brain.catalog import REGRESSORS
from img2brain.datasets.base import Development, Rows, Split
from img2brain.features.features import Features
from img2brain.moments import Moments
from img2brain.regressors._folds import FoldedRegressor
from img2brain.regressors.base import LinearRegressor, Regressor, folds_of
from img2brain.spec import TrialSpec

F64 = NDArray[np.float64]
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
    """

    def __init__(self, development: Development, split: Split, n_components: int) -> None:
        self._development = development
        self._split = split
        self._n_components = n_components

    def __call__(self, spec: TrialSpec, bank: Features, shuffle: int | None = None) -> tuple[Regressor, F64]:
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
        predictions : ndarray (n_confirmation, n_voxels)
        """
        rows = self._split.development
        scores = bank.components(spec.layer, rows, self._n_components).leading(spec.n_components).scores
        answered = rows if shuffle is None else np.random.RandomState(shuffle).permutation(rows)
        regressor: Regressor = REGRESSORS[spec.regressor](**spec.parameters)
        if isinstance(regressor, LinearRegressor):
            self._fit_moments(regressor, scores, answered)
        else:
            regressor.fit(scores[rows], self._development.responses(answered))
        seen = scores[self._split.confirmation]
        return regressor, regressor.predict(seen) if len(seen) else np.empty((0, self._development.n_voxels))

    def _fit_moments(self, regressor: LinearRegressor, scores: Floats, answered: Rows) -> None:
        rows, n_folds = self._split.development, getattr(regressor, "cv", 1)
        folds = [
            Moments.from_blocks(self._blocks(scores, rows[part], answered[part]))
            for part in folds_of(len(rows), n_folds)
        ]
        if isinstance(regressor, FoldedRegressor):
            regressor.fit_folds(folds)
        else:
            regressor.fit_moments(folds[0])

    def _blocks(self, scores: Floats, rows: Rows, answered: Rows) -> Iterator[tuple[Floats, Floats]]:
        """Yield features and responses block by block; the i-th of `rows` goes with the i-th of `answered`."""
        start = 0
        for part, responses in self._development.blocks(answered):
            yield scores[rows[start : start + len(part)]], responses
            start += len(part)
