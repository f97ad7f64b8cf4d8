"""Features of images: principal components of layers, whether they come from a network or with the data."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from img2brain import digest
from img2brain.amounts import counted
from img2brain.errors import FeatureError, FitError, Img2BrainError, ResourceError, StoreError
from img2brain.features import pca
from img2brain.features.activations import Activations, Rows
from img2brain.features.bases import Basis, Every, Keeper, Kept, Norms, SparseProjection
from img2brain.features.cache import Cache
from img2brain.features.extract import Precision
from img2brain.features.pca import Axes, Components
from img2brain.features.pooling import Block
from img2brain.spec import ALL, NO_POOLING, PCA, SRP, BackboneSpec, FeatureSpace, Layers, joined
from img2brain.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

_ATTEMPTS = 3  # at features, where somebody deletes the cache meanwhile


class Features(ABC):
    """Reduced features of layers for the images of a dataset: computed once, shared by trials, studies and processes.

    What is missing is computed when it is first asked for, of all layers and poolings at once. Where a space is asked
    for, a name stands for the layer as it is.

    Parameters
    ----------
    spec : BackboneSpec
        What was asked for.
    layers : sequence of str or tuple of str
        The layers; each has its components, and so have several together, whose name is theirs, joined by ``+``.
    n_images : int
        How many rows there are.
    store : Store
        The cache.
    rows : ndarray of int
        The rows that a published model will be fitted to; no others have a say in the features.
    n_components : int
        The largest size of leading components that will be asked for.
    bases : sequence of str
        What all spaces are reduced to; see `FeatureSpace`.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        layers: Sequence[Layers],
        n_images: int,
        store: Store,
        rows: Rows,
        n_components: int,
        bases: Sequence[str] = (PCA,),
    ) -> None:
        self.spec = spec
        self._together = {joined(item): (item,) if isinstance(item, str) else item for item in layers}
        self.layers = tuple(self._together)
        self.bases = tuple(bases)
        self._n_images = n_images
        self._store = store
        self._rows, self._n_components = rows, n_components
        self._leading = lru_cache(maxsize=64)(self._read_components)
        self._every = lru_cache(maxsize=1)(self._read_components)  # These are large.
        self._failure: FeatureError | None = None

    @property
    @abstractmethod
    def facts(self) -> Mapping[str, Any]:
        """What is known of where the features come from.

        `label`: the weights, without the folders of a machine; `trained`: the state of the weights; `weights_digest`:
        of all weights; `network_digest`: of all that the activations of `layers` depend on; `library`: where the
        network comes from, or None; `plugin`: name and digest of the file of a library that is not ours, or None.
        """

    @property
    @abstractmethod
    def precision(self) -> Precision:
        """What the network computes in: ``"bfloat16"`` or ``"float32"``."""

    @property
    def placement(self) -> str:
        """How pictures are placed before the network; empty where they are not."""
        return ""

    @property
    def is_renamed(self) -> bool:
        """Whether the name of a layer meant another one in studies of the first format."""
        return False

    @abstractmethod
    def export(self, space: FeatureSpace | str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Give what a saved model needs to compute a space: configuration and parameters."""

    def poolings(self, layer: str) -> tuple[str, ...]:
        """Name the poolings of a layer, of those that are asked for."""
        return (NO_POOLING,)

    def together(self, layer: str) -> tuple[str, ...]:
        """Return the layers of the network that a layer of this name stands for: itself, or several."""
        return self._together.get(layer, (layer,))

    def block(self, layer: str, pooling: str) -> Block:
        """Return what a pass has to compute for a layer."""
        return Block(layer)

    @abstractmethod
    def _about(self) -> Mapping[str, Mapping[str, Any]]:
        """Say, by the name of a block, all that its activations depend on."""

    @abstractmethod
    def _activations(self, blocks: Sequence[Block], n_components: int) -> Iterator[tuple[Block, Activations]]:
        """Compute the activations of some blocks, and yield one after another."""

    def activations(self) -> Iterator[tuple[Block, Activations]]:
        """Compute all features, each layer as it is pooled, and yield one after another; nothing of them is kept."""
        return self._activations(self._blocks, self._n_components)

    @property
    def spaces(self) -> tuple[FeatureSpace, ...]:
        """All that is reduced: each layer, in each of its poolings, in each of the bases."""
        return tuple(
            FeatureSpace(layer, pooling, basis)
            for basis in self.bases
            for layer in self.layers
            for pooling in self.poolings(layer)
        )

    @abstractmethod
    def widths(self) -> Mapping[Block, int]:
        """Count the features of all that a pass computes; no weights are read."""

    def lacking(self) -> set[Block]:
        """Return what a pass has still to compute."""
        return set(self._missing(self._cache, self.spaces))

    def extract(self) -> None:
        """Compute what is missing of all layers, in one pass over the images.

        Raises
        ------
        StoreError
            If the activations of a layer exceed the scratch budget, or the disk.
        """
        if not self._missing(self._cache, self.spaces):
            log.info("%s: features of %s from the cache", self.spec.name, counted(len(self.layers), "layer"))
            return
        self._extract(self.spaces)

    def give_up(self, failure: FeatureError) -> None:
        """Give no features from here on, for a reason of the network's own: whoever asks for them is told it."""
        self._failure = failure

    def components(self, space: FeatureSpace | str, rows: Rows, n_components: int) -> Components:
        """Return the coordinates of a space, of all images, in a basis that was fitted to `rows`.

        Parameters
        ----------
        space : FeatureSpace or str
            The space.
        rows : ndarray of int
            The rows.
        n_components : int
            How many leading components; of other bases there are as many as there are.

        Returns
        -------
        Components
            Coordinates (n_images, n_components); fewer components where the rows span fewer dimensions.

        Raises
        ------
        FitError
            If the activations do not vary over the rows.
        ResourceError
            If they have to be computed anew, and cannot be: that is no result of the layer.
        FeatureError
            If the network was given up.
        """
        if self._failure is not None:
            raise self._failure
        space, content = _named(space), rows.astype(np.int64).tobytes()
        return self._every(space, content, 0) if space.basis == ALL else self._leading(space, content, n_components)

    def coordinates_file(self, space: FeatureSpace | str, rows: Rows, n_components: int, n_leading: int) -> Path:
        """Return the file (``.npy``) of the first `n_leading` of `n_components` components, one for all who ask."""
        space = _named(space)
        found, names = self.components(space, rows, n_components), self._names(space)
        if self._is_nested(space):
            return self._cache.coordinates_file(names[0], rows, found, n_components, n_leading)
        key = {"coordinates of": space.basis, "rows": digest.of_array(rows.astype(np.int64)), "size": n_leading}
        arrays = {"features": found.coordinates[:, :n_leading].astype(np.float32)}
        return self._cache.keep(names, key, arrays) / "features.npy"

    def axes(self, space: FeatureSpace | str, rows: Rows, n_components: int) -> Axes:
        """Return what takes the activations of a space to its coordinates, fitted to `rows`.

        Notes
        -----
        Axes take as much of the disk as the activations of as many images, and few layers are ever published: they are
        computed when they are asked for, in another pass over the images, up to this layer alone. Stored ones of a
        larger size serve.
        """
        space = _named(space)
        found = self._cache.axes(self._names(space)[0], rows, n_components) if self._is_nested(space) else None
        return found if found is not None else self._record_axes(space, rows, n_components)

    @cached_property
    def _described(self) -> Mapping[str, Mapping[str, Any]]:
        return self._about()

    @cached_property
    def _blocks(self) -> tuple[Block, ...]:
        """All that a pass computes, each once."""
        return tuple(dict.fromkeys(block for space in self.spaces for block in self._blocks_of(space)))

    @cached_property
    def _cache(self) -> Cache:
        return Cache(self._store, self._described, self._n_images, self._rows, self._n_components)

    def _blocks_of(self, space: FeatureSpace) -> tuple[Block, ...]:
        return tuple(self.block(layer, space.pooling) for layer in self.together(space.layer))

    def _names(self, space: FeatureSpace) -> list[str]:
        return [str(block) for block in self._blocks_of(space)]

    def _is_nested(self, space: FeatureSpace) -> bool:
        """Tell whether a space has components of which a smaller size is a prefix."""
        return space.basis == PCA and len(self._blocks_of(space)) == 1

    def _basis(self, space: FeatureSpace, place: int) -> Basis:
        """Return the basis of one block of a space; not for leading components."""
        if space.basis == ALL:
            return Every()
        widths = tuple(map(self._width, self._blocks_of(space))) if len(self._blocks_of(space)) > 1 else (0,)
        return SparseProjection(int(space.basis.removeprefix(f"{SRP}:")), widths[:place], widths[place + 1 :])

    def _steps(self, space: FeatureSpace, rows: Rows) -> Iterator[tuple[Block, Keeper | None]]:
        """Yield what has to be kept of which block; None stands for the projections of PCA."""
        for place, block in enumerate(blocks := self._blocks_of(space)):
            if space.basis == PCA or len(blocks) > 1:
                yield block, None
            if len(blocks) > 1:
                yield block, Norms(rows)
            if space.basis != PCA:
                yield block, self._basis(space, place)

    def _extract(self, spaces: Sequence[FeatureSpace]) -> None:
        with self._store.lock("pass", self._described):
            if self._missing(self._cache, spaces):
                self._record(spaces)

    def _missing(self, cache: Cache, spaces: Sequence[FeatureSpace]) -> dict[Block, list[Keeper | None]]:
        """Return what a cache lacks of some spaces."""
        found: dict[Block, list[Keeper | None]] = {}
        for block, basis in (step for space in spaces for step in self._steps(space, cache.rows)):
            is_there = cache.has(str(block)) if basis is None else cache.has_kept([str(block)], basis.key)
            if not is_there and not _holds(found.get(block, ()), basis):
                found.setdefault(block, []).append(basis)
        return found

    def _record(self, spaces: Sequence[FeatureSpace]) -> None:
        missing = self._missing(self._cache, spaces)
        for block, values in self._activations(list(missing), self._n_components):
            self._keep(self._cache, block, values, missing[block])

    def _keep(self, cache: Cache, block: Block, values: Activations, keepers: Sequence[Keeper | None]) -> None:
        for keeper in keepers:
            with torch.inference_mode():
                if keeper is not None:
                    cache.keep([str(block)], keeper.key, keeper.keep(values))
                elif failure := cache.record(str(block), values):
                    log.warning("%s %s: %s", self.spec.name, block, failure)

    def _record_axes(self, space: FeatureSpace, rows: Rows, n_components: int) -> Axes:
        largest, names = max(n_components, self._n_components), self._names(space)
        found = self.components(space, rows, largest)
        components = found if space.basis == ALL else found.leading(n_components)
        with _again(self.spec.name), self._store.lock("axes", self._described[names[0]]):
            passed = enumerate(self._activations(self._blocks_of(space), largest))
            shares = [self._share(space, place, values, rows, components) for place, (_, values) in passed]
        return shares[0] if len(shares) == 1 else Axes.stacked(shares)

    def _share(self, space: FeatureSpace, place: int, values: Activations, rows: Rows, components: Components) -> Axes:
        """Return the axes of one block of a space."""
        name = self._names(space)[place]
        with torch.inference_mode():
            if self._is_nested(space):
                return self._cache.record_axes(name, values, rows, components)
            scale = self._scale(space, name, rows)
            if space.basis == PCA:
                return self._cache.share_of_axes(name, values, rows, components).divided(scale**2)
            return self._basis(space, place).axes(Kept({}, scale), values, components, rows)

    def _read_components(self, space: FeatureSpace, content: bytes, n_components: int) -> Components:
        rows = np.frombuffer(content, np.int64).astype(np.intp)
        for _ in range(_ATTEMPTS):
            if (found := self._reduced(space, rows, n_components)) is not None:
                return found
            with _again(self.spec.name):
                self._extract([item for item in self.spaces if item.basis == space.basis] or [space])
        raise StoreError(f"The cache {self._store.folder} must stay while features are computed. It was removed.")

    def _reduced(self, space: FeatureSpace, rows: Rows, n_components: int) -> Components | None:
        """Return the components of a space; None where what they are made of is not there."""
        if self._is_nested(space):
            return self._cache.components(self._names(space)[0], rows, n_components)
        if space.basis == ALL and (known := self._cache.kept(self._names(space), _fitted(rows))):
            return Components(known["coordinates"], known["variances"])
        if self._missing(self._cache, [space]):
            return None
        parts = [self._kept(space, place, rows) for place in range(len(self._blocks_of(space)))]
        if space.basis == PCA:
            scaled = [part.arrays["projected"] / np.float32(part.scale) for part in parts]
            return pca.fit(np.concatenate(scaled, axis=1), rows, n_components)
        found = self._basis(space, 0).components(parts, rows)
        if space.basis == ALL:
            arrays = {"coordinates": found.coordinates, "variances": found.variances}
            self._cache.keep(self._names(space), _fitted(rows), arrays)
        return found

    def _kept(self, space: FeatureSpace, place: int, rows: Rows) -> Kept:
        """Return what is kept of one block of a space."""
        name = self._names(space)[place]
        if space.basis == PCA:
            return Kept({"projected": self._there(self._cache.projected(name))}, self._scale(space, name, rows))
        arrays = self._there(self._cache.kept([name], self._basis(space, place).key))
        return Kept(arrays, self._scale(space, name, rows))

    def _scale(self, space: FeatureSpace, name: str, rows: Rows) -> float:
        """Return what the block of this name is divided by, so that all of a space have the same total variance."""
        if len(self._blocks_of(space)) == 1:
            return 1.0
        norms = Norms(self._rows)
        kept = self._there(self._cache.kept([name], norms.key))
        return norms.scale(kept["norms"], self._there(self._cache.projected(name)), rows)

    def _there(self, found: T | None) -> T:
        if found is None:
            raise StoreError(f"The cache {self._store.folder} must stay while features are computed. It was removed.")
        return found

    @abstractmethod
    def _width(self, block: Block) -> int:
        """Return the number of features of a block."""


def _holds(steps: Sequence[Keeper | None], step: Keeper | None) -> bool:
    """Tell whether a step is among some."""
    return any(item is step if item is None or step is None else item.key == step.key for item in steps)


def _named(space: FeatureSpace | str) -> FeatureSpace:
    return FeatureSpace(space) if isinstance(space, str) else space


def _fitted(rows: Rows) -> dict[str, str]:
    return {"components of": ALL, "rows": digest.of_array(rows.astype(np.int64))}


@contextmanager
def _again(name: str) -> Iterator[None]:
    """Compute features that a search counted on; what goes wrong now is not of the trial that happens to ask."""
    try:
        yield
    except (StoreError, FitError):
        raise
    except Img2BrainError as error:
        raise ResourceError(f"The features of {name} are not in the cache, and cannot be computed: {error}") from error
