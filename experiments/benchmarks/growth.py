"""How the cost of a trial grows with images, voxels, components and features.

One size grows at a time, the others stay as they are. The exponent is the slope of a line through the logarithms of
time and size, by least squares: 1 where twice the size takes twice the time. The largest step is that of the time
between neighbouring sizes, each twice the one before. Run it with

    uv run --group bench python experiments/benchmarks/growth.py [CONTENDER ...]
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from _bench import main, table
from _rows import components

SIZES = {
    "images": (1000, 2000, 4000, 8000, 16_000),
    "voxels": (1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000),
    "components": (25, 50, 100, 200, 400),
    "images of PCA": (1000, 2000, 4000, 8000),
    "features of PCA": (4096, 8192, 16_384, 32_768, 65_536),
}
FIXED = {"images": 8000, "voxels": 10_000, "components": 100}
FIXED_PCA = {"images": 4000, "features": 16_384, "components": 100}
SHARE_OF_SCALE = 0.03

Figures = dict[str, Any]
Times = dict[str, float]


def best(function: Callable[[], Any], repeats: int = 5) -> float:
    """Return the shortest duration of some calls: what the work takes, without what else the machine does."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def _data(images: int, voxels: int, components_: int) -> tuple[Any, Any]:
    """Return components, and responses in float32 that a few of them explain."""
    Z = components(images, components_)
    Y = np.random.default_rng(4).standard_normal((images, voxels), dtype=np.float32)
    few = Z[:, :10].astype(np.float32)
    Y += 0.4 * few @ np.random.default_rng(5).standard_normal((10, voxels), dtype=np.float32)
    return Z, Y


def trial_times(images: int, voxels: int, components: int) -> Times:
    """Time the stages of trials of this size."""
    from img2brain.catalog import REGRESSORS
    from img2brain.metrics.base import Sums
    from img2brain.metrics.pearson import Pearson
    from img2brain.moments import Moments

    X, Y = _data(images, voxels, components)
    moments = Moments.from_rows(X, Y)
    times = {"moments": best(lambda: Moments.from_rows(X, Y))}
    for name in ("ridge", "lasso", "multi_task_lasso"):
        regressor: Any = REGRESSORS[name]()
        regressor.set_params(alpha=SHARE_OF_SCALE * regressor.alpha_scale(moments))
        times[name] = best(partial(regressor.fit_moments, moments))
    times["score"] = best(lambda: Pearson().from_sums(Sums.from_moments(regressor.coef_.T, 0.0, moments)))
    return times


def pca_times(images: int, features: int, components: int) -> Times:
    """Time PCA of activations of this size: what is done once for a layer, and for each choice of rows."""
    import torch

    from img2brain.features.activations import InMemory
    from img2brain.features.pca import compress, fit

    torch.manual_seed(0)
    activations = InMemory(images, features, torch.float32, torch.device("cpu"))
    directions = torch.randn(200, features) / torch.arange(1, 201)[:, None] ** 0.5
    activations.append(torch.randn(images, 200) @ directions + 0.1 * torch.randn(images, features))
    rows = np.arange(images * 4 // 5)
    compressed = compress(activations, rows, components)
    return {
        "compress": best(lambda: compress(activations, rows, components)),
        "fit": best(lambda: fit(compressed.projected, rows, components)),
    }


def _grow(axis: str) -> Callable[[Path], Figures]:
    name, _, of_pca = axis.partition(" of ")
    times, fixed = (pca_times, FIXED_PCA) if of_pca else (trial_times, FIXED)

    def run(_: Path) -> Figures:
        warnings.simplefilter("ignore")
        return {"times": [times(**{**fixed, name: size}) for size in SIZES[axis]]}

    return run


def exponent(sizes: Sequence[int], times: Sequence[float]) -> float:
    """Return the slope of log time over log size, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def _axis_table(axis: str, steps: list[Times]) -> str:
    sizes = SIZES[axis]
    rows = []
    for stage in [*steps[0], "all"]:
        times = [sum(step.values()) if stage == "all" else step[stage] for step in steps]
        largest = max(after / before for before, after in pairwise(times))
        shown = [f"{1000 * value:.1f}" for value in times]
        rows.append([stage, *shown, f"{exponent(sizes, times):.2f}", f"{largest:.2f}x"])
    return table([f"{axis} (ms)", *(f"{size:,}" for size in sizes), "exponent", "largest step"], rows)


def report(_: Path, figures: dict[str, Figures]) -> str:
    """Put one table for each size that grows under the other."""
    return "\n\n".join(_axis_table(axis, figures[axis]["times"]) for axis in figures)


if __name__ == "__main__":
    main(__file__, {axis: _grow(axis) for axis in SIZES}, report)
