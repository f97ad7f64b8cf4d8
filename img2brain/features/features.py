"""Features of images: principal components of layers, whether they come from a network or with the data."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from img2brain.errors import FitError, Img2BrainError, ResourceError, StoreError
from img2brain.features.activations import Activations, Rows
from img2brain.features.cache import Cache
from img2brain.features.extract import Precision
from img2brain.features.pca import Axes, Components
from img2brain.features.pooling import Block
from img2brain.spec import NO_POOLING, BackboneSpec, FeatureSpace
from img2brain.store import Store

log = logging.getLogger(__name__)

_ATTEMPTS = 3  # at features, where somebody deletes the cache meanwhile


class Features(ABC):
    """Reduced features of layers for the images of a dataset: computed once, shared by trials, studies and processes.

    What is missing is computed when it is first asked for, of all layers and poolings at once. Where a space is asked
    for, a name stands for the layer as it is.

    Parameters
    ----------
    spec : BackboneSpec
        What was asked for.
    layers : sequence of str
        The layers; each has its components.
    n_images : int
        How many rows there are.
    store : Store
        The cache.
    rows : ndarray of int
        The rows that a published model will be fitted to; no others have a say in the features.
    n_components : int
        The largest size that will be asked for.
    """

    def __init__(
        self, spec: BackboneSpec, layers: Sequence[str], n_images: int, store: Store, rows: Rows, n_components: int
    ) -> None:
        self.spec = spec
        self.layers = tuple(layers)
        self._n_images = n_images
        self._store = store
        self._rows, self._n_components = rows, n_components
        self._components = lru_cache(maxsize=64)(self._read_components)

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
    def is_renamed(self) -> bool:
        """Whether the name of a layer meant another one in studies of the first format."""
        return False

    @abstractmethod
    def export(self, space: FeatureSpace | str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Give what a saved model needs to compute a space: configuration and parameters."""

    def poolings(self, layer: str) -> tuple[str, ...]:
        """Name the poolings of a layer, of those that are asked for."""
        return (NO_POOLING,)

    def block(self, space: FeatureSpace | str) -> Block:
        """Return what a pass has to compute for a space."""
        return Block(space) if isinstance(space, str) else Block(space.layer)

    @abstractmethod
    def _about(self) -> Mapping[str, Mapping[str, Any]]:
        """Say, by the name of a block, all that its activations depend on."""

    @abstractmethod
    def _activations(self, blocks: Sequence[Block], n_components: int) -> Iterator[tuple[Block, Activations]]:
        """Compute the activations of some blocks, and yield one after another."""

    def extract(self) -> None:
        """Compute what is missing of all layers, in one pass over the images.

        Raises
        ------
        StoreError
            If the activations of a layer exceed the scratch budget, or the disk.
        """
        if not self._missing():
            log.info("%s: features of %d layers from the cache", self.spec.name, len(self.layers))
            return
        with self._store.lock("pass", self._described):
            if missing := self._missing():
                self._record(missing)

    def components(self, space: FeatureSpace | str, rows: Rows, n_components: int) -> Components:
        """Return the principal components of a space, fitted to `rows`, of all images.

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
        """
        return self._components(self.block(space), rows.astype(np.int64).tobytes(), n_components)

    def coordinates_file(self, space: FeatureSpace | str, rows: Rows, n_components: int, n_leading: int) -> Path:
        """Return the file (``.npy``) of the first `n_leading` of `n_components` components, one for all who ask."""
        found = self.components(space, rows, n_components)
        return self._cache.coordinates_file(str(self.block(space)), rows, found, n_components, n_leading)

    def axes(self, space: FeatureSpace | str, rows: Rows, n_components: int) -> Axes:
        """Return the principal axes of a space, fitted to `rows`; stored ones of a larger size serve.

        Notes
        -----
        They take as much of the disk as the activations of as many images, and few layers are ever published: they are
        computed when they are asked for, in another pass over the images, up to this layer alone.
        """
        block = self.block(space)
        found = self._cache.axes(str(block), rows, n_components)
        return found if found is not None else self._record_axes(block, rows, n_components)

    @cached_property
    def _described(self) -> Mapping[str, Mapping[str, Any]]:
        return self._about()

    @cached_property
    def _blocks(self) -> tuple[Block, ...]:
        """All that a pass computes, each once."""
        spaces = (FeatureSpace(layer, pooling) for layer in self.layers for pooling in self.poolings(layer))
        return tuple(dict.fromkeys(map(self.block, spaces)))

    @cached_property
    def _cache(self) -> Cache:
        return Cache(self._store, self._described, self._n_images, self._rows, self._n_components)

    def _missing(self) -> list[Block]:
        return [block for block in self._blocks if not self._cache.has(str(block))]

    def _record(self, blocks: Sequence[Block]) -> None:
        for block, values in self._activations(blocks, self._n_components):
            self._keep(self._cache, block, values)

    def _keep(self, cache: Cache, block: Block, values: Activations) -> None:
        with torch.inference_mode():
            if failure := cache.record(str(block), values):
                log.warning("%s %s: %s", self.spec.name, block, failure)

    def _record_axes(self, block: Block, rows: Rows, n_components: int) -> Axes:
        largest = max(n_components, self._n_components)
        components = self._components(block, rows.astype(np.int64).tobytes(), largest).leading(n_components)
        with _again(self.spec.name), self._store.lock("axes", self._described[str(block)]):
            for _, values in self._activations([block], largest):
                with torch.inference_mode():
                    found = self._cache.record_axes(str(block), values, rows, components)
        return found

    def _read_components(self, block: Block, rows_bytes: bytes, n_components: int) -> Components:
        rows = np.frombuffer(rows_bytes, np.int64).astype(np.intp)
        for _ in range(_ATTEMPTS):
            if (found := self._cache.components(str(block), rows, n_components)) is not None:
                return found
            with _again(self.spec.name):
                self.extract()
        raise StoreError(f"The cache {self._store.folder} must stay while features are computed. It was removed.")


@contextmanager
def _again(name: str) -> Iterator[None]:
    """Compute features that a search counted on; what goes wrong now is not of the trial that happens to ask."""
    try:
        yield
    except (StoreError, FitError):
        raise
    except Img2BrainError as error:
        raise ResourceError(f"The features of {name} are not in the cache, and cannot be computed: {error}") from error
