"""Spec -> result: the one place where data, features, moments, regressor and score meet."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from img2brain.datasets._base import Development, Split
from img2brain.datasets._responses import Scan
from img2brain.errors import FitError
from img2brain.features.bank import FeatureBank
from img2brain.features.pca import Components
from img2brain.metrics.pearson import pearson, pearson_from_moments
from img2brain.moments import Moments
from img2brain.regressors._base import LinearRegressor, Regressor
from img2brain.regressors._folds import FoldedRegressor, folds_of
from img2brain.result import TrialResult
from img2brain.spec import REGRESSORS, TrialSpec

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
    banks : mapping of (backbone, weights digest, preprocessing) to FeatureBank
        Prepared features.
    n_components : int
        The largest size that any trial asks for.
    device : str
        Where moments are kept and linear regressors fitted: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
    """

    def __init__(
        self,
        development: Development,
        split: Split,
        banks: Mapping[BankKey, FeatureBank],
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

    def evaluate(self, spec: TrialSpec) -> TrialResult:
        """Fit on the training rows and score on the validation rows.

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
        return TrialResult(spec, scores, self._n_silent, estimator, timings)

    def alpha_scale(self, spec: TrialSpec) -> float:
        """Return the alpha that a relative alpha of 1 stands for, at this layer and size."""
        self._require_components(spec)
        (train,), _ = self._layer_moments(spec)
        return float(REGRESSORS[spec.regressor](**_without_alpha(spec)).alpha_scale(train.leading(spec.n_components)))

    def components(self, spec: TrialSpec) -> Components:
        """Return the components of the trial's layer, of all images, at the trial's size."""
        return self._layer_components(spec).leading(spec.n_components)

    def _score_moments(self, spec: TrialSpec, estimator: Any, timings: dict[str, float]) -> F64:
        with _timed(timings, "moments_s"):
            folds, validation = self._layer_moments(spec, getattr(estimator, "cv", 1))
        with _timed(timings, "fit_s"):
            _fit(estimator, [fold.leading(spec.n_components) for fold in folds])
        with _timed(timings, "score_s"):
            return pearson_from_moments(estimator.coef_.T, validation.leading(spec.n_components))

    def _score_rows(self, spec: TrialSpec, estimator: Regressor, timings: dict[str, float]) -> F64:
        scores = self.components(spec).scores
        with _timed(timings, "fit_s"):
            estimator.fit(scores[self._split.train], self._train_responses)
        with _timed(timings, "score_s"):
            return pearson(self._validation_responses, estimator.predict(scores[self._split.validation]))

    def _require_components(self, spec: TrialSpec) -> None:
        n_found = len(self._layer_components(spec).variances)
        if n_found < spec.n_components:
            raise FitError(
                f"{spec.backbone} {spec.layer} spans {n_found} components over the training rows. "
                f"Got n_components = {spec.n_components}."
            )

    def _layer_components(self, spec: TrialSpec) -> Components:
        return self._banks[bank_key(spec)].components(spec.layer, self._split.train, self._n_components)

    def _layer_moments(self, spec: TrialSpec, n_folds: int = 1) -> tuple[list[Moments], Moments]:
        """Return the moments of each fold of the training rows, and of the validation rows."""
        return self._moments(bank_key(spec), spec.layer, n_folds)

    def _compute_moments(self, key: BankKey, layer: str, n_folds: int) -> tuple[list[Moments], Moments]:
        scores = self._banks[key].components(layer, self._split.train, self._n_components).scores
        train = self._split.train
        folds = [self._moments_of(scores, train[fold]) for fold in folds_of(len(train), n_folds)]
        return folds, self._moments_of(scores, self._split.validation)

    def _moments_of(self, scores: NDArray[np.floating], rows: NDArray[np.intp]) -> Moments:
        """Accumulate the moments of rows without their responses ever being in memory as a whole."""
        blocks = ((scores[part], responses) for part, responses in self._development.blocks(rows))
        return Moments.from_blocks(blocks, device=self._device)

    @cached_property
    def _train_responses(self) -> NDArray[np.floating]:
        return self._development.responses(self._split.train)

    @cached_property
    def _validation_responses(self) -> NDArray[np.floating]:
        return self._development.responses(self._split.validation)

    @cached_property
    def _n_silent(self) -> int:
        rows = self._split.validation
        shape = len(rows), self._development.n_voxels
        return len(Scan(lambda start, stop: self._development.responses(rows[start:stop]), shape).constant)


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
