"""Paired bootstrap over images: what other images of the same kind would have made of a score.

A resample draws as many images as there are, with replacement; images that are tied, such as showings of one picture,
are drawn together. Where a metric follows from sums, the resample enters as a row of counts, so that the sums of all
voxels in all resamples are matrix products; any other metric scores the rows that were drawn. Rows of a board that were
scored on the same images meet the same resamples, which pairs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from img2brain import digest
from img2brain._arrays import in_blocks, slices
from img2brain._mapped import release
from img2brain.errors import DataError, ShapeError
from img2brain.records import Estimate
from img2brain.result import WHOLE
from img2brain.statistics.scale import SCALES, Kind, Known, of_difference
from img2brain.sums import FromSums, Sums, centred, is_constant, rounding

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Voxels = NDArray[np.intp]
Units = NDArray[np.intp]
How = Literal["median", "mean"]

N_RESAMPLES = 2000
LEVEL = 0.95
# Fisher's standard error, 1 / sqrt(n - 3), exists from 4 units on: 2 points correlate by 1 or -1 whatever they are.
FEWEST_UNITS = 4
_BLOCK = 512
_CHUNK_BYTES = 1 << 28
# These shares of a sum of squares over all images are taken for rounding.
_ROUNDING: dict[type, float] = {np.float32: 1e-5, np.float64: 1e-12}
_FEWEST = 100
_ROWS_VALUES = 1 << 28  # To rank so many responses, in all resamples together, takes half a minute.


class InParts(Protocol):
    """An array, or what makes parts of one when they are read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of images and voxels."""
        ...

    def __getitem__(self, place: Any, /) -> Any:
        """Return some rows and voxels."""
        ...


class Score(Protocol):
    """What is asked of a metric; one that also has ``from_sums`` is resampled by matrix products."""

    summary: ClassVar[How]
    scale_free: ClassVar[bool]
    kind: ClassVar[Kind]

    def from_rows(self, Y: F64, P: F64) -> F64:
        """Score predictions of responses (n_images, n_voxels), voxel by voxel."""
        ...

    def voxels(self, which: slice) -> Score:
        """Return the metric for a range of voxels."""
        ...


class Bootstrap:
    """Resamples of the images that some responses were recorded for.

    Parameters
    ----------
    responses : ndarray (n_images, n_voxels)
        What predictions are scored on.
    metric : Metric
        What scores them; its ``summary`` says what stands for the voxels of a region.
    n_resamples : int
        How many resamples to draw; of a metric that needs rows, fewer where there are many of them (see Notes).
    seed : int
        Seed of the resamples: the same seed and number of images draw the same ones.
    units : ndarray (n_images,), optional
        A label for each image: those of one label say little more than one of them, and are drawn together. By default
        each image stands for itself.
    counts : ndarray (n_resamples, n_images), optional
        How often each image is in each resample, in place of what `n_resamples` and `seed` draw.
    block : int
        Voxels that are scored at a time.
    chunk_bytes : int
        Memory for the scores of as many resamples as are scored at a time.

    Notes
    -----
    Sums cost some n_resamples x n_images x n_voxels multiplications five times for each set of predictions, in blocks
    of voxels: in float64, or for a metric that is free of scale in float32 on columns of mean 0 and norm 1, which gives
    correlations within 1e-5.

    A metric that needs rows meets some 3e8 responses in all resamples: to rank so many takes half a minute. Where that
    is less than 100 resamples, it meets 100, which give the standard error within 7 %. How many there are depends on
    the shape of the responses alone, and they are the first of those that another metric meets.

    Of fewer than 4 units resamples tell nothing: no interval is known, of their differences neither.
    """

    def __init__(
        self,
        responses: Floats,
        metric: Score,
        n_resamples: int = N_RESAMPLES,
        seed: int = 0,
        *,
        units: NDArray[Any] | None = None,
        counts: F32 | None = None,
        block: int = _BLOCK,
        chunk_bytes: int = _CHUNK_BYTES,
    ) -> None:
        if len(responses) < 2:
            raise DataError(f"A bootstrap needs the responses to at least 2 images. Got {len(responses)}.")
        self._responses = np.asanyarray(responses)
        self._metric = metric
        self._block, self._chunk_bytes = block, chunk_bytes
        n_resamples = n_resamples if counts is None else len(counts)
        if not isinstance(metric, FromSums):
            n_resamples = min(n_resamples, max(_FEWEST, _ROWS_VALUES // max(1, self._responses.size)))
        drawn = resamples(len(responses), n_resamples, seed, units) if counts is None else counts[:n_resamples]
        self._counts = drawn
        self._n_units = len(responses) if units is None else len(np.unique(units))
        self._draws = digest.of_array(self._counts)

    def summaries(self, predictions: InParts, regions: Mapping[str, Voxels]) -> Summaries:
        """Score predictions in every resample, and summarise the scores over voxels.

        Parameters
        ----------
        predictions : ndarray (n_images, n_voxels)
            Of the same images and voxels, or what is read as one, by rows and voxels.
        regions : mapping of str to ndarray of int
            The voxels of each region of interest; all voxels are summarised in any case.

        Returns
        -------
        Summaries
        """
        if predictions.shape != self._responses.shape:
            raise ShapeError(
                f"Predictions must have the shape of the responses, {self._responses.shape}. Got {predictions.shape}."
            )
        parts = {WHOLE: np.arange(predictions.shape[1]), **regions}
        how, kind, voxels = self._metric.summary, self._metric.kind, list(parts.values())
        estimate = summarised(self._scores(predictions)[None], voxels, how)[0]
        resampled = np.concatenate([summarised(scores, voxels, how) for scores in self._resampled(predictions)])
        return Summaries(tuple(parts), estimate, resampled, how, kind, self._n_units, self._draws)

    def _scores(self, predictions: InParts) -> F64:
        """Score all images (n_voxels,)."""
        found = np.empty(predictions.shape[1])

        def score(part: slice) -> None:
            found[part] = _of_rows(self._metric.voxels(part), self._read(part), predictions[:, part])

        in_blocks(score, len(found), self._block, found)
        return found

    def _resampled(self, predictions: InParts) -> Iterator[Floats]:
        """Yield the scores (n_resamples, n_voxels) of some resamples at a time."""
        n_voxels = predictions.shape[1]
        narrow = isinstance(self._metric, FromSums) and self._metric.scale_free
        for rows in slices(len(self._counts), max(1, self._chunk_bytes // (8 * n_voxels))):
            counts = self._drawn(rows).astype(np.float32 if narrow else np.float64)
            found = np.empty((len(counts), n_voxels), counts.dtype)

            def score(part: slice, counts: Any = counts, found: Any = found) -> None:
                metric = self._metric.voxels(part)
                found[:, part] = _of_counts(metric, counts, self._read(part), predictions[:, part])

            in_blocks(score, n_voxels, self._block, found)
            yield found

    def _read(self, part: slice) -> Floats:
        """Copy the responses of some voxels; of those that are mapped to a file no more is held."""
        found = np.array(self._responses[:, part], subok=False)
        release(self._responses)
        return found

    def _drawn(self, rows: slice) -> Floats:
        """Return how often each image is in some resamples, in all as often as there are images for sums."""
        counts = self._counts[rows]
        if not isinstance(self._metric, FromSums):
            return counts
        shares: F64 = counts * (counts.shape[1] / counts.sum(axis=1, dtype=np.float64, keepdims=True))
        return shares


@dataclass(frozen=True, eq=False)
class Summaries:
    """Median or mean score over the voxels of some regions: of all images, and of resamples of them.

    Attributes
    ----------
    regions : tuple of str
        Their names; the first is `WHOLE`, all voxels.
    estimate : ndarray (n_regions,)
        Of all images.
    resampled : ndarray (n_resamples, n_regions)
        Of each resample.
    how : {"median", "mean"}
        What stands for the voxels of a region.
    kind : {"correlation", "difference of correlations", "determination", "other"}
        What sort of score they are: the scale of their intervals.
    n_units : int
        Images that were resampled, tied ones as one; 0 where it is not known, as of what was stored by older versions.
    draws : str
        Digest of how often each image is in each resample; empty where it is not known.
    """

    regions: tuple[str, ...]
    estimate: F64
    resampled: F64
    how: How = "median"
    kind: Known = "other"
    n_units: int = 0
    draws: str = ""

    @classmethod
    def from_arrays(
        cls,
        regions: NDArray[np.str_],
        estimate: Floats,
        resampled: Floats,
        how: How = "median",
        *,
        kind: Any = "other",
        n_units: Any = 0,
        draws: Any = "",
    ) -> Summaries:
        """Return what `to_arrays` gave, the last three where they are known.

        Raises
        ------
        ShapeError
            Where the arrays do not fit together.
        """
        if regions.ndim != 1 or estimate.shape != regions.shape or resampled.shape[1:] != regions.shape:
            raise ShapeError(
                f"Summaries need as many estimates and columns of resamples as regions, {regions.shape}. "
                f"Got {estimate.shape} and {resampled.shape}."
            )
        known: Known = next((name for name in SCALES if name == str(kind)), "other")
        values = (estimate.astype(np.float64), resampled.astype(np.float64))
        return cls(tuple(map(str, regions)), *values, how, known, int(n_units), str(draws))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return ``regions``, ``estimate``, ``resampled``, ``kind``, ``n_units`` and ``draws``.

        Resamples are in float32 where that loses nothing, as of medians of correlations: an interval that is taken from
        what is stored is the same number as before.
        """
        return {
            "regions": np.array(self.regions),
            "estimate": self.estimate,
            "resampled": _narrowest(self.resampled),
            "kind": np.array(self.kind),
            "n_units": np.array(self.n_units),
            "draws": np.array(self.draws),
        }

    @property
    def too_few(self) -> bool:
        """Whether so few images were resampled that no interval is known."""
        return 0 < self.n_units < FEWEST_UNITS

    def of(self, regions: Sequence[str]) -> Summaries:
        """Return the summaries of some regions."""
        where = [self.regions.index(name) for name in regions]
        return replace(self, regions=tuple(regions), estimate=self.estimate[where], resampled=self.resampled[:, where])

    def __sub__(self, other: Summaries) -> Summaries:
        """Return the paired differences; both must come from the same resamples, and be summaries of one kind."""
        if self.regions != other.regions or self.resampled.shape != other.resampled.shape or self.how != other.how:
            raise ShapeError(
                f"Scores that are paired must have the same regions, resamples and summary. Got {self.how} of "
                f"{self.regions} of {self.resampled.shape} and {other.how} of {other.regions} of "
                f"{other.resampled.shape}."
            )
        if self.draws and other.draws and self.draws != other.draws:
            raise ShapeError("Scores that are paired must have met the same resamples. Got those of other draws.")
        return replace(
            self,
            estimate=self.estimate - other.estimate,
            resampled=self.resampled - other.resampled,
            kind=of_difference(self.kind, other.kind),
            n_units=max(self.n_units, other.n_units),
        )

    def interval(self, region: str = WHOLE, level: float = LEVEL) -> Estimate:
        """Return the interval of a region: to both sides of the estimate, its standard error times the normal's.

        Notes
        -----
        It is taken on the scale of the score (see `img2brain.statistics.scale`), so that it lies where scores lie: of a
        correlation on Fisher's, of a difference of two correlations on Fisher's of half of it, of a coefficient of
        determination on that of the logarithm of what is not explained.

        On simulated recordings of 12 images and more it covers the truth about as often as it says, and more often
        where some 20 voxels are predicted equally well. Percentiles of the resamples cover it too often, and
        percentiles that are corrected for bias too seldom: a median over voxels moves in steps, and its resamples in
        smaller ones.

        Of fewer than 4 units no interval is known: its ends are NaN.
        """
        place = self.regions.index(region)
        centre, error = self._on_scale(place)
        half = float(ndtri((1 + level) / 2)) * error
        low, high = (float(SCALES[self.kind].back(centre + side)) for side in (-half, half))
        estimate = float(self.estimate[place])
        return Estimate(estimate=estimate, low=min(low, estimate), high=max(high, estimate))

    def _on_scale(self, place: int) -> tuple[float, float]:
        """Return estimate and standard error on the scale, from the resamples in which the summary is defined."""
        scale, estimate = SCALES[self.kind], float(self.estimate[place])
        known = self.resampled[np.isfinite(self.resampled[:, place]), place]
        known = known[:0] if self.too_few else known
        spread = float(np.std(scale.forward(known), ddof=1)) if len(known) > 1 else float("nan")
        offset = scale.offset(estimate, self.n_units) if spread else 0.0  # scores that no image changes are the truth
        return float(scale.forward(estimate)) - offset, scale.error(spread, self.n_units)

    def p_value(self, region: str = WHOLE) -> float:
        """Return the two-sided p of a summary, or of a difference, of 0.

        Notes
        -----
        From the normal distribution on the scale of the intervals, with the standard error of the resamples, whose tail
        does not end with their number, as a count of resamples does: a board of many rows is corrected for many
        comparisons.
        """
        place = self.regions.index(region)
        centre, error = self._on_scale(place)
        if not np.isfinite(centre) or not np.isfinite(error):
            return float("nan")
        if error == 0:
            return 1.0 if centre == 0 else 0.0
        return float(2 * ndtr(-abs(centre) / error))


