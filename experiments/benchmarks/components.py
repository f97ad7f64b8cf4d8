"""Principal components of a layer: how near to the full PCA they are, and what they cost, beside scikit-learn's.

Activations are those of AlexNet features.9 (43,264 features) for 3000 generated pictures, in bfloat16, which float32
holds exactly. Each contender fits 100 components to four fifths of the images and applies them to all. *Short* is the
share of the full PCA's captured variance that a contender's components miss, over the fitted images; *in common* the
mean squared cosine between the subspaces of coordinates. Run it with

    uv run python experiments/benchmarks/components.py
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _bench import Figures, main, table
from _pictures import write_dataset
from numpy.typing import NDArray

N_IMAGES, SIZES = 3000, (30, 100)
ROWS = np.arange(N_IMAGES * 4 // 5)
BATCH = 300

Array = NDArray[Any]


def _activations(folder: Path) -> Array:
    """Return the activations in float32; computed once for a folder, in a process of their own."""
    path = folder / "activations.npy"
    if not path.exists():
        process = multiprocessing.get_context("spawn").Process(target=_extract, args=(folder, path))
        process.start()
        process.join()
    found: Array = np.load(path)
    return found


def _extract(folder: Path, path: Path) -> None:
    import torch

    from img2brain.backbones import accelerated, load_backbone
    from img2brain.datasets._images import find_images
    from img2brain.features.extract import activations

    images = find_images(write_dataset(folder / "data", N_IMAGES, 10) / "trainingIMG")
    backbone, cpu = load_backbone("alexnet", "random:224", "resize224"), torch.device("cpu")
    network = accelerated(backbone.extractor(["features.9"]), cpu, torch.bfloat16)
    batches = activations(network, backbone.preprocessing, images, cpu, torch.bfloat16)
    np.save(path, torch.cat([layers["features.9"] for _, layers in batches]).float().numpy())


def ours(folder: Path) -> Figures:
    """Measure the sketch, the components of the fitted rows, and the axes in feature space."""
    import torch

    from img2brain.features import pca
    from img2brain.features.activations import InMemory

    values = _activations(folder)
    n_images, n_features = values.shape
    held = InMemory(n_images, n_features, torch.bfloat16, torch.device("cpu"))
    held.append(torch.from_numpy(values))
    del values
    with torch.inference_mode():
        start = time.perf_counter()
        compressed = pca.compress(held, ROWS, max(SIZES))
        found = pca.fit(compressed.projected, ROWS, max(SIZES))
        pca.axes(compressed, held, found, ROWS)
        duration = time.perf_counter() - start
    np.save(folder / "ours.npy", found.coordinates)
    return {"seconds": duration}


def scikit_learn(name: str, make: Callable[[], Any]) -> Callable[[Path], Figures]:
    """Measure a fit and a transform of scikit-learn's."""

    def measure(folder: Path) -> Figures:
        values, peer = _activations(folder), make()
        start = time.perf_counter()
        peer.fit(values[ROWS])
        coordinates = np.concatenate([peer.transform(values[i : i + BATCH]) for i in range(0, N_IMAGES, BATCH)])
        duration = time.perf_counter() - start
        np.save(folder / f"{name}.npy", coordinates)
        return {"seconds": duration}

    return measure


def _full() -> Any:
    from sklearn.decomposition import PCA

    return PCA(max(SIZES), svd_solver="full")


def _randomized() -> Any:
    from sklearn.decomposition import PCA

    return PCA(max(SIZES), svd_solver="randomized", random_state=0)


def _incremental() -> Any:
    from sklearn.decomposition import IncrementalPCA

    return IncrementalPCA(max(SIZES), batch_size=BATCH)


PEERS = {"full": _full, "randomized": _randomized, "incremental": _incremental}


def _nearness(coordinates: Array, exact: Array, size: int) -> tuple[str, str]:
    """Return the share of variance that is missed, and what the subspaces have in common."""
    one, other = (item[ROWS, :size].astype(np.float64) for item in (coordinates, exact))
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    cosines = np.linalg.svd(np.linalg.qr(one)[0].T @ np.linalg.qr(other)[0], compute_uv=False)
    return f"{1 - (one**2).sum() / (other**2).sum():.1e}", f"{(cosines**2).mean():.5f}"


def report(folder: Path, figures: dict[str, Figures]) -> str:
    """Put ours before scikit-learn's."""
    rows = []
    exact = np.load(folder / "full.npy") if (folder / "full.npy").exists() else None
    for name, item in figures.items():
        near = (
            [("-", "-")] * 2 if exact is None else [_nearness(np.load(folder / f"{name}.npy"), exact, k) for k in SIZES]
        )
        ratio = f"{item['seconds'] / figures['ours']['seconds']:.0f}x" if "ours" in figures else "-"
        flat = [value for pair in near for value in pair]
        rows.append([name, f"{item['seconds']:.2f}", ratio, f"{item['peak_mib']:.0f}", *flat])
    head = ["", "seconds", "ratio", "peak MiB"] + [f"{what} ({k})" for k in SIZES for what in ("short", "in common")]
    about = f"{N_IMAGES} images, {len(ROWS)} of them fitted, AlexNet features.9, {max(SIZES)} components"
    return f"{about}\n\n{table(head, rows)}"


if __name__ == "__main__":
    main(__file__, {"ours": ours} | {name: scikit_learn(name, make) for name, make in PEERS.items()}, report)
