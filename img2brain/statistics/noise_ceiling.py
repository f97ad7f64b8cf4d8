"""Noise ceilings: how well the responses could be predicted at best, by where that is known from.

A ceiling is kept as the share of the variance of the responses that the images explain; its square root is the highest
r that a perfect model reaches in expectation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from img2brain._arrays import slices
from img2brain.errors import ShapeError
from img2brain.statistics.significance import p_of_r

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Origin = Literal["none", "given", "ncsnr", "split halves"]
ORIGINS: tuple[Origin, ...] = get_args(Origin)

LEAST_SHARE = 0.05
N_SPLITS = 100
_CHANCE = 0.05
_LEAST_IMAGES = 3  # for a correlation
_N_TURNS = 30
_BLOCK_BYTES = 1 << 26


@dataclass(frozen=True, eq=False)
class NoiseCeiling:
    """What could be explained of each voxel.

    Attributes
    ----------
    origin : {"none", "given", "ncsnr", "split halves"}
        Where it is known from.
    share : ndarray (n_voxels,)
        Share of the variance that can be explained, 0..1; NaN where it is not known.
    reliable : ndarray (n_voxels,), bool
        Voxels whose signal is reliable: at least a twentieth of their variance can be explained and, where that was
        estimated from repeats, their halves agree beyond chance (p < .05).
    """

    origin: Origin
    share: F64
    reliable: Mask

    @property
    def r(self) -> F64:
        """The highest r that a model reaches in expectation, per voxel."""
        return np.sqrt(self.share)

    @property
    def n_unreliable(self) -> int:
        """Voxels that are left out of normalised summaries."""
        return int((~self.reliable).sum())


def unknown(n_voxels: int) -> NoiseCeiling:
    """Return the ceiling of responses that nothing is known of."""
    return NoiseCeiling("none", np.full(n_voxels, np.nan), np.zeros(n_voxels, dtype=bool))


def given(share: NDArray[np.floating]) -> NoiseCeiling:
    """Return a ceiling that came with the data, as shares of variance 0..1."""
    known: F64 = np.asarray(share, dtype=np.float64)
    return NoiseCeiling("given", known, _enough(known))


def from_ncsnr(ncsnr: NDArray[np.floating], n_repeats: NDArray[np.integer]) -> NoiseCeiling:
    """Return the ceiling of responses that are means over repeats.

    Parameters
    ----------
    ncsnr : ndarray (n_voxels,)
        Standard deviation of the signal over that of the noise of one repeat.
    n_repeats : ndarray (n_images,)
        Repeats of each image, at least 1.

    Notes
    -----
    ncsnr^2 / (ncsnr^2 + mean over images of 1 / n_repeats): the formula of the Natural Scenes Dataset (Allen et al.,
    2022, methods), whose (A + B/2 + C/3) / (A + B + C) is that mean for images seen once, twice and three times.

    Examples
    --------
    >>> from_ncsnr(np.array([0.0, 1.0]), np.array([1, 1, 2, 2])).share
    array([0.        , 0.57142857])
    """
    squared: F64 = np.asarray(ncsnr, dtype=np.float64) ** 2
    share: F64 = squared / (squared + float(np.mean(1.0 / np.asarray(n_repeats))))
    return NoiseCeiling("ncsnr", share, _enough(share))


def from_repeats(repeats: NDArray[Any], n_splits: int = N_SPLITS, seed: int = 0) -> NoiseCeiling:
    """Estimate the ceiling of the mean over repeats from random halves of them.

    Parameters
    ----------
    repeats : ndarray (n_images, n_repeats, n_voxels)
        Single repeats; NaN where one is missing. An image with fewer than two repeats of a voxel has no part in its
        halves. The i-th repeat of all images may come from one session, with a baseline of its own.
    n_splits : int
        Random splits whose correlations are averaged.
    seed : int
        Of the splits.

    Notes
    -----
    With equal halves the share is 2 r / (1 + r) of the correlation r of their means (Spearman, 1910; Brown, 1910).
    Unequal ones, with 1/a and 1/b the mean over images of one over the repeats in each and 1/k that of all, follow
    from the same model: r^-2 = (1 + l/a) (1 + l/b) gives l, the variance of the noise of one repeat over that of the
    signal, and the share is 1 / (1 + l/k). A voxel whose halves do not correlate has a share of 0 and is not reliable.

    Halves are of repeats less their baselines, in the model repeat = image + baseline of the i-th repeats + noise, and
    one split serves all images. Where every image has every repeat, baselines are the same in all means, and neither r
    with a model nor the ceiling depends on them: it is the consistency of measurements, not their absolute agreement
    (McGraw and Wong, 1996, cases C and A). Where images lack repeats, their means differ by the baselines that they
    hold; the share is that without baselines, times the variance of the means without them over that with them.
    Where no image links some repeats to the others, as in sessions of other images, what the images of such parts
    differ by cannot be told from baselines: signal and noise are those around the mean of each part.
    """
    if repeats.ndim != 3:
        raise ShapeError(f"Repeats must have shape (images, repeats, voxels). Got {repeats.shape}.")
    n_images, n_repeats, n_voxels = repeats.shape
    share, agree = np.full(n_voxels, np.nan), np.zeros(n_voxels, dtype=bool)
    order = np.random.default_rng(seed).random((n_splits, n_repeats)).argsort(axis=1)
    step = max(1, _BLOCK_BYTES // (8 * n_images * n_repeats))
    for part in slices(n_voxels, step):
        share[part], agree[part] = _split_halves(np.asarray(repeats[:, :, part], dtype=np.float64), order)
    return NoiseCeiling("split halves", share, agree & _enough(share))


def _enough(share: F64) -> Mask:
    with np.errstate(invalid="ignore"):
        found: Mask = share >= LEAST_SHARE
    return found


def _split_halves(repeats: F64, order: NDArray[np.intp]) -> tuple[F64, Mask]:
    """Return the share of each voxel, and whether its halves agree beyond chance."""
    present = ~np.isnan(repeats)
    counts = present.sum(axis=1)
    usable = counts >= 2
    n_usable = usable.sum(axis=0)
    parts = _parts(present)
    centred = _centred(np.where(present, repeats - _baselines(repeats, present), 0.0), present, parts)
    freedom = n_usable - _n_more(parts, usable)
    totals = np.zeros(repeats.shape[2])
    for turn in order:
        totals += _half_correlation(centred, present, counts, usable, turn)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.where((freedom < n_usable) & (freedom < _LEAST_IMAGES), np.nan, totals / len(order))
        inverse = [_mean_inverse(half, usable) for half in (counts // 2, counts - counts // 2)]
        noise = _noise_ratio(r, *inverse)
        share = 1 / (1 + noise * _mean_inverse(counts, counts >= 1))
        kept = _variance_of_means(centred, present) / _variance_of_means(repeats, present)
        share *= np.minimum(1.0, kept * _inflation(parts, counts >= 1))
    share[r <= 0] = 0.0
    p = np.array([p_of_r(np.array([value]), int(n))[0] for value, n in zip(r, freedom, strict=True)])
    return share, p < _CHANCE


def _means(repeats: F64, present: Mask) -> F64:
    """Return the mean of the repeats of each image; 0 where there are none."""
    found: F64 = np.where(present, repeats, 0.0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    return found


def _variance_of_means(repeats: F64, present: Mask) -> F64:
    """Return the variance over the images that have repeats; NaN where it is 0."""
    seen = present.any(axis=1)
    found = np.var(_means(repeats, present), axis=0, where=seen | ~seen.any(axis=0))  # NumPy warns where none is seen.
    return np.where(found > 0, found, np.nan)


def _baselines(repeats: F64, present: Mask) -> F64:
    """Fit image + baseline to all repeats by least squares, in turns; return the baselines (1, n_repeats, n_voxels).

    Where every image has every repeat, the first turn is exact.
    """
    found = np.zeros((1, *repeats.shape[1:]))
    n_images = np.maximum(present.sum(axis=0), 1)
    for _ in range(1 if present.all() else _N_TURNS):
        left = np.where(present, repeats - _means(repeats - found, present)[:, None], 0.0)
        found = (left.sum(axis=0) / n_images)[None]
    return found


def _parts(present: Mask) -> NDArray[np.intp]:
    """Return which part of the repeats each image belongs to (n_images, n_voxels): those that images link.

    A part is called by the first repeat in it; all images are of part 0 where every image has every repeat.
    """
    if present.all():
        return np.zeros((present.shape[0], present.shape[2]), dtype=np.intp)
    there = present.transpose(2, 1, 0).astype(np.float32)
    linked = there @ there.transpose(0, 2, 1) > 0
    for _ in range(linked.shape[1].bit_length()):  # Each turn doubles the images that a path may lead over.
        paths = linked.astype(np.float32)
        linked = paths @ paths > 0
    first = linked.argmax(axis=2)
    found: NDArray[np.intp] = first[np.arange(len(first)), present.argmax(axis=1)]
    return found


def _n_more(parts: NDArray[np.intp], of: Mask) -> NDArray[np.intp]:
    """Count the parts beyond the first that some images belong to, voxel by voxel."""
    n_parts = np.zeros(parts.shape[1], dtype=np.intp)
    for part in np.unique(parts):
        n_parts += ((parts == part) & of).any(axis=0)
    return np.maximum(n_parts, 1) - 1


def _centred(repeats: F64, present: Mask, parts: NDArray[np.intp]) -> F64:
    """Take from the repeats of each part the mean of its images, where there is more than one part."""
    counts = present.sum(axis=1)
    apart = _n_more(parts, counts >= 1) > 0
    means, found = _means(repeats, present), repeats.copy()
    for part in np.unique(parts[:, apart]):
        own = (parts == part) & (counts >= 1) & apart
        repeated = own & (counts >= 2)
        of = np.where(repeated.any(axis=0), repeated, own)  # What is correlated is centred where anything is.
        mean = np.where(of, means, 0.0).sum(axis=0) / np.maximum(of.sum(axis=0), 1)
        found -= np.where(present & own[:, None], mean, 0.0)
    return found


def _inflation(parts: NDArray[np.intp], seen: Mask) -> F64:
    """Return what makes up for the means of parts in a variance around them: 1 where there is one part."""
    freedom = seen.sum(axis=0) - 1
    found: F64 = freedom / (freedom - _n_more(parts, seen))
    return found


def _half_correlation(
    filled: F64, present: Mask, counts: NDArray[np.intp], usable: Mask, order: NDArray[np.intp]
) -> F64:
    """Correlate the means of two halves over the images, voxel by voxel, for one order of the repeats of all."""
    shuffled, there = filled[:, order], present[:, order]
    # Each image gives the first half of the repeats that it has, in this order.
    first = there & (np.cumsum(there, axis=1) <= (counts // 2)[:, None, :])
    with np.errstate(divide="ignore", invalid="ignore"):
        one = np.where(first, shuffled, 0.0).sum(axis=1) / (counts // 2)
        other = np.where(there & ~first, shuffled, 0.0).sum(axis=1) / (counts - counts // 2)
        return _masked_r(one, other, usable)


def _masked_r(one: F64, other: F64, usable: Mask) -> F64:
    n = usable.sum(axis=0)
    one, other = np.where(usable, one, 0.0), np.where(usable, other, 0.0)
    a = np.where(usable, one - one.sum(axis=0) / n, 0.0)
    b = np.where(usable, other - other.sum(axis=0) / n, 0.0)
    r: F64 = (a * b).sum(axis=0) / np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    return r


def _mean_inverse(counts: NDArray[np.intp], of: Mask) -> F64:
    """Return the mean over some images of one over the repeats, voxel by voxel."""
    inverse: F64 = np.where(of, 1.0 / np.maximum(counts, 1), 0.0).sum(axis=0) / of.sum(axis=0)
    return inverse


def _noise_ratio(r: F64, first: F64, second: F64) -> F64:
    """Solve (1 + l first) (1 + l second) = r^-2 for l >= 0."""
    product, total, rest = first * second, first + second, 1 - 1 / r**2
    root: F64 = (-total + np.sqrt(total**2 - 4 * product * rest)) / (2 * product)
    return root
