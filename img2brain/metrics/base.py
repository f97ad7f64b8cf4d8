"""What every metric is: one score per voxel, higher is better."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from img2brain.sums import Array, FromSums, Sums

__all__ = ["Array", "FromSums", "Metric", "NeedsCeiling", "Sums", "undefined_as_nan"]


class Metric(ABC):
    """A score per voxel; higher is better.

    A metric that follows from means and sums of squares alone also has a method ``from_sums(sums)`` (`FromSums`):
    trials of linear regressors are then scored without a prediction ever being made, folds add up, and resamples are
    matrix products. One that depends on the noise ceiling has a method ``with_ceiling(share)`` (`NeedsCeiling`).

    Attributes
    ----------
    label : str
        What pages call it, such as ``"Pearson r"``.
    summary : {"median", "mean"}
        What stands for all voxels of a region: the objective of a search, and what is ranked.
    scale_free : bool
        Whether no score changes where responses, or predictions, are shifted or multiplied by a positive number.
        Resamples of such a metric are taken in float32, on columns of mean 0 and norm 1.
    kind : {"correlation", "determination", "other"}
        What sort of score it is: a correlation lies in [-1, 1], a coefficient of determination is at most 1. Intervals
        follow it, and lie where scores lie.
    revision : int
        Raised where the same predictions get other scores than before; two revisions are never ranked together.

    Notes
    -----
    A metric of one's own defines `label` and `from_rows`, in a class that is called without arguments. A study file
    names it ``objective = "PATH.py:NAME"``, and ``img2brain.testing.check_metric`` tells whether it keeps what is
    promised here.

    A voxel whose score is undefined is NaN, never 0; all other scores lie within 1e150, so that their squares have a
    sum. NaN because the responses do not vary says nothing of a model and is left out of summaries. NaN for any other
    reason ranks below all scores in a median.

    A metric keeps nothing of what it has scored: several threads may ask it at once.

    Examples
    --------
    >>> class Nearness(Metric):
    ...     label = "nearness"
    ...
    ...     def from_rows(self, Y, P):
    ...         return np.where(np.ptp(Y, axis=0) > 0, -((Y - P) ** 2).mean(axis=0), np.nan)
    >>> Nearness().from_rows(np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[1.0, 5.0], [1.0, 5.0]]))
    array([-2., nan])
    """

    label: ClassVar[str]
    summary: ClassVar[Literal["median", "mean"]] = "median"
    scale_free: ClassVar[bool] = False
    kind: ClassVar[Literal["correlation", "determination", "other"]] = "other"
    revision: ClassVar[int] = 1

    @abstractmethod
    def from_rows(self, Y: Array, P: Array) -> Array:
        """Score predictions.

        Parameters
        ----------
        Y, P : ndarray of float64, shape (n_images, n_voxels)
            Responses and predictions. Finite; they are not written to.

        Returns
        -------
        ndarray of float64, shape (n_voxels,)
        """

    def ceiling(self, share: Array) -> Array | None:
        """Give the score of a perfect model in expectation, where the noise sets it.

        Parameters
        ----------
        share : ndarray, shape (n_voxels,)
            Share of the variance of the responses that can be explained; NaN where it is not known.

        Returns
        -------
        ndarray, shape (n_voxels,), or None
            None where the metric has no such ceiling.
        """
        return None

    def voxels(self, which: slice) -> Self:
        """Return the metric for a range of voxels; another one only where it knows something of each voxel."""
        return self


@runtime_checkable
class NeedsCeiling(Protocol):
    """A metric that depends on how much of the responses is signal.

    What it returns knows something of each voxel, so that its method ``voxels(which)`` must return that of a range.
    """

    def with_ceiling(self, share: Array) -> Metric:
        """Return the metric for voxels of which this share of the variance can be explained (NaN: not known)."""
        ...


def undefined_as_nan(score: Array, defined: NDArray[np.bool_]) -> Array:
    """Return scores, NaN where they are not defined."""
    return np.where(defined, score, math.nan)
