"""Shards: ranges of images that pass a network elsewhere, and activations that stay where they were computed.

A shard is computed from a value, `Showing`, and gives a value: the activations of its images by block. What PCA makes
of activations it makes of each shard where that lies; sums are added up in pairs, in an order that the number of images
sets, and projections are put one below another. How many hosts there are changes no number.
"""

from __future__ import annotations

import math
import platform
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from img2brain import digest
from img2brain._arrays import slices
from img2brain._forks import alone
from img2brain.amounts import counted
from img2brain.backbones import Backbone, LayerKind, load_backbone
from img2brain.datasets._inside import content_of
from img2brain.datasets._presentation import Presentation
from img2brain.errors import ResourceError
from img2brain.features.activations import Activations, Rows, Tensors, Work, added
from img2brain.features.extract import ImageSource, find_batch_size, find_device
from img2brain.features.pass_ import Budget, Pass
from img2brain.features.placement import Placement
from img2brain.features.pooling import Block, Pooled
from img2brain.progress import track
from img2brain.spec import BackboneSpec
from img2brain.store import Store

T_co = TypeVar("T_co", covariant=True)

N_SHARDS = 16  # of a few thousand images; it bounds what the loss of a host costs, and how many can help
_SHARD_BYTES = 1 << 30  # The most that the activations of a shard take.
_SAMPLE = 8  # pictures that a host is asked for, to see whether it has the files

_one_at_a_time = threading.Lock()  # A pass takes all cores that its process may use, and memory for itself.


class Later(Protocol[T_co]):
    """What work elsewhere will give."""

    def result(self) -> T_co:
        """Wait for it, and bring it here; raises what the work raised."""
        ...


class Hands(Protocol):
    """Where work is done: the processes of a cluster. What was lost with a host is done again by another.

    Attributes
    ----------
    turn : context manager
        Held by who makes something here of what comes from there.
    """

    turn: AbstractContextManager[object]

    def submit(self, work: Any, /, *arguments: Any) -> Later[Any]:
        """Have a function of a module called, on values, and on what other work gives, wherever that lies."""
        ...

    def everywhere(self, work: Any, /, *arguments: Any) -> list[Any]:
        """Call a function in every process, and return what each gives."""
        ...


