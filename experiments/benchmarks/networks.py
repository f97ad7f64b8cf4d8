"""Features of timm's networks, all curated layers pooled two ways, decode and PCA included, beside the bare pass.

Beside it the way of the field's extractors (thingsvision, Net2Brain): a pass for each layer by a forward hook, in
float32, without pooling or PCA, on fewer images, scaled to all. The two themselves cannot be installed beside a torch
of today: thingsvision 2.7 asks for torch 2.0, and Net2Brain is in no package index. Run it with

    uv run --extra timm python experiments/benchmarks/networks.py
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _bench import Figures, main, table
from _pictures import write_dataset
from PIL import Image

from img2brain import digest
from img2brain.backbones import curated_layers
from img2brain.datasets._images import find_images
from img2brain.features.extract import Precision, find_device
from img2brain.features.network import NetworkFeatures
from img2brain.spec import BackboneSpec, FeatureSpace
from img2brain.store import Store

NETWORKS = {
    "vit_base_patch16_224": 1.35, "vit_small_patch14_dinov2": 1.35, "convnext_tiny": 1.35, "resnet50": 1.35,
}  # fmt: skip
POOLING = ("cls", "mean")
N_IMAGES, N_COMPONENTS, N_PEER, PEER_BATCH = 2000, 200, 16, 16
FEWER = {"vit_small_patch14_dinov2": 500}  # of 518 x 518 pixels: an hour at two cores otherwise
PRECISION: Precision = "bfloat16"
DTYPE = torch.bfloat16
BATCH_SIZES, WARM_S, MEASURED_S = (4, 8, 16, 32), 3.0, 10.0


def ours(name: str) -> Callable[[Path], Figures]:
    """Measure one pass, pooling and the PCA of all curated layers, from files to stored components."""

    def measure(folder: Path) -> Figures:
        images = _images(folder)[: _n_images(name)]
        spec = BackboneSpec(name=f"timm:{name}", weights="random:0", pooling=POOLING)
        digests, rows = [digest.of_file(path) for path in images], np.arange(_n_images(name) * 8 // 10)
        store = Store(folder / f"cache-{name}")
        features = NetworkFeatures(spec, images, digests, store, rows, N_COMPONENTS, precision=PRECISION)
        assert features.facts  # weights and their digest are there before the clock starts
        start, start_cpu = time.perf_counter(), time.process_time()
        features.extract()
        spaces = [
            FeatureSpace(layer=layer, pooling=pooling)
            for layer in features.layers
            for pooling in features.poolings(layer)
        ]
        for space in spaces:
            features.components(space, rows, N_COMPONENTS)
        taken = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - start_cpu}
        return taken | {"n_spaces": len(spaces)}

    return measure


def bare(name: str) -> Callable[[Path], Figures]:
    """Measure the whole network's forward pass on tensors in memory, in the same precision, in the better layout."""

    def measure(_folder: Path) -> Figures:
        import timm

        network = timm.create_model(name).eval().to(find_device("auto"), DTYPE)
        size = network.pretrained_cfg["input_size"][-1]
        rates = {}
        for layout in (torch.channels_last, torch.contiguous_format):
            network = network.to(memory_format=layout)
            for n_images in BATCH_SIZES:
                rates[layout, n_images] = _rate(network, n_images, size, layout, WARM_S)
        layout, n_images = max(rates, key=rates.__getitem__)
        network, start = network.to(memory_format=layout), time.perf_counter()
        start_cpu = time.process_time()
        rate = _rate(network, n_images, size, layout, MEASURED_S)
        busy = (time.process_time() - start_cpu) / (time.perf_counter() - start)
        taken = _n_images(name) / rate
        return {"seconds": taken, "cpu": busy * taken, "rate": rate, "pixels": size}

    return measure


