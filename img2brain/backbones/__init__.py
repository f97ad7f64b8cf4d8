"""Networks that turn images into activations.

A file of this folder without an underscore is a library of networks (`base.Library`), and so is a class of yours that
extends it; a backbone is a network of one. It is called ``NETWORK`` where one library holds that name, otherwise
``LIBRARY:NETWORK``, and ``PATH.py:LIBRARY:NETWORK`` where the library is in a file of yours.

Examples
--------
>>> curated_layers("alexnet")[:3]
('features.2', 'features.5', 'features.7')
>>> load_backbone("squeezenet1_1", "random:0").trained
'untrained'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from img2brain.backbones._backbone import (
    NAMING,
    Backbone,
    RestoredBackbone,
    check_weights,
    content_digests,
    kinds,
    without,
)
from img2brain.backbones._checkpoint import State, fetch, lacking, load_state, read_checkpoint
from img2brain.backbones._content import tensor_digests, weights_digest
from img2brain.backbones._exact import exact_products, products
from img2brain.backbones._fast import accelerated
from img2brain.backbones._graph import Extractor
from img2brain.backbones._kinds import LayerKind
from img2brain.backbones._network import AnyGraph, graph_of
from img2brain.backbones._preprocessing import Preprocessing
from img2brain.backbones._probe import sketch
from img2brain.backbones._random import SeededFill, filled_by
from img2brain.backbones._source import Source, all_names, find, find_in, matching, names_of
from img2brain.backbones._weights import UNTRAINED, Weights, labelled, parse_weights
from img2brain.backbones._wrapping import PLAIN
from img2brain.backbones.base import Library
from img2brain.catalog import LIBRARIES
from img2brain.errors import FeatureError, ModelError, UnknownComponentError

__all__ = [
    "PREPROCESSINGS",
    "Backbone",
    "Extractor",
    "LayerKind",
    "Library",
    "Preprocessing",
    "Request",
    "RestoredBackbone",
    "Source",
    "Weights",
    "accelerated",
    "backbone_names",
    "build_fresh",
    "check_request",
    "curated_layers",
    "exact_products",
    "find",
    "layer_names",
    "load_backbone",
    "matching",
    "names_of",
    "products",
    "restore",
    "sketch",
]

PREPROCESSINGS = ("weights", "resize224")

_TEXTS = ("backbone", "layer", "weights", "trained", "weights_digest")
_CONFIG = (*_TEXTS, "options", "preprocessing")


def backbone_names() -> tuple[str, ...]:
    """Name every backbone of every library, with the library's name where several hold one of this name."""
    return all_names()


def layer_names(name: str) -> tuple[str, ...]:
    """Name every operation of a backbone's graph, in order of execution."""
    return find(name).nodes


def curated_layers(name: str) -> tuple[str, ...]:
    """List good layers in order of depth.

    A backbone without a list of its own gets up to eight block outputs, evenly over its depth.
    """
    return find(name).curated


def check_request(name: str, weights: str, layers: Iterable[str] = (), preprocessing: str = "weights") -> None:
    """Check names before any work starts; loads no weights and costs some tenths of a second.

    Parameters
    ----------
    name, weights, preprocessing : str
        As for `load_backbone`.
    layers : iterable of str
        As for `Backbone.extractor`.

    Raises
    ------
    SpecError
        For an unknown backbone or preprocessing, and for a name that several libraries hold.
    WeightsError
        For unknown weights or an absent file. A file's contents are not looked at.
    UnknownLayerError, FeatureError
        As `Backbone.extractor` does.
    """
    request = Request.parse(name, weights, preprocessing)
    if wanted := tuple(layers):
        request.graph.extractor(wanted, request.preprocessing.size)


def load_backbone(name: str, weights: str, preprocessing: str = "weights") -> Backbone:
    """Build a network with its weights.

    Parameters
    ----------
    name : str
        One of `backbone_names`, or ``PATH.py:LIBRARY:NETWORK``.
    weights : str
        The library's name of weights (``"IMAGENET1K_V1"``, ``"DEFAULT"``), ``"random:SEED"`` (the same numbers on every
        machine, by the network's own scheme), or a checkpoint file; ``FILE#PART`` for one of several state dicts in it.
    preprocessing : {"weights", "resize224"}
        The transform of the weights, for random ones and files that of the library's default weights; or a resize to
        224 x 224 pixels without a crop, with ImageNet's mean and standard deviation.

    Raises
    ------
    SpecError
        For an unknown backbone or preprocessing, and for a name that several libraries hold.
    WeightsError
        When the weights cannot be had, read safely, or do not fit.

    Notes
    -----
    Random weights cost some 25 ns per parameter. The global generators of torch and numpy stay untouched.
    """
    return replace(Request.parse(name, weights, preprocessing).load(), name=name)


