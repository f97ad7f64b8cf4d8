"""The confirmation: rows that the search never saw, read once for each published model.

Everything that is said of a published model on these rows is computed here: its score with an interval, beside its
controls, its ceiling, region by region and voxel by voxel.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain import digest
from img2brain._arrays import frozen
from img2brain.controls import Control
from img2brain.datasets._responses import float32_holds
from img2brain.datasets.base import Dataset, Split
from img2brain.errors import failing_in
from img2brain.metrics.base import Metric, NeedsCeiling
from img2brain.metrics.pearson import pearson
from img2brain.records import Against, CeilingRecord, Estimate, PartRecord, RegionRecord
from img2brain.result import WHOLE, summaries_of
from img2brain.statistics import noise_ceiling
from img2brain.statistics.bootstrap import Bootstrap, Summaries, numbered
from img2brain.statistics.noise_ceiling import NoiseCeiling
from img2brain.statistics.significance import benjamini_hochberg, p_of_r

log = logging.getLogger(__name__)

F64 = NDArray[np.float64]
Voxels = NDArray[np.intp]
Metrics = Mapping[str, Metric]
FALSE_DISCOVERIES = 0.05


@dataclass(frozen=True, eq=False)
class PartResult:
    """What some rows say of a model.

    Attributes
    ----------
    part : PartRecord
        Over all voxels and by region.
    arrays : mapping of str to ndarray
        Per voxel, per image or per resample.
    """

    part: PartRecord
    arrays: Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class BestLayers:
    """The best layer of each voxel, chosen on the validation rows, and what it predicts of the confirmation rows.

    Attributes
    ----------
    layers : tuple of str
        The layers that there was a choice of.
    choice : ndarray (n_voxels,)
        Place of each voxel's layer among them.
    predictions : ndarray (n_confirmation, n_voxels)
        Each voxel's by its own layer.
    """

    layers: tuple[str, ...]
    choice: NDArray[np.intp]
    predictions: F64 = field(repr=False)


@dataclass(frozen=True, eq=False)
class _Rival:
    """Predictions of something else, scored: its array's name, its scores, and resamples of them."""

    name: str
    accuracy: F64
    summaries: Summaries


