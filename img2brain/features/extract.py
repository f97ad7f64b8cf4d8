"""Images -> activations: one decode and one forward pass per image give every requested layer."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from img2brain.datasets._images import open_image
from img2brain.errors import DeviceError
from img2brain.spec import DEVICE_PATTERN

ImageSource = Path | str | Image.Image | NDArray[Any]
Batch = tuple[slice, dict[str, torch.Tensor]]
Pixels = NDArray[np.uint8]
Precision = Literal["auto", "bfloat16", "float32"]

_BATCH_SIZE = {"cpu": 16, "cuda": 128}  # a small batch stays in a processor's cache
_BATCHES_AHEAD = 2


class Network(Protocol):
    """Maps a batch (n, 3, height, width) to named activations (n, n_features)."""

    def __call__(self, batch: torch.Tensor, /) -> dict[str, torch.Tensor]:
        """Run a batch."""
        ...


class Preparation(Protocol):
    """From a decoded image to what a network sees; see `img2brain.backbones.Preprocessing`."""

    def pixels(self, image: Image.Image) -> Pixels:
        """Resize and crop."""
        ...

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Scale a batch."""
        ...


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


def find_precision(name: Precision, device: torch.device) -> torch.dtype:
    """Return the type that a network computes in.

    Parameters
    ----------
    name : {"auto", "bfloat16", "float32"}
        ``"auto"`` is bfloat16 where the device multiplies it faster than float32, else float32.
    device : torch.device
        Where the network runs.
    """
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # of later versions of torch
        fast = any(known.get(unit, False) for unit in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if fast else torch.float32


def find_batch_size(device: torch.device) -> int:
    """Return the number of images of a forward pass that suits a device."""
    return _BATCH_SIZE[device.type]


def activations(
    network: Network,
    prepare: Preparation,
    images: Sequence[ImageSource],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    batch_size: int | None = None,
) -> Iterator[Batch]:
    """Run images through a network, batch by batch, decoding the next ones meanwhile.

    Parameters
    ----------
    network : Network
        On the device, in the type; see `img2brain.backbones.accelerated`.
    prepare : Preparation
        Preprocessing of the images.
    images : sequence of path, PIL image or array
        One row each.
    device : torch.device
        Where the network runs; the activations stay there.
    dtype : torch.dtype
        The type of the network.
    batch_size : int, optional
        Images per forward pass.

    Yields
    ------
    rows : slice
        The images of the batch.
    layers : dict of str to torch.Tensor
        Activations by layer, in the type of the network.

    Raises
    ------
    DataError
        If an image does not decode; the message names it.
    """

    def work(image: ImageSource) -> Pixels:
        return prepare.pixels(open_image(Path(image) if isinstance(image, str) else image))

    size = batch_size or find_batch_size(device)
    with ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool, torch.inference_mode():
        for rows, pixels in _ahead(pool, work, images, size):
            batch = torch.from_numpy(np.stack(pixels))
            if device.type == "cuda":
                batch = batch.pin_memory().to(device, non_blocking=True)
            yield rows, network(prepare.normalise(batch).to(dtype))


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[ImageSource], Pixels], images: Sequence[ImageSource], size: int
) -> Iterator[tuple[slice, list[Pixels]]]:
    """Prepare a few batches ahead of the one that is used, and no more: memory stays bounded."""
    waiting: deque[tuple[slice, list[Future[Pixels]]]] = deque()
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


def _finished(batch: tuple[slice, list[Future[Pixels]]]) -> tuple[slice, list[Pixels]]:
    rows, futures = batch
    return rows, [future.result() for future in futures]
