"""The confirmation: rows that the search never saw, read once for each published model.

Everything that is said of a published model on these rows is computed here: its score with an interval, beside its
controls, its ceiling, region by region and voxel by voxel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from img2brain import digest
from img2brain.controls import Control
from img2brain.datasets.base import Dataset, Split
from img2brain.metrics.pearson import Pearson, pearson
from img2brain.result import summarise
from img2brain.statistics import noise_ceiling
from img2brain.statistics.bootstrap import Bootstrap, Interval, Summaries
from img2brain.statistics.noise_ceiling import NoiseCeiling
from img2brain.statistics.significance import benjamini_hochberg, p_of_r

F64 = NDArray[np.float64]
ALL = "all"
FALSE_DISCOVERIES = 0.05


@dataclass(frozen=True, eq=False)
class Confirmed:
    """What the confirmation rows say of one set of predictions.

    Attributes
    ----------
    accuracy : ndarray (n_voxels,)
        Pearson r per voxel; NaN where undefined.
    medians : Summaries
        By region and over all voxels, with their resamples.
    """

    accuracy: F64
    medians: Summaries


@dataclass(frozen=True, eq=False)
class Report:
    """All that is logged of a confirmation.

    Attributes
    ----------
    summary : mapping of str to float
        Over all voxels, and ``REGION/...`` over those of each region.
    arrays : mapping of str to ndarray
        Per voxel, per image or per resample.
    facts : mapping of str to str
        Where the ceiling comes from, and which rows confirmed.
    """

    summary: Mapping[str, float]
    arrays: Mapping[str, NDArray[np.generic]]
    facts: Mapping[str, str]


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


def validated(responses: F64, predictions: F64, rois: Mapping[str, NDArray[np.intp]]) -> Report:
    """Give the score of a trial on the rows that it was chosen by an interval, by region too.

    Parameters
    ----------
    responses, predictions : ndarray (n_images, n_voxels)
        Of the validation rows.
    rois : mapping of str to ndarray of int
        Voxels by region of interest.

    Notes
    -----
    Resamples tell how much other images would have changed the score, not how much choosing by it flatters it.
    """
    regions = {**rois, ALL: np.arange(responses.shape[1])}
    medians = _named(Bootstrap(responses, Pearson()).summaries(predictions, regions))
    summary: dict[str, float] = {}
    for region in regions:
        interval, prefix = medians.interval(region), "" if region == ALL else f"{region}/"
        summary |= {f"{prefix}low": interval.low, f"{prefix}high": interval.high}
    accuracy = pearson(responses, predictions)
    return Report(summary, {"predictions": predictions.astype(np.float32), **_logged(accuracy, medians)}, {})


def _named(found: Summaries) -> Summaries:
    """Return summaries whose whole goes by the name `ALL` alone."""
    return Summaries(found.regions[1:], found.estimate[1:], found.resampled[:, 1:], found.how)


def _logged(accuracy: F64, medians: Summaries) -> dict[str, NDArray[np.generic]]:
    return {
        "accuracy": accuracy,
        "medians_regions": np.array(medians.regions),
        "medians_estimate": medians.estimate,
        "medians_resampled": medians.resampled.astype(np.float32),
    }


class Confirmation:
    """The confirmation rows of a dataset.

    Parameters
    ----------
    dataset : Dataset
        The whole dataset.
    split : Split
        Its rows.
    """

    def __init__(self, dataset: Dataset, split: Split) -> None:
        self._responses = dataset.confirmation(split)
        self._silent = np.ptp(self._responses, axis=0) == 0
        self._bootstrap = Bootstrap(self._responses, Pearson())
        self.regions = {**dataset.rois, ALL: np.arange(dataset.n_voxels)}
        self.ceiling = ceiling_of(dataset, split)

    @property
    def n_images(self) -> int:
        """Number of confirmation rows."""
        return len(self._responses)

    @property
    def digest(self) -> str:
        """Names these rows by what was recorded: the same responses are the same rows, whatever the split."""
        return digest.of_array(self._responses)

    def score(self, predictions: F64) -> Confirmed:
        """Score predictions (n_confirmation, n_voxels)."""
        medians = _named(self._bootstrap.summaries(predictions, self.regions))
        return Confirmed(pearson(self._responses, predictions), medians)

    def report(
        self,
        predictions: F64,
        validation_r: float,
        controls: Iterable[Control] = (),
        best_layers: BestLayers | None = None,
    ) -> Report:
        """Score a published model, beside its controls.

        Parameters
        ----------
        predictions : ndarray (n_confirmation, n_voxels)
            Of the model.
        validation_r : float
            The score that it was chosen by.
        controls : iterable of Control
            What it has to beat.
        best_layers : BestLayers, optional
            What each voxel's own layer predicts.
        """
        found = self.score(predictions)
        summary = self._summary(found)
        summary["optimism"] = validation_r - summary["median_r"]
        arrays = self._arrays(found, predictions)
        for control in controls:
            other = self.score(control.predictions)
            summary |= self._against(f"control_{control.name}", found, other)
            arrays[f"control_{control.name}_accuracy"] = other.accuracy
        if best_layers is not None:
            own = self.score(best_layers.predictions)
            summary |= self._against("best_layer", found, own)
            arrays |= {"best_layer_accuracy": own.accuracy, "best_layer": best_layers.choice}
        return Report(summary, arrays, {"ceiling": self.ceiling.origin, "confirmation": self.digest})

    def _summary(self, found: Confirmed) -> dict[str, float]:
        summary = summarise(found.accuracy, int(self._silent.sum()))
        q = benjamini_hochberg(p_of_r(found.accuracy, self.n_images))
        summary |= {"n_significant": float((q < FALSE_DISCOVERIES).sum())}
        for region, voxels in self.regions.items():
            prefix = "" if region == ALL else f"{region}/"
            interval = found.medians.interval(region)
            median = summarise(found.accuracy[voxels], int(self._silent[voxels].sum()))["median_r"]
            own = {"median_r": median, "low": min(interval.low, median), "high": max(interval.high, median)}
            own |= self._beside_ceiling(found.accuracy, voxels)
            if region != ALL:
                own |= {"n_voxels": float(len(voxels)), "n_significant": float((q[voxels] < FALSE_DISCOVERIES).sum())}
            summary |= {f"{prefix}{name}": value for name, value in own.items()}
        return summary

    def _beside_ceiling(self, accuracy: F64, voxels: NDArray[np.intp]) -> dict[str, float]:
        """Summarise scores as shares of what could be reached, over the voxels whose signal is reliable."""
        if self.ceiling.origin == "none":
            return {}
        kept = voxels[self.ceiling.reliable[voxels] & ~self._silent[voxels]]
        ceiling, scores = self.ceiling.r[kept], accuracy[kept]
        normalised = scores / ceiling
        return {
            "ceiling_median_r": float(np.median(ceiling)) if len(kept) else np.nan,
            "normalised_median_r": summarise(normalised)["median_r"],
            "explained_share": summarise(np.abs(normalised) * normalised)["median_r"],
            "n_unreliable": float(len(voxels) - len(kept)),
            "n_above_ceiling": float((normalised > 1).sum()),
        }

    def _against(self, name: str, found: Confirmed, other: Confirmed) -> dict[str, float]:
        """Compare the model with something else that was scored on the same rows, region by region."""
        summary: dict[str, float] = {}
        for place, region in enumerate(self.regions):
            prefix = name if region == ALL else f"{region}/{name}"
            difference: Interval = (found.medians - other.medians).interval(region)
            summary |= {
                f"{prefix}_median_r": float(other.medians.estimate[place]),
                f"{prefix}_difference": difference.estimate,
                f"{prefix}_difference_low": difference.low,
                f"{prefix}_difference_high": difference.high,
            }
        return summary

    def _arrays(self, found: Confirmed, predictions: F64) -> dict[str, NDArray[np.generic]]:
        p = p_of_r(found.accuracy, self.n_images)
        arrays: dict[str, NDArray[np.generic]] = {
            **_logged(found.accuracy, found.medians),
            "predictions": predictions.astype(np.float32),
            "p": p,
            "q": benjamini_hochberg(p),
        }
        if self.ceiling.origin != "none":
            arrays |= {"ceiling_share": self.ceiling.share, "ceiling_reliable": self.ceiling.reliable}
        return arrays


def ceiling_of(dataset: Dataset, split: Split) -> NoiseCeiling:
    """Find the noise ceiling of the confirmation rows: given, from ncsnr and the counts of repeats, or from repeats."""
    if dataset.noise_ceiling is not None:
        return noise_ceiling.given(dataset.noise_ceiling)
    counts = dataset.confirmation_counts(split)
    if dataset.ncsnr is not None and counts is not None:
        return noise_ceiling.from_ncsnr(dataset.ncsnr, counts)
    repeats = dataset.confirmation_repeats(split)
    if repeats is not None and repeats.shape[1] > 1:
        return noise_ceiling.from_repeats(repeats)
    return noise_ceiling.unknown(dataset.n_voxels)