@dataclass(frozen=True)
class SentTensor:
    """A tensor that travels: NumPy, whose arrays travel without a copy, knows no bfloat16."""

    content: NDArray[np.uint8]
    dtype: str

    @classmethod
    def of(cls, values: torch.Tensor) -> SentTensor:
        """Take a tensor."""
        found = values.detach().cpu().contiguous()
        content = found.reshape(*found.shape, 1).view(torch.uint8).numpy()
        return cls(content, str(found.dtype).removeprefix("torch."))

    def tensor(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """Return the tensor, on a device."""
        content = self.content if self.content.flags.writeable else self.content.copy()
        return torch.from_numpy(content).view(getattr(torch, self.dtype))[..., 0].to(device)

    def __len__(self) -> int:
        return len(self.content)


class Picture(NamedTuple):
    """A picture that travels: its name, and the path of its file or what that holds."""

    name: str
    source: ImageSource


@dataclass(frozen=True)
class Showing:
    """All that a host has to know to show pictures to a network.

    Attributes
    ----------
    spec : BackboneSpec
        The network.
    digests : tuple of (str, str)
        What each of its layers computes, by digest: it must be the same on all hosts.
    blocks : tuple of Block
        What is computed.
    kinds : mapping of str to LayerKind
        Of the layers that are pooled.
    device : str
        As a study names it: each host finds its own.
    dtype : str
        What the network computes in.
    presentation : Presentation
        How the pictures were shown.
    placement : Placement, optional
        How they are placed before the network.
    """

    spec: BackboneSpec
    digests: tuple[tuple[str, str], ...]
    blocks: tuple[Block, ...]
    kinds: Mapping[str, LayerKind]
    device: str
    dtype: str
    presentation: Presentation
    placement: Placement | None = None

    def of(self, pictures: Sequence[Picture]) -> dict[Block, SentTensor]:
        """Show some pictures to the network, here and now, and return their activations."""
        device = find_device(self.device)
        images, names = [item.source for item in pictures], [item.name for item in pictures]
        with _one_at_a_time, tempfile.TemporaryDirectory(prefix="img2brain-") as folder:
            network = _network(self.spec, self.digests)
            passing = Pass(
                network, images, device, getattr(torch, self.dtype), Store(Path(folder)), Budget(), self.presentation,
                self.kinds, placement=self.placement, names=names,
            )  # fmt: skip
            with passing.recorded(self.blocks, set(self.blocks)) as found:
                return {block: SentTensor.of(values.read(0, len(images))) for block, values in found.items()}


class Sharded(Activations):
    """Activations of one block that lie in shards, wherever these are.

    Parameters
    ----------
    hands : Hands
        Works on them.
    parts : sequence of (slice, Later)
        The rows of each shard, and its activations.
    n_features : int
        Numbers of one image.
    dtype : torch.dtype
        Their type.
    device : str
        Where hosts work on them.
    """

    def __init__(
        self,
        hands: Hands,
        parts: Sequence[tuple[slice, Later[SentTensor]]],
        n_features: int,
        dtype: torch.dtype,
        device: str,
    ) -> None:
        super().__init__(parts[-1][0].stop, n_features, dtype)
        self._hands, self._parts, self._named = hands, parts, device

    @property
    def device(self) -> torch.device:
        """Return where they come when they are read: to main memory, here."""
        return torch.device("cpu")

    def append(self, values: torch.Tensor) -> None:
        """Raise: shards are computed whole."""
        raise AssertionError("shards are read, not written")

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Bring consecutive rows here."""
        return self.rows(np.arange(start, stop))

    def rows(self, numbers: Rows) -> torch.Tensor:
        """Bring some rows here."""
        found = torch.empty((len(numbers), self.n_features), dtype=self.dtype)
        asked = []
        for rows, part in self._parts:
            places = np.flatnonzero((rows.start <= numbers) & (numbers < rows.stop))
            if len(places):
                asked.append((places, self._hands.submit(_rows_of, part, numbers[places] - rows.start)))
        for places, later in asked:
            found[torch.from_numpy(places)] = later.result().tensor()
        return found

    def columns(self, part: slice) -> torch.Tensor:
        """Bring a range of the features here."""
        asked = [self._hands.submit(_columns_of, held, part) for _, held in self._parts]
        return torch.cat([later.result().tensor() for later in asked])

    def each(self, work: Work, *shared: torch.Tensor) -> Iterator[tuple[slice, Tensors]]:
        """Have some work done on each shard where it lies, and bring here what it gives."""
        for (rows, _), later in zip(self._parts, self._work(work, shared), strict=True):
            yield rows, _tensors(later.result())

    def total(self, work: Work, *shared: torch.Tensor) -> Tensors:
        """Have what some work gives of each shard added up, in pairs, and bring the sum here."""
        left = self._work(work, shared)
        while len(left) > 1:
            pairs = [left[place : place + 2] for place in range(0, len(left), 2)]
            left = [self._hands.submit(_added, *pair) if len(pair) == 2 else pair[0] for pair in pairs]
        return _tensors(left[0].result())

    def _work(self, work: Work, shared: Sequence[torch.Tensor]) -> list[Later[list[SentTensor]]]:
        held = [self._hands.submit(_same, SentTensor.of(item)) for item in shared]
        return [self._hands.submit(_worked, work, rows, self._named, part, *held) for rows, part in self._parts]


class SpreadPass(Pass):
    """A pass whose images are shown to the network in shards, wherever there are hands.

    Parameters
    ----------
    hands : Hands
        Where.
    showing : Showing
        What they have to know; the blocks are those of each call.
    *arguments, **options
        As for `Pass`.
    """

    def __init__(self, hands: Hands, showing: Showing, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._hands, self._showing = hands, showing

    def pooled(self, blocks: Sequence[Block]) -> Pooled:
        """Return the network that computes some blocks; no other is traced while this one is made."""
        with alone:
            return super().pooled(blocks)

    def _held(self, n_features: Mapping[Block, int], n_bytes: Mapping[Block, int], n_components: int) -> set[Block]:
        """Return all blocks: they take nothing of the disk here."""
        return set(n_features)

    @contextmanager
    def recorded(self, blocks: Sequence[Block], held: set[Block]) -> Iterator[dict[Block, Activations]]:
        """Show all shards, and hand out the activations of some blocks; hosts let go of them at the end."""
        network = self.pooled(blocks)
        widths = network.n_features
        row_bytes = sum(size * self._kept_as(size).itemsize for size in widths.values())
        batch = find_batch_size(network.n_widest, self._dtype, torch.device("cpu"))
        shards = list(slices(len(self._images), n_rows_of(len(self._images), row_bytes, batch)))
        parts = self._shown(replace(self._showing, blocks=tuple(blocks)), shards)
        in_shards = f"{counted(len(self._images), 'image')} in {counted(len(shards), 'shard')}"
        title = f"{self._backbone.name}: {in_shards}, {counted(len(blocks), 'layer')}"
        for later in track(
            [self._hands.submit(_is_there, *of_shard.values()) for of_shard in parts], len(shards), title
        ):
            later.result()
        yield {
            block: Sharded(
                self._hands, [(rows, found[block]) for rows, found in zip(shards, parts, strict=True)],
                widths[block], self._kept_as(widths[block]), self._showing.device,
            )
            for block in blocks
        }  # fmt: skip

    def _shown(self, showing: Showing, shards: Sequence[slice]) -> list[dict[Block, Later[SentTensor]]]:
        """Have each shard shown, and return what each block of it will be."""
        are_there = self._have_files()
        found = []
        for rows in shards:
            pictures = [
                Picture(self._name_of(row), self._source(row, are_there)) for row in range(rows.start, rows.stop)
            ]
            shown = self._hands.submit(Showing.of, showing, pictures)
            found.append({block: self._hands.submit(_block_of, shown, block) for block in showing.blocks})
        return found

    def _source(self, row: int, is_there: bool) -> ImageSource:
        image = self._images[row]
        return image if is_there or not isinstance(image, Path) else held_by(image)

    def _have_files(self) -> bool:
        """Tell whether all hosts see the files of the pictures as they are here; otherwise what they hold travels."""
        places = np.linspace(0, len(self._images) - 1, min(_SAMPLE, len(self._images))).astype(int)
        sample = [path for path in (self._images[place] for place in places) if isinstance(path, Path)]
        return all(self._hands.everywhere(_has_files, [(path, _digest_of(path)) for path in sample]))


def n_rows_of(n_images: int, row_bytes: int, batch: int) -> int:
    """Return how many images a shard has: whole batches, a sixteenth of the images, and no more than fit.

    Parameters
    ----------
    n_images : int
        All images.
    row_bytes : int
        What the activations of one take.
    batch : int
        Images of a forward pass: so each is in the company that it would have in one pass over all.

    Examples
    --------
    >>> n_rows_of(9000, 1_000_000, 64), n_rows_of(73_000, 1_000_000, 64), n_rows_of(60, 1_000_000, 8)
    (576, 1024, 8)
    """
    wanted = batch * math.ceil(n_images / N_SHARDS / batch)
    return min(wanted, batch * max(1, _SHARD_BYTES // row_bytes // batch))


def held_by(path: Path) -> bytes | NDArray[Any]:
    """Return what the file of a picture holds: its bytes, or its pixels."""
    found = content_of(path)
    return found.read_bytes() if isinstance(found, Path) else found


def _digest_of(path: Path) -> str:
    held = held_by(path)
    return digest.of_bytes(held) if isinstance(held, bytes) else digest.of_array(held)


def _has_files(expected: Sequence[tuple[Path, str]]) -> bool:
    """Tell whether these files are there; whatever stands in the way of reading one, it is not."""
    try:
        return all(_digest_of(path) == known for path, known in expected)
    except Exception:
        return False


@lru_cache(maxsize=1)
def _network(spec: BackboneSpec, digests: tuple[tuple[str, str], ...]) -> Backbone:
    """Load a network, and compare it with the one that is meant."""
    network = load_backbone(spec.name, spec.weights, spec.preprocessing)
    if network.digests([layer for layer, _ in digests]) != dict(digests):
        raise ResourceError(
            f"The network {spec.name} {spec.weights} must be the same on all hosts. Its weights or its library differ "
            f"on {platform.node()}."
        )
    return network


def _same(value: SentTensor) -> SentTensor:
    return value


def _is_there(*parts: SentTensor) -> bool:
    return bool(parts)


def _block_of(shown: Mapping[Block, SentTensor], block: Block) -> SentTensor:
    return shown[block]


def _rows_of(part: SentTensor, numbers: Rows) -> SentTensor:
    return SentTensor(part.content[numbers], part.dtype)


def _columns_of(part: SentTensor, columns: slice) -> SentTensor:
    return SentTensor(np.ascontiguousarray(part.content[:, columns]), part.dtype)


def _worked(work: Work, rows: slice, device: str, part: SentTensor, *shared: SentTensor) -> list[SentTensor]:
    place = find_device(device)
    with torch.inference_mode():
        return [
            SentTensor.of(item) for item in work(part.tensor(place), rows, *(item.tensor(place) for item in shared))
        ]


def _added(first: Sequence[SentTensor], second: Sequence[SentTensor]) -> list[SentTensor]:
    own = tuple(item.tensor().clone() for item in first)
    return [SentTensor.of(item) for item in added(own, _tensors(second))]


def _tensors(parts: Sequence[SentTensor]) -> Tensors:
    return tuple(item.tensor() for item in parts)
