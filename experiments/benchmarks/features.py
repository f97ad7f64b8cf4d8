"""Features of one network, all its published layers, decode and PCA included, beside its bare forward pass.

The other peer goes the predecessor's way: one pass per layer that fits scikit-learn's IncrementalPCA, batch by batch,
and one more that applies it, float32, on a few images, scaled to all. Run it with

    uv run python experiments/benchmarks/features.py
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _bare import images_per_second
from _bench import Figures, main, table
from _pictures import write_dataset
from PIL import Image
from sklearn.decomposition import IncrementalPCA
from torchvision import models, transforms
from torchvision.models.feature_extraction import create_feature_extractor

from img2brain import digest
from img2brain.datasets._images import find_images
from img2brain.features.extract import find_device, find_precision
from img2brain.features.network import NetworkFeatures
from img2brain.predecessor.layers import LAYERS
from img2brain.spec import BackboneSpec
from img2brain.store import Store

NETWORKS = {"alexnet": 2.0, "vgg16": 1.35, "resnet50": 1.35, "inception_v3": 1.8}
N_IMAGES, N_COMPONENTS = 8857, 30  # the predecessor's
N_PEER, PEER_BATCH = 50, 50


def ours(
    name: str, layers: tuple[str, ...] | None = None, n_images: int = N_IMAGES, device: str = "auto"
) -> Callable[[Path], Figures]:
    """Measure one pass and the PCA of all layers, by default the published ones, from files to stored components."""
    layers = layers or LAYERS[name]

    def measure(folder: Path) -> Figures:
        images = _images(folder, n_images)
        spec = BackboneSpec(name=name, weights="random:224", layers=layers, preprocessing="resize224")
        digests, rows = [digest.of_file(path) for path in images], np.arange(n_images * 8 // 10)
        store = Store(folder / f"cache-{name}")
        features = NetworkFeatures(spec, images, digests, store, rows, N_COMPONENTS, device=device)
        assert features.facts  # weights and their digest are there before the clock starts
        start = time.perf_counter()
        features.extract()
        for layer in features.layers:
            features.components(layer, rows, N_COMPONENTS)
        n_features = sum(features.backbone.extractor(features.layers).n_features.values())
        return {"seconds": time.perf_counter() - start, "precision": features.precision, "n_features": n_features}

    return measure


def bare(name: str) -> Callable[[Path], Figures]:
    """Measure the whole network's forward pass on tensors in memory, in the same precision."""

    def measure(_folder: Path) -> Figures:
        device = find_device("auto")
        rate, size = images_per_second(name, find_precision("auto", device), device)
        return {"seconds": N_IMAGES / rate, "rate": rate, "batch_size": size}

    return measure


def predecessor(name: str) -> Callable[[Path], Figures]:
    """Measure one pass per layer to fit and one to apply, on a few images."""

    def measure(folder: Path) -> Figures:
        images = _images(folder)[:N_PEER]
        scheme = {"init_weights": True} if name == "inception_v3" else {}
        network = models.get_model(name, weights=None, **scheme).eval()
        normalise = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        prepare = transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor(), normalise])
        start = time.perf_counter()
        for layer in LAYERS[name]:
            extractor = create_feature_extractor(network, [layer], suppress_diff_warning=True).eval()
            reduction = IncrementalPCA(N_COMPONENTS)
            for step in (reduction.partial_fit, reduction.transform):
                for first in range(0, N_PEER, PEER_BATCH):
                    pictures = [prepare(Image.open(path).convert("RGB")) for path in images[first : first + PEER_BATCH]]
                    with torch.inference_mode():
                        step(extractor(torch.stack(pictures))[layer].flatten(1).numpy())
        return {"seconds": (time.perf_counter() - start) * N_IMAGES / N_PEER}

    return measure


def _images(folder: Path, n_images: int = N_IMAGES) -> tuple[Path, ...]:
    path = write_dataset(folder / "data", n_images, 10)
    os.sync()  # the system would write the pictures while the first network is timed
    return find_images(path / "trainingIMG")


def report(_folder: Path, figures: dict[str, Figures]) -> str:
    """Build the table."""
    rows = []
    for name, target in NETWORKS.items():
        before, mine, after, peer = (figures.get(f"{kind}-{name}") for kind in KINDS)
        if before and mine and after:
            plain = (before["seconds"] + after["seconds"]) / 2
            rows.append(
                [name, mine["n_features"], f"{before['rate']:.0f}, {after['rate']:.0f}", f"{plain:.1f}",
                 f"{mine['seconds']:.1f}", f"{mine['seconds'] / plain:.2f}", f"{target:.2f}", f"{mine['peak_mib']:.0f}",
                 *([f"{peer['seconds']:.0f}", f"{peer['seconds'] / mine['seconds']:.0f} x"] if peer else ["", ""])]
            )  # fmt: skip
    precisions = {item["precision"] for item in figures.values() if "precision" in item}
    head = ["network", "features", "bare images/s", "bare s", "ours s", "ratio", "aim", "ours MiB", "as before s", ""]
    return (
        f"{N_IMAGES} images of 425 x 425 pixels, the published layers, {N_COMPONENTS} components; forward passes in "
        f"{', '.join(precisions)}\nbare: taken before and after ours\n"
        f"as before: a pass per layer to fit IncrementalPCA and one to apply it, float32, {N_PEER} images, scaled\n"
        f"\n{table(head, rows)}"
    )


KINDS = {"bare": bare, "ours": ours, "bare again": bare, "predecessor": predecessor}

if __name__ == "__main__":
    main(__file__, {f"{kind}-{name}": make(name) for name in NETWORKS for kind, make in KINDS.items()}, report)
