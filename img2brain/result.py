"""Results: what one trial found, per voxel and in summary."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from img2brain.spec import TrialSpec

F64 = NDArray[np.float64]
WHOLE = ""  # the name that stands for all voxels; no region of interest has it
_LARGE = 1e6
QUANTILES = {"q05": 0.05, "q25": 0.25, "q75": 0.75, "q95": 0.95}


def score_text(score: float, digits: int = 4, sign: str = "") -> str:
    """Show a score with some decimals, or by its first digits where it is so large that these alone are read.

    Examples
    --------
    >>> score_text(0.123456), score_text(-1.23456e140)
    ('0.1235', '-1.235e+140')
    """
    return format(score, f"{sign}.4g" if abs(score) >= _LARGE else f"{sign}.{digits}f")


@dataclass(frozen=True, eq=False)
class Scored:
    """What a trial scored by one metric.

    Attributes
    ----------
    label : str
        What pages call the metric.
    summary : {"median", "mean"}
        Which number stands for all voxels.
    accuracy : ndarray (n_voxels,)
        Score of each voxel; NaN where it is undefined.
    summaries : mapping of str to mapping
        Numbers over the voxels of each region, all of them under the name `WHOLE`; see `summary_of`.
    """

    label: str
    summary: Literal["median", "mean"]
    accuracy: F64
    summaries: Mapping[str, Mapping[str, float]]

    @property
    def score(self) -> float:
        """The number that stands for all voxels."""
        return self.summaries[WHOLE][self.summary]


@dataclass(frozen=True, eq=False)
class TrialResult:
    """What a trial found.

    Attributes
    ----------
    spec : TrialSpec
        What was tried, alpha as an absolute number.
    metrics : mapping of str to Scored
        By metric, the objective first.
    estimator : object
        The fitted regressor.
    timings : mapping of str to float
        Seconds by stage, such as ``fit_s``.
    constant : ndarray (n_voxels,), bool, optional
        Voxels whose responses do not vary, where there are any.
    """

    spec: TrialSpec
    metrics: Mapping[str, Scored]
    estimator: Any
    timings: Mapping[str, float]
    constant: NDArray[np.bool_] | None = None

    @property
    def objective(self) -> Scored:
        """What the search ranks trials by."""
        return next(iter(self.metrics.values()))

    @property
    def score(self) -> float:
        """The objective as one number."""
        return self.objective.score

    @property
    def accuracy(self) -> F64:
        """The objective of each voxel."""
        return self.objective.accuracy

    @property
    def n_unconverged(self) -> int:
        """How many fits of an iterative regressor did not converge."""
        converged = getattr(self.estimator, "converged_", None)
        return 0 if converged is None else int((~np.asarray(converged)).sum())


def summaries_of(
    accuracy: F64, regions: Mapping[str, NDArray[np.intp]], constant: NDArray[np.bool_]
) -> dict[str, dict[str, float]]:
    """Summarise the scores of voxels by region, all voxels under the name `WHOLE`.

    Parameters
    ----------
    accuracy : ndarray (n_voxels,)
        Score of each voxel.
    regions : mapping of str to ndarray of int
        Voxels by region.
    constant : ndarray (n_voxels,), bool
        Voxels that no model could be scored on, since their responses do not vary.
    """
    parts: dict[str, Any] = {WHOLE: slice(None), **regions}
    return {
        name: summary_of(accuracy[part], int((constant[part] & np.isnan(accuracy[part])).sum()))
        for name, part in parts.items()
    }


def summary_of(scores: F64, n_constant: int = 0) -> dict[str, float]:
    """Summarise scores over voxels.

    Parameters
    ----------
    scores : ndarray (n_voxels,)
        NaN where undefined.
    n_constant : int
        Undefined voxels that no model could be scored on, because their responses do not vary. They are left out.

    Returns
    -------
    dict
        ``median``, ``q05`` ... ``q95``, ``mean``, ``max``, ``n_voxels``, ``n_undefined``, ``n_constant``.

    Notes
    -----
    Every other undefined voxel has a constant prediction. It ranks below all defined ones in the median and the
    quantiles: a sparse regressor that gives up on the weak voxels must not be rewarded with the median of the strong
    ones. A quantile that falls on an undefined voxel is NaN. Mean and maximum are over the defined voxels.

    Examples
    --------
    >>> scores = np.array([0.1, 0.2, np.nan])
    >>> summary_of(scores)["median"], summary_of(scores, n_constant=1)["median"]
    (0.1, 0.15...)
    """
    defined = scores[np.isfinite(scores)]
    n_unpredicted = len(scores) - len(defined) - n_constant
    ranked = np.sort(np.concatenate([np.full(n_unpredicted, -np.inf), defined]))
    levels = {"median": 0.5} | QUANTILES
    summary = {name: _quantile(ranked, level) for name, level in levels.items()}
    return summary | {
        "mean": float(defined.mean()) if len(defined) else math.nan,
        "max": float(defined.max()) if len(defined) else math.nan,
        "n_voxels": float(len(scores)),
        "n_undefined": float(len(scores) - len(defined)),
        "n_constant": float(n_constant),
    }


def _quantile(ranked: F64, level: float) -> float:
    """Interpolate a quantile of sorted values, NaN where it leans on an undefined one."""
    if not len(ranked):
        return math.nan
    place = level * (len(ranked) - 1)
    low, high = ranked[int(np.floor(place))], ranked[int(np.ceil(place))]
    return float(low + (high - low) * (place % 1)) if np.isfinite(low) else math.nan