def resamples(n_images: int, n_resamples: int = N_RESAMPLES, seed: int = 0, units: NDArray[Any] | None = None) -> F32:
    """Draw how often each image is in each resample; fewer resamples are the first of more.

    Returns
    -------
    ndarray (n_resamples, n_images), float32
        Whole numbers. Each row sums to `n_images`, or, where `units` ties some of them, does so on average; of a single
        unit there is one row alone, that of all images.

    Raises
    ------
    ShapeError
        If there is not one label for each image.
    """
    numbers = numbered(np.arange(n_images) if units is None else units)
    if numbers.shape != (n_images,):
        raise ShapeError(f"'units' must hold a label for each image, {(n_images,)}. Got {numbers.shape}.")
    n_units = int(numbers.max(initial=0)) + 1
    random = np.random.default_rng([seed, n_units])
    size = n_resamples if n_units > 1 else 1
    drawn = random.multinomial(n_units, np.full(n_units, 1 / n_units), size=size).astype(np.float32)
    return drawn if n_units == n_images else drawn[:, numbers]


def numbered(labels: NDArray[Any]) -> Units:
    """Replace labels by numbers, from 0 in the order of their first images, whatever the labels are.

    Examples
    --------
    >>> numbered(np.array(["dog", "cat", "dog"]))
    array([0, 1, 0])
    """
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order: Units = np.argsort(np.argsort(first))
    return order[inverse.reshape(labels.shape)]


