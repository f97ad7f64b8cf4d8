"""One model on several members of a study: the mean of its scores, and how sure it is.

Members share images, wholly, in part or not at all. Resamples are therefore drawn over all images of all members at
once: one that several members have is drawn for all of them together, so that what it does to their mean is in the
resamples of the mean. Where there are five members or more they are taken for a sample of subjects, and the interval
holds for the subjects that they were drawn from; fewer say nothing of others, and it holds for these alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from img2brain.errors import ShapeError
from img2brain.records import Estimate
from img2brain.result import WHOLE
from img2brain.statistics.bootstrap import LEVEL, N_RESAMPLES, Summaries, numbered
from img2brain.statistics.scale import SCALES

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

FEWEST_SAMPLED = 5  # members: of fewer, how much subjects differ is hardly known
_STEP = 1e-4  # of a score, for the slope of its scale


def joint_resamples(units: Sequence[NDArray[Any]], n_resamples: int = N_RESAMPLES, seed: int = 0) -> list[F32]:
    """Draw how often each image of each member is in each resample.

    Parameters
    ----------
    units : sequence of ndarray (n_images,)
        For each member a label of each of its images: those of one label, of whatever member, are drawn together.
    n_resamples : int
        How many resamples to draw.
    seed : int
        Seed of the resamples.

    Returns
    -------
    list of ndarray (n_resamples, n_images), float32
        Of each member. Each row sums to the number of images on average; a resample that would hold none of a member's
        holds all of them once.

    Examples
    --------
    >>> one, other = joint_resamples([np.array(["cat", "dog"]), np.array(["dog", "owl", "cat"])], n_resamples=3)
    >>> bool((one == other[:, [2, 0]]).all())
    True
    """
    numbers = numbered(np.concatenate([np.asarray(each) for each in units]))
    n_units = int(numbers.max(initial=-1)) + 1
    random = np.random.default_rng([seed, n_units])
    drawn = random.multinomial(n_units, np.full(n_units, 1 / n_units), size=n_resamples).astype(np.float32)
    ends = np.cumsum([len(each) for each in units])[:-1]
    return [_none_empty(drawn[:, places]) for places in np.split(numbers, ends)]


def _none_empty(counts: F32) -> F32:
    counts[counts.sum(axis=1) == 0] = 1
    return counts


class _Mean(NamedTuple):
    """A mean on the scale of its score: where it lies, its standard error, and the degrees of freedom of that."""

    centre: float
    error: float
    freedom: float


@dataclass(frozen=True, eq=False)
class OverMembers:
    """Scores of one model on the members of a study, or differences between those of two models.

    Two of the same members and the same resamples are subtracted, ranked and told apart as two `Summaries` are: see
    `img2brain.statistics.ties.place`.

    Attributes
    ----------
    members : mapping of str to Summaries
        By name; their resamples are joint, the b-th of one belonging to the b-th of all others.
    """

    members: Mapping[str, Summaries]

    def __post_init__(self) -> None:
        if not self.members:
            raise ShapeError("A mean over members must be of at least one. Got none.")

    @property
    def regions(self) -> tuple[str, ...]:
        """The regions that all members have, all voxels first."""
        first, *others = (item.regions for item in self.members.values())
        return tuple(name for name in first if all(name in other for other in others))

    @property
    def is_of_a_sample(self) -> bool:
        """Whether the members are enough to be taken for a sample of subjects."""
        return len(self.members) >= FEWEST_SAMPLED

    def __sub__(self, other: OverMembers) -> OverMembers:
        """Return the paired differences on each member."""
        if list(self.members) != list(other.members):
            raise ShapeError("Scores that are paired over members must be of the same ones. They are not.")
        return OverMembers({name: item - other.members[name] for name, item in self.members.items()})

    def score(self, region: str = WHOLE) -> float:
        """Return the mean over members."""
        return float(self._scores(region).mean())

    def interval(self, region: str = WHOLE, level: float = LEVEL) -> Estimate:
        """Return the interval of the mean.

        Parameters
        ----------
        region : str
            One that all members have.
        level : float
            Share of intervals that hold the truth.

        Notes
        -----
        Of fewer than five members, it is the normal's interval with the standard error that the mean has over resamples
        of images.

        Of n members from five on, with scores s and joint resamples of them, the variance of the mean is that of two
        crossed samples, one of members and one of images:

        ``variance = var(s) / n + mean over pairs of members of cov(resamples)``

        The spread of members in the first term holds how much subjects differ, and what images do to one member alone;
        the second, taken for 0 where it is negative, is what shared images do to all of them, which no spread of
        members shows. The interval is Student's t times the root of this, with the degrees of freedom of Satterthwaite
        (1946): those of the first term are n - 1, of the second the images less one. This is the quasi-F of designs in
        which a sample of persons answers a sample of stimuli (Clark, 1973; Westfall, Kenny and Judd, 2014).

        Percentiles of members that are themselves resampled, with their images, were measured beside it: they count
        twice what images do to one member, and what members differ too little, as if n - 1 were n and the tails normal.
        Which of these is more depends on the data (``experiments/benchmarks/members.py``).

        As all intervals, it is taken on the scale of the score (see `img2brain.statistics.scale`), and unknown where a
        member has fewer than 4 images that are not tied.
        """
        found, scale = self._mean(region), SCALES[self._first.kind]
        half = float(stdtrit(found.freedom, (1 + level) / 2)) * found.error
        low, high = (float(scale.back(found.centre + side)) for side in (-half, half))
        score = self.score(region)
        return Estimate(estimate=score, low=min(low, score), high=max(high, score))

    def p_value(self, region: str = WHOLE) -> float:
        """Return the two-sided p of a mean, or of a mean difference, of 0, by the same t as the interval."""
        found = self._mean(region)
        if not np.isfinite(found.centre) or not np.isfinite(found.error):
            return float("nan")
        if found.error == 0:
            return 1.0 if found.centre == 0 else 0.0
        return float(2 * stdtr(found.freedom, -abs(found.centre) / found.error))

    def _mean(self, region: str) -> _Mean:
        scale, score = SCALES[self._first.kind], self.score(region)
        variances = self._variances(region)
        of_members, of_images = variances if self.is_of_a_sample else (0.0, variances[1])
        variance = of_members + of_images
        slope = float(scale.forward(score + _STEP) - scale.forward(score - _STEP)) / (2 * _STEP)
        offset = scale.offset(score, self._n_units) if variance else 0.0
        centre = float(scale.forward(score)) - offset
        return _Mean(centre, slope * float(np.sqrt(variance)), self._freedom(of_members, of_images))

    def _variances(self, region: str) -> tuple[float, float]:
        """Return what the choice of members, and what the choice of images, adds to the variance of the mean."""
        scores, drawn = self._scores(region), self._resampled(region)
        n = len(scores)
        if self._is_unknown or len(drawn) < 2:
            return float("nan"), float("nan")
        few = self._n_units / max(1, self._n_units - 1) if SCALES[self._first.kind].counts else 1.0
        of_mean = few * float(drawn.mean(axis=1).var(ddof=1))
        if not self.is_of_a_sample:
            return 0.0, of_mean
        of_one = few * float(drawn.var(axis=0, ddof=1).sum()) / n**2
        return float(scores.var(ddof=1)) / n, max(0.0, (of_mean - of_one) * n / (n - 1))

    def _freedom(self, of_members: float, of_images: float) -> float:
        """Return the degrees of freedom of a sum of variances; those of images alone are taken for many."""
        if not self.is_of_a_sample or not of_members + of_images > 0:
            return float("inf")
        spread = of_members**2 / (len(self.members) - 1) + of_images**2 / max(1, self._n_units - 1)
        return (of_members + of_images) ** 2 / spread

    @property
    def _first(self) -> Summaries:
        return next(iter(self.members.values()))

    @property
    def _is_unknown(self) -> bool:
        return any(item.too_few for item in self.members.values())

    @property
    def _n_units(self) -> int:
        """Images of the member that has fewest."""
        return min(item.n_units for item in self.members.values())

    def _scores(self, region: str) -> F64:
        return np.array([item.estimate[item.regions.index(region)] for item in self.members.values()])

    def _resampled(self, region: str) -> F64:
        """Return the scores (n_resamples, n_members) of the resamples in which all are defined."""
        size = min(len(item.resampled) for item in self.members.values())
        columns = [item.resampled[:size, item.regions.index(region)] for item in self.members.values()]
        drawn = np.stack(columns, axis=1).astype(np.float64)
        return drawn[np.isfinite(drawn).all(axis=1)]
