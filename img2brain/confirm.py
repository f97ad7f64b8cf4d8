"""The confirmation: rows that the search never saw, read once for each published model.

Everything that is said of a published model on these rows is computed here: its score with an interval, beside its
controls, its ceiling, region by region and voxel by voxel.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from img2brain import digest
from img2brain._arrays import frozen, slices
from img2brain._mapped import Make, release
from img2brain.controls import Control
from img2brain.datasets._responses import float32_holds
from img2brain.datasets.base import Dataset, Split
from img2brain.errors import failing_in
from img2brain.findings import Findings, Rival
from img2brain.metrics.base import Metric, NeedsCeiling
from img2brain.metrics.pearson import Pearson
from img2brain.predictions import Predictions, n_together_of, of_voxels, scored
from img2brain.records import PartRecord
from img2brain.statistics import noise_ceiling
from img2brain.statistics.bootstrap import Bootstrap, Summaries, numbered
from img2brain.statistics.noise_ceiling import NoiseCeiling
from img2brain.statistics.significance import p_of_r

log = logging.getLogger(__name__)

F64 = NDArray[np.float64]
Floats = NDArray[np.floating]
Predicted = Predictions | Floats
Voxels = NDArray[np.intp]
Metrics = Mapping[str, Metric]
_SAME_SCORE = 1e-7


@dataclass(frozen=True, eq=False)
class PartResult:
    """What some rows say of a model.

    Attributes
    ----------
    findings : Findings
        What was found.
    regions : mapping of str to ndarray of int
        Voxels by region of interest.
    facts : mapping
        Name and number of the rows.
    arrays : mapping of str to ndarray
        Per voxel, per image or per resample.
    joint : mapping of str to ndarray
        What `Summaries.to_arrays` gives of resamples that are joint over the members of a study, and of each control
        ``control_NAME_estimate`` and ``control_NAME_resampled``; empty where there are none.
    """

    findings: Findings
    regions: Mapping[str, Voxels]
    facts: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    joint: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def part(self, looks: int = 1) -> PartRecord:
        """Return what is recorded, over all voxels and by region.

        Parameters
        ----------
        looks : int
            How many models were scored on these rows, with this one.
        """
        return self.findings.part(self.regions, looks=looks, **self.facts)


@dataclass(frozen=True, eq=False)
class BestLayers:
    """The best layer of each voxel, chosen on the validation rows, and what it predicts of the confirmation rows.

    Attributes
    ----------
    layers : tuple of str
        The layers that there was a choice of.
    choice : ndarray (n_voxels,)
        Place of each voxel's layer among them.
    predictions : Predictions or ndarray (n_confirmation, n_voxels)
        Each voxel's by its own layer.
    """

    layers: tuple[str, ...]
    choice: NDArray[np.intp]
    predictions: Predicted = field(repr=False)


class Beside(NamedTuple):
    """A control that was scored: on the rows, and in resamples that are joint over members, where there are some."""

    rival: Rival
    joint: Summaries | None


class Rivals(NamedTuple):
    """What a model is reported beside: controls by name, and the best layer of each voxel with what chose it."""

    controls: Mapping[str, Beside]
    best_layer: Rival | None = None
    choice: NDArray[np.intp] | None = None


class ScoredRows:
    """Some rows that predictions are scored on.

    Parameters
    ----------
    responses : ndarray (n_images, n_voxels)
        To the rows, in float32 or float64; they are scored in float64.
    regions : mapping of str to ndarray of int
        Voxels by region of interest.
    metrics : mapping of str to Metric
        What is scored, the objective first.
    ceiling : NoiseCeiling
        Of the responses.
    units : ndarray (n_images,), optional
        A label for each row: rows of one label are tied, and stand for one where it is asked how sure a score is. By
        default each row stands for itself.
    draws : ndarray (n_resamples, n_images), optional
        How often each row is in each resample, where there are resamples that are joint over the members of a study.
    n_together : int, optional
        Voxels whose predictions are made and scored together; by default as many as `n_together_of` says.
    make : callable
        Makes the array that predictions are kept in, of a shape and a type.
    """

    def __init__(
        self,
        responses: Floats,
        regions: Mapping[str, Voxels],
        metrics: Metrics,
        ceiling: NoiseCeiling,
        units: NDArray[Any] | None = None,
        draws: NDArray[np.float32] | None = None,
        n_together: int | None = None,
        make: Make = np.zeros,
    ) -> None:
        self._responses, self._n_together, self._make = (
            frozen(responses),
            n_together or n_together_of(len(responses)),
            make,
        )
        self._regions = dict(regions)
        self._metrics = with_ceiling(metrics, ceiling)
        self._constant = np.ptp(responses, axis=0) == 0
        self._units = numbered(np.arange(len(responses)) if units is None else units)
        self._bootstrap = Bootstrap(responses, self._objective, units=self._units)
        self._draws = draws
        self.ceiling = ceiling

    @property
    def n_images(self) -> int:
        """Number of rows."""
        return len(self._responses)

    @property
    def n_units(self) -> int:
        """Number of rows that are not tied, where tied ones count once."""
        return int(self._units.max(initial=-1)) + 1

    @property
    def digest(self) -> str:
        """Names these rows by what was recorded, and which are tied, whatever the split.

        Scores with the same name met the same resamples.
        """
        responses = digest.of_array(self._responses, np.float64)
        tied = self.n_units < self.n_images
        return digest.of_digests([responses, digest.of_array(self._units)]) if tied else responses

    @property
    def _objective(self) -> Metric:
        return next(iter(self._metrics.values()))

    def report(
        self,
        predictions: Predicted,
        controls: Iterable[Control] = (),
        best_layers: BestLayers | None = None,
    ) -> PartResult:
        """Score a model, beside its controls.

        Parameters
        ----------
        predictions : Predictions or ndarray (n_images, n_voxels)
            Of the model.
        controls : iterable of Control
            What it has to beat.
        best_layers : BestLayers, optional
            What each voxel's own layer predicts.
        """
        rivals = Rivals(dict(map(self._named, controls)))
        return self.result(predictions, self.with_layers(rivals, best_layers) if best_layers else rivals)

    def with_layers(self, rivals: Rivals, best_layers: BestLayers) -> Rivals:
        """Score the best layer of each voxel, too."""
        return rivals._replace(best_layer=self._rival(best_layers.predictions), choice=best_layers.choice)

    def result(self, predictions: Predicted, rivals: Rivals) -> PartResult:
        """Score a model, beside what is scored already; see `report`."""
        with failing_in(f"The metrics {', '.join(self._metrics)}"):
            accuracies = {name: self._scored(metric, predictions) for name, metric in self._metrics.items()}
            summaries = self._bootstrap.summaries(predictions, self._regions)
        found = Findings(
            accuracies=accuracies,
            summaries=summaries,
            p=p_of_r(self._scored(Pearson(), predictions), self.n_units),
            constant=self._constant,
            ceiling=self.ceiling,
            perfect=None if self.ceiling.origin == "none" else self._objective.ceiling(self.ceiling.share),
            controls={name: item.rival for name, item in rivals.controls.items()},
            best_layer=rivals.best_layer,
            choice=rivals.choice,
        )
        shown = best_median_worst(next(iter(accuracies.values())))
        arrays = {
            "predictions": self._kept(predictions, accuracies),
            "shown_voxels": shown,
            "shown_measured": _narrow(self._responses[:, shown].astype(np.float64)),
        }
        joint = self._joint_arrays(predictions, rivals.controls)
        return PartResult(found, self._regions, self._facts, found.to_arrays() | arrays, joint)

    def beside(self, predictions: Predicted) -> Beside:
        """Score what a control predicts of the rows (n_images, n_voxels)."""
        return Beside(self._rival(predictions), self._joint(predictions))

    def _scored(self, metric: Metric, predictions: Predicted) -> F64:
        return scored(metric, self._responses, predictions, self._n_together)

    def _named(self, item: Control) -> tuple[str, Beside]:
        """Score a control; its predictions are let go before the next one is fitted."""
        return item.name, self.beside(item.predictions)

    def _joint(self, predictions: Predicted) -> Summaries | None:
        if self._draws is None:
            return None
        bootstrap = Bootstrap(self._responses, self._objective, units=self._units, counts=self._draws)
        return bootstrap.summaries(predictions, self._regions)

    def _joint_arrays(self, predictions: Predicted, controls: Mapping[str, Beside]) -> dict[str, NDArray[Any]]:
        model = self._joint(predictions)
        found = {} if model is None else model.to_arrays()
        for name, joint in ((name, item.joint) for name, item in controls.items() if item.joint):
            arrays = joint.to_arrays()
            found |= {f"control_{name}_{key}": arrays[key] for key in ("estimate", "resampled")}
        return found

    def _kept(self, predictions: Predicted, accuracies: Mapping[str, F64]) -> Floats:
        """Return predictions in float32 where they score the same: whoever has the data scores them again."""
        n_images, n_voxels = predictions.shape
        narrow = self._make((n_images, n_voxels), np.float32)
        for part in slices(n_voxels, self._n_together):
            responses, made = of_voxels(self._responses, predictions, part)
            kept = _narrow(made)
            narrow[:, part] = kept
            release(narrow)
            if kept.dtype != narrow.dtype or not self._score_the_same(part, responses, kept, accuracies):
                return np.asarray(predictions[:, :])
        return narrow

    def _score_the_same(self, part: slice, responses: F64, narrow: Floats, accuracies: Mapping[str, F64]) -> bool:
        """Tell whether predictions of a range of voxels have these scores."""
        wide = frozen(narrow.astype(np.float64))
        return all(
            np.allclose(again, accuracies[name][part], rtol=_SAME_SCORE, atol=_SAME_SCORE, equal_nan=True)
            for name, metric in self._metrics.items()
            if (again := metric.voxels(part).from_rows(responses, wide)) is not None
        )

    def _rival(self, predictions: Predicted) -> Rival:
        accuracy = self._scored(self._objective, predictions)
        return Rival(accuracy, self._bootstrap.summaries(predictions, self._regions))

    @property
    def _facts(self) -> dict[str, Any]:
        n_units = self.n_units if self.n_units < self.n_images else None
        return {"rows": self.digest, "n_images": self.n_images, "n_units": n_units}


class ConfirmationRows:
    """The confirmation rows of a dataset, part by part. For publishing alone.

    Parameters
    ----------
    parts : mapping of str to ScoredRows
        By name, in the order that predictions have their rows in; the first one ranks.
    """

    def __init__(self, parts: Mapping[str, ScoredRows]) -> None:
        self.parts = dict(parts)

    @property
    def first(self) -> str:
        """The name of the part that ranks."""
        return next(iter(self.parts))

    def report(
        self, predictions: Predicted, controls: Iterable[Control] = (), best_layers: BestLayers | None = None
    ) -> dict[str, PartResult]:
        """Score a model on each part, beside its controls; see `ScoredRows.report`.

        Parameters
        ----------
        predictions : Predictions or ndarray (n_confirmation, n_voxels)
            Of the rows of all parts, one part after another; those of controls and layers too.
        controls : iterable of Control
            What it has to beat.
        best_layers : BestLayers, optional
            What each voxel's own layer predicts.
        """
        rivals = self.rivals(controls)
        return self.result(predictions, self.with_layers(rivals, best_layers) if best_layers else rivals)

    def rivals(self, controls: Iterable[Control]) -> dict[str, Rivals]:
        """Score controls on each part; no prediction is kept."""
        beside = dict(map(self._named, controls))
        return {name: Rivals({control: of_each[name] for control, of_each in beside.items()}) for name in self.parts}

    def with_layers(self, rivals: Mapping[str, Rivals], best_layers: BestLayers) -> dict[str, Rivals]:
        """Score the best layer of each voxel on each part, too."""
        return {
            name: rows.with_layers(rivals[name], replace(best_layers, predictions=best_layers.predictions[place]))
            for (name, rows), place in zip(self.parts.items(), self._places, strict=True)
        }

    def result(self, predictions: Predicted, rivals: Mapping[str, Rivals]) -> dict[str, PartResult]:
        """Score a model on each part, beside what is scored already."""
        return {
            name: rows.result(predictions[place], rivals[name])
            for (name, rows), place in zip(self.parts.items(), self._places, strict=True)
        }

    def _named(self, item: Control) -> tuple[str, dict[str, Beside]]:
        """Score a control on each part; its predictions are let go before the next one is fitted."""
        parts = zip(self.parts.items(), self._places, strict=True)
        return item.name, {name: rows.beside(item.predictions[place]) for (name, rows), place in parts}

    @property
    def _places(self) -> list[slice]:
        """Where the rows of each part lie among those of all."""
        ends = np.cumsum([rows.n_images for rows in self.parts.values()]).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def confirmation_rows(
    dataset: Dataset,
    split: Split,
    metrics: Metrics,
    draws: NDArray[np.float32] | None = None,
    make: Make = np.zeros,
) -> ConfirmationRows:
    """Read the confirmation rows of a dataset. For publishing alone.

    Parameters
    ----------
    dataset, split, metrics
        Whose rows, which, and what is scored.
    draws : ndarray (n_resamples, n_images), optional
        Of the rows of the part that ranks, how often each is in each resample that is joint over members.
    make : callable
        Makes the arrays that responses, their repeats and predictions are held in, of a shape and a type.
    """
    first = next(iter(split.parts))
    of_each = {name: draws if name == first else None for name in split.parts}
    part = partial(_part_of, dataset, split, metrics, make)
    return ConfirmationRows({name: part(name, of_each[name]) for name in split.parts})


def _part_of(
    dataset: Dataset, split: Split, metrics: Metrics, make: Make, part: str, draws: NDArray[np.float32] | None
) -> ScoredRows:
    ceiling = ceiling_of(
        dataset,
        lambda: dataset.confirmation_counts(split, part),
        lambda: dataset.confirmation_repeats(split, part, make),
    )
    units, responses = split.sets(split.confirming(part)), dataset.confirmation(split, part, True, make)
    return ScoredRows(responses, dataset.rois, metrics, ceiling, units, draws, make=make)


def with_ceiling(metrics: Metrics, ceiling: NoiseCeiling) -> dict[str, Metric]:
    """Tell the metrics that depend on it how much of the responses can be explained."""
    return {
        name: metric.with_ceiling(ceiling.share) if isinstance(metric, NeedsCeiling) else metric
        for name, metric in metrics.items()
    }


def ceiling_of(
    source: Any, counts: Callable[[], NDArray[np.integer] | None], repeats: Callable[[], NDArray[Any] | None]
) -> NoiseCeiling:
    """Find the noise ceiling of some rows: given, from ncsnr and the counts of repeats, or from repeats.

    Parameters
    ----------
    source : Dataset or Development
        Holds ``n_voxels``, ``noise_ceiling`` and ``ncsnr``.
    counts, repeats : callable
        Read the counts, and the single repeats, of the rows; None where there are none.
    """
    if source.noise_ceiling is not None:
        return noise_ceiling.given(source.noise_ceiling)
    n_repeats = None if source.ncsnr is None else counts()
    if n_repeats is not None:
        return noise_ceiling.from_ncsnr(source.ncsnr, n_repeats)
    if source.ncsnr is not None:
        log.warning("ncsnr gives no noise ceiling without counts: how many repeats each response is the mean of")
    single = repeats()
    if single is not None and single.shape[1] > 1:
        return noise_ceiling.from_repeats(single)
    return noise_ceiling.unknown(source.n_voxels)


def best_median_worst(accuracy: F64) -> Voxels:
    """Return the voxels with the best, the median and the worst score; fewer where so few are defined.

    Examples
    --------
    >>> best_median_worst(np.array([0.1, np.nan, 0.5, 0.3])).tolist()
    [2, 3, 0]
    """
    ordered = np.argsort(-accuracy, kind="stable")[: np.isfinite(accuracy).sum()]
    places = dict.fromkeys((0, (len(ordered) - 1) // 2, len(ordered) - 1)) if len(ordered) else ()
    return np.asarray(ordered[list(places)], np.intp)


def _narrow(predictions: F64) -> NDArray[np.floating]:
    """Return predictions, or responses, in float32, unless that would lose what varies of them."""
    if not predictions.size:
        return predictions.astype(np.float32)
    held = float32_holds(predictions.min(axis=0), predictions.max(axis=0))
    return predictions.astype(np.float32 if held else np.float64)