def summarised(scores: Floats, regions: Iterable[Voxels], how: How) -> F64:
    """Summarise scores (n_resamples, n_voxels) over the voxels of regions (n_resamples, n_regions).

    A score is NaN where the responses of its voxel do not vary, and -inf where it is undefined for any other reason.
    """
    return _SUMMARISED[how](scores, regions)


def _of_counts(metric: Score, counts: Any, Y: Floats, P: Floats) -> Any:
    """Score a block of voxels (n_resamples, n_block) with images counted so often."""
    if isinstance(metric, FromSums):
        sums = _sums_of(counts, _Columns.of(Y, metric.scale_free), _Columns.of(P, metric.scale_free))
        return _marked(metric.from_sums(sums), sums.yy == 0)
    images = np.arange(len(Y))
    return np.stack([_of_rows(metric, Y, P, np.repeat(images, row.astype(np.intp))) for row in counts])


def _of_rows(metric: Score, Y: Floats, P: Floats, drawn: Any = slice(None)) -> F64:
    """Score a block of voxels (n_block,) on the rows that were drawn."""
    true, predicted = (np.asarray(rows[drawn], np.float64) for rows in (Y, P))
    found: F64 = _marked(metric.from_rows(true, predicted), is_constant(true))
    return found


def _marked(scores: Any, constant: NDArray[np.bool_]) -> Any:
    """Mark the scores that are undefined: NaN where the responses do not vary, -inf for any other reason."""
    return np.where(constant, np.nan, np.where(np.isfinite(scores), scores, -np.inf))


