"""The features of one backbone over the images of a dataset: computed once, shared by trials, studies and processes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray

from img2brain import digest
from img2brain.backbones import curated_layers, load_backbone
from img2brain.backbones._base import Backbone
from img2brain.features import pca
from img2brain.features.extract import BATCH_SIZE, Spilled, activations, find_device, spill
from img2brain.features.pca import Axes, Components, Compressed
from img2brain.progress import track
from img2brain.spec import BackboneSpec
from img2brain.store import Store

Rows = NDArray[np.intp]
log = logging.getLogger(__name__)

_VERSION = 2  # of the numbers: raised where a change of code changes them


class FeatureBank:
    """Reduced features of a backbone's layers for the images of a dataset.

    Parameters
    ----------
    spec : BackboneSpec
        The network, its weights and preprocessing.
    images : sequence of Path
        One row each.
    image_digests : sequence of str
        Digests of their bytes; an image that changed is computed anew.
    store : Store
        The cache.
    device : str
        Where the network runs.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        images: Sequence[Path],
        image_digests: Sequence[str],
        store: Store,
        device: str = "auto",
    ) -> None:
        self.spec = spec
        self.layers: tuple[str, ...] = spec.layers or curated_layers(spec.name)
        self._images = images
        self._images_digest = digest.of_digests(image_digests)
        self._store = store
        self._device = find_device(device)
        self._components = lru_cache(maxsize=64)(self._read_components)

    @cached_property
    def backbone(self) -> Backbone:
        """The network with its weights, loaded when an image has to pass through it."""
        return load_backbone(self.spec.name, self.spec.weights, self.spec.preprocessing)

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What is known of the network without loading it again: digests, and whether it is trained."""
        key = {
            "backbone": self.spec.name,
            "source": _source(self.spec.weights),
            "preprocessing": self.spec.preprocessing,
            "torchvision": torchvision.__version__,
            "version": _VERSION,
        }
        entry = self._store.get_or_compute("networks", key, self._write_facts)
        facts: Mapping[str, Any] = json.loads((entry / "network.json").read_text(encoding="utf-8"))
        return facts

    def prepare(self, rows: Rows, n_components: int) -> None:
        """Compute what is missing of all layers, in one pass over the images.

        Parameters
        ----------
        rows : ndarray of int
            The rows that a published model will be fitted to. Its axes are computed while the activations are at hand.
        n_components : int
            The largest size that will be asked for.
        """
        missing = [layer for layer in self.layers if not self._store.find("layers", self._layer_key(layer))]
        if not missing:
            log.info("%s: features of %d layers from the cache", self.spec.name, len(self.layers))
            return
        with self._store.lock("pass", self._network_key):
            missing = [layer for layer in missing if not self._store.find("layers", self._layer_key(layer))]
            if missing:
                self._pass(missing, rows, n_components)

    def components(self, layer: str, rows: Rows, n_components: int) -> Components:
        """Return the principal components of a layer, fitted to `rows`, of all images.

        Returns
        -------
        Components
            Scores (n_images, n_components); fewer components where the rows span fewer dimensions.
        """
        return self._components(layer, rows.astype(np.int64).tobytes(), n_components)

    def scores_file(self, layer: str, rows: Rows, n_components: int, n_leading: int) -> Path:
        """Return the file (``.npy``) of the first `n_leading` of `n_components` components, one for all who ask."""

        def write(folder: Path) -> None:
            np.save(folder / "features.npy", self.components(layer, rows, n_components).leading(n_leading).scores)

        key = self._pca_key(layer, rows, n_components) | {"n_leading": n_leading}
        return self._store.get_or_compute("features", key, write) / "features.npy"

    def axes(self, layer: str, rows: Rows, n_components: int) -> Axes:
        """Return the principal axes of a layer, fitted to `rows`; stored ones of a larger size serve."""
        key = self._pca_key(layer, rows, n_components)
        entry = self._larger_axes(key, n_components) or self._store.get_or_compute(
            "axes", key, lambda folder: self._write_axes(folder, layer, rows, n_components)
        )
        return Axes(np.load(entry / "mean.npy"), np.load(entry / "axes.npy", mmap_mode="r")).leading(n_components)

    def _larger_axes(self, key: Mapping[str, Any], n_components: int) -> Path | None:
        """Find stored axes of at least this size: a smaller size is a prefix."""
        for other, entry in self._store.entries("axes"):
            if {**other, "n_components": n_components} == key and other["n_components"] >= n_components:
                return entry
        return None

    @cached_property
    def _network_key(self) -> dict[str, Any]:
        return {
            "images": self._images_digest,
            "backbone": self.spec.name,
            "network": self.facts["network_digest"],
            "precision": "float32",
            "pooling": "none",
            "version": _VERSION,
        }

    def _layer_key(self, layer: str) -> dict[str, Any]:
        return self._network_key | {"layer": layer}

    def _pca_key(self, layer: str, rows: Rows, n_components: int) -> dict[str, Any]:
        rows_digest = digest.of_array(rows.astype(np.int64))
        return self._layer_key(layer) | {"rows": rows_digest, "n_components": n_components}

    def _write_facts(self, folder: Path) -> None:
        facts = {
            "label": self.backbone.label,
            "weights_digest": self.backbone.weights_digest,
            "network_digest": self.backbone.digest,
            "trained": self.backbone.trained,
        }
        (folder / "network.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")

    def _pass(self, layers: Sequence[str], rows: Rows, n_components: int) -> None:
        """Send every image once through the network, and keep what PCA needs of each layer."""
        with self._store.scratch() as folder:
            network = self.backbone.extractor(layers)
            n_bytes = 4 * len(self._images) * sum(network.n_features.values())
            self._store.require_free(n_bytes, f"The activations of {self.spec.name}")
            batches = activations(network, self.backbone.preprocessing, self._images, self._device)
            title = f"{self.spec.name}: {len(self._images)} images, {len(layers)} layers"
            spilled = spill(track(batches, _n_batches(self._images), title), folder)
            for layer in track(layers, len(layers), f"{self.spec.name}: PCA"):
                self._keep(layer, spilled.pop(layer), rows, n_components)

    def _keep(self, layer: str, spilled: Spilled, rows: Rows, n_components: int) -> None:
        """Keep a layer; the axes first, so that a layer that is found has them."""
        compressed = pca.compress(spilled.values)
        components = pca.fit(compressed, rows, n_components)
        found = pca.axes(_blocks(spilled.values), spilled.offset, components, rows)
        self._store.put("axes", self._pca_key(layer, rows, n_components), lambda folder: _save_axes(folder, found))
        self._store.put(
            "layers", self._layer_key(layer), lambda folder: _save_layer(folder, compressed, spilled.offset)
        )

    def _components_entry(self, layer: str, rows: Rows, n_components: int) -> Path:
        def write(folder: Path) -> None:
            found = pca.fit(self._compressed(layer)[0], rows, n_components)
            np.save(folder / "scores.npy", found.scores)
            np.save(folder / "variances.npy", found.variances)

        return self._store.get_or_compute("components", self._pca_key(layer, rows, n_components), write)

    def _read_components(self, layer: str, rows_bytes: bytes, n_components: int) -> Components:
        rows = np.frombuffer(rows_bytes, np.int64).astype(np.intp)
        entry = self._components_entry(layer, rows, n_components)
        return Components(np.load(entry / "scores.npy"), np.load(entry / "variances.npy"))

    def _compressed(self, layer: str) -> tuple[Compressed, NDArray[np.float32]]:
        """Return what is kept of a layer, and the offset of its activations."""
        entry = self._store.find("layers", self._layer_key(layer))
        if entry is None:
            raise KeyError(f"prepare() was not called for {layer!r}")
        kind: Literal["kernel", "activations"] = "kernel" if (entry / "kernel.npy").exists() else "activations"
        return Compressed(kind, np.load(entry / f"{kind}.npy", mmap_mode="c")), np.load(entry / "offset.npy")

    def _write_axes(self, folder: Path, layer: str, rows: Rows, n_components: int) -> None:
        """Compute the axes of one layer alone, from what is stored or else from the images."""
        compressed, offset = self._compressed(layer)
        stored = compressed.kind == "activations"
        blocks = _blocks(compressed.values) if stored else self._blocks_from_images(layer, rows, offset)
        _save_axes(folder, pca.axes(blocks, offset, self.components(layer, rows, n_components), rows))

    def _blocks_from_images(
        self, layer: str, rows: Rows, offset: NDArray[np.float32]
    ) -> Iterator[tuple[Rows, torch.Tensor]]:
        images = [self._images[row] for row in rows]
        network = self.backbone.extractor([layer])
        batches = activations(network, self.backbone.preprocessing, images, self._device)
        for part, layers in track(batches, _n_batches(images), f"{self.spec.name}: axes of {layer}"):
            yield rows[part], layers[layer].float().cpu() - torch.from_numpy(offset)


def _source(weights: str) -> str:
    """Name the weights by their content where they are a file."""
    return digest.of_file(Path(weights)) if Path(weights).is_file() else weights


def _n_batches(images: Sequence[Path]) -> int:
    return -(-len(images) // BATCH_SIZE)


def _blocks(values: NDArray[Any], n_rows: int = 1024) -> Iterator[tuple[Rows, torch.Tensor]]:
    for start in range(0, len(values), n_rows):
        block = values[start : start + n_rows]
        yield np.arange(start, start + len(block)), torch.from_numpy(block)


def _save_axes(folder: Path, found: Axes) -> None:
    np.save(folder / "mean.npy", found.mean)
    np.save(folder / "axes.npy", found.axes)


def _save_layer(folder: Path, compressed: Compressed, offset: NDArray[np.float32]) -> None:
    np.save(folder / f"{compressed.kind}.npy", compressed.values)
    np.save(folder / "offset.npy", offset)
