"""The bare forward pass: a network as torchvision gives it, on a batch that is in memory, in the fastest layout.

It keeps freed memory as ours does, without which it is up to a fifth slower. The pace of a machine varies: a comparison
takes it before and after what it is compared with.
"""

from __future__ import annotations

import time

import torch
from torchvision import models

BATCH_SIZES = {"cpu": (8, 16, 32, 64), "cuda": (64, 128, 256, 512)}
_WARM_S, _MEASURED_S = {"cpu": 2.0, "cuda": 0.5}, {"cpu": 8.0, "cuda": 2.0}


def images_per_second(name: str, dtype: torch.dtype, device: torch.device, share: float = 1.0) -> tuple[float, int]:
    """Return the best rate of a whole network over some batch sizes, and the size it was found at.

    `share` is that of the usual time that it is taken for: with less it is rougher.
    """
    scheme = {"init_weights": True} if name == "inception_v3" else {}
    network = models.get_model(name, weights=None, **scheme).eval()
    network = network.to(device=device, dtype=dtype, memory_format=torch.channels_last)
    rates = {
        size: _rate(network, size, dtype, device, share * _WARM_S[device.type]) for size in BATCH_SIZES[device.type]
    }
    best = max(rates, key=rates.__getitem__)
    return _rate(network, best, dtype, device, share * _MEASURED_S[device.type]), best


def _rate(network: torch.nn.Module, size: int, dtype: torch.dtype, device: torch.device, duration: float) -> float:
    batch = torch.randn(size, 3, 224, 224, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        network(batch)
        start, n_images = time.perf_counter(), 0
        while time.perf_counter() - start < duration:
            network(batch)
            n_images += size
            if device.type == "cuda":
                torch.cuda.synchronize()
    return n_images / (time.perf_counter() - start)
