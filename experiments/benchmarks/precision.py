"""What bfloat16 changes: the same fits to features of both precisions, and the difference of their scores.

A score is the median of r over voxels on the validation rows. Each published layer, size, regressor and alpha is one
fit. Generated pictures are as many as the predecessor's. The recordings of neurons, where they are at hand, have so few
images that ``precision = "auto"`` takes float32; bfloat16 is asked for here, to show what that spares. Run it with

    uv run python experiments/benchmarks/precision.py
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from _bench import Figures, main, table
from _pictures import write_dataset

from img2brain import digest
from img2brain.catalog import REGRESSORS
from img2brain.datasets._images import find_images
from img2brain.features.network import NetworkFeatures
from img2brain.metrics.pearson import pearson
from img2brain.moments import Moments
from img2brain.predecessor.layers import LAYERS
from img2brain.spec import BackboneSpec
from img2brain.store import Store

PAIRS = (
    *(("generated", network) for network in ("alexnet", "resnet50", "inception_v3", "vgg16")),
    *((recording, "alexnet") for recording in ("v4-210224", "v4-210325")),
)
RECORDINGS = Path(__file__).parents[3] / "shared" / "data"
N_IMAGES, N_VOXELS = 8857, 2000
SIZES = (10, 30, 100)
FITS = {"linear": (None,), "ridge": (0.01, 0.1, 1.0, 10.0), "lasso": (0.01, 0.1), "multi_task_lasso": (0.01, 0.1)}


def compare(name: str, network: str) -> Any:
    """Make the contender for one dataset and network."""

    def measure(folder: Path) -> Figures:
        path = _path(folder, name)
        if path is None:
            return {"absent": name}
        images, Y = (
            find_images(path / "trainingIMG"),
            np.load(path / "trainingfMRI" / "training.npy").astype(np.float64),
        )
        scores, seconds = {}, {}
        for precision in ("float32", "bfloat16"):
            start = time.perf_counter()
            scores[precision] = np.array(list(_scores(folder / f"cache-{name}", images, Y, network, precision)))
            seconds[precision] = time.perf_counter() - start
        difference = np.abs(scores["bfloat16"] - scores["float32"])
        return {
            "images": len(Y),
            "voxels": Y.shape[1],
            "fits": len(difference),
            "best": float(np.nanmax(scores["float32"])),
            "best_bfloat16": float(np.nanmax(scores["bfloat16"])),
            "mean": float(np.nanmean(difference)),
            "largest": float(np.nanmax(difference)),
            "seconds": seconds,
        }

    return measure


def _path(folder: Path, name: str) -> Path | None:
    """Return the folder of a dataset, or None where it is not at hand."""
    path = RECORDINGS / name
    if name == "generated":
        return write_dataset(folder / name, N_IMAGES, N_VOXELS)
    return path if path.is_dir() else None


def _scores(cache: Path, images: tuple[Path, ...], Y: Any, network: str, precision: Any) -> Iterator[float]:
    """Yield the median score of every fit."""
    layers = LAYERS[network]
    spec = BackboneSpec(name=network, weights="random:224", layers=layers, preprocessing="resize224")
    digests = [digest.of_file(path) for path in images]
    rows = np.random.default_rng(0).permutation(len(images))
    train, validation = np.sort(rows[: len(rows) * 8 // 10]), np.sort(rows[len(rows) * 8 // 10 :])
    features = NetworkFeatures(
        spec, images, digests, Store(cache), train, max(SIZES), device="cpu", precision=precision
    )
    for layer, size in product(layers, SIZES):
        Z = features.components(layer, train, max(SIZES)).leading(size).coordinates
        moments = Moments.from_rows(Z[train], Y[train])
        for name, shares in FITS.items():
            for share in shares:
                regressor: Any = REGRESSORS[name]()
                if share is not None:
                    regressor.set_params(alpha=share * regressor.alpha_scale(moments))
                r = pearson(Y[validation], regressor.fit_moments(moments).predict(Z[validation]))
                yield float(np.median(np.where(np.isnan(r), -1, r)))  # a constant prediction ranks last


def report(_: Path, figures: dict[str, Figures]) -> str:
    """Put one line for each dataset and network."""
    head = [
        "",
        "images",
        "voxels",
        "fits",
        "best r float32",
        "bfloat16",
        "mean change",
        "largest",
        "s float32",
        "s bfloat16",
    ]
    rows = [
        [name, item["images"], item["voxels"], item["fits"], f"{item['best']:.4f}", f"{item['best_bfloat16']:.4f}"]
        + [f"{item['mean']:.5f}", f"{item['largest']:.5f}"]
        + [f"{item['seconds'][precision]:.0f}" for precision in ("float32", "bfloat16")]
        for name, item in figures.items()
        if "fits" in item
    ]
    return table(head, rows)


if __name__ == "__main__":
    main(__file__, {f"{name}-{network}": compare(name, network) for name, network in PAIRS}, report)