@dataclass(frozen=True, eq=False)
class _Columns:
    """Centred columns, their means and their sums of squares; a constant column is 0."""

    values: Any
    mean: F64
    squares: F64

    @classmethod
    def of(cls, columns: Floats, standardised: bool) -> _Columns:
        """Centre columns in float64; those that are standardised are of mean 0 and norm 1, in float32."""
        values, mean = centred(columns)
        squares = np.einsum("ij,ij->j", values, values)
        squares[~(squares > rounding(len(values), mean))] = 0.0
        values[:, squares == 0] = 0.0
        if not standardised:
            return cls(values, mean, squares)
        values /= np.sqrt(np.where(squares > 0, squares, 1.0))
        return cls(values.astype(np.float32), np.zeros_like(mean, np.float32), np.sign(squares))


def _sums_of(counts: Any, y: _Columns, p: _Columns) -> Sums:
    """Return the sums (n_resamples, n_block) of images that are counted so often."""
    n = counts.shape[1]
    shift_y, shift_p = counts @ y.values / n, counts @ p.values / n
    yy = counts @ (y.values * y.values) - n * shift_y * shift_y
    pp = counts @ (p.values * p.values) - n * shift_p * shift_p
    yp = counts @ (y.values * p.values) - n * shift_y * shift_p
    for squares, columns in ((yy, y), (pp, p)):
        squares[squares <= _ROUNDING[squares.dtype.type] * columns.squares] = 0.0
    return Sums(n, y.mean + shift_y, p.mean + shift_p, yy, pp, yp)


