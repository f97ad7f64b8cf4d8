"""Models over several data sets: mean score, mean rank and win rate, and how sure they are.

Whoever asks about these data sets resamples their images; whoever asks about data sets like these resamples the data
sets as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from img2brain.errors import ShapeError
from img2brain.records import Estimate
from img2brain.statistics.bootstrap import LEVEL

F64 = NDArray[np.float64]
FEWEST_DATASETS = 3  # of fewer, how much data sets differ is hardly known


@dataclass(frozen=True)
class Standing:
    """Where a model stands over several data sets.

    Attributes
    ----------
    mean : Estimate
        Of its scores.
    rank : Estimate
        The mean of its ranks, 1 for the best.
    win_rate : Estimate
        The share of other models that it beats, on average over data sets; ties count half.
    """

    mean: Estimate
    rank: Estimate
    win_rate: Estimate


def standings(
    scores: F64, resampled: Sequence[NDArray[np.floating[Any]]], *, like_these: bool = False, seed: int = 0
) -> list[Standing]:
    """Tell where models stand that were scored on the same data sets.

    Parameters
    ----------
    scores : ndarray (n_datasets, n_models)
        NaN where one is undefined: it ranks last there.
    resampled : sequence of ndarray (n_resamples, n_models)
        Of each data set, the scores in resamples of its images, paired over models.
    like_these : bool
        Whether data sets are resampled, too.
    seed : int
        Of what is drawn.

    Returns
    -------
    list of Standing
        One for each model. Intervals are of 95 %: of a mean its standard error times the normal's, of a rank and a win
        rate the percentiles of the resamples.

    Raises
    ------
    ShapeError
        If there are not resamples of each data set, or fewer than 2 models.

    Notes
    -----
    After the aggregates of tabular benchmarks (bencheval), with images in place of splits of the rows.

    Examples
    --------
    >>> sure = [np.tile(row, (50, 1)) for row in ([0.5, 0.3], [0.2, 0.4])]
    >>> first, _ = standings(np.array([[0.5, 0.3], [0.2, 0.4]]), sure)
    >>> first.mean.estimate, first.rank.estimate, first.win_rate.estimate
    (0.35, 1.5, 0.5)
    """
    if (
        scores.ndim != 2
        or scores.shape[1] < 2
        or [each.shape[1:] for each in resampled] != [scores.shape[1:]] * len(scores)
    ):
        raise ShapeError(f"Standings need scores (n_datasets, n_models) of 2 models or more. Got {scores.shape}.")
    drawn = _drawn(scores, resampled, like_these, np.random.default_rng(seed))
    mean, rank = scores.mean(axis=0), _ranks(scores).mean(axis=0)
    means, ranks = drawn.mean(axis=1), _ranks(drawn).mean(axis=1)
    n_others = scores.shape[1] - 1
    return [
        Standing(
            _by_error(mean[model], means[:, model]),
            _by_percentiles(rank[model], ranks[:, model]),
            _by_percentiles(1 - (rank[model] - 1) / n_others, 1 - (ranks[:, model] - 1) / n_others),
        )
        for model in range(scores.shape[1])
    ]


def _drawn(scores: F64, resampled: Sequence[NDArray[Any]], like_these: bool, random: np.random.Generator) -> F64:
    """Combine resamples of data sets (n_resamples, n_datasets, n_models), those of one independent of another's."""
    size = min(len(each) for each in resampled)
    orders = [random.permutation(len(each))[:size] for each in resampled]
    drawn = np.stack([each[order] for each, order in zip(resampled, orders, strict=True)], axis=1).astype(np.float64)
    if not like_these:
        return drawn
    chosen = random.integers(0, len(scores), (size, len(scores)))
    return np.take_along_axis(drawn, chosen[:, :, None], axis=1)


def _ranks(scores: F64) -> F64:
    """Rank models, the last axis, from 1 for the best; equal ones share the mean of their places."""
    found: F64 = rankdata(-np.nan_to_num(scores, nan=-np.inf), axis=-1)
    return found


def _by_error(estimate: float, drawn: F64) -> Estimate:
    known = drawn[np.isfinite(drawn)]
    if len(known) < 2 or not np.isfinite(estimate):
        return Estimate(estimate=float(estimate))
    side = float(ndtri((1 + LEVEL) / 2) * known.std(ddof=1))
    return Estimate(estimate=float(estimate), low=float(estimate - side), high=float(estimate + side))


def _by_percentiles(estimate: float, drawn: F64) -> Estimate:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(estimate=float(estimate), low=float(min(low, estimate)), high=float(max(high, estimate)))
