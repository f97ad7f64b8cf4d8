"""Images -> activations: one decode and one forward pass per image give every requested layer."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from img2brain._arrays import n_threads
from img2brain.backbones import exact_products
from img2brain.datasets._images import AS_STORED, open_pixels
from img2brain.datasets._presentation import Presentation
from img2brain.errors import DeviceError
from img2brain.spec import DEVICE_PATTERN

ImageSource = Path | str | bytes | Image.Image | NDArray[Any]
Batch = tuple[slice, Mapping[Any, torch.Tensor]]
Precision = Literal["auto", "bfloat16", "float32"]

_MANY_CORES = 4  # on fewer, a pass beside other work takes from that what it gains
_GPU_BATCH = 128
_CACHE_BYTES = 1 << 24
_DECODED_TOGETHER = 256  # After a forward pass one of torch's threads keeps a core busy for some 10 ms.
# A GPU must not wait for decoding. A processor that decodes meanwhile computes the slower: measured, 5 % in all.
_AHEAD = {"cpu": 0, "cuda": 4}


class Network(Protocol):
    """Maps a batch (n, 3, height, width) to named activations (n, n_features)."""

    @property
    def n_widest(self) -> int:
        """The most numbers that one operation makes of one image."""
        ...

    def __call__(self, batch: torch.Tensor, /) -> Mapping[Any, torch.Tensor]:
        """Run a batch."""
        ...


class Preparation(Protocol):
    """Makes a network's input of pictures."""

    def resized(self, height: int, width: int, /) -> tuple[int, int]:
        """Return the height and width that a picture is brought to before it is cropped."""
        ...

    def pixels(self, picture: NDArray[np.uint8], /) -> torch.Tensor:
        """Bring a picture (height, width, 3) to the size of the network: uint8, (3, height, width)."""
        ...

    def normalise(self, pixels: torch.Tensor, dtype: torch.dtype, /) -> torch.Tensor:
        """Scale the bytes of a batch (n, 3, height, width)."""
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


def cores_allow(device: torch.device) -> bool:
    """Tell whether a pass and other work go on well at once: where there are cores for both, or a device for it."""
    return device.type != "cpu" or n_threads() >= _MANY_CORES


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
        known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # Earlier versions of torch lack it.
        fast = any(known.get(unit, False) for unit in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if fast else torch.float32


def find_batch_size(n_widest: int, dtype: torch.dtype, device: torch.device) -> int:
    """Return the number of images of a forward pass that suits a device.

    Parameters
    ----------
    n_widest : int
        The most numbers that an operation of the network makes of one image: a batch of them should stay in a
        processor's cache.
    dtype : torch.dtype
        Their type.
    device : torch.device
        Where the network runs.
    """
    if device.type == "cuda":
        return _GPU_BATCH
    fitting = _CACHE_BYTES // (n_widest * dtype.itemsize)
    return next(size for size in (64, 32, 16, 8) if size <= max(fitting, 8))


def activations(
    network: Network,
    preparation: Preparation,
    images: Sequence[ImageSource],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    batch_size: int | None = None,
    *,
    n_together: int = _DECODED_TOGETHER,
    n_ahead: int | None = None,
    presentation: Presentation = AS_STORED,
) -> Iterator[Batch]:
    """Run images through a network, batch by batch, decoding the next ones meanwhile.

    Parameters
    ----------
    network : Network
        On the device, in the type; see `img2brain.backbones.accelerated`.
    preparation : Preparation
        Preprocessing: of each decoded picture, and of a batch on the device.
    images : sequence of path, bytes of a file, PIL image or array
        One row each.
    device : torch.device
        Where the network runs; the activations stay there.
    dtype : torch.dtype
        The type of the network.
    batch_size : int, optional
        Images per forward pass.
    n_together : int
        Images that are decoded together, rounded to whole batches.
    n_ahead : int, optional
        How many such groups are decoded while the network computes; by default what suits the device.
    presentation : Presentation
        How the images were shown.

    Yields
    ------
    rows : slice
        The images of the batch.
    layers : dict of str or Block to torch.Tensor
        Activations by layer, in the type of the network.

    Raises
    ------
    DataError
        If an image does not decode or has too many pixels; the message names it.
    """

    def work(image: ImageSource) -> torch.Tensor:
        source = Path(image) if isinstance(image, str) else image
        picture = open_pixels(source, presentation, preparation.resized)
        return preparation.pixels(picture).permute(1, 2, 0)

    size = batch_size or find_batch_size(network.n_widest, dtype, device)
    n_decoded = size * max(1, n_together // size)
    n_ahead = _AHEAD[device.type] if n_ahead is None else n_ahead
    with ThreadPoolExecutor(n_threads()) as pool, torch.inference_mode():
        for first, pixels in _ahead(pool, work, images, n_decoded, n_ahead):
            for start in range(0, len(pixels), size):
                part = pixels[start : start + size]
                stacked = torch.stack(part)
                if device.type == "cuda":
                    stacked = stacked.pin_memory().to(device, non_blocking=True)
                batch = preparation.normalise(stacked.permute(0, 3, 1, 2), dtype)
                with exact_products():
                    found = network(batch)
                yield slice(first + start, first + start + len(part)), found


def _ahead(
    pool: ThreadPoolExecutor,
    work: Callable[[ImageSource], torch.Tensor],
    images: Sequence[ImageSource],
    n_together: int,
    n_ahead: int,
) -> Iterator[tuple[int, list[torch.Tensor]]]:
    """Prepare some images together, and a few such groups ahead of the one in use: memory stays bounded.

    Yields
    ------
    first : int
        Row of the first image of the group.
    prepared : list of torch.Tensor
    """
    waiting: deque[tuple[int, list[Future[torch.Tensor]]]] = deque()
    try:
        for first in range(0, len(images), n_together):
            waiting.append((first, [pool.submit(work, image) for image in images[first : first + n_together]]))
            if len(waiting) > n_ahead:
                yield _finished(waiting.popleft())
        while waiting:
            yield _finished(waiting.popleft())
    finally:
        for _, futures in waiting:
            for future in futures:
                future.cancel()


def _finished(group: tuple[int, list[Future[torch.Tensor]]]) -> tuple[int, list[torch.Tensor]]:
    first, futures = group
    return first, [future.result() for future in futures]
