"""A fitted encoding model: images -> responses, in files that hold numbers and no code.

A saved model is a folder: ``model.json`` says what it is, ``digests.json`` names the digest of every file,
``network.safetensors`` holds what the network needs up to its layer, ``pca.safetensors`` the axes,
``regressor.safetensors`` the fitted regressor. The network's code is not in it: what the network makes of one picture
is, and is compared when the model is first used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors import numpy as safe_numpy
from safetensors import torch as safe_torch

from img2brain import digest, plain, sealed
from img2brain._forks import alone, works_after_fork
from img2brain.backbones import RestoredBackbone, accelerated, restore, sketch
from img2brain.backbones._source import Source
from img2brain.catalog import LIBRARIES, REGRESSORS
from img2brain.datasets._facts import About
from img2brain.datasets._images import AS_STORED
from img2brain.datasets._presentation import Presentation
from img2brain.datasets._responses import open_array
from img2brain.errors import DataError, ModelError, ShapeError, SpecError, UnknownComponentError
from img2brain.features.extract import ImageSource, Precision, activations, find_device, find_precision
from img2brain.features.given import GIVEN, ORIGIN
from img2brain.features.pca import Axes
from img2brain.regressors.base import Regressor
from img2brain.spec import TrialSpec, parse

FORMAT = 5
# A model of format 2 has no probe and names no plug-ins, one of 3 does not say how images look. Before format 5 the
# digests are in model.json, but for its own.
_READ = (2, 3, 4, FORMAT)
_MATRIX = ("images", "features")
_PRECISIONS: dict[str, Precision] = {"float32": "float32", "bfloat16": "bfloat16"}
_FILES = ("network.safetensors", "pca.safetensors", "regressor.safetensors")


@dataclass(frozen=True, eq=False, repr=False)
class EncodingModel:
    """Predicts responses to images.

    Attributes
    ----------
    spec : TrialSpec
        Backbone, layer, components, regressor and its hyperparameters.
    network : mapping
        Configuration of the network up to its layer: name, weights, trained or not, digest, preprocessing.
    tensors : mapping of str to torch.Tensor
        Its parameters.
    axes : Axes
        Principal axes.
    regressor : Regressor
        The fitted regressor.
    about : mapping
        Where the model comes from: dataset, unit, rows, scores.
    precision : {"float32", "bfloat16"}
        What the network computes in, as when the model was fitted.
    probe : tuple of float, optional
        What the network made of a picture when the model was saved (see `img2brain.backbones.sketch`).
    source : Source, optional
        Where the network comes from; by default it is found by its name.
    presentation : Presentation
        How the images that it was fitted to were shown: new ones are laid over the same background.
    """

    spec: TrialSpec
    network: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]
    axes: Axes
    regressor: Regressor
    about: Mapping[str, Any]
    precision: Precision = "float32"
    probe: tuple[float, ...] | None = None
    source: Source | None = None
    presentation: Presentation = AS_STORED

    def __repr__(self) -> str:
        what, *facts = self._described().items()
        return "\n".join([f"<EncodingModel {what[1]}", *(f"  {name:12}{text}" for name, text in facts)]) + ">"

    def _repr_html_(self) -> str:
        """Show what it is as a table of a notebook."""
        lines = (f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in self._described().items())
        return f"<table>{''.join(lines)}</table>"

    def _described(self) -> dict[str, str]:
        """Say what the model is, in five short texts."""
        spec, about = self.spec, self.about
        takes = "features" if self.takes_features else "images"
        scores = {name: value for name, value in about.get("scores", {}).items() if value is not None}
        shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        return {
            "model": f"of {about.get('dataset', '?')}: {takes} -> {about.get('n_voxels', '?')} voxels",
            "network": f"{spec.backbone} {spec.weights} ({self.network.get('trained', '?')}), {self.precision}",
            "layer": f"{spec.layer}, {spec.n_components} components",
            "regressor": " ".join([spec.regressor, *(f"{name}={value}" for name, value in spec.parameters.items())]),
            "scores": f"{about.get('objective', '')} {shown or 'none'}".strip(),
        }

    @works_after_fork
    def predict(
        self, images: ImageSource | Sequence[ImageSource], *, batch_size: int | None = None, device: str = "auto"
    ) -> NDArray[np.floating]:
        """Predict the responses to images.

        Parameters
        ----------
        images : path, bytes of a file, PIL image, array, or a sequence of them
            An array is (height, width) or (height, width, 3), uint8 or floats from 0 to 1; one of four dimensions is
            a sequence. For a model of features that came with the data: an array (n_images, n_features) of them.
        batch_size : int, optional
            Images per forward pass.
        device : str
            ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

        Returns
        -------
        ndarray (n_images, n_voxels), float32
            In the unit of the responses; float64 where float32 would lose what varies of them.

        Raises
        ------
        DataError
            If an image does not decode or has too many pixels.
        """
        coordinates = self.coordinates(images, batch_size=batch_size, device=device)
        if not len(coordinates):
            return np.empty((0, int(self.about["n_voxels"])), self.dtype)
        return np.asarray(self.regressor.predict(coordinates), dtype=self.dtype)

    def coordinates(
        self, images: ImageSource | Sequence[ImageSource], *, batch_size: int | None = None, device: str = "auto"
    ) -> NDArray[np.float32]:
        """Return what the regressor predicts from: the coordinates of images along the principal axes.

        Parameters
        ----------
        images, batch_size, device
            As for `predict`.

        Returns
        -------
        ndarray (n_images, n_components), float32
        """
        if self.takes_features:
            return self._coordinates_of(images)
        sources = _as_list(images)
        none = np.empty((0, self.spec.n_components), np.float32)
        return np.concatenate([none, *(self._coordinates(sources, batch_size, device) if sources else ())])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of predictions: float32, unless that would lose what varies of the responses."""
        return np.dtype(np.float64 if self.about.get("dtype") == "float64" else np.float32)

    @property
    def takes_features(self) -> bool:
        """Whether it predicts from features that came with the data, in place of images."""
        return self.spec.backbone == GIVEN

    def _coordinates_of(self, features: Any) -> NDArray[np.float32]:
        """Return the coordinates of given features along the principal axes."""
        n_features = len(self.axes.axes)
        found = self._opened(Path(features)) if isinstance(features, str | Path) else np.asarray(features)
        if found.ndim != 2 or found.shape[1] != n_features or found.dtype.kind not in "fiu":
            raise ShapeError(
                f"This model takes the features {self.spec.layer!r}, an array of shape (images, {n_features}). "
                f"Got {found.dtype} of shape {found.shape}."
            )
        origin = self.tensors.get(ORIGIN)
        counted = found if origin is None else found - origin.numpy()
        return np.asarray(counted.astype(np.float32) @ self.axes.axes - self.axes.shift, dtype=np.float32)

    def _opened(self, path: Path) -> NDArray[Any]:
        if path.is_dir():
            raise DataError(
                f"This model takes the features {self.spec.layer!r}, a .npy file of shape (images, "
                f"{len(self.axes.axes)}), not images. Got the folder {str(path)!r}."
            )
        return open_array(path, _MATRIX)

    @property
    def plugins(self) -> dict[str, dict[str, str]]:
        """The components that are not ours, by what they are: name, and digest of the file that they are in."""
        library = "" if self.takes_features else str(self.network["backbone"]).rpartition(":")[0]
        found = {
            "library": LIBRARIES.plugin(library) if library else None,
            "regressor": REGRESSORS.plugin(self.spec.regressor),
        }
        return {kind: {"name": item.name, "digest": item.digest} for kind, item in found.items() if item}

    @works_after_fork
    def save(self, folder: Path | str) -> None:
        """Write the model into a folder, which is made where it is not there."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        safe_torch.save_file(dict(self.tensors), folder / _FILES[0])
        safe_numpy.save_file(
            {"shift": self.axes.shift, "axes": np.ascontiguousarray(self.axes.axes)}, folder / _FILES[1]
        )
        arrays = {name: np.asarray(value, order="C") for name, value in self.regressor.to_arrays().items()}
        safe_numpy.save_file(arrays, folder / _FILES[2])
        described = {
            "format": FORMAT,
            "img2brain": version("img2brain"),
            "spec": self.spec.model_dump(mode="json"),
            "network": dict(self.network),
            "precision": self.precision,
            "probe": None if self.takes_features else sketch(self._restored),
            "plugins": self.plugins,
            "linear": hasattr(self.regressor, "fit_folds"),
            "presentation": self.presentation.to_dict(),
            "about": dict(self.about),
        }
        (folder / "model.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
        sealed.seal(folder)

    @classmethod
    def load(cls, folder: Path, kept: Path | None = None) -> EncodingModel:
        """Read a saved model, checking every file against its digest, and that there is no other.

        Parameters
        ----------
        folder : Path
            What `save` wrote.
        kept : Path, optional
            Where files of components of others are kept, see `Catalog.exactly`.

        Raises
        ------
        ModelError
            If a file is absent, changed, or of another format; or if a component is not known here that is in a file
            of others.
        """
        described = _read_description(folder)
        try:
            kind, source = _regressor_kind(described, kept), _source(described, kept)
        except (UnknownComponentError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{folder} holds no whole model: {str(error).rstrip('.')}.") from None
        except SpecError as error:
            raise ModelError(f"{folder} cannot be loaded: {error}") from None
        try:
            spec = parse(TrialSpec, described["spec"], "model.json")
            pca = safe_numpy.load_file(folder / _FILES[1])
            arrays = safe_numpy.load_file(folder / _FILES[2])
            return cls(
                spec=spec,
                network=described["network"],
                tensors=safe_torch.load_file(folder / _FILES[0]),
                axes=Axes(pca["axes"], pca["shift"]),
                regressor=_restored_regressor(kind, spec, arrays),
                about=described["about"],
                precision=_PRECISIONS[described["precision"]],
                probe=tuple(described["probe"]) if described.get("probe") else None,
                source=source,
                presentation=parse(About, described.get("presentation", {}), "model.json").presentation,
            )
        except (KeyError, ValueError, TypeError, SafetensorError) as error:
            raise ModelError(f"{folder} holds no whole model: {str(error).rstrip('.')}.") from None

    @cached_property
    def _restored(self) -> RestoredBackbone:
        """The network, rebuilt by its library's code and compared with what it was."""
        found = restore(self.network, self.tensors, self.source)
        if self.probe is not None and not found.resembles(self.probe):
            raise ModelError(
                f"The network {self.network['backbone']!r} is not what this model was saved with: its code makes "
                f"something else of the same picture, with the same weights."
            )
        return found

    @cached_property
    def _ready(self) -> Any:
        """Network and axes on a device, kept between calls."""
        return lru_cache(maxsize=1)(self._on)

    def _coordinates(self, sources: Sequence[ImageSource], batch_size: int | None, device_name: str) -> Any:
        """Yield the coordinates along the principal axes, batch by batch."""
        device = find_device(device_name)
        dtype = find_precision(self.precision, device)
        with alone:  # Threads that meet a new model rebuild it once.
            network, axes, shift = self._ready(device, dtype)
            preparation = self._restored.preprocessing
        for _, layers in activations(
            network, preparation, sources, device, dtype, batch_size, presentation=self.presentation
        ):
            yield (layers[self.spec.layer].float() @ axes - shift).cpu().numpy()

    def _on(self, device: torch.device, dtype: torch.dtype) -> tuple[Any, torch.Tensor, torch.Tensor]:
        network = accelerated(self._restored.extractor([self.spec.layer]), device, dtype)
        axes, shift = (torch.from_numpy(np.array(values)).to(device) for values in (self.axes.axes, self.axes.shift))
        return network, axes, shift


