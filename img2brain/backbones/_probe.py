"""What a network makes of one picture, in few numbers that tell whether a rebuilt network is the one that was saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from img2brain.backbones._exact import exact_products
from img2brain.backbones._graph import Extractor
from img2brain.backbones._preprocessing import Preprocessing

N_NUMBERS = 32
TOLERANCE = 1e-3  # of the size of the numbers: processors and releases of torch differ in the last bits, by some 1e-6


class Restored(Protocol):
    """One layer of a network, rebuilt."""

    @property
    def layer(self) -> str:
        """The one layer."""
        ...

    @property
    def pruned(self) -> Extractor:
        """What computes it."""
        ...

    @property
    def preprocessing(self) -> Preprocessing:
        """From a picture to the network's input."""
        ...


def sketch(restored: Restored) -> list[float]:
    """Reduce what a layer makes of one pseudo-random picture to 33 numbers, in float32 on the processor.

    Returns
    -------
    list of float
        Sums of 32 ranges of the activations with random signs, over the square root of their length; and the root of
        the mean square of all. The signs make every activation, and its place, count.
    """
    random = np.random.RandomState(0)
    height, width = restored.preprocessing.size
    picture = torch.from_numpy(random.standard_normal((1, 3, height, width)).astype(np.float32))
    with torch.inference_mode(), exact_products():
        found = restored.pruned(picture)[restored.layer][0]
    values = np.nan_to_num(found.double().numpy(), posinf=0.0, neginf=0.0)
    signed = values * (2 * random.randint(0, 2, len(values)) - 1)
    sums = [float(part.sum() / np.sqrt(max(1, len(part)))) for part in np.array_split(signed, N_NUMBERS)]
    return [*sums, float(np.sqrt(np.mean(np.square(values))))]


def agree(found: Sequence[float], kept: Sequence[float]) -> bool:
    """Tell whether two sketches are of the same function, up to rounding."""
    if len(found) != len(kept):
        return False
    return bool(np.abs(np.subtract(found, kept)).max() <= TOLERANCE * abs(kept[-1]))
