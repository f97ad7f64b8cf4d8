"""What is kept of layers: projections for any choice of rows, the components of some, and the axes of fewer still."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from img2brain import digest
from img2brain.errors import FitError
from img2brain.features import pca
from img2brain.features.activations import Activations, Rows
from img2brain.features.pca import Axes, Components, Compressed, Kind
from img2brain.features.shelf import CacheEntry
from img2brain.store import Store

VERSION = 8  # It is raised where a change of code changes a number, or the files of an entry.


class Cache:
    """Reductions of layers, stored under all that their numbers depend on.

    Parameters
    ----------
    store : Store
        Where they are kept.
    about : mapping of str to mapping
        By layer: what its activations depend on.
    n_images : int
        How many rows there are. The projections of many depend on the rows and the size that they serve as well.
    rows : ndarray of int
        The rows that a published model will be fitted to; no others have a say in the projections.
    n_components : int
        The largest size that will be asked for.
    exact_images : int
        How many images are few.
    """

    def __init__(
        self,
        store: Store,
        about: Mapping[str, Mapping[str, Any]],
        n_images: int,
        rows: Rows,
        n_components: int,
        exact_images: int = pca.EXACT_IMAGES,
    ) -> None:
        self._store = store
        self.n_images, self.rows, self._n_components = n_images, rows, n_components
        self._most_projected = pca.most_projected(n_images, n_components, exact_images)
        self._compress = partial(pca.compress, rows=rows, n_components=n_components, exact_images=exact_images)
        serves = {"fitted": _of_rows(rows), "size": pca.sketch_size(n_components)}
        serves = serves if n_images > exact_images else {}
        self._keys = {layer: {**item, **serves, "version": VERSION} for layer, item in about.items()}
        self._plain = {layer: {**item, "version": VERSION} for layer, item in about.items()}

    def has(self, layer: str) -> bool:
        """Tell whether the projections of a layer are there."""
        return self._larger("layers", self._keys[layer], "size") is not None

    def record(self, layer: str, values: Activations) -> FitError | None:
        """Keep what PCA needs of a layer.

        One whose activations do not vary is kept without components, and the reason returned: its trials fail with it,
        and the others go on.
        """
        compressed, failure = self._compress(values), None
        try:
            components = pca.fit(compressed.projected, self.rows, self._n_components)
        except FitError as error:
            failure = error
        else:
            key = self._pca_key(layer, self.rows, self._n_components)
            self._store.put("components", key, lambda folder: _save_components(folder, components))

        def write(folder: Path) -> None:
            _save(folder, projected=compressed.projected)
            (folder / "method.txt").write_text(compressed.kind, encoding="utf-8")

        self._store.put("layers", self._keys[layer], write)
        return failure

    def record_axes(self, layer: str, values: Activations, rows: Rows, components: Components) -> Axes:
        """Keep the axes of components that were fitted to `rows`, as many as there are of these."""
        found = pca.axes(self._compressed_again(layer, values), values, components, rows)
        key = self._pca_key(layer, rows, len(components.variances))
        self._store.put("axes", key, lambda folder: _save(folder, axes=found.axes, shift=found.shift))
        return found

    def components(self, layer: str, rows: Rows, n_components: int) -> Components | None:
        """Return the components of a layer, fitted where that was not done yet; None where it has no projections."""
        key = self._pca_key(layer, rows, n_components)
        if (files := self._store.read("components", key)) is not None:
            return Components(_array(files, "coordinates"), _array(files, "variances"))
        if (files := self._read_larger("layers", self._keys[layer], "size")) is None:
            return None
        found = pca.fit(_array(files, "projected"), rows, n_components)
        self._store.get_or_compute("components", key, lambda folder: _save_components(folder, found))
        return found

    def axes(self, layer: str, rows: Rows, n_components: int) -> Axes | None:
        """Return the axes of a layer, where they are there at this size or a larger one."""
        files = self._read_larger("axes", self._pca_key(layer, rows, n_components), "n_components")
        if files is None:
            return None
        return Axes(_array(files, "axes"), _array(files, "shift")).leading(n_components)

    def coordinates_file(self, layer: str, rows: Rows, found: Components, n_components: int, n_leading: int) -> Path:
        """Return the file (``.npy``) of the first `n_leading` of the components that were found."""
        key = self._pca_key(layer, rows, n_components) | {"n_leading": n_leading}
        write = lambda folder: _save(folder, features=found.leading(n_leading).coordinates)  # noqa: E731
        return self._store.get_or_compute("features", key, write) / "features.npy"

    def projected(self, layer: str) -> np.ndarray[Any, Any] | None:
        """Return the projections of a layer; None where there are none."""
        files = self._read_larger("layers", self._keys[layer], "size")
        return None if files is None else _array(files, "projected")

    def share_of_axes(self, layer: str, values: Activations, rows: Rows, components: Components) -> Axes:
        """Return what takes a layer to its share of components that were fitted to several."""
        return pca.axes(self._compressed_again(layer, values), values, components, rows)

    def entry(self, layer: str) -> CacheEntry:
        """Return the entry of the projections of a layer."""
        return CacheEntry("layers", self._keys[layer], 4 * self._most_projected)

    def entry_of(self, layer: str, basis: Mapping[str, Any], n_bytes: int) -> CacheEntry:
        """Return the entry of arrays of a layer, of so many bytes at most, under the key of another basis."""
        return CacheEntry("bases", self._basis_key([layer], basis), n_bytes)

    def has_kept(self, layers: Sequence[str], basis: Mapping[str, Any]) -> bool:
        """Tell whether arrays of layers are kept."""
        return self._store.find("bases", self._basis_key(layers, basis)) is not None

    def kept(self, layers: Sequence[str], basis: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]] | None:
        """Return the arrays of layers that were kept under this key; None where there are none."""
        files = self._store.read("bases", self._basis_key(layers, basis))
        return None if files is None else {name: _array(files, name) for name in map(_stem, files) if name}

    def keep(self, layers: Sequence[str], basis: Mapping[str, Any], arrays: Mapping[str, Any]) -> Path:
        """Keep arrays of layers, and return the folder that they are in."""
        return self._store.put("bases", self._basis_key(layers, basis), lambda folder: _save(folder, **arrays))

    def _basis_key(self, layers: Sequence[str], basis: Mapping[str, Any]) -> dict[str, Any]:
        return {"blocks": [self._plain[layer] for layer in layers], **basis}

    def _read_larger(self, kind: str, key: Mapping[str, Any], size: str) -> dict[str, bytes] | None:
        """Read the entry of this key, or of one that is larger: a smaller size is a prefix."""
        found = self._larger(kind, key, size)
        return None if found is None else self._store.read(kind, found)

    def _compressed_again(self, layer: str, values: Activations) -> Compressed:
        """Return what the components of a layer were fitted to; the basis of a sketch, which is large, is not kept."""
        key = self._larger("layers", self._keys[layer], "size")
        files = None if key is None else self._store.read("layers", key)
        if key is None or files is None:
            return self._compress(values)
        kind = files["method.txt"].decode()
        if kind == "sketch":
            return self._compress(values, size=key.get("size"))
        return Compressed(cast(Kind, kind), _array(files, "projected"))

    def _larger(self, kind: str, key: Mapping[str, Any], size: str) -> Mapping[str, Any] | None:
        """Find the key of an entry that is there: this one, or one that is larger."""
        if self._store.find(kind, key):
            return key
        others = (item for item in self._store.keys(kind) if _is_larger(item, key, size)) if key.get(size) else ()
        return next((item for item in others if self._store.find(kind, item)), None)

    def _pca_key(self, layer: str, rows: Rows, n_components: int) -> dict[str, Any]:
        return {**self._keys[layer], "rows": _of_rows(rows), "n_components": n_components}


def _of_rows(rows: Rows) -> str:
    return digest.of_array(rows.astype(np.int64))


def _is_larger(item: Mapping[str, Any], key: Mapping[str, Any], size: str) -> bool:
    found = item.get(size)
    return isinstance(found, int) and found > key[size] and {**item, size: key[size]} == key


def _array(files: Mapping[str, bytes], name: str) -> np.ndarray[Any, Any]:
    """Read an array from memory: a file that is mapped, and cut by somebody, would end the process."""
    array: np.ndarray[Any, Any] = np.load(io.BytesIO(files[f"{name}.npy"]), allow_pickle=False)
    return array


def _stem(file: str) -> str:
    """Return the name of an array's file without its end; nothing of other files."""
    return file.removesuffix(".npy") if file.endswith(".npy") else ""


def _save_components(folder: Path, found: Components) -> None:
    _save(folder, coordinates=found.coordinates, variances=found.variances)


def _save(folder: Path, **arrays: np.ndarray[Any, Any]) -> None:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
