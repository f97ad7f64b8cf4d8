"""Paired bootstrap over images: what other images of the same kind would have made of a score.

A resample draws as many images as there are, with replacement. It enters as a row of counts, so that the correlations
of all voxels in all resamples are matrix products. Rows of a board that were scored on the same images meet the same
resamples, which pairs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from img2brain._arrays import in_blocks, slices
from img2brain.errors import DataError, ShapeError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Voxels = NDArray[np.intp]

N_RESAMPLES = 2000
LEVEL = 0.95
_BLOCK = 1024
_CHUNK_BYTES = 1 << 28
_ROUNDING = 1e-5  # of a sum of squares in float32 that is 1 over all images


@dataclass(frozen=True)
class Interval:
    """A number with the interval that holds it.

    Attributes
    ----------
    estimate, low, high : float
        ``low <= estimate <= high``; NaN where nothing is known.
    """

    estimate: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside."""
        return self.low > 0 or self.high < 0


class Bootstrap:
    """Resamples of the images that some responses were recorded for.

    Parameters
    ----------
    responses : ndarray (n_images, n_voxels)
        What predictions are correlated with.
    n_resamples : int
        How many resamples to draw.
    seed : int
        Seed of the resamples: the same seed and number of images draw the same ones.

    Notes
    -----
    Some n_resamples x n_images x n_voxels multiplications, twice for the responses and three times for each set of
    predictions, in float32 on columns of mean 0 and norm 1: correlations within 1e-5.
    """

    def __init__(self, responses: NDArray[np.floating], n_resamples: int = N_RESAMPLES, seed: int = 0) -> None:
        if len(responses) < 2:
            raise DataError(f"A bootstrap needs the responses to at least 2 images. Got {len(responses)}.")
        self._responses = _standardised(responses)
        self._counts = resamples(len(responses), n_resamples, seed)

    def medians(self, predictions: NDArray[np.floating], regions: Mapping[str, Voxels]) -> Medians:
        """Correlate predictions with the responses in every resample, and take medians over voxels.

        Parameters
        ----------
        predictions : ndarray (n_images, n_voxels)
            Of the same images and voxels.
        regions : mapping of str to ndarray of int
            The voxels of each region to take the median over.

        Returns
        -------
        Medians
        """
        predictions = np.asarray(predictions)
        if predictions.shape != self._responses.shape:
            raise ShapeError(
                f"Predictions must have the shape of the responses, {self._responses.shape}. Got {predictions.shape}."
            )
        standard = _standardised(predictions)
        names = list(regions)
        resampled = np.concatenate([_medians(r, regions) for r in self._correlations(standard, self._counts)])
        whole = np.einsum("ij,ij->j", self._responses, standard, dtype=np.float64)
        whole[np.isnan(standard[0])] = -np.inf
        whole[np.isnan(self._responses[0])] = np.nan
        return Medians(tuple(names), _medians(whole[None], regions)[0], resampled)

    def _correlations(self, predictions: F32, counts: F32) -> Iterator[F32]:
        """Yield r (n_resamples, n_voxels) of some resamples at a time: -inf where the prediction is constant."""
        n_voxels = predictions.shape[1]
        step = max(1, _CHUNK_BYTES // (4 * n_voxels))
        for rows in slices(len(counts), step):
            found = np.empty((rows.stop - rows.start, n_voxels), np.float32)

            def correlate(part: slice, weights: F32 = counts[rows], found: F32 = found) -> None:
                found[:, part] = _weighted_r(weights, self._responses[:, part], predictions[:, part])

            in_blocks(correlate, n_voxels, _BLOCK, found)
            yield found


@dataclass(frozen=True, eq=False)
class Medians:
    """Median r over the voxels of some regions: of all images, and of resamples of them.

    Attributes
    ----------
    regions : tuple of str
        Their names.
    estimate : ndarray (n_regions,)
        Of all images.
    resampled : ndarray (n_resamples, n_regions)
        Of each resample.
    """

    regions: tuple[str, ...]
    estimate: F64
    resampled: F64

    def __sub__(self, other: Medians) -> Medians:
        """Return the paired differences; both must come from the same resamples."""
        if self.regions != other.regions or self.resampled.shape != other.resampled.shape:
            raise ShapeError(
                f"Scores that are paired must have the same regions and resamples. Got {self.regions} of "
                f"{self.resampled.shape} and {other.regions} of {other.resampled.shape}."
            )
        return Medians(self.regions, self.estimate - other.estimate, self.resampled - other.resampled)

    def interval(self, region: str, level: float = LEVEL) -> Interval:
        """Return the interval of a region: the estimate and, to both sides, its standard error times the normal's.

        Notes
        -----
        On simulated recordings it covers the truth as often as it says. Percentiles of the resamples cover it too
        often, and percentiles that are corrected for bias too seldom: a median over voxels moves in steps, and its
        resamples in smaller ones.
        """
        place = self.regions.index(region)
        half = float(ndtri((1 + level) / 2) * self._spread(place))
        estimate = float(self.estimate[place])
        return Interval(estimate, estimate - half, estimate + half)

    def _spread(self, place: int) -> float:
        """Return the standard error, from the resamples in which the median is defined."""
        known = self.resampled[np.isfinite(self.resampled[:, place]), place]
        return float(np.std(known, ddof=1)) if len(known) > 1 else float("nan")

    def p_value(self, region: str) -> float:
        """Return the two-sided p of a median, or of a difference, of 0.

        Notes
        -----
        From the normal distribution with the standard error of the resamples, whose tail does not end with their
        number, as a count of resamples does: a board of many rows is corrected for many comparisons.
        """
        place = self.regions.index(region)
        estimate, spread = float(self.estimate[place]), self._spread(place)
        if not np.isfinite(estimate) or not np.isfinite(spread):
            return float("nan")
        if spread == 0:
            return 1.0 if estimate == 0 else 0.0
        return float(2 * ndtr(-abs(estimate) / spread))


def resamples(n_images: int, n_resamples: int = N_RESAMPLES, seed: int = 0) -> F32:
    """Draw how often each image is in each resample.

    Returns
    -------
    ndarray (n_resamples, n_images), float32
        Whole numbers; each row sums to `n_images`.
    """
    random = np.random.default_rng([seed, n_images])
    return random.multinomial(n_images, np.full(n_images, 1 / n_images), size=n_resamples).astype(np.float32)


def _standardised(columns: NDArray[np.floating]) -> F32:
    """Return columns of mean 0 and norm 1; a constant one is NaN."""
    values = np.array(columns, dtype=np.float64)
    values -= values[0].copy()
    values -= values.mean(axis=0)
    norms = np.sqrt(np.einsum("ij,ij->j", values, values))
    norms[norms == 0] = np.nan
    values /= norms
    return values.astype(np.float32)


def _weighted_r(counts: F32, responses: F32, predictions: F32) -> F32:
    """Correlate columns with images counted so often: NaN where responses, -inf where predictions are constant."""
    n = counts.sum(axis=1, keepdims=True)
    silent, given_up = np.isnan(responses[0]), np.isnan(predictions[0])
    y, p = np.nan_to_num(responses), np.nan_to_num(predictions)
    sum_y, sum_p = counts @ y, counts @ p
    yy, pp = counts @ (y * y), counts @ (p * p)
    r = counts @ (y * p)
    r -= sum_y * sum_p / n
    yy -= sum_y * sum_y / n
    pp -= sum_p * sum_p / n
    with np.errstate(divide="ignore", invalid="ignore"):
        r /= np.sqrt(yy * pp)
    r[pp < _ROUNDING] = -np.inf
    r[yy < _ROUNDING] = np.nan
    r[:, given_up] = -np.inf
    r[:, silent] = np.nan
    return np.clip(r, -np.inf, 1.0, out=r)


def _medians(r: NDArray[np.floating], regions: Mapping[str, Voxels]) -> F64:
    """Return medians (n_resamples, n_regions) over the voxels that are not silent; NaN where one is undefined."""
    found = np.empty((len(r), len(regions)))
    for place, voxels in enumerate(regions.values()):
        values = r if len(voxels) == r.shape[1] else r[:, voxels]
        with np.errstate(invalid="ignore"):
            undefined = np.isnan(values).any()
            found[:, place] = _nanmedian(values) if undefined else np.median(values, axis=1)
    found[np.isinf(found)] = np.nan
    return found


def _nanmedian(values: NDArray[np.floating]) -> F64:
    medians = np.full(len(values), np.nan)
    for place, row in enumerate(values):
        known = row[~np.isnan(row)]
        if len(known):
            medians[place] = np.median(known)
    return medians
