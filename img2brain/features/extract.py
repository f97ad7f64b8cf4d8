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

from img2brain._arrays import n_threads, slices
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
_RUN = 8  # pictures that a thread prepares one after another, at most
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

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what the network sees, in pixels."""
        ...

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

    def prepare(run: Sequence[ImageSource], places: NDArray[np.uint8]) -> None:
        for image, place in zip(run, places, strict=True):
            source = Path(image) if isinstance(image, str) else image
            picture = open_pixels(source, presentation, preparation.resized)
            place[...] = preparation.pixels(picture).permute(1, 2, 0).numpy()

    size = batch_size or find_batch_size(network.n_widest, dtype, device)
    n_decoded = size * max(1, n_together // size)
    n_ahead = _AHEAD[device.type] if n_ahead is None else n_ahead
    groups = _Groups(prepare, images, n_decoded, (*preparation.size, 3), is_pinned=device.type == "cuda")
    with ThreadPoolExecutor(n_threads()) as pool, torch.inference_mode():
        for first, pixels in groups.ahead(pool, n_ahead):
            for start in range(0, len(pixels), size):
                part = pixels[start : start + size].to(device, non_blocking=True)
                batch = preparation.normalise(part.permute(0, 3, 1, 2), dtype)
                with exact_products():
                    found = network(batch)
                yield slice(first + start, first + start + len(part)), found


class _Groups:
    """Pictures that are prepared together, each group in one block of memory: no thread has to put them together.

    Parameters
    ----------
    prepare : callable
        Prepares a run of images, and writes them to their places.
    images : sequence of path, bytes of a file, PIL image or array
        All of them.
    n_together : int
        Images of a group.
    shape : tuple of int
        Of one that is prepared.
    is_pinned : bool
        Whether the memory is of a kind that a GPU reads by itself.
    """

    def __init__(
        self,
        prepare: Callable[[Sequence[ImageSource], NDArray[np.uint8]], None],
        images: Sequence[ImageSource],
        n_together: int,
        shape: tuple[int, ...],
        *,
        is_pinned: bool,
    ) -> None:
        self._prepare, self._images, self._n_together = prepare, images, n_together
        self._shape, self._is_pinned = shape, is_pinned

    def ahead(self, pool: ThreadPoolExecutor, n_ahead: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Prepare a few groups ahead of the one in use: memory stays bounded.

        Yields
        ------
        first : int
            Row of the first image of the group.
        prepared : torch.Tensor of uint8, shape (n_images, height, width, 3)
        """
        waiting: deque[tuple[int, torch.Tensor, list[Future[None]]]] = deque()
        try:
            for first in range(0, len(self._images), self._n_together):
                waiting.append((first, *self._begun(pool, self._images[first : first + self._n_together])))
                if len(waiting) > n_ahead:
                    yield _finished(*waiting.popleft())
            while waiting:
                yield _finished(*waiting.popleft())
        finally:
            for _, _, futures in waiting:
                for future in futures:
                    future.cancel()

    def _begun(
        self, pool: ThreadPoolExecutor, images: Sequence[ImageSource]
    ) -> tuple[torch.Tensor, list[Future[None]]]:
        prepared = torch.empty((len(images), *self._shape), dtype=torch.uint8, pin_memory=self._is_pinned)
        places = prepared.numpy()
        n_each = min(_RUN, -(-len(images) // n_threads()))
        return prepared, [pool.submit(self._prepare, images[run], places[run]) for run in slices(len(images), n_each)]


def _finished(first: int, prepared: torch.Tensor, futures: Sequence[Future[None]]) -> tuple[int, torch.Tensor]:
    for future in futures:
        future.result()
    return first, prepared
