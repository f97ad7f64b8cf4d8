"""What an interval costs: 2,000 resamples of 200 confirmation images, 10,000 voxels.

Ours correlates all voxels in all resamples by matrix products. One peer indexes the rows of each resample and
correlates voxels by NumPy, the other is SciPy's own paired bootstrap of the same statistic; both are measured on few
resamples and scaled in proportion. Run it with

    uv run python experiments/benchmarks/intervals.py
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from _bench import Figures, main, table

N_IMAGES, N_VOXELS, N_RESAMPLES = 200, 10_000, 2000
N_PEER = 50


def _data() -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    responses = random.standard_normal((N_IMAGES, N_VOXELS))
    return responses, 0.5 * responses + random.standard_normal(responses.shape)


def _median_r(responses: Any, predictions: Any) -> float:
    y, p = responses - responses.mean(axis=0), predictions - predictions.mean(axis=0)
    r = (y * p).sum(axis=0) / np.sqrt((y * y).sum(axis=0) * (p * p).sum(axis=0))
    return float(np.median(r))


def _ours(_: Path) -> Figures:
    from img2brain.metrics.pearson import Pearson
    from img2brain.statistics.bootstrap import Bootstrap

    responses, predictions = _data()
    start = time.perf_counter()
    interval = Bootstrap(responses, Pearson(), N_RESAMPLES).summaries(predictions, {}).interval()
    return {"seconds": time.perf_counter() - start, "width": interval.high - interval.low}


def _numpy(_: Path) -> Figures:
    responses, predictions = _data()
    random = np.random.default_rng(1)
    start = time.perf_counter()
    found = []
    for _number in range(N_PEER):
        drawn = random.integers(N_IMAGES, size=N_IMAGES)
        found.append(_median_r(responses[drawn], predictions[drawn]))
    duration = time.perf_counter() - start
    return {"seconds": duration * N_RESAMPLES / N_PEER, "width": 2 * 1.96 * float(np.std(found, ddof=1))}


def _scipy(_: Path) -> Figures:
    from scipy.stats import bootstrap

    responses, predictions = _data()
    index = np.arange(N_IMAGES)
    start = time.perf_counter()
    interval = bootstrap(
        (index,), lambda drawn: _median_r(responses[drawn], predictions[drawn]), n_resamples=N_PEER, vectorized=False,
        method="percentile", rng=1,
    ).confidence_interval  # fmt: skip
    duration = time.perf_counter() - start
    return {"seconds": duration * N_RESAMPLES / N_PEER, "width": float(interval.high - interval.low)}


CONTENDERS = {"img2brain": _ours, "numpy": _numpy, "scipy": _scipy}


def report(_: Path, figures: dict[str, Figures]) -> str:
    """Put each peer beside ours."""
    ours = figures["img2brain"]["seconds"]
    rows = [
        [
            name if name == "img2brain" else f"{name} ({N_PEER} resamples, scaled)",
            f"{found['seconds']:.2f}",
            f"{found['seconds'] / ours:.1f}x",
            f"{found['peak_mib']:.0f}",
            f"{found['width']:.4f}",
        ]
        for name, found in figures.items()
    ]
    return table(["", "seconds", "ratio", "peak MiB", "width of the interval"], rows)


if __name__ == "__main__":
    main(__file__, CONTENDERS, report)
