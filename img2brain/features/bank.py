"""The features of one backbone over the images of a dataset: computed once, shared by trials, studies and processes."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from img2brain import digest
from img2brain.backbones import accelerated, curated_layers, load_backbone
from img2brain.backbones._base import Backbone
from img2brain.backbones._weights import UNTRAINED
from img2brain.errors import FitError, StoreError
from img2brain.features import pca
from img2brain.features.activations import Activations, InMemory, OnDisk, Rows
from img2brain.features.extract import Precision, activations, find_batch_size, find_device, find_precision
from img2brain.features.freshness import freshness
from img2brain.features.pca import Axes, Components, Compressed
from img2brain.progress import track
from img2brain.spec import BackboneSpec
from img2brain.store import Store

log = logging.getLogger(__name__)

UNTRAINED_BY_ITS_ACTIVATIONS = "untrained (by its activations)"
_FEW_IMAGES = 8192  # at 4140, bfloat16 was measured to change a score by .003; at 8857 none by more than .0014
_NARROW = 8192  # features: a layer of no more is reduced in float32, its weakest components included
_VERSION = 6  # of the numbers: raised where a change of code changes them
# The most that activations and the work on them take of a computer's memory, and no more than a quarter of it: with the
# network, the pictures and the libraries a pass stays under 6 GiB.
_MEMORY_BYTES = 9 << 29


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
    precision : {"auto", "bfloat16", "float32"}
        What it computes in; see `find_precision`. Up to 8192 images ``"auto"`` is float32: they are a matter of
        minutes, and the fewer rows there are, the more a score moves by rounding.
    scratch_gb : float
        The most disk that activations may take for a while, in GB. Layers that do not fit together take another pass
        over the images; one that does not fit alone is refused.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        images: Sequence[Path],
        image_digests: Sequence[str],
        store: Store,
        device: str = "auto",
        precision: Precision = "auto",
        scratch_gb: float = 50,
    ) -> None:
        self.spec = spec
        self.layers: tuple[str, ...] = spec.layers or curated_layers(spec.name)
        self._images = images
        self._images_digest = digest.of_digests(image_digests)
        self._store = store
        self._device = find_device(device)
        exact = precision == "auto" and len(images) <= _FEW_IMAGES
        self._dtype = find_precision("float32" if exact else precision, self._device)
        self._scratch_gb = scratch_gb
        self._fitted: tuple[str, int] | None = None
        self._components = lru_cache(maxsize=64)(self._read_components)

    @cached_property
    def backbone(self) -> Backbone:
        """The network with its weights, loaded when an image has to pass through it."""
        return load_backbone(self.spec.name, self.spec.weights, self.spec.preprocessing)

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What is known of the network without loading it again: digests, and whether it is trained.

        One that claims to be is compared with fresh initialisations (see `freshness`).
        """
        key = {
            "backbone": self.spec.name,
            "source": _source(self.spec.weights),
            "preprocessing": self.spec.preprocessing,
            "torchvision": torchvision.__version__,
            "version": _VERSION,
            "checked": "activations",
        }
        entry = self._store.get_or_compute("networks", key, self._write_facts)
        facts: Mapping[str, Any] = json.loads((entry / "network.json").read_text(encoding="utf-8"))
        return facts

    @property
    def precision(self) -> Precision:
        """What the network computes in: ``"bfloat16"`` or ``"float32"``."""
        return "bfloat16" if self._dtype == torch.bfloat16 else "float32"

    def export(self, layer: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Give what a saved model needs to compute a layer: configuration and parameters (see `Backbone.export`)."""
        return self.backbone.export(layer)

    def prepare(self, rows: Rows, n_components: int) -> None:
        """Compute what is missing of all layers, in one pass over the images.

        Parameters
        ----------
        rows : ndarray of int
            The rows that a published model will be fitted to; no others have a say in the features. Its axes are
            computed while the activations are at hand.
        n_components : int
            The largest size that will be asked for.

        Raises
        ------
        StoreError
            If the activations of a layer exceed the scratch budget, or the disk.
        """
        self._fitted = (digest.of_array(rows.astype(np.int64)), pca.sketch_size(n_components))
        missing = self._missing()
        if not missing:
            log.info("%s: features of %d layers from the cache", self.spec.name, len(self.layers))
            return
        with self._store.lock("pass", self._network_key):
            if missing := self._missing():
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
        entry = self._larger("axes", key, "n_components")
        if entry is None:
            self._pass([layer], rows, n_components)
            entry = self._larger("axes", key, "n_components")
        assert entry is not None, "a pass keeps the axes"
        return Axes(np.load(entry / "axes.npy", mmap_mode="r"), np.load(entry / "shift.npy")).leading(n_components)

    def _missing(self) -> list[str]:
        return [layer for layer in self.layers if self._layer(layer) is None]

    def _layer(self, layer: str) -> Path | None:
        return self._larger("layers", self._layer_key(layer), "size")

    def _larger(self, kind: str, key: Mapping[str, Any], size: str) -> Path | None:
        """Find an entry of this key, or of one that is larger: a smaller size is a prefix."""
        if (found := self._store.find(kind, key)) or not key.get(size):
            return found
        larger = (
            item for item in self._store.keys(kind) if {**item, size: key[size]} == key and item[size] > key[size]
        )
        return next(filter(None, (self._store.find(kind, item) for item in larger)), None)

    @cached_property
    def _network_key(self) -> dict[str, Any]:
        return {
            "images": self._images_digest,
            "backbone": self.spec.name,
            "network": self.facts["network_digest"],
            "precision": self.precision,
            "pooling": "none",
            "version": _VERSION,
        }

    def _layer_key(self, layer: str) -> dict[str, Any]:
        """Name the coordinates of a layer; those of many images depend on the rows and size that they serve."""
        if len(self._images) <= pca.EXACT_IMAGES:
            return self._network_key | {"layer": layer}
        if self._fitted is None:
            raise KeyError("prepare() was not called")
        fitted, size = self._fitted
        return self._network_key | {"layer": layer, "fitted": fitted, "size": size}

    def _pca_key(self, layer: str, rows: Rows, n_components: int) -> dict[str, Any]:
        rows_digest = digest.of_array(rows.astype(np.int64))
        return self._layer_key(layer) | {"rows": rows_digest, "n_components": n_components}

    def _write_facts(self, folder: Path) -> None:
        claims_training = self.backbone.trained != UNTRAINED
        found = freshness(self.backbone) if claims_training else None
        facts = {
            "distances": found.distances if found else {},
            "label": self.backbone.label,
            "weights_digest": self.backbone.weights_digest,
            "network_digest": self.backbone.digest,
            "trained": UNTRAINED_BY_ITS_ACTIVATIONS if found and found.is_fresh else self.backbone.trained,
        }
        (folder / "network.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")

    def _pass(self, layers: Sequence[str], rows: Rows, n_components: int) -> None:
        """Send every image through the network, and keep what PCA needs of each layer."""
        network = self.backbone.extractor(layers)
        n_bytes = {
            layer: size * len(self._images) * self._kept_as(size).itemsize for layer, size in network.n_features.items()
        }
        for group in self._groups(n_bytes):
            n_features = {layer: network.n_features[layer] for layer in group}
            held = self._held(n_features, n_bytes, n_components)
            self._require_room(n_features, held, n_bytes, n_components)
            with self._recorded(group, held) as recorded:
                for layer in track(group, len(group), f"{self.spec.name}: PCA"):
                    self._keep(layer, recorded.pop(layer), rows, n_components)

    def _kept_as(self, n_features: int) -> torch.dtype:
        """Return the type in which the activations of a layer are kept and reduced."""
        return torch.float32 if n_features <= _NARROW else self._dtype

    def _held(self, n_features: Mapping[str, int], n_bytes: Mapping[str, int], n_components: int) -> set[str]:
        """Choose the layers whose activations stay in memory, beside what PCA takes for the widest one."""
        widest = max(n_features.values())
        work = pca.work_bytes(widest, self._kept_as(widest), n_components)
        room, held = _memory(self._device) - work, set()
        for layer in n_features:
            if n_bytes[layer] <= room:
                room -= n_bytes[layer]
                held.add(layer)
        return held

    def _groups(self, n_bytes: Mapping[str, int]) -> list[list[str]]:
        """Group the layers so that the activations of each group fit the scratch budget."""
        budget, groups, used = self._scratch_gb * 1e9, [[]], 0.0  # type: ignore[var-annotated]
        for layer, size in n_bytes.items():
            if size > budget:
                raise StoreError(
                    f"The activations of {self.spec.name} {layer} take {size / 1e9:.1f} GB for a while. The budget, "
                    f"'scratch_gb', is {self._scratch_gb:g}."
                )
            if used + size > budget:
                groups.append([])
                used = 0.0
            groups[-1].append(layer)
            used += size
        return groups

    def _require_room(
        self, n_features: Mapping[str, int], held: set[str], n_bytes: Mapping[str, int], n_components: int
    ) -> None:
        """Raise `StoreError` where the disk has no room for what a pass keeps, and what it takes for a while."""
        n_dimensions = min(len(self._images), pca.sketch_size(n_components))
        kept = sum(4 * n_components * size + 4 * len(self._images) * n_dimensions for size in n_features.values())
        scratch = sum(n_bytes[layer] for layer in n_features if layer not in held)
        self._store.require_free(kept + scratch, f"A pass of {self.spec.name}")

    @contextmanager
    def _recorded(self, layers: Sequence[str], held: set[str]) -> Iterator[dict[str, Activations]]:
        """Run one pass over the images and hand out the activations of some layers; their disk is freed at the end."""
        network = accelerated(self.backbone.extractor(layers), self._device, self._dtype)
        with self._store.scratch() as folder:
            recorded = {
                layer: self._place(network.n_features[layer], None if layer in held else folder / f"{number}.bin")
                for number, layer in enumerate(layers)
            }
            title = f"{self.spec.name}: {len(self._images)} images, {len(layers)} layers, {self.precision}"
            size = find_batch_size(network.n_widest, self._dtype, self._device)
            batches = activations(network, self.backbone.preprocessing, self._images, self._device, self._dtype, size)
            # To fill fresh memory, a file's or ours, keeps one processor busy: the layers do it side by side.
            with ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool:
                for _, values in track(batches, -(-len(self._images) // size), title):
                    for _ in pool.map(lambda layer, values=values: recorded[layer].append(values[layer]), layers):
                        pass
            del network
            yield recorded

    def _place(self, n_features: int, path: Path | None) -> Activations:
        """Make room for the activations of a layer: in memory, or in a file."""
        if path is None:
            return InMemory(len(self._images), n_features, self._kept_as(n_features), self._device)
        return OnDisk(len(self._images), n_features, self._kept_as(n_features), path, self._device)

    def _keep(self, layer: str, values: Activations, rows: Rows, n_components: int) -> None:
        """Keep a layer; the axes first, so that a layer that is found has them.

        One whose activations do not vary is kept without axes: its trials fail with this reason, and the others go on.
        """
        with torch.inference_mode():
            compressed = pca.compress(values, rows, n_components)
            try:
                components = pca.fit(compressed.coordinates, rows, n_components)
            except FitError as error:
                log.warning("%s %s: %s", self.spec.name, layer, error)
            else:
                found = pca.axes(compressed, values, components, rows)
                key = self._pca_key(layer, rows, n_components)
                self._store.put("axes", key, lambda folder: _save_axes(folder, found))
                self._store.put("components", key, lambda folder: _save_components(folder, components))
        self._store.put("layers", self._layer_key(layer), lambda folder: _save_layer(folder, compressed))

    def _components_entry(self, layer: str, rows: Rows, n_components: int) -> Path:
        def write(folder: Path) -> None:
            _save_components(folder, pca.fit(self._coordinates(layer), rows, n_components))

        return self._store.get_or_compute("components", self._pca_key(layer, rows, n_components), write)

    def _read_components(self, layer: str, rows_bytes: bytes, n_components: int) -> Components:
        rows = np.frombuffer(rows_bytes, np.int64).astype(np.intp)
        entry = self._components_entry(layer, rows, n_components)
        return Components(np.load(entry / "scores.npy"), np.load(entry / "variances.npy"))

    def _coordinates(self, layer: str) -> pca.F32:
        entry = self._layer(layer)
        if entry is None:
            raise KeyError(f"prepare() was not called for {layer!r}")
        coordinates: pca.F32 = np.load(entry / "coordinates.npy")
        return coordinates


def _source(weights: str) -> str:
    """Name the weights by their content where they are a file."""
    return digest.of_file(Path(weights)) if Path(weights).is_file() else weights


def _memory(device: torch.device) -> int:
    """Return how many bytes activations and the work on them may take of the memory of a device."""
    if device.type == "cuda":
        return int(0.5 * torch.cuda.mem_get_info(device)[0])
    return min(_MEMORY_BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4)


def _save_axes(folder: Path, found: Axes) -> None:
    np.save(folder / "axes.npy", found.axes)
    np.save(folder / "shift.npy", found.shift)


def _save_components(folder: Path, found: Components) -> None:
    np.save(folder / "scores.npy", found.scores)
    np.save(folder / "variances.npy", found.variances)


def _save_layer(folder: Path, compressed: Compressed) -> None:
    np.save(folder / "coordinates.npy", compressed.coordinates)
    (folder / "method.txt").write_text(compressed.kind, encoding="utf-8")