def _regressor_kind(described: Mapping[str, Any], kept: Path | None) -> Any:
    """Find the regressor's class, by its code where it is one of others; a linear one predicts without that."""
    plugin = described.get("plugins", {}).get("regressor")
    if plugin is None:
        return REGRESSORS[described["spec"]["regressor"]]
    try:
        return REGRESSORS.exactly(plugin["name"], plugin["digest"], kept)
    except SpecError:
        if not described.get("linear"):
            raise
        return None


def _restored_regressor(kind: Any, spec: TrialSpec, arrays: Mapping[str, NDArray[Any]]) -> Regressor:
    if kind is None:
        linear = {name: arrays[name] for name in ("coef_", "intercept_")}
        return cast(Regressor, REGRESSORS["linear"].from_arrays({}, linear))
    return cast(Regressor, kind.from_arrays(spec.parameters, arrays))


def _source(described: Mapping[str, Any], kept: Path | None) -> Source | None:
    """Find the network's library where it is one of others: by its code, else by its name.

    Whether another code computes the same is seen when the network is rebuilt.
    """
    plugin = described.get("plugins", {}).get("library")
    if plugin is None:
        return None
    name = str(plugin["name"])
    try:
        library = LIBRARIES.exactly(name, plugin["digest"], kept)
    except SpecError:
        if name not in LIBRARIES.names:
            raise
        library = LIBRARIES[name]
    return Source(library, name, str(described["network"]["backbone"]).rpartition(":")[2], dict(plugin))


