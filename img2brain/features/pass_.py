"""One pass over the images: every picture through the network once, within what memory and disk there is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch

from img2brain._arrays import n_threads
from img2brain._heap import keep_freed_memory
from img2brain.amounts import counted, size_text
from img2brain.backbones import Backbone, LayerKind, accelerated
from img2brain.backbones._trace import in_short
from img2brain.datasets._images import AS_STORED
from img2brain.datasets._presentation import Presentation
from img2brain.errors import FeatureError, Img2BrainError, ResourceError, StoreError, lack_of
from img2brain.features import pca
from img2brain.features.activations import Activations, InMemory, OnDisk
from img2brain.features.extract import ImageSource, activations, find_batch_size
from img2brain.features.placement import Placement, placed
from img2brain.features.pooling import Block, Pooled
from img2brain.machine import memory_limit
from img2brain.progress import track
from img2brain.store import Store

_NARROW = 8192  # A layer of no more features is reduced in float32, its weakest components included.
# The most that activations and the work on them take of a computer's memory, and no more than a quarter of it: with the
# network, the pictures and the libraries a pass stays under 6 GiB.
_MEMORY_BYTES = 9 << 29


@dataclass(frozen=True)
class Budget:
    """What a pass may take for a while.

    Attributes
    ----------
    scratch_gb : float
        Disk for activations, in GB. Layers that do not fit together take another pass over the images; one that does
        not fit alone is refused.
    memory_bytes : int, optional
        Memory for activations and the work on them. By default half of what a GPU has free, or up to 4.5 GiB of a
        computer's and a quarter of it at most.
    """

    scratch_gb: float = 50
    memory_bytes: int | None = None

    def memory(self, device: torch.device) -> int:
        """Return how many bytes of the memory of a device may be taken."""
        if self.memory_bytes is not None:
            return self.memory_bytes
        if device.type == "cuda":
            return int(0.5 * torch.cuda.mem_get_info(device)[0])
        return min(_MEMORY_BYTES, memory_limit() // 4)


class Pass:
    """Runs the images of a dataset through a network.

    Parameters
    ----------
    backbone : Backbone
        The network.
    images : sequence of Path, or of bytes of a file or array
        One row each.
    device : torch.device
        Where the network runs.
    dtype : torch.dtype
        What it computes in.
    store : Store
        Where activations are put that do not fit into memory, and where their reductions will be kept.
    budget : Budget
        What it may take.
    presentation : Presentation
        How the images were shown.
    kinds : mapping of str to LayerKind
        Of the layers that are pooled.
    reserved : int
        Memory, in bytes, that activations leave to what is made of them beside PCA.
    placement : Placement, optional
        How pictures are placed before the network.
    names : sequence of str
        Of images that are no paths.
    """

    def __init__(
        self,
        backbone: Backbone,
        images: Sequence[ImageSource],
        device: torch.device,
        dtype: torch.dtype,
        store: Store,
        budget: Budget,
        presentation: Presentation = AS_STORED,
        kinds: Mapping[str, LayerKind] = MappingProxyType({}),
        reserved: int = 0,
        placement: Placement | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self._names = names
        self._backbone, self._images = backbone, images
        self._device, self._dtype = device, dtype
        self._store, self._budget = store, budget
        self._presentation, self._kinds, self._reserved = presentation, kinds, reserved
        self._preparation = placed(backbone.preprocessing, placement)

    def activations(self, blocks: Sequence[Block], n_components: int) -> Iterator[tuple[Block, Activations]]:
        """Yield the activations of one block after another, each to be reduced to so many components at once.

        Raises
        ------
        StoreError
            If the activations of a block exceed the scratch budget, or the disk.
        """
        n_features = self._widths(blocks)
        n_bytes = self._bytes_of(n_features)
        for group in self._groups(n_bytes):
            widths = {block: n_features[block] for block in group}
            held = self._held(widths, n_bytes, n_components)
            self._require_room(widths, held, n_bytes, n_components)
            with self.recorded(group, held) as recorded:
                for block in track(group, len(group), f"{self._backbone.name}: PCA"):
                    yield block, recorded.pop(block)

    def n_shown(self, blocks: Sequence[Block]) -> float:
        """Count how many images pass the network for some blocks, infinitely many where one of them does not fit."""
        try:
            return float(len(self._groups(self._bytes_of(self._widths(blocks)))) * len(self._images))
        except StoreError:
            return math.inf

    def pooled(self, blocks: Sequence[Block]) -> Pooled:
        """Return the network that computes some blocks."""
        return Pooled(self._backbone.extractor(_layers(blocks)), blocks, self._kinds)

    def _widths(self, blocks: Sequence[Block]) -> Mapping[Block, int]:
        return self.pooled(blocks).n_features

    def _bytes_of(self, widths: Mapping[Block, int]) -> dict[Block, int]:
        return {block: size * len(self._images) * self._kept_as(size).itemsize for block, size in widths.items()}

    def _kept_as(self, n_features: int) -> torch.dtype:
        return kept_as(n_features, self._dtype)

    def _held(self, n_features: Mapping[Block, int], n_bytes: Mapping[Block, int], n_components: int) -> set[Block]:
        """Choose the blocks whose activations stay in memory, beside what PCA takes for the widest one."""
        widest = max(n_features.values())
        work = pca.work_bytes(widest, self._kept_as(widest), n_components)
        room, held = self._budget.memory(self._device) - max(work, self._reserved), set()
        for block in n_features:
            if n_bytes[block] <= room:
                room -= n_bytes[block]
                held.add(block)
        return held

    def _groups(self, n_bytes: Mapping[Block, int]) -> list[list[Block]]:
        """Group the blocks so that the activations of each group fit the scratch budget."""
        limit, groups, used = self._budget.scratch_gb, [[]], 0.0  # type: ignore[var-annotated]
        for block, size in n_bytes.items():
            if size > limit * 1e9:
                raise StoreError(
                    f"The activations of {self._backbone.name} {block} take {size_text(size)} for a while. The "
                    f"budget, 'scratch_gb', is {limit:g}."
                )
            if used + size > limit * 1e9:
                groups.append([])
                used = 0.0
            groups[-1].append(block)
            used += size
        return groups

    def _require_room(
        self, n_features: Mapping[Block, int], held: set[Block], n_bytes: Mapping[Block, int], n_components: int
    ) -> None:
        """Raise `StoreError` where the disk has no room for what a pass keeps, and what it takes for a while."""
        n_dimensions = min(len(self._images), pca.sketch_size(n_components))
        kept = 4 * len(self._images) * n_dimensions * len(n_features)
        scratch = sum(n_bytes[block] for block in n_features if block not in held)
        self._store.require_free(kept + scratch, f"A pass of {self._backbone.name}")

    @contextmanager
    def recorded(self, blocks: Sequence[Block], held: set[Block]) -> Iterator[dict[Block, Activations]]:
        """Run one pass over the images and hand out the activations of some blocks; their disk is freed at the end."""
        keep_freed_memory()
        fast = accelerated(self._backbone.extractor(_layers(blocks)), self._device, self._dtype)
        network = Pooled(fast, blocks, self._kinds)
        shown = _Shown(network, self._backbone.name)
        with self._store.scratch() as folder:
            recorded = {
                block: self._place(network.n_features[block], None if block in held else folder / f"{number}.bin")
                for number, block in enumerate(blocks)
            }
            precision = "bfloat16" if self._dtype == torch.bfloat16 else "float32"
            layers = counted(len(blocks), "layer")
            title = f"{self._backbone.name}: {counted(len(self._images), 'image')}, {layers}, {precision}"
            size = find_batch_size(network.n_widest, self._dtype, self._device)
            batches = activations(
                shown, self._preparation, self._images, self._device, self._dtype, size,
                presentation=self._presentation,
            )  # fmt: skip
            # To fill fresh memory, a file's or ours, keeps one processor busy: the blocks do it side by side.
            with ThreadPoolExecutor(n_threads()) as pool:
                for rows, values in track(batches, -(-len(self._images) // size), title):
                    for _ in pool.map(partial(self._append, recorded, rows, values), blocks):
                        pass
            del shown, network, fast
            yield recorded

    def _append(
        self, recorded: Mapping[Block, Activations], rows: slice, values: Mapping[Block, torch.Tensor], block: Block
    ) -> None:
        """Record a block of a batch; a sum tells whether all of it is finite."""
        found = values[block]
        if found.sum(dtype=torch.float32).isfinite():
            recorded[block].append(found)
            return
        bad = ~found.isfinite().flatten(1).all(dim=1)
        if bad.any():  # finite numbers, too, may have a sum that is not
            first = int(bad.int().argmax())
            raise FeatureError(
                f"The layer {str(block)!r} of {self._backbone.name} must give finite numbers. It does not of the image "
                f"{self._name_of(rows.start + first)!r}, in {str(self._dtype).removeprefix('torch.')}."
            )
        recorded[block].append(found)

    def _name_of(self, row: int) -> str:
        image = self._images[row]
        return image.name if isinstance(image, Path) else self._names[row]

    def _place(self, n_features: int, path: Path | None) -> Activations:
        """Make room for the activations of a block: in memory, or in a file."""
        if path is None:
            return InMemory(len(self._images), n_features, self._kept_as(n_features), self._device)
        return OnDisk(len(self._images), n_features, self._kept_as(n_features), path, self._device)


def kept_as(n_features: int, dtype: torch.dtype) -> torch.dtype:
    """Return the type in which activations of a network that computes in `dtype` are kept and reduced."""
    return torch.float32 if n_features <= _NARROW else dtype


class _Shown:
    """A network that sees pictures: what its code raises is said on one line, with its name."""

    def __init__(self, network: Pooled, name: str) -> None:
        self._network, self._name = network, name
        self.n_widest = network.n_widest

    def __call__(self, batch: torch.Tensor) -> dict[Block, torch.Tensor]:
        try:
            found: dict[Block, torch.Tensor] = self._network(batch)
        except Img2BrainError:
            raise
        except (Exception, SystemExit) as error:  # code of others raises anything
            if lack := lack_of(error):
                raise ResourceError(f"The pass of {self._name} could not go on: {lack}.") from error
            raise FeatureError(f"{self._name} does not take these pictures: {in_short(error)}.") from error
        return found


def _layers(blocks: Sequence[Block]) -> list[str]:
    """Name the layers that some blocks are made of, each once."""
    return list(dict.fromkeys(block.layer for block in blocks))
