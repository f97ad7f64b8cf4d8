"""What the numbers of a row are: its metrics, as far as they are ours, and the voxels of its regions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.catalog import METRICS
from img2brain.leaderboard.bundles.agreement import Disagrees, numbers
from img2brain.leaderboard.bundles.opening import BundleRow
from img2brain.metrics.base import Metric
from img2brain.result import WHOLE

_LARGEST = {"correlation": 1.0, "determination": 1.0}  # scores of no such metric are above

Voxels = NDArray[np.intp]


def metric_of(row: BundleRow, name: str) -> Metric | None:
    """Return a metric of ours; one of others is code that is not run for a bundle."""
    is_plugin = any((item.kind, item.name) == ("metric", name) for item in row.trial.plugins)
    return METRICS[name] if name in METRICS.own and not is_plugin else None


def regions_of(row: BundleRow) -> dict[str, Voxels]:
    """Return the voxels of each region of interest."""
    n_voxels, found = row.trial.dataset.n_voxels, {}
    for name, voxels in row.study.regions.items():
        places = np.asarray(voxels, dtype=np.intp)
        if name == WHOLE or (len(places) and not (places.min() >= 0 and places.max() < n_voxels)):
            raise Disagrees(f"study.regions.{name}", "voxels that are not there", f"some of {n_voxels} voxels")
        found[name] = places
    return found


def scores_of(array: NDArray[Any], row: BundleRow, metric: str, what: str) -> NDArray[np.float64]:
    """Check the scores of all voxels by a metric."""
    ours = metric_of(row, metric)
    most = math.nan if ours is None else _LARGEST.get(ours.kind, math.nan)
    least = -most if ours is not None and ours.kind == "correlation" else math.nan
    return numbers(array, (row.trial.dataset.n_voxels,), what, least, most)