def _as_list(images: Any) -> list[Any]:
    """Return a list of images, whether one is given or many."""
    if isinstance(images, str | bytes | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4):
        return [images]
    if not isinstance(images, Iterable):
        raise DataError(
            f"Images must be a path, bytes, a PIL image, an array or a sequence of them. Got {type(images).__name__}."
        )
    return list(images)


def _read_description(folder: Path) -> dict[str, Any]:
    if sealed.is_sealed(folder):
        sealed.check(folder)
    try:
        described: dict[str, Any] = plain.of_json((folder / "model.json").read_text(encoding="utf-8"))
        if described.get("format") not in _READ:
            raise ModelError(f"{folder}: the format of a model must be {FORMAT}. Got {described.get('format')!r}.")
        changed = [] if sealed.is_sealed(folder) else _changed_before_seals(folder, described)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{folder} holds no whole model: {error}.") from None
    if changed:
        raise ModelError(f"{folder}: {changed[0]} is not the file that the model was saved with.")
    return described


def _changed_before_seals(folder: Path, described: Mapping[str, Any]) -> list[str]:
    """Name the files that are not what a model of an older format says."""
    if described["format"] == FORMAT:
        raise ModelError(f"{folder} holds no whole model: {sealed.SEAL} is not there.")
    return [name for name in _FILES if digest.of_file(folder / name) != described["files"].get(name)]
