"""What it takes to reduce a layer of 150,000 features: 22,248 images to principal components, 9,000 to all there are.

Activations are written by a generator, in the type that a pass keeps them in on this machine, to a scratch file, as
where a layer does not fit the memory. *pca* makes the projections and 100 components. *all* keeps the Gram matrix of
the images and makes every component of 7,200 of them; *gram* is that matrix alone, of a tenth of the features, by
NumPy. Each is in a process of its own. Run it with

    uv run python experiments/benchmarks/reductions.py [CONTENDER ...]
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _bench import main, table

N_FEATURES, N_IMAGES, N_FEW, N_FITTED, N_COMPONENTS, RANK, BATCH = 150_000, 22_248, 9_000, 7_200, 100, 160, 256
SHARE = 10  # of the features, of which the bare Gram matrix is made
Figures = dict[str, Any]


def _written(folder: Path, n_images: int, n_features: int) -> Any:
    """Write activations of a few strong directions and of noise, batch by batch."""
    import torch

    from img2brain.features.activations import OnDisk
    from img2brain.features.extract import find_precision

    torch.manual_seed(0)
    cpu = torch.device("cpu")
    values = OnDisk(n_images, n_features, find_precision("auto", cpu), folder / "activations.bin", cpu)
    (folder / "activations.bin").unlink()  # it goes with its process
    directions = torch.randn(RANK, n_features) / torch.arange(1, RANK + 1).sqrt()[:, None]
    noise = torch.randn(BATCH, n_features)
    for start in range(0, n_images, BATCH):
        n = min(BATCH, n_images - start)
        shift = int(torch.randint(n_features, ()))
        values.append((torch.randn(n, RANK) @ directions).add_(noise.roll(shift, 1)[:n], alpha=0.3))
    return values


def _timed(work: Callable[[], Any]) -> tuple[Any, Figures]:
    """Return what some work gives, with its seconds by the clock and of one core."""
    clock, core = time.perf_counter(), time.process_time()
    found = work()
    return found, {"seconds": time.perf_counter() - clock, "core_s": time.process_time() - core}


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def pca(folder: Path) -> Figures:
    """Reduce many images to components."""
    import torch

    from img2brain.features import pca as components

    values, rows = _written(folder, N_IMAGES, N_FEATURES), np.arange(N_IMAGES * 4 // 5)

    def reduce() -> Any:
        with torch.inference_mode():
            return components.fit(components.compress(values, rows, N_COMPONENTS).projected, rows, N_COMPONENTS)

    before = _peak_mib()
    found, figures = _timed(reduce)
    assert found.coordinates.shape == (N_IMAGES, N_COMPONENTS)
    return figures | {"before_mib": before, "type": str(values.dtype)}


def every(folder: Path) -> Figures:
    """Make all components of fewer images."""
    from img2brain.features.bases import Every, Kept

    values, rows = _written(folder, N_FEW, N_FEATURES), np.arange(N_FITTED)
    before = _peak_mib()
    kept, figures = _timed(lambda: Every().keep(values))
    gram_mib = _peak_mib()
    found, fitted = _timed(lambda: Every().components([Kept(kept)], rows))
    assert found.coordinates.shape[0] == N_FEW
    told = {"before_mib": before, "gram_mib": gram_mib, "eigen_s": fitted["seconds"], "eigen_core_s": fitted["core_s"]}
    return figures | told | {"type": str(values.dtype)}


def gram(folder: Path) -> Figures:
    """Make the Gram matrix of the same images, and nothing else, of some of the features."""
    values = _written(folder, N_FEW, N_FEATURES // SHARE)
    before = _peak_mib()

    def multiply() -> Any:
        whole = np.zeros((N_FEW, N_FEW))
        for part in values.ranges(3728):
            block = values.columns(part).double().numpy()
            whole += block @ block.T
        return whole

    _, figures = _timed(multiply)
    return {name: value * SHARE for name, value in figures.items()} | {"before_mib": before, "type": str(values.dtype)}


def report(_: Path, figures: dict[str, Figures]) -> str:
    """Tell time and memory."""
    rows = []
    for name, found in figures.items():
        peak = found["gram_mib"] if "gram_mib" in found else found["peak_mib"]
        rows.append((name, *_cells(found["seconds"], found["core_s"], found["before_mib"], peak)))
        if "eigen_s" in found:
            cells = _cells(found["eigen_s"], found["eigen_core_s"], found["gram_mib"], found["peak_mib"])
            rows.append(("  components of it", *cells))
    kind = next(iter(figures.values()))["type"].removeprefix("torch.")
    head = f"{N_FEATURES:,} features in {kind}; pca: {N_IMAGES:,} images; all: {N_FEW:,}, {N_FITTED:,} of them fitted"
    note = f"gram: seconds of 1/{SHARE} of the features, times {SHARE}; the matrix is {8 * N_FEW**2 / 2**20:,.0f} MiB"
    return f"{head}\n{note}\n\n{table(('', 'seconds', 'core s', 'MiB before', 'peak MiB'), rows)}"


def _cells(seconds: float, core_s: float, before: float, peak: float) -> tuple[str, ...]:
    return f"{seconds:,.0f}", f"{core_s:,.0f}", f"{before:,.0f}", f"{peak:,.0f}"


if __name__ == "__main__":
    main(__file__, {"pca": pca, "gram": gram, "all": every}, report)
