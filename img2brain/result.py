"""Results: what one trial found, per voxel and in summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.spec import TrialSpec

F64 = NDArray[np.float64]
WHOLE = ""  # the name that stands for all voxels; no region of interest has it
QUANTILES = {"q05": 0.05, "q25": 0.25, "q75": 0.75, "q95": 0.95}


@dataclass(frozen=True)
class TrialResult:
    """What a trial found.

    Attributes
    ----------
    spec : TrialSpec
        What was tried, alpha as an absolute number.
    scores : ndarray (n_voxels,)
        Pearson r per voxel on the validation rows; NaN where it is undefined.
    n_silent : int
        Voxels whose responses do not vary over the validation rows: no model could be scored on them.
    estimator : object
        The fitted regressor.
    timings : mapping of str to float
        Seconds by stage, such as ``fit_s``.
    region_medians : mapping of str to float
        Median r over the voxels of each region of interest.
    """

    spec: TrialSpec
    scores: F64
    n_silent: int
    estimator: Any
    timings: Mapping[str, float]
    region_medians: Mapping[str, float] = field(default_factory=dict)

    @property
    def summary(self) -> dict[str, float]:
        """Summary over voxels (see `summarise`), and how many fits of an iterative regressor did not converge."""
        converged = getattr(self.estimator, "converged_", None)
        n_unconverged = 0 if converged is None else int((~np.asarray(converged)).sum())
        return summarise(self.scores, self.n_silent) | {"n_unconverged": float(n_unconverged)}

    @property
    def median_r(self) -> float:
        """The objective of the search."""
        return self.summary["median_r"]


def summarise(scores: F64, n_silent: int = 0) -> dict[str, float]:
    """Summarise per-voxel correlations.

    Parameters
    ----------
    scores : ndarray (n_voxels,)
        Pearson r, NaN where undefined.
    n_silent : int
        Undefined voxels that no model could be scored on, because their responses do not vary. They are left out.

    Returns
    -------
    dict
        ``median_r``, ``q05_r`` ... ``q95_r``, ``mean_r``, ``max_r``, ``n_voxels``, ``n_undefined``, ``n_silent``.

    Notes
    -----
    Every other undefined voxel has a constant prediction. It ranks below all defined ones in the median and the
    quantiles: a sparse regressor that gives up on the weak voxels must not be rewarded with the median of the strong
    ones. A quantile that falls on an undefined voxel is NaN. Mean and maximum are over the defined voxels.

    Examples
    --------
    >>> scores = np.array([0.1, 0.2, np.nan])
    >>> summarise(scores)["median_r"], summarise(scores, n_silent=1)["median_r"]
    (0.1, 0.15...)
    """
    defined = scores[np.isfinite(scores)]
    n_unpredicted = len(scores) - len(defined) - n_silent
    ranked = np.sort(np.concatenate([np.full(n_unpredicted, -np.inf), defined]))
    levels = {"median_r": 0.5} | {f"{name}_r": level for name, level in QUANTILES.items()}
    summary = {name: _quantile(ranked, level) for name, level in levels.items()}
    return summary | {
        "mean_r": float(defined.mean()) if len(defined) else np.nan,
        "max_r": float(defined.max()) if len(defined) else np.nan,
        "n_voxels": float(len(scores)),
        "n_undefined": float(len(scores) - len(defined)),
        "n_silent": float(n_silent),
    }


def _quantile(ranked: F64, level: float) -> float:
    """Interpolate a quantile of sorted values, NaN where it leans on an undefined one."""
    if not len(ranked):
        return np.nan
    place = level * (len(ranked) - 1)
    low, high = ranked[int(np.floor(place))], ranked[int(np.ceil(place))]
    return float(low + (high - low) * (place % 1)) if np.isfinite(low) else np.nan
