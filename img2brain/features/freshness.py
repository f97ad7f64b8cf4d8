"""Is a network trained at all? Its activations are compared with those of fresh initialisations of the same network.

A checkpoint that holds no more than random numbers sees pictures as any random network of its kind does: the
similarities between pictures that its layers show lie within the spread of those of fresh seeds. Training moves them
far outside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from img2brain.backbones import Backbone, build_fresh

F64 = NDArray[np.float64]

N_SEEDS = 6
N_PICTURES = 24
N_LAYERS = 4
LEAST_DISTANCE = 3.0
_EXPONENT = 1.2  # The amplitudes of a photograph fall with frequency to about this power.


@dataclass(frozen=True)
class Freshness:
    """How far a network is from fresh initialisations.

    Attributes
    ----------
    distances : mapping of str to float
        By layer: distance of its similarities from the mean of fresh networks, in units of the largest distance that a
        fresh network has from the mean of the others.
    """

    distances: dict[str, float]

    @property
    def is_fresh(self) -> bool:
        """Whether no layer is farther than chance makes a fresh network."""
        return max(self.distances.values()) < LEAST_DISTANCE


def freshness(backbone: Backbone) -> Freshness:
    """Compare a network with fresh initialisations of its own scheme.

    Parameters
    ----------
    backbone : Backbone
        The network.

    Returns
    -------
    Freshness

    Notes
    -----
    Similarities are correlations between the activations of 24 generated pictures, which do not depend on their unit.
    Cost: seven passes of 24 pictures, and the construction of six networks.
    """
    chosen = np.linspace(0, len(backbone.layers) - 1, min(N_LAYERS, len(backbone.layers))).round().astype(int)
    layers = tuple(dict.fromkeys(backbone.layers[place] for place in chosen))
    batch = _pictures(backbone.preprocessing.size)
    own = _similarities(backbone, layers, batch)
    fresh = [_similarities(build_fresh(backbone, seed), layers, batch) for seed in range(N_SEEDS)]
    return Freshness({layer: _distance(own[layer], [item[layer] for item in fresh]) for layer in layers})


def _similarities(backbone: Backbone, layers: tuple[str, ...], batch: torch.Tensor) -> dict[str, F64]:
    """Return the correlations between pictures, each pair once, by layer."""
    with torch.inference_mode():
        found = backbone.extractor(layers)(batch)
    pairs = np.triu_indices(len(batch), 1)
    return {layer: _correlations(values.double())[pairs] for layer, values in found.items()}


def _correlations(values: torch.Tensor) -> F64:
    scaled = values / values.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
    centred = scaled - scaled.mean(dim=0)  # What all pictures share says nothing of how they differ.
    norms = centred.norm(dim=1, keepdim=True)
    unit = torch.where(norms > 0, centred / norms, torch.zeros_like(centred))
    return np.asarray((unit @ unit.T).numpy(), dtype=np.float64)


def _distance(own: F64, fresh: list[F64]) -> float:
    """Return the distance from the mean of fresh networks, in units of the largest of a fresh one from the others."""
    usual = [
        float(np.linalg.norm(item - np.mean([other for other in fresh if other is not item], axis=0))) for item in fresh
    ]
    return float(np.linalg.norm(own - np.mean(fresh, axis=0))) / max(*usual, np.finfo(np.float64).tiny)


def _pictures(size: tuple[int, int]) -> torch.Tensor:
    """Generate pictures with the spectrum of photographs, as a network sees them."""
    random = np.random.RandomState(0)
    frequencies = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None])
    amplitude = 1 / np.maximum(frequencies, 1 / max(size)) ** _EXPONENT
    noise = random.standard_normal((N_PICTURES, 3, *frequencies.shape)) + 1j * random.standard_normal(
        (N_PICTURES, 3, *frequencies.shape)
    )
    noise += 2 * noise.mean(axis=1, keepdims=True)  # The colours of a place go together.
    pictures = np.fft.irfft2(noise * amplitude, s=size)
    pictures /= pictures.std(axis=(1, 2, 3), keepdims=True)
    return torch.from_numpy(pictures.astype(np.float32))
