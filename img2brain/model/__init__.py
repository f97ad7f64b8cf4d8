"""A fitted encoding model: images -> responses, in files that hold numbers and no code.

A saved model is a folder: ``model.json`` says what it is, ``digests.json`` names the digest of every file,
``network.safetensors`` holds what the network needs up to its layer, ``pca.safetensors`` the axes,
``regressor.safetensors`` the fitted regressor, ``regions.safetensors`` the voxels of each region. The network's code is
not in it: ``golden/`` holds one picture and what the model makes of it, and is compared before the first prediction.
``README.md`` is its card, with ``accuracy.svg``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safe_numpy
from safetensors import torch as safe_torch

from img2brain import sealed
from img2brain._forks import alone, works_after_fork
from img2brain.amounts import counted
from img2brain.backbones import Extractor, RestoredBackbone, accelerated, restore
from img2brain.backbones._source import Source
from img2brain.catalog import LIBRARIES, REGRESSORS
from img2brain.datasets._facts import About
from img2brain.datasets._images import AS_STORED
from img2brain.datasets._presentation import Presentation
from img2brain.datasets._responses import open_array
from img2brain.errors import DataError, ModelError, ShapeError, SpecError, UnknownComponentError
from img2brain.features.extract import ImageSource, Precision, Preparation, activations, find_device, find_precision
from img2brain.features.given import ORIGIN
from img2brain.features.pca import Axes
from img2brain.features.placement import Placement, placed
from img2brain.features.pooling import Block, Pooled, pooled_layers, side_by_side
from img2brain.model import _files, _golden, _weights
from img2brain.model._card import FIGURE, README, card, figure
from img2brain.model._golden import Golden
from img2brain.model._metadata import metadata
from img2brain.model._outputs import as_list, choose, framed, taken
from img2brain.regressors.base import Regressor
from img2brain.spec import GIVEN, NO_POOLING, TrialSpec, parse

if TYPE_CHECKING:
    import pandas as pd

FORMAT = _files.FORMAT
_MATRIX = ("images", "features")
_PRECISIONS: dict[str, Precision] = {"float32": "float32", "bfloat16": "bfloat16"}
_POOLED = "pooling"  # where the configuration of the network says how its layer is pooled
_CPU = torch.device("cpu")
Images = ImageSource | Sequence[ImageSource]


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
        What the network made of a picture when a model of a format before 6 was saved.
    source : Source, optional
        Where the network comes from; by default it is found by its name.
    presentation : Presentation
        How the images that it was fitted to were shown: new ones are laid over the same background.
    regions : mapping of str to ndarray of int
        Voxels by region of interest.
    golden : Golden, optional
        One input and what the model made of it when it was saved.
    format : int
        Of the files that it was read from.
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
    regions: Mapping[str, NDArray[np.intp]] = field(default_factory=dict)
    golden: Golden | None = None
    format: int = FORMAT

    def __repr__(self) -> str:
        what, *facts = self._described().items()
        return "\n".join([f"<EncodingModel {what[1]}", *(f"  {name:12}{text}" for name, text in facts)]) + ">"

    def _repr_html_(self) -> str:
        """Show what it is as a table of a notebook."""
        lines = (f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in self._described().items())
        return f"<table>{''.join(lines)}</table>"

    @property
    def _n_axes(self) -> int:
        """How many components there are: of all components more than the trial had, which was fitted to fewer rows."""
        return len(self.axes.shift)

    def _described(self) -> dict[str, str]:
        """Say what the model is, in five short texts."""
        spec, about = self.spec, self.about
        takes = "features" if self.takes_features else "images"
        scores = {name: value for name, value in about.get("scores", {}).items() if value is not None}
        shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        return {
            "model": f"of {about.get('dataset', '?')}: {takes} -> {counted(about.get('n_voxels', 0), 'voxel')}",
            "network": f"{spec.backbone} {spec.weights} ({self.network.get('trained', '?')}), {self.precision}",
            "layer": f"{spec.space}, {counted(self._n_axes, 'component')}",
            "regressor": " ".join([spec.regressor, *(f"{name}={value}" for name, value in spec.parameters.items())]),
            "scores": f"{about.get('objective', '')} {shown or 'none'}".strip(),
        }

    @overload
    def predict(
        self,
        images: Images,
        rois: Sequence[str] | str | None = None,
        *,
        as_frame: Literal[False] = False,
        batch_size: int | None = None,
        device: str = "auto",
    ) -> NDArray[np.floating]: ...

    @overload
    def predict(
        self,
        images: Images,
        rois: Sequence[str] | str | None = None,
        *,
        as_frame: Literal[True],
        batch_size: int | None = None,
        device: str = "auto",
    ) -> pd.DataFrame: ...

    @works_after_fork
    def predict(
        self,
        images: Images,
        rois: Sequence[str] | str | None = None,
        *,
        as_frame: bool = False,
        batch_size: int | None = None,
        device: str = "auto",
    ) -> NDArray[np.floating] | pd.DataFrame:
        """Predict the responses to images.

        Parameters
        ----------
        images : path, folder, bytes of a file, PIL image, array, or a sequence of them
            A folder stands for the images in it, not for those of folders within it, in the plain order of their names:
            10.png comes before 2.png. An array is (height, width) or (height, width, 3), uint8 or floats from 0 to 1;
            one of four dimensions is a sequence. For a model of features that came with the data: an array (n_images,
            n_features) of them, or a ``.npy`` file.
        rois : sequence of str, optional
            Regions, named in `regions`: the voxels of the first, then those of the second, and so on. By default all
            voxels, in the order of the dataset.
        as_frame : bool
            Give a table. Its index are the names of the files, with their folders where two share a name, or 0, 1, ...
            where an image is no file. Its columns are voxels, or with `rois` pairs of region and voxel: ``table["V1"]``
            are those of V1.
        batch_size : int, optional
            Images per forward pass.
        device : str
            ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

        Returns
        -------
        ndarray or pandas.DataFrame (n_images, n_voxels), float32
            In the unit of the responses; float64 where float32 would lose what varies of them.

        Raises
        ------
        DataError
            If an image does not decode or has too many pixels, or a folder holds none.
        SpecError
            If a region is not known, or named twice.
        ModelError
            If the code of the network, or a library, computes something else than when the model was saved.
        """
        chosen = choose(self.regions, rois)
        sources: Any = images if self.takes_features else as_list(images)
        found = taken(self._responses(sources, batch_size, device), chosen)
        return framed(found, () if self.takes_features else sources, chosen) if as_frame else found

    def _responses(self, sources: Any, batch_size: int | None, device: str) -> NDArray[np.floating]:
        coordinates = self.coordinates(sources, batch_size=batch_size, device=device)
        if not len(coordinates):
            return np.empty((0, int(self.about["n_voxels"])), self.dtype)
        return np.asarray(self.regressor.predict(coordinates), dtype=self.dtype)

    def coordinates(
        self, images: Images, *, batch_size: int | None = None, device: str = "auto"
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
            self.check()
            return self._coordinates_of(images)
        sources = as_list(images)
        none = np.empty((0, self._n_axes), np.float32)
        return np.concatenate([none, *(self._coordinates(sources, batch_size, device) if sources else ())])

    @property
    def metadata(self) -> dict[str, Any]:
        """All that is known of the model, as plain data that JSON holds; what is not known is empty or None.

        Where the data come from and who they are of, voxels and regions, the network with the digests of its code and
        weights, regressor, rows, scores with intervals over all voxels and by region, controls, noise ceiling, looks,
        and the versions that it was made with.

        Examples
        --------
        >>> img2brain.load_model("NAME@champion").metadata["scores"]["confirmation"]  # doctest: +SKIP
        {'estimate': 0.31, 'low': 0.27, 'high': 0.35}
        """
        return metadata(self)

    def check(self) -> None:
        """Compare the model with its golden example: done once, before the first prediction, where it is not asked for.

        Raises
        ------
        ModelError
            If the code of the network, or a library, computes something else than when the model was saved.
        """
        with alone:  # Threads that meet a new model rebuild it once.
            _ = self._checked

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of predictions: float32, unless that would lose what varies of the responses."""
        return np.dtype(np.float64 if self.about.get("dtype") == "float64" else np.float32)

    @property
    def takes_features(self) -> bool:
        """Whether it predicts from features that came with the data, in place of images."""
        return self.spec.backbone == GIVEN

    def features_of(self, source: Any) -> NDArray[Any]:
        """Open features that came with the data, and see that they are of the shape that the model takes.

        Parameters
        ----------
        source : array (n_images, n_features), or path
            The features, or a ``.npy`` file of them.

        Raises
        ------
        DataError
            If they are none; `ShapeError` where there are more or fewer of them.
        """
        n_features = len(self.axes.axes)
        found = self._opened(Path(source)) if isinstance(source, str | Path) else np.asarray(source)
        if found.ndim != 2 or found.shape[1] != n_features or found.dtype.kind not in "fiu":
            raise ShapeError(
                f"This model takes the features {self.spec.layer!r}, an array of shape (images, {n_features}). "
                f"Got {found.dtype} of shape {found.shape}."
            )
        return found

    def _coordinates_of(self, source: Any) -> NDArray[np.float32]:
        """Return the coordinates of given features along the principal axes."""
        found = self.features_of(source)
        counted = found - self._origin if ORIGIN in self.tensors else found
        return np.asarray(counted.astype(np.float32) @ self.axes.axes - self.axes.shift, dtype=np.float32)

    @property
    def _origin(self) -> Any:
        """Where given features are counted from."""
        return self.tensors[ORIGIN].numpy() if ORIGIN in self.tensors else 0.0

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
    def save(self, folder: Path | str, weights: _weights.Kind = "embedded") -> None:
        """Write the model into a folder, which is made where it is not there.

        Parameters
        ----------
        folder : Path or str
            The folder.
        weights : {"embedded", "reference"}
            Whether the weights of the network are in the files, or only their name and digest: then whoever loads the
            model has them from the network's library, or names a file of them.

        Raises
        ------
        ModelError
            If the model computes something else than when it was saved before.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        reference = None
        if weights == "reference" and not self.takes_features:
            reference = _weights.refer(self.network, self.tensors, self.source)
        else:
            safe_torch.save_file(dict(self.tensors), folder / _files.NETWORK)
        safe_numpy.save_file(
            {"shift": self.axes.shift, "axes": np.ascontiguousarray(self.axes.axes)}, folder / _files.PCA
        )
        arrays = {name: np.asarray(value, order="C") for name, value in self.regressor.to_arrays().items()}
        safe_numpy.save_file(arrays, folder / _files.REGRESSOR)
        (self.golden or self._new_golden()).save(folder)
        described = {
            "format": FORMAT,
            "img2brain": version("img2brain"),
            "spec": self.spec.model_dump(mode="json"),
            "network": dict(self.network),
            "reference": reference,
            "precision": self.precision,
            "plugins": self.plugins,
            "linear": hasattr(self.regressor, "fit_folds"),
            "presentation": self.presentation.to_dict(),
            "regions": _files.write_regions(folder, self.regions),
            "about": dict(self.about),
        }
        (folder / _files.DESCRIPTION).write_text(json.dumps(described, indent=1), encoding="utf-8")
        self._write_card(folder)
        sealed.seal(folder)

    def _write_card(self, folder: Path) -> None:
        known, counted = self.metadata | {"format": FORMAT}, self.about.get("histograms")
        (folder / README).write_text(card(known, bool(counted)), encoding="utf-8")
        if counted:
            (folder / FIGURE).write_text(figure(counted, known["objective"]["label"]), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, kept: Path | None = None, weights: Path | str | None = None) -> EncodingModel:
        """Read a saved model, checking every file against its digest, and that there is no other.

        Parameters
        ----------
        folder : Path
            What `save` wrote.
        kept : Path, optional
            Where files of components of others are kept, see `Catalog.exactly`.
        weights : Path or str, optional
            A checkpoint file, for a model that only names its weights; ``FILE#PART`` for one of several in it. By
            default the network's library is asked for them.

        Raises
        ------
        ModelError
            If a file is absent, changed, or of another format; or if a component is not known here that is in a file
            of others; or if weights that are not in the files cannot be had, or are others.
        """
        described = _files.read_description(folder)
        try:
            kind, source = _files.regressor_kind(described, kept), _files.source_of(described, kept)
        except (UnknownComponentError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{folder} holds no whole model: {str(error).rstrip('.')}.") from None
        except SpecError as error:
            raise ModelError(f"{folder} cannot be loaded: {error}") from None
        try:
            spec = parse(TrialSpec, described["spec"], "model.json")
            pca = safe_numpy.load_file(folder / _files.PCA)
            arrays = safe_numpy.load_file(folder / _files.REGRESSOR)
            return cls(
                spec=spec,
                network=described["network"],
                tensors=_tensors(folder, described, source, weights),
                axes=Axes(pca["axes"], pca["shift"]),
                regressor=_files.restored_regressor(kind, spec, arrays),
                about=described["about"],
                precision=_PRECISIONS[described["precision"]],
                probe=tuple(described["probe"]) if described.get("probe") else None,
                source=source,
                presentation=parse(About, described.get("presentation", {}), "model.json").presentation,
                regions=_files.read_regions(folder, described),
                golden=Golden.load(folder) if described["format"] == FORMAT else None,
                format=described["format"],
            )
        except (KeyError, ValueError, TypeError, SafetensorError) as error:
            raise ModelError(f"{folder} holds no whole model: {str(error).rstrip('.')}.") from None

    @cached_property
    def _restored(self) -> RestoredBackbone:
        return self.restored()

    def restored(self) -> RestoredBackbone:
        """Rebuild the network by its library's code."""
        found: Any = self.network  # which may be anything in a file of others
        plain = {name: told for name, told in found.items() if name != _POOLED} if isinstance(found, dict) else {}
        return restore(plain, self.tensors, self.source)

    def pooled(self, network: Extractor) -> Pooled:
        """Let a network that computes the layers pool them as the model does."""
        told = pooled_layers(self.network.get(_POOLED, {}))
        blocks = [Block(layer, told[layer][1] if layer in told else NO_POOLING) for layer in network.n_features]
        return Pooled(network, blocks, {layer: kind for layer, (kind, _) in told.items()})

    @property
    def _preparation(self) -> Preparation:
        return placed(self._restored.preprocessing, Placement.parse(self.spec.placement))

    @cached_property
    def _checked(self) -> bool:
        """Whether network and regressor were compared with what they were."""
        same = self.probe is None or self._restored.resembles(self.probe)
        coordinates = self._exactly(self.golden.content) if self.golden is not None else None
        name = f"The network {self.network.get('backbone', self.spec.backbone)!r}"
        if not same:
            raise ModelError(
                f"{name} is not what this model was saved with: its code makes something else of the same picture, "
                f"with the same weights."
            )
        if self.golden is not None and coordinates is not None:
            self.golden.require_coordinates(coordinates, name)
            self.golden.require_responses(self.regressor.predict, f"The regressor {self.spec.regressor!r}")
        return True

    def _new_golden(self) -> Golden:
        self.check()
        content: Any = _golden.row(len(self.axes.axes)) + self._origin if self.takes_features else _golden.png()
        coordinates = self._exactly(content)
        return Golden(content, coordinates, np.asarray(self.regressor.predict(coordinates), dtype=self.dtype))

    def _exactly(self, content: Any) -> NDArray[np.float32]:
        """Return the coordinates of one input, in float32 on the processor."""
        if self.takes_features:
            return self._coordinates_of(content)
        network, preparation = self.pooled(self._restored.pruned), self._preparation
        found = activations(network, preparation, [content], _CPU, presentation=self.presentation)
        (features,) = (side_by_side(blocks).numpy() for _, blocks in found)
        return np.asarray(features @ self.axes.axes - self.axes.shift, dtype=np.float32)

    @cached_property
    def _ready(self) -> Any:
        """Network and axes on a device, kept between calls."""
        return lru_cache(maxsize=1)(self._on)

    def _coordinates(self, sources: Sequence[ImageSource], batch_size: int | None, device_name: str) -> Any:
        """Yield the coordinates along the principal axes, batch by batch."""
        device = find_device(device_name)
        dtype = find_precision(self.precision, device)
        with alone:  # Threads that meet a new model rebuild it once.
            self.check()
            network, axes, shift = self._ready(device, dtype)
            preparation = self._preparation
        for _, blocks in activations(
            network, preparation, sources, device, dtype, batch_size, presentation=self.presentation
        ):
            yield (side_by_side(blocks).float() @ axes - shift).cpu().numpy()

    def _on(self, device: torch.device, dtype: torch.dtype) -> tuple[Any, torch.Tensor, torch.Tensor]:
        network = self.pooled(accelerated(self._restored.pruned, device, dtype))
        axes, shift = (torch.from_numpy(np.array(values)).to(device) for values in (self.axes.axes, self.axes.shift))
        return network, axes, shift


def _tensors(
    folder: Path, described: Mapping[str, Any], source: Source | None, weights: Path | str | None
) -> dict[str, torch.Tensor]:
    """Read the weights from the files of a model, or from where it says they are."""
    if reference := described.get("reference"):
        return _weights.fetch(described["network"], reference, source, weights)
    if weights is not None:
        raise ModelError(f"The weights of this model are in its files. Got another file of them, {str(weights)!r}.")
    found: dict[str, torch.Tensor] = safe_torch.load_file(folder / _files.NETWORK)
    return found