class ScoredRows:
    """Some rows that predictions are scored on.

    Parameters
    ----------
    responses : ndarray (n_images, n_voxels)
        To the rows.
    regions : mapping of str to ndarray of int
        Voxels by region of interest.
    metrics : mapping of str to Metric
        What is scored, the objective first.
    ceiling : NoiseCeiling
        Of the responses.
    units : ndarray (n_images,), optional
        A label for each row: rows of one label are tied, and stand for one where it is asked how sure a score is. By
        default each row stands for itself.
    """

    def __init__(
        self,
        responses: F64,
        regions: Mapping[str, Voxels],
        metrics: Metrics,
        ceiling: NoiseCeiling,
        units: NDArray[Any] | None = None,
    ) -> None:
        self._responses = frozen(responses)
        self._regions: dict[str, Voxels] = {WHOLE: np.arange(responses.shape[1]), **regions}
        self._metrics = with_ceiling(metrics, ceiling)
        self._constant = np.ptp(responses, axis=0) == 0
        self._units = numbered(np.arange(len(responses)) if units is None else units)
        self._bootstrap = Bootstrap(responses, self._objective, units=self._units)
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
        responses = digest.of_array(self._responses)
        tied = self.n_units < self.n_images
        return digest.of_digests([responses, digest.of_array(self._units)]) if tied else responses

    @property
    def _objective(self) -> Metric:
        return next(iter(self._metrics.values()))

    def report(
        self,
        predictions: F64,
        controls: Iterable[Control] = (),
        best_layers: BestLayers | None = None,
        looks: int = 1,
    ) -> PartResult:
        """Score a model, beside its controls.

        Parameters
        ----------
        predictions : ndarray (n_images, n_voxels)
            Of the model.
        controls : iterable of Control
            What it has to beat.
        best_layers : BestLayers, optional
            What each voxel's own layer predicts.
        looks : int
            How many models were scored on these rows, with this one.
        """
        predictions = frozen(predictions)
        with failing_in(f"The metrics {', '.join(self._metrics)}"):
            accuracies = {
                name: scorer.from_rows(self._responses, predictions) for name, scorer in self._metrics.items()
            }
            summaries = self._bootstrap.summaries(predictions, self._regions)
            rivals = [self._rival(item.name, item.predictions) for item in controls]
            best = None if best_layers is None else self._rival("best_layer", best_layers.predictions)
        p = p_of_r(pearson(self._responses, predictions), self.n_units)
        q = benjamini_hochberg(p)
        by_region = self._by_region(accuracies, summaries, rivals, best, q)
        part = PartRecord(
            rows=self.digest,
            n_images=self.n_images,
            n_units=self.n_units if self.n_units < self.n_images else None,
            ceiling=self.ceiling.origin,
            looks=looks,
            whole=by_region.pop(WHOLE),
            regions=by_region,
        )
        arrays: dict[str, NDArray[np.generic]] = {"p": p, "q": q, "predictions": _narrow(predictions)}
        arrays |= self._arrays(accuracies, summaries, rivals, best)
        shown = best_median_worst(next(iter(accuracies.values())))
        arrays |= {"shown_voxels": shown, "shown_measured": _narrow(self._responses[:, shown])}
        return PartResult(part, arrays | ({"best_layer": best_layers.choice} if best_layers else {}))

    def _rival(self, name: str, predictions: F64) -> _Rival:
        accuracy = self._objective.from_rows(self._responses, predictions)
        return _Rival(name, accuracy, self._bootstrap.summaries(predictions, self._regions))

    def _by_region(
        self,
        accuracies: Mapping[str, F64],
        summaries: Summaries,
        rivals: list[_Rival],
        best: _Rival | None,
        q: F64,
    ) -> dict[str, RegionRecord]:
        named = {name: voxels for name, voxels in self._regions.items() if name != WHOLE}
        numbers = {name: summaries_of(values, named, self._constant) for name, values in accuracies.items()}
        objective = next(iter(accuracies))
        return {
            region: RegionRecord(
                n_voxels=len(voxels),
                score=_around(summaries.interval(region), numbers[objective][region][self._objective.summary]),
                summaries={name: found[region] for name, found in numbers.items()},
                n_significant=int((q[voxels] < FALSE_DISCOVERIES).sum()),
                ceiling=self._beside_ceiling(accuracies[objective], voxels),
                controls={rival.name: _against(summaries, rival, region) for rival in rivals},
                best_layer=None if best is None else _against(summaries, best, region),
            )
            for region, voxels in self._regions.items()
        }

    def _beside_ceiling(self, accuracy: F64, voxels: Voxels) -> CeilingRecord | None:
        """Summarise scores as shares of what could be reached, over the voxels whose signal is reliable."""
        ceiling = None if self.ceiling.origin == "none" else self._objective.ceiling(self.ceiling.share)
        if ceiling is None:
            return None
        kept = voxels[self.ceiling.reliable[voxels] & ~self._constant[voxels]]
        normalised = accuracy[kept] / ceiling[kept]
        return CeilingRecord(
            score=float(np.median(ceiling[kept])) if len(kept) else math.nan,
            normalised=_median(normalised),
            explained=_median(np.abs(normalised) * normalised),
            n_unreliable=len(voxels) - len(kept),
            n_above=int((normalised > 1).sum()),
        )

    def _arrays(
        self, accuracies: Mapping[str, F64], summaries: Summaries, rivals: list[_Rival], best: _Rival | None
    ) -> dict[str, NDArray[np.generic]]:
        first, *others = accuracies
        arrays: dict[str, Any] = {"accuracy": accuracies[first]}
        arrays |= {f"accuracy_{name}": accuracies[name] for name in others}
        arrays |= {f"summaries_{name}": array for name, array in summaries.to_arrays().items()}
        arrays |= {f"control_{rival.name}_accuracy": rival.accuracy for rival in rivals}
        if best is not None:
            arrays["best_layer_accuracy"] = best.accuracy
        if self.ceiling.origin != "none":
            arrays |= {"ceiling_share": self.ceiling.share, "ceiling_reliable": self.ceiling.reliable}
        return arrays


def confirmation_rows(dataset: Dataset, split: Split, metrics: Metrics) -> ScoredRows:
    """Read the confirmation rows of a dataset. For publishing alone."""
    ceiling = ceiling_of(
        dataset, lambda: dataset.confirmation_counts(split), lambda: dataset.confirmation_repeats(split)
    )
    return ScoredRows(dataset.confirmation(split), dataset.rois, metrics, ceiling, split.sets(split.confirmation))


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


def _against(summaries: Summaries, rival: _Rival, region: str) -> Against:
    """Compare the model with something else that was scored on the same rows."""
    difference = (summaries - rival.summaries).interval(region)
    score = float(rival.summaries.estimate[rival.summaries.regions.index(region)])
    return Against(score=score, difference=difference)


def _around(interval: Estimate, score: float) -> Estimate:
    """Return an interval that holds the score, whose last digits may differ from those of its resamples."""
    return Estimate(estimate=score, low=min(interval.low, score), high=max(interval.high, score))


def _median(values: F64) -> float:
    """Return the median, in which an undefined voxel ranks lowest."""
    ranked = np.where(np.isnan(values), -np.inf, values)
    median = float(np.median(ranked)) if len(ranked) else math.nan
    return median if math.isfinite(median) else math.nan