def build_fresh(backbone: Backbone, seed: int) -> Backbone:
    """Build the same network with fresh random weights of its own scheme, as torch draws them: fast, not frozen.

    The global generator of torch stays untouched.
    """
    with SeededFill(seed):
        network = backbone.source.build(backbone.options)
    return replace(
        backbone, network=network, weights=f"fresh:{seed}", trained=UNTRAINED, weights_digest="", tensors={}, absent=()
    )


def restore(
    config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], source: Source | None = None
) -> RestoredBackbone:
    """Rebuild what `Backbone.export` gave; equal outputs, bit for bit.

    Parameters
    ----------
    config, tensors : mapping
        What was given.
    source : Source, optional
        Where the network comes from; by default it is found by its name.

    Raises
    ------
    ModelError
        When configuration and tensors do not fit together.
        Or when its library is in a file of others that is not known here.
    UnknownComponentError, UnknownLayerError
        For names that this version does not know.
    """
    if set(config) - {"naming", "layers"} != set(_CONFIG) or config.get("naming", NAMING) != NAMING:
        raise ModelError(
            f"A saved backbone must have the keys {sorted(_CONFIG)}, with or without 'naming': {NAMING}. "
            f"Got {sorted(config)}."
        )
    if not all(isinstance(config[key], str) for key in _TEXTS):
        raise ModelError(f"A saved backbone must give a text for each of {', '.join(_TEXTS)}.")
    layers = config.get("layers", [config["layer"]])
    if not (isinstance(layers, list) and "+".join(map(str, layers)) == config["layer"]):
        raise ModelError(f"The 'layers' of a saved backbone must be those of its 'layer'. Got {layers!r}.")
    source, layer = source or _saved_source(config["backbone"]), config["layer"]
    name, preprocessing = source.name, Preprocessing.from_dict(config["preprocessing"])
    size = preprocessing.size
    graph = graph_of(name, source.blank(config["options"]), lambda: size)
    extractor = graph.extractor(layers, size) if "naming" in config else graph.first_extractor(layer, size)
    try:
        extractor.body.load_state_dict(dict(tensors), strict=True, assign=True)
    except RuntimeError as error:
        raise ModelError(
            f"The tensors of a saved backbone must be those of {name} up to {layer}. They are not."
        ) from error
    extractor.requires_grad_(False)
    kept = {key: config[key] for key in ("weights", "trained", "weights_digest", "layer")}
    return RestoredBackbone(name=name, preprocessing=preprocessing, pruned=extractor, **kept)