def per_layer(name: str) -> Callable[[Path], Figures]:
    """Measure a pass for each curated layer, by a forward hook, in float32, on a few images."""

    def measure(folder: Path) -> Figures:
        import timm
        from timm.data import create_transform, resolve_data_config

        network = timm.create_model(name).eval()
        prepare = create_transform(**resolve_data_config({}, model=network))
        images, found = _images(folder)[:N_PEER], dict[str, torch.Tensor]()
        start = time.perf_counter()
        for layer in curated_layers(f"timm:{name}"):
            hook = network.get_submodule(layer).register_forward_hook(
                lambda _module, _input, output, layer=layer: found.update({layer: output.flatten(1).numpy()})
            )
            for first in range(0, N_PEER, PEER_BATCH):
                pictures = [prepare(Image.open(path).convert("RGB")) for path in images[first : first + PEER_BATCH]]
                with torch.inference_mode():
                    network(torch.stack(pictures))
            hook.remove()
        return {"seconds": (time.perf_counter() - start) * _n_images(name) / N_PEER}

    return measure


def _rate(network: torch.nn.Module, n_images: int, size: int, layout: torch.memory_format, duration: float) -> float:
    """Return images per second."""
    device = next(network.parameters()).device
    batch = torch.randn(n_images, 3, size, size, device=device, dtype=DTYPE).contiguous(memory_format=layout)
    with torch.inference_mode():
        network(batch)
        start, n_done = time.perf_counter(), 0
        while time.perf_counter() - start < duration:
            network(batch)
            n_done += n_images
            if device.type == "cuda":
                torch.cuda.synchronize()
    return n_done / (time.perf_counter() - start)


def _n_images(name: str) -> int:
    return FEWER.get(name, N_IMAGES)


def _images(folder: Path) -> tuple[Path, ...]:
    path = write_dataset(folder / "data", N_IMAGES, 10)
    os.sync()  # the system would write the pictures while the first network is timed
    return find_images(path / "trainingIMG")


def report(_folder: Path, figures: dict[str, Figures]) -> str:
    """Build the table."""
    rows = []
    for name, target in NETWORKS.items():
        before, mine, after, peer = (figures.get(f"{kind}-{name}") for kind in KINDS)
        bare_ones = [item for item in (before, after) if item]
        if not bare_ones or not mine:
            continue
        plain = sum(item["seconds"] for item in bare_ones) / len(bare_ones)
        cpu = sum(item["cpu"] for item in bare_ones) / len(bare_ones)
        others = [f"{peer['seconds']:.0f}", f"{peer['seconds'] / mine['seconds']:.0f} x"] if peer else ["-", "-"]
        rates = ", ".join(f"{item['rate']:.1f}" for item in bare_ones)
        rows.append(
            [name, _n_images(name), bare_ones[0]["pixels"], mine["n_spaces"], rates,
             f"{plain:.0f}", f"{mine['seconds']:.0f}",
             f"{mine['seconds'] / plain:.2f}", f"{target:.2f}", f"{mine['cpu'] / cpu:.2f}", f"{mine['peak_mib']:.0f}",
             *others]
        )  # fmt: skip
    head = [
        "network",
        "images",
        "pixels",
        "spaces",
        "bare images/s",
        "bare s",
        "ours s",
        "ratio",
        "aim",
        "CPU",
        "ours MiB",
    ]
    return (
        f"images of 425 x 425 pixels, all curated layers, pooled by {' and '.join(POOLING)}, {N_COMPONENTS} "
        f"components, {PRECISION}\nbare: taken before and after ours\n"
        "CPU: the ratio in seconds of processors, which other work disturbs less\n"
        f"per layer: a pass for each, float32, neither pooled nor reduced, {N_PEER} images, scaled\n"
        f"\n{table([*head, 'per layer s', ''], rows)}"
    )


KINDS = {"bare": bare, "ours": ours, "bare again": bare, "per layer": per_layer}

if __name__ == "__main__":
    main(__file__, {f"{kind}-{name}": make(name) for name in NETWORKS for kind, make in KINDS.items()}, report)
