"""Drops: by how much a model scores less on other images than on those that rank it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from img2brain.records import Estimate
from img2brain.result import WHOLE
from img2brain.statistics.bootstrap import Summaries

_SEED = 0


def drops(parts: Mapping[str, Summaries], first: str) -> dict[str, Estimate]:
    """Return the score on one part of the rows minus that on each other, over all voxels.

    Parameters
    ----------
    parts : mapping of str to Summaries
        By the name of the part, each of the same model and voxels.
    first : str
        The part that the others are taken from.

    Returns
    -------
    dict of str to Estimate
        By the name of each other part; above 0 where the model scores less on it.
    """
    return {name: drop(parts[first], other) for name, other in parts.items() if name != first}


def drop(first: Summaries, other: Summaries) -> Estimate:
    """Return the score on some images minus that on others, with its interval.

    Parameters
    ----------
    first, other : Summaries
        Of one model over the same voxels, on images of which none is in both.

    Notes
    -----
    With s the summary over voxels, the drop is ``s(first) - s(other)``. It is paired over voxels, which both parts
    share, and not over images: resample b of the drop is ``s_b(first) - s_c(other)``, where c runs through the
    resamples of the other part in an order drawn once, so that the images of each part are drawn independently of
    those of the other. This is the bootstrap of the two-sample problem (Efron and Tibshirani 1993, *An Introduction to
    the Bootstrap*, section 8.3). The interval is that of any difference, see `Summaries.interval`, with the number of
    images of the smaller part; of fewer than 4 images in either none is known.

    Examples
    --------
    >>> one, two = (Summaries(("",), np.array([score]), np.full((9, 1), score)) for score in (0.5, 0.2))
    >>> round(drop(one, two).estimate, 2)
    0.3
    """
    size = min(len(first.resampled), len(other.resampled))
    order = np.random.default_rng(_SEED).permutation(len(other.resampled))[:size]
    n_units = min(first.n_units, other.n_units)
    one, two = (replace(each.of([WHOLE]), n_units=n_units, draws="") for each in (first, other))
    difference = replace(one, resampled=one.resampled[:size]) - replace(two, resampled=two.resampled[order])
    return difference.interval()
