"""Spec -> result: the one place where data, features, moments, regressor and score meet."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from img2brain.catalog import REGRESSORS
from img2brain.datasets._responses import Scan
from img2brain.datasets.base import Development, Rows, Split
from img2brain.errors import FitError
from img2brain.features.features import Features
from img2brain.features.pca import Components
from img2brain.metrics.base import Sums
from img2brain.metrics.pearson import Pearson, pearson
from img2brain.moments import Moments
from img2brain.regressors._folds import FoldedRegressor
from img2brain.regressors.base import LinearRegressor, Regressor, folds_of
from img2brain.result import TrialResult, summarise
from img2brain.spec import TrialSpec

BankKey = tuple[str, str, str]
F64 = NDArray[np.float64]
_MOMENTS_BYTES = 1 << 31


class Evaluator:
    """Evaluates trials on one split of one dataset, sharing what they have in common.

    What depends on the layer alone (components and moments) is computed once and kept; the number of components, the
    regressor and its hyperparameters then cost milliseconds. Only development rows are ever seen.

    Parameters
    ----------
    development : Development
        Responses of the development rows.
    split : Split
        Training and validation rows.
    banks : mapping of (backbone, weights digest, preprocessing) to Features
        Features by network.
    n_components : int
        The largest size that any trial asks for.
    device : str
        Where moments are kept and linear regressors fitted: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
    """

    def __init__(
        self,
        development: Development,
        split: Split,
        banks: Mapping[BankKey, Features],
        n_components: int,
        device: str = "cpu",
    ) -> None:
        self._development = development
        self._split = split
        self._banks = banks
        self._n_components = n_components
        self._device = device
        n_layers = _MOMENTS_BYTES // (16 * n_components * development.n_voxels)
        self._moments = lru_cache(maxsize=max(1, n_layers))(self._compute_moments)
        self._moments_of_rows = lru_cache(maxsize=max(1, n_layers))(self._compute_moments_of_rows)
        self._read = lru_cache(maxsize=2)(self._read_responses)

    def evaluate(self, spec: TrialSpec) -> TrialResult:
        """Fit on the training rows and score on the validation rows.

        Where parts of the training rows take turns to validate, the predictions of all turns are scored together, and
        the regressor of the result is fitted to all of them.

        Parameters
        ----------
        spec : TrialSpec
            What to try; hyperparameters are absolute.

        Returns
        -------
        TrialResult

        Raises
        ------
        FitError
            If the layer has fewer components than asked for, or the regressor cannot be fitted.
        """
        timings: dict[str, float] = {}
        with _timed(timings, "features_s"):
            self._require_components(spec)
        estimator = REGRESSORS[spec.regressor](**spec.parameters)
        score = self._score_moments if isinstance(estimator, LinearRegressor) else self._score_rows
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # counted in the result instead
            scores = score(spec, estimator, timings)
        return TrialResult(spec, scores, len(self._silent), estimator, timings, self._region_medians(scores))

    def _region_medians(self, scores: F64) -> dict[str, float]:
        rois = self._development.rois
        return {
            name: summarise(scores[voxels], int(np.isin(voxels, self._silent).sum()))["median_r"]
            for name, voxels in rois.items()
        }

    def predict(self, spec: TrialSpec) -> tuple[F64, F64]:
        """Return the responses to the rows that a trial is scored on, and what it predicts of them.

        Returns
        -------
        responses, predictions : ndarray (n_images, n_voxels)
            Fold after fold, each predicted by what was fitted to the others.
        """
        predicted = []
        for number, fold in enumerate(self._split.folds):
            estimator = REGRESSORS[spec.regressor](**spec.parameters)
            scores = self._layer_components(spec, fold.train).leading(spec.n_components).scores
            if isinstance(estimator, LinearRegressor):
                self._fit_moments(spec, estimator, number, {})
            else:
                estimator.fit(scores[fold.train], self._responses(fold.train))
            predicted.append(estimator.predict(scores[fold.validation]))
        return self._responses(self._split.scored).astype(np.float64), np.concatenate(predicted)

    def alpha_scale(self, spec: TrialSpec) -> float:
        """Return the alpha that a relative alpha of 1 stands for, at this layer and size."""
        self._require_components(spec)
        train = self._moments_of_rows(bank_key(spec), spec.layer, 1)[0]
        return float(REGRESSORS[spec.regressor](**_without_alpha(spec)).alpha_scale(train.leading(spec.n_components)))

    def components(self, spec: TrialSpec) -> Components:
        """Return the components of the trial's layer, of all images, at the trial's size."""
        return self._layer_components(spec, self._split.train).leading(spec.n_components)

    def _score_moments(self, spec: TrialSpec, estimator: Any, timings: dict[str, float]) -> F64:
        if not self._split.held_out:
            validation = self._fit_moments(spec, estimator, 0, timings)
            with _timed(timings, "score_s"):
                return Pearson().from_sums(Sums.from_moments(estimator.coef_.T, estimator.intercept_, validation))
        agreements = []
        for number in range(len(self._split.folds)):
            fitted = REGRESSORS[spec.regressor](**spec.parameters)
            validation = self._fit_moments(spec, fitted, number, timings)
            with _timed(timings, "score_s"):
                agreements.append(Sums.from_moments(fitted.coef_.T, fitted.intercept_, validation))
        with _timed(timings, "fit_s"):
            train = self._moments_of_rows(bank_key(spec), spec.layer, getattr(estimator, "cv", 1))
            _fit(estimator, [fold.leading(spec.n_components) for fold in train])
        return Pearson().from_sums(reduce(Sums.merge, agreements))

    def _fit_moments(self, spec: TrialSpec, estimator: Any, number: int, timings: dict[str, float]) -> Moments:
        """Fit to the training rows of a fold, and return the moments of its validation rows."""
        with _timed(timings, "moments_s"):
            train, validation = self._moments(bank_key(spec), spec.layer, getattr(estimator, "cv", 1), number)
        with _timed(timings, "fit_s"):
            _fit(estimator, [fold.leading(spec.n_components) for fold in train])
        return validation.leading(spec.n_components)

    def _score_rows(self, spec: TrialSpec, estimator: Regressor, timings: dict[str, float]) -> F64:
        predicted = []
        for fold in self._split.folds:
            scores = self._layer_components(spec, fold.train).leading(spec.n_components).scores
            with _timed(timings, "fit_s"):
                estimator.fit(scores[fold.train], self._responses(fold.train))
            with _timed(timings, "score_s"):
                predicted.append(estimator.predict(scores[fold.validation]))
        with _timed(timings, "score_s"):
            found = pearson(self._responses(self._split.scored), np.concatenate(predicted))
        if self._split.held_out:
            scores = self.components(spec).scores
            with _timed(timings, "fit_s"):
                estimator.fit(scores[self._split.train], self._responses(self._split.train))
        return found

    def _require_components(self, spec: TrialSpec) -> None:
        n_found = min(len(self._layer_components(spec, fold.train).variances) for fold in self._split.folds)
        if n_found < spec.n_components:
            raise FitError(
                f"{spec.backbone} {spec.layer} spans {n_found} components over the training rows. "
                f"Got n_components = {spec.n_components}."
            )

    def _layer_components(self, spec: TrialSpec, rows: Rows) -> Components:
        return self._banks[bank_key(spec)].components(spec.layer, rows, self._n_components)

    def _compute_moments(self, key: BankKey, layer: str, cv: int, number: int) -> tuple[list[Moments], Moments]:
        """Return the moments of the training rows of a fold, in so many parts, and of its validation rows."""
        fold = self._split.folds[number]
        scores = self._banks[key].components(layer, fold.train, self._n_components).scores
        train = [self._moments_of(scores, fold.train[part]) for part in folds_of(len(fold.train), cv)]
        return train, self._moments_of(scores, fold.validation)

    def _compute_moments_of_rows(self, key: BankKey, layer: str, cv: int) -> list[Moments]:
        """Return the moments of all training rows, in so many parts, whoever takes turns to validate."""
        if not self._split.held_out:
            return self._moments(key, layer, cv, 0)[0]
        rows = self._split.train
        scores = self._banks[key].components(layer, rows, self._n_components).scores
        return [self._moments_of(scores, rows[part]) for part in folds_of(len(rows), cv)]

    def _moments_of(self, scores: NDArray[np.floating], rows: Rows) -> Moments:
        """Accumulate the moments of rows without their responses ever being in memory as a whole."""
        blocks = ((scores[part], responses) for part, responses in self._development.blocks(rows))
        return Moments.from_blocks(blocks, device=self._device)

    def _read_responses(self, rows: bytes) -> NDArray[np.floating]:
        return self._development.responses(np.frombuffer(rows, np.intp))

    def _responses(self, rows: Rows) -> NDArray[np.floating]:
        return self._read(rows.astype(np.intp).tobytes())

    @cached_property
    def _silent(self) -> NDArray[np.intp]:
        """Voxels whose responses do not vary over the rows that are scored."""
        rows = self._split.scored
        shape = len(rows), self._development.n_voxels
        return Scan(lambda start, stop: self._development.responses(rows[start:stop]), shape).constant


def bank_key(spec: TrialSpec) -> BankKey:
    """Return what tells the features of a trial's network from those of others."""
    return spec.backbone, spec.weights_digest, spec.preprocessing


def _fit(estimator: Any, folds: list[Moments]) -> None:
    """Fit to folds where alpha is chosen by cross-validation, or to the one run of rows."""
    if isinstance(estimator, FoldedRegressor):
        estimator.fit_folds(folds)
    else:
        estimator.fit_moments(folds[0])


def _without_alpha(spec: TrialSpec) -> dict[str, Any]:
    return {name: value for name, value in spec.parameters.items() if name != "alpha"}


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        timings[stage] = timings.get(stage, 0.0) + time.perf_counter() - start