@dataclass(frozen=True, eq=False)
class Request:
    """A network, weights and a preprocessing as asked for, understood; nothing is built or read yet.

    Attributes
    ----------
    source : Source
        The network's library.
    weights : Weights
    preprocessing : Preprocessing
    """

    source: Source
    weights: Weights
    preprocessing: Preprocessing

    @classmethod
    def parse(cls, name: str, weights: str, preprocessing: str) -> Request:
        """Understand a request; the errors are those of `check_request`."""
        return cls.of(find(name), weights, preprocessing)

    @classmethod
    def of(cls, source: Source, weights: str, preprocessing: str = "weights") -> Request:
        """Understand a request for a network that is found already."""
        request = parse_weights(source.name, weights, source.library.weight_names(source.name))
        return cls(source, request, _preprocessing(source, request, preprocessing))

    @property
    def graph(self) -> AnyGraph:
        """The network, looked at without its weights."""
        return self.source.graph(self.options(()), self.preprocessing.size)

    def load(self) -> Backbone:
        """Build the network with its weights; see `load_backbone`."""
        brought = self._brought()
        state = State({}) if brought else _read_state(self)
        options = self.options(state)
        network, absent = (brought, lacking(brought)) if brought else _load(self, options, state)
        tensors = {name: found for name, found in tensor_digests(network).items() if name not in absent}
        return Backbone(
            name=self.source.name,
            source=self.source,
            weights=self.weights.text,
            trained=self.weights.trained,
            weights_digest=weights_digest(network, tensors),
            tensors=tensors,
            network=network,
            preprocessing=self.preprocessing,
            layers=self._curated(network, absent),
            options=options,
            label=self._label(state),
            taken=_told(state, absent),
            absent=absent,
        )

    def _brought(self) -> nn.Module | None:
        """Return the network with weights that its library itself reads or downloads; None where there are none."""
        name = self.weights.library_name
        return None if name is None else self.source.pretrained(name, self.options(()))

    def _curated(self, network: nn.Module, absent: Sequence[str]) -> tuple[str, ...]:
        size = self.preprocessing.size
        layers = self.source.curated
        graph = graph_of(self.source.name, network, lambda: size) if absent else None
        return without(layers, graph, size, absent) if graph else layers

    def _label(self, state: State) -> str:
        path = self.weights.path
        return self.weights.label if path is None or state.part in PLAIN else labelled(path, state.part)

    def options(self, keys: Iterable[str]) -> dict[str, Any]:
        """Choose the constructor's arguments for weights of these keys."""
        return self.source.library.options(self.source.name, self.weights, tuple(keys))

    def is_renamed(self, layers: Iterable[str]) -> bool:
        """Tell whether the name of a layer meant another one until names became those of modules."""
        return any(map(self.graph.is_renamed, layers))

    def layer_kinds(self, layers: Sequence[str]) -> dict[str, LayerKind]:
        """Give what `Backbone.layer_kinds` gives; no weights are read."""
        graph, size = self.graph, self.preprocessing.size
        return kinds(self.source, graph.network, graph.extractor(layers, size), size)

    def digests(
        self,
        options: Mapping[str, Any],
        tensors: Mapping[str, str],
        layers: Sequence[str],
        absent: Sequence[str] = (),
    ) -> dict[str, str]:
        """Give what `Backbone.digests` gives, by the digests of its tensors: no weights are read."""
        graph = self.source.graph(options, self.preprocessing.size)
        check_weights(graph, layers, self.preprocessing.size, absent, self.weights.label)
        return content_digests(self.source, graph, layers, self.preprocessing, tensors)


def _saved_source(name: str) -> Source:
    """Find the library of a saved network; a name without one is of the time when there were none but ours."""
    library, _, network = name.rpartition(":")
    if not library:
        ours = [item for item in LIBRARIES.names if LIBRARIES.plugin(item) is None]
        library = next((item for item in ours if name in LIBRARIES[item].names), "")
        return find_in(library, name) if library else find(name)
    if library not in LIBRARIES.names:
        file = library.partition(":")[0]
        is_file = file.endswith(".py")
        path, place = (f"PATH/{library}", f"the file {file}") if is_file else (library, f"the package of {library}")
        raise ModelError(
            f"The network {name!r} is of the library {library!r}, which is not known here. Load it first, with "
            f"img2brain.catalog.LIBRARIES.load('{path}'), from {place} that the model was made with."
        )
    return find_in(library, network)


def _preprocessing(source: Source, request: Weights, preprocessing: str) -> Preprocessing:
    if preprocessing not in PREPROCESSINGS:
        raise UnknownComponentError("preprocessing", preprocessing, PREPROCESSINGS)
    if preprocessing == "resize224":
        return Preprocessing(resize=(224, 224))
    found = source.library.preprocessing(source.name, request.library_name)
    if type(found) is not Preprocessing:  # what a class of others adds would not be saved
        raise FeatureError(f"The preprocessing of {source.full_name} must be a Preprocessing. Got {found!r}.")
    return found


def _read_state(request: Request) -> State:
    source, weights = request.source, request.weights
    if weights.seed is not None:
        return State({})
    path = weights.path or fetch(source.library.url(source.name, str(weights.library_name)), source.name)
    own = lambda: source.blank(request.options(())).state_dict()  # noqa: E731
    return read_checkpoint(path, source.library.rename, own, weights.part)


def _load(request: Request, options: Mapping[str, Any], state: State) -> tuple[nn.Module, tuple[str, ...]]:
    source, weights = request.source, request.weights
    if weights.seed is not None:
        with filled_by(np.random.RandomState(weights.seed)):
            return source.build(options), ()
    network = source.blank(options)
    return network, load_state(network, state, name=source.name, source=weights.label)


def _told(state: State, absent: Sequence[str]) -> str:
    """Say what was taken of a checkpoint, where that is not all of it as it is."""
    told = [
        f"the part {state.part!r}" if state.part else "",
        f"names without {state.prefix!r}" if state.prefix else "",
        f"without {_few(state.left)}" if state.left else "",
        f"no {_few(absent)}" if absent else "",
    ]
    return "; ".join(filter(None, told))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")