def _medians(scores: Floats, regions: Iterable[Voxels]) -> F64:
    """Return medians (n_resamples, n_regions) over the voxels whose responses vary; NaN where one is undefined."""
    found = np.stack([_median(_of_region(scores, voxels)) for voxels in regions], axis=1)
    found[np.isinf(found)] = np.nan
    return found


def _median(scores: Floats) -> F64:
    with np.errstate(invalid="ignore"):
        if not np.isnan(scores).any():
            return np.asarray(np.median(scores, axis=1), np.float64)
        known = (row[~np.isnan(row)] for row in scores)
        return np.array([np.median(row) if len(row) else np.nan for row in known], np.float64)


def _means(scores: Floats, regions: Iterable[Voxels]) -> F64:
    """Return means (n_resamples, n_regions) over the voxels whose score is defined; NaN where none is."""
    return np.stack([_mean(_of_region(scores, voxels)) for voxels in regions], axis=1)


def _mean(scores: Floats) -> F64:
    defined = np.isfinite(scores)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, scores, 0.0).sum(axis=1, dtype=np.float64) / defined.sum(axis=1))


def _narrowest(values: F64) -> Floats:
    """Return numbers in float32 where it holds each of them, NaN too."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    return narrow if np.array_equal(narrow, values, equal_nan=True) else values


def _of_region(scores: Floats, voxels: Voxels) -> Floats:
    return scores if len(voxels) == scores.shape[1] else scores[:, voxels]


_SUMMARISED: dict[How, Callable[[Floats, Iterable[Voxels]], F64]] = {"median": _medians, "mean": _means}
