"""Images -> activations: one decode and one forward pass per image give every requested layer."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from img2brain.datasets._images import open_image
from img2brain.errors import DeviceError
from img2brain.spec import DEVICE_PATTERN

ImageSource = Path | str | Image.Image | NDArray[Any]
Batch = tuple[slice, dict[str, torch.Tensor]]

BATCH_SIZE = 32
_BATCHES_AHEAD = 2


def find_device(name: str) -> torch.device:
    """Return the device of this name.

    Parameters
    ----------
    name : str
        ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Raises
    ------
    DeviceError
        If the name is none of these, or a GPU is asked for that is not there; there is no silent fallback.
    """
    if not re.fullmatch(DEVICE_PATTERN, name):
        raise DeviceError(f"The 'device' must be 'auto', 'cpu', 'cuda' or 'cuda:N'. Got {name!r}.")
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if n_gpus else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= n_gpus:
        raise DeviceError(f"The device {name!r} is not there: {n_gpus} GPUs found. Use device = 'cpu' or 'auto'.")
    return device


def activations(
    network: torch.nn.Module,
    prepare: Callable[[Image.Image], torch.Tensor],
    images: Sequence[ImageSource],
    device: torch.device,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Batch]:
    """Run images through a network, batch by batch, decoding the next ones meanwhile.

    Parameters
    ----------
    network : torch.nn.Module
        Maps a batch (n, 3, height, width) to named activations (n, n_features).
    prepare : callable
        Preprocessing of one decoded image.
    images : sequence of path, PIL image or array
        One row each.
    device : torch.device
        Where the network runs; the activations stay there.
    batch_size : int
        Images per forward pass.

    Yields
    ------
    rows : slice
        The images of the batch.
    layers : dict of str to torch.Tensor
        Activations by layer, float32.

    Raises
    ------
    DataError
        If an image does not decode; the message names it.
    """
    network = network.to(device)

    def work(image: ImageSource) -> torch.Tensor:
        return prepare(open_image(Path(image) if isinstance(image, str) else image))

    with ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool, torch.inference_mode():
        for rows, tensors in _ahead(pool, work, images, batch_size):
            yield rows, network(torch.stack(tensors).to(device))


@dataclass(frozen=True)
class Spilled:
    """Activations of one layer on disk, less an offset.

    Attributes
    ----------
    values : memory map (n_images, n_features), float32
        Activations minus `offset`: sums of what is near zero keep their digits.
    offset : ndarray (n_features,), float32
        Mean of the first batch.
    """

    values: NDArray[np.float32]
    offset: NDArray[np.float32]


def spill(batches: Iterator[Batch], folder: Path) -> dict[str, Spilled]:
    """Write activations to disk as they come, so that no layer is ever held whole in memory.

    Parameters
    ----------
    batches : iterator of (rows, layers)
        From `activations`.
    folder : Path
        Where the files are written.

    Returns
    -------
    dict of str to Spilled
        By layer.
    """
    offsets: dict[str, torch.Tensor] = {}
    with ExitStack() as files:
        for _, layers in batches:
            if not offsets:
                offsets = {layer: values.float().mean(dim=0) for layer, values in layers.items()}
                streams = [files.enter_context((folder / f"{number}.f32").open("wb")) for number in range(len(layers))]
            for stream, (layer, values) in zip(streams, layers.items(), strict=True):
                stream.write((values.float() - offsets[layer]).cpu().numpy().data)
    return {
        layer: Spilled(_mapped(folder / f"{number}.f32", len(offset)), offset.cpu().numpy())
        for number, (layer, offset) in enumerate(offsets.items())
    }


def _mapped(path: Path, n_features: int) -> NDArray[np.float32]:
    """Map a file of rows; copy-on-write, since torch takes no read-only arrays."""
    return np.memmap(path, np.float32, "c").reshape(-1, n_features)


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[ImageSource], torch.Tensor], images: Sequence[ImageSource], size: int
) -> Iterator[tuple[slice, list[torch.Tensor]]]:
    """Prepare a few batches ahead of the one that is used, and no more: memory stays bounded."""
    waiting: deque[tuple[slice, list[Future[torch.Tensor]]]] = deque()
    try:
        for start in range(0, len(images), size):
            rows = slice(start, min(start + size, len(images)))
            waiting.append((rows, [pool.submit(work, image) for image in images[rows]]))
            if len(waiting) > _BATCHES_AHEAD:
                yield _finished(waiting.popleft())
        while waiting:
            yield _finished(waiting.popleft())
    finally:
        for _, futures in waiting:
            for future in futures:
                future.cancel()


def _finished(batch: tuple[slice, list[Future[torch.Tensor]]]) -> tuple[slice, list[torch.Tensor]]:
    rows, futures = batch
    return rows, [future.result() for future in futures]
