"""Spec -> result: the one place where data, features, moments, regressor and metrics meet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache, partial, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from img2brain._arrays import frozen
from img2brain._mapped import Make
from img2brain._quiet import ignored
from img2brain.catalog import REGRESSORS
from img2brain.datasets._responses import Scan
from img2brain.datasets.base import Development, Rows, Split
from img2brain.errors import FitError, ShapeError, failing_in
from img2brain.features.features import Features
from img2brain.features.pca import Components
from img2brain.metrics.base import FromSums, Metric, Sums
from img2brain.moments import Moments
from img2brain.predictions import Predictions, Stacked, predictions_of, scored
from img2brain.refit import moments_of, n_folds_of
from img2brain.result import Scored, TrialResult, summaries_of
from img2brain.spec import FeatureSpace, TrialSpec

BankKey = tuple[str, str, str]
F64 = NDArray[np.float64]
MOMENTS_BYTES = 1 << 31  # of moments that the trials of a study hold at once
_LARGEST_SCORE = 1e150  # whose square has a sum


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
    metrics : mapping of str to Metric
        What is scored, the objective first.
    device : str
        Where moments are kept and linear regressors fitted: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
    widest : int, optional
        The most coordinates of any trial, where that is not `n_components`.
    moments_bytes : int
        Memory for moments of layers; those of one are held in any case, beyond it in arrays that `make` makes.
    make : callable
        Makes the arrays that responses are held in where they are needed whole, of a shape and a type.
    """

    def __init__(
        self,
        development: Development,
        split: Split,
        banks: Mapping[BankKey, Features],
        n_components: int,
        metrics: Mapping[str, Metric],
        device: str = "cpu",
        widest: int | None = None,
        moments_bytes: int = MOMENTS_BYTES,
        make: Make = np.zeros,
    ) -> None:
        self._development = development
        self._split = split
        self._banks = banks
        self._n_components = n_components
        self._metrics = metrics
        self._device, self._make = device, make
        n_fitting = moments_bytes // (16 * (widest or n_components) * development.n_voxels)
        self._make_moments = np.zeros if n_fitting else make
        n_layers = max(1, n_fitting)
        self._training_moments = lru_cache(maxsize=n_layers)(self._compute_training_moments)
        self._validation_moments = lru_cache(maxsize=n_layers)(self._compute_validation_moments)
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
        with ignored(ConvergenceWarning):  # The result counts them instead.
            regressor, accuracies = self._fit_and_score(spec, timings)
        constant = self._constant if self._constant.any() else None
        return TrialResult(spec, self._scored(accuracies), regressor, timings, constant)

    def predict(self, spec: TrialSpec) -> tuple[NDArray[np.floating], Predictions]:
        """Return the responses to the rows that a trial is scored on, and what it predicts of them.

        Returns
        -------
        responses : ndarray (n_images, n_voxels)
        predictions : Predictions (n_images, n_voxels)
            Fold after fold, each predicted by what was fitted to the others.
        """
        turns = range(len(self._split.folds))
        predicted = [self._predicted(spec, self._fitted(spec, turn, {}), turn) for turn in turns]
        return self._responses(self._split.scored), Stacked(predicted)

    def alpha_scale(self, spec: TrialSpec) -> float:
        """Return the alpha that a relative alpha of 1 stands for, at this layer and size."""
        self._require_components(spec)
        train = self._training_moments(bank_key(spec), spec.space, 1, None)[0]
        parameters = {name: value for name, value in spec.parameters.items() if name != "alpha"}
        return float(REGRESSORS[spec.regressor](**parameters).alpha_scale(spec.leading(train)))

    def components(self, spec: TrialSpec) -> Components:
        """Return the components of the trial's layer, of all images, at the trial's size."""
        return self._components(spec, self._split.train)

    def _fit_and_score(self, spec: TrialSpec, timings: dict[str, float]) -> tuple[Any, dict[str, F64]]:
        """Let every part validate in its turn, and return what is fitted to all training rows with all scores."""
        sums: list[Sums] = []
        predicted: list[Predictions] = []
        by_sums = self._by_sums(spec)
        for turn in range(len(self._split.folds)):
            regressor = self._fitted(spec, turn, timings)
            with _timed(timings, "score_s"):
                if by_sums:
                    validation = spec.leading(self._validation_moments(bank_key(spec), spec.space, turn))
                    sums.append(Sums.from_moments(regressor.coef_.T, regressor.intercept_, validation))
                if len(by_sums) < len(self._metrics):
                    predicted.append(self._predicted(spec, regressor, turn))
        with _timed(timings, "score_s"):
            accuracies = self._scores_of(by_sums, sums, predicted)
        return self._fitted(spec, None, timings) if self._split.held_out else regressor, accuracies

    def _by_sums(self, spec: TrialSpec) -> dict[str, FromSums]:
        """Return the metrics that need no prediction: there is none to be made where the regressor is linear."""
        if not hasattr(REGRESSORS[spec.regressor], "fit_folds"):
            return {}
        return {name: metric for name, metric in self._metrics.items() if isinstance(metric, FromSums)}

    def _scores_of(
        self, by_sums: Mapping[str, FromSums], sums: list[Sums], predicted: list[Predictions]
    ) -> dict[str, F64]:
        """Score all turns together, by each metric."""
        found = {}
        if by_sums:
            together = reduce(Sums.merge, sums)
            found = {name: self._checked(name, partial(metric.from_sums, together)) for name, metric in by_sums.items()}
        if predicted:
            rows = self._responses(self._split.scored), Stacked(predicted)
            left = {name: metric for name, metric in self._metrics.items() if name not in found}
            found |= {name: self._checked(name, partial(scored, metric, *rows)) for name, metric in left.items()}
        return {name: found[name] for name in self._metrics}

    def _checked(self, name: str, score: Callable[[], F64]) -> F64:
        """Score by a metric, which may be of others, and check that there is one number for each voxel."""
        with failing_in(f"The metric {name!r}"):
            scores = np.asarray(score(), np.float64)
        n_voxels = self._development.n_voxels
        if scores.shape != (n_voxels,):
            raise ShapeError(f"The scores of the metric {name!r} must be of shape ({n_voxels},). Got {scores.shape}.")
        largest = np.abs(scores[~np.isnan(scores)]).max(initial=0.0)
        if largest > _LARGEST_SCORE:
            raise FitError(
                f"The scores of the metric {name!r} must be NaN or within {_LARGEST_SCORE:g}. Got {largest:g}."
            )
        return scores

    def _fitted(self, spec: TrialSpec, turn: int | None, timings: dict[str, float]) -> Any:
        """Fit to the training rows of a turn, or to all of them."""
        regressor = REGRESSORS[spec.regressor](**spec.parameters)
        if hasattr(regressor, "fit_folds"):
            with _timed(timings, "moments_s"):
                train = self._training_moments(bank_key(spec), spec.space, n_folds_of(regressor), turn)
            with _timed(timings, "fit_s"), failing_in(f"The regressor {spec.regressor!r}"):
                return regressor.fit_folds([spec.leading(fold) for fold in train])
        rows = self._training_rows(turn)
        coordinates = self._components(spec, rows).coordinates[rows]
        with _timed(timings, "fit_s"), failing_in(f"The regressor {spec.regressor!r}"):
            return regressor.fit(coordinates, self._responses(rows))

    def _predicted(self, spec: TrialSpec, regressor: Any, turn: int) -> Predictions:
        fold = self._split.folds[turn]
        coordinates = self._components(spec, fold.train).coordinates[fold.validation]
        name = f"The regressor {spec.regressor!r}"
        return predictions_of(regressor, coordinates, self._development.n_voxels, name)

    def _scored(self, accuracies: Mapping[str, F64]) -> dict[str, Scored]:
        regions = self._development.rois
        return {
            name: Scored(metric.label, metric.summary, accuracy, summaries_of(accuracy, regions, self._constant))
            for (name, metric), accuracy in zip(self._metrics.items(), accuracies.values(), strict=True)
        }

    def _require_components(self, spec: TrialSpec) -> None:
        n_found = min(len(self._all_components(spec, fold.train).variances) for fold in self._split.folds)
        if n_found < spec.n_components:
            raise FitError(
                f"{spec.backbone} {spec.space} spans {n_found} components over the training rows. "
                f"Got n_components = {spec.n_components}."
            )

    def _components(self, spec: TrialSpec, rows: Rows) -> Components:
        return spec.leading(self._all_components(spec, rows))

    def _all_components(self, spec: TrialSpec, rows: Rows) -> Components:
        return self._banks[bank_key(spec)].components(spec.space, rows, self._n_components)

    def _training_rows(self, turn: int | None) -> Rows:
        return self._split.train if turn is None else self._split.folds[turn].train

    def _compute_training_moments(
        self, key: BankKey, space: FeatureSpace, n_folds: int, turn: int | None
    ) -> list[Moments]:
        """Return the moments of training rows, in so many runs of them: those of a turn, or all."""
        rows = self._training_rows(turn)
        if turn is None and not self._split.held_out:
            return self._training_moments(key, space, n_folds, 0)
        coordinates = self._banks[key].components(space, rows, self._n_components).coordinates
        parts = (rows[places] for places in self._split.runs(rows, n_folds))
        return [self._moments_of(coordinates, part) for part in parts]

    def _compute_validation_moments(self, key: BankKey, space: FeatureSpace, turn: int) -> Moments:
        """Return the moments of the rows that validate in a turn."""
        fold = self._split.folds[turn]
        coordinates = self._banks[key].components(space, fold.train, self._n_components).coordinates
        return self._moments_of(coordinates, fold.validation)

    def _moments_of(self, coordinates: NDArray[np.floating], rows: Rows) -> Moments:
        return moments_of(self._development, coordinates, rows, rows, self._device, self._make_moments)

    def _read_responses(self, rows: bytes) -> NDArray[np.floating]:
        """Read responses that trials share: a component that wrote to them would falsify all later trials."""
        return frozen(self._development.gathered(np.frombuffer(rows, np.intp), self._make))

    def _responses(self, rows: Rows) -> NDArray[np.floating]:
        return self._read(rows.astype(np.intp).tobytes())

    @cached_property
    def _constant(self) -> NDArray[np.bool_]:
        """Tell which voxels' responses do not vary over the rows that are scored."""
        rows = self._split.scored
        shape = len(rows), self._development.n_voxels
        scan = Scan(lambda start, stop: self._development.responses(rows[start:stop]), shape)
        constant = np.zeros(shape[1], dtype=bool)
        constant[scan.constant] = True
        return constant


def bank_key(spec: TrialSpec) -> BankKey:
    """Return what tells the features of a trial's network from those of others."""
    return spec.backbone, spec.weights_digest, spec.preprocessing


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        timings[stage] = timings.get(stage, 0.0) + time.perf_counter() - start
