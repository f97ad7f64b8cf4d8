"""Networks that turn images into activations.

A file of this folder without an underscore is a library of networks (`_base.Library`); a backbone is a network of one.

Examples
--------
>>> published_layers("resnet50")
('layer1.1.conv1', 'layer2.3.conv2', 'layer3.5.conv3', 'layer4.2.conv3', 'avgpool')
>>> load_backbone("squeezenet1_1", "random:0").trained
'untrained'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from img2brain.backbones._base import Backbone, Library, RestoredBackbone
from img2brain.backbones._checkpoint import State, fetch, load_state, read_checkpoint
from img2brain.backbones._fast import accelerated
from img2brain.backbones._graph import Extractor, build_extractor, graph_nodes, resolve, spread
from img2brain.backbones._preprocessing import Preprocessing
from img2brain.backbones._random import filled_by
from img2brain.backbones._weights import UNTRAINED, Weights, digest_of, parse_weights
from img2brain.catalog import LIBRARIES
from img2brain.errors import ModelError, UnknownComponentError

__all__ = [
    "PREPROCESSINGS",
    "Backbone",
    "Extractor",
    "Preprocessing",
    "RestoredBackbone",
    "accelerated",
    "backbone_names",
    "build_fresh",
    "check_request",
    "curated_layers",
    "layer_names",
    "load_backbone",
    "published_layers",
    "restore",
]

PREPROCESSINGS = ("weights", "resize224")

_TEXTS = ("backbone", "layer", "weights", "trained", "weights_digest")
_CONFIG = (*_TEXTS, "options", "preprocessing")


def backbone_names() -> tuple[str, ...]:
    """Name every backbone of every library."""
    return tuple(name for library in LIBRARIES.names for name in LIBRARIES[library].names)


def layer_names(name: str) -> tuple[str, ...]:
    """Name every graph node of a backbone, in order of execution."""
    return _nodes(name)


def published_layers(name: str) -> tuple[str, ...]:
    """List the layers that the predecessor study published; empty for a backbone it did not use."""
    return _library(name).layers(name)[0]


def curated_layers(name: str) -> tuple[str, ...]:
    """List good layers in order of depth: the published ones and block outputs.

    A backbone without a list of its own gets up to eight block outputs, evenly over its depth.
    """
    return _curated(name)


def check_request(name: str, weights: str, layers: Iterable[str] = (), preprocessing: str = "weights") -> None:
    """Check names before any work starts; loads no weights and costs some tenths of a second.

    Parameters
    ----------
    name, weights, preprocessing : str
        As for `load_backbone`.
    layers : iterable of str
        Graph nodes or modules.

    Raises
    ------
    UnknownComponentError
        For an unknown backbone or preprocessing.
    WeightsError
        For unknown weights or an absent file. A file's contents are not looked at.
    UnknownLayerError, FeatureError
        As `Backbone.extractor` does.
    """
    library = _library(name)
    request = parse_weights(name, weights, library.weight_names(name))
    transform = _preprocessing(library, name, request, preprocessing)
    wanted, nodes = tuple(layers), _nodes(name)
    for layer in wanted:
        resolve(name, layer, nodes)
    if wanted:
        network = _blank(library, name, library.options(name, request, ()))
        build_extractor(name, network, wanted, nodes, transform.size)


def load_backbone(name: str, weights: str, preprocessing: str = "weights") -> Backbone:
    """Build a network with its weights.

    Parameters
    ----------
    name : str
        One of `backbone_names`.
    weights : str
        The library's name of weights (``"IMAGENET1K_V1"``, ``"DEFAULT"``), ``"random:SEED"`` (the same numbers on every
        machine, by the network's own scheme), or a checkpoint file of tensors that fits exactly.
    preprocessing : {"weights", "resize224"}
        The transform of the weights, for random ones and files that of the library's default weights; or a resize to
        224 x 224 pixels without a crop, with ImageNet's mean and standard deviation.

    Raises
    ------
    UnknownComponentError
        For an unknown backbone or preprocessing.
    WeightsError
        When the weights cannot be had, read safely, or do not fit.

    Notes
    -----
    Random weights cost some 25 ns per parameter. The global generators of torch and numpy stay untouched.
    """
    library = _library(name)
    request = parse_weights(name, weights, library.weight_names(name))
    transform = _preprocessing(library, name, request, preprocessing)
    state = _read_state(library, name, request)
    options = library.options(name, request, state)
    network = _load(library, name, request, options, state)
    return Backbone(
        name=name,
        weights=weights,
        trained=request.trained,
        weights_digest=digest_of(network),
        network=network,
        preprocessing=transform,
        layers=_curated(name),
        options=options,
        label=request.label,
    )


def build_fresh(backbone: Backbone, seed: int) -> Backbone:
    """Build the same network with fresh random weights of its own scheme, as torch draws them: fast, not frozen.

    The global generator of torch stays untouched.
    """
    library = _library(backbone.name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = library.build(backbone.name, backbone.options).eval().requires_grad_(False)
    return replace(backbone, network=network, weights=f"fresh:{seed}", trained=UNTRAINED, weights_digest="")


def restore(config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> RestoredBackbone:
    """Rebuild what `Backbone.export` gave; equal outputs, bit for bit.

    Raises
    ------
    ModelError
        When configuration and tensors do not fit together.
    UnknownComponentError, UnknownLayerError
        For names that this version does not know.
    """
    if set(config) != set(_CONFIG):
        raise ModelError(f"A saved backbone must have the keys {sorted(_CONFIG)}. Got {sorted(config)}.")
    if not all(isinstance(config[key], str) for key in _TEXTS):
        raise ModelError(f"A saved backbone must give a text for each of {', '.join(_TEXTS)}.")
    name, layer = config["backbone"], config["layer"]
    library, preprocessing = _library(name), Preprocessing.from_dict(config["preprocessing"])
    network = _blank(library, name, config["options"])
    extractor = build_extractor(name, network, [layer], graph_nodes(network), preprocessing.size)
    try:
        extractor.body.load_state_dict(dict(tensors), strict=True, assign=True)
    except RuntimeError as error:
        raise ModelError(
            f"The tensors of a saved backbone must be those of {name} up to {layer}. They are not."
        ) from error
    extractor.requires_grad_(False)
    kept = {key: config[key] for key in ("weights", "trained", "weights_digest", "layer")}
    return RestoredBackbone(name=name, preprocessing=preprocessing, pruned=extractor, **kept)


def _library(name: str) -> Library:
    for library in map(LIBRARIES.__getitem__, LIBRARIES.names):
        if name in library.names:
            found: Library = library
            return found
    raise UnknownComponentError("backbone", name, backbone_names())


@lru_cache(maxsize=64)
def _nodes(name: str) -> tuple[str, ...]:
    return graph_nodes(_default(name))


@lru_cache(maxsize=64)
def _curated(name: str) -> tuple[str, ...]:
    published, added = _library(name).layers(name)
    nodes = _nodes(name)
    if not published and not added:
        return spread(_default(name), nodes)
    return tuple(sorted(published + added, key=lambda layer: nodes.index(resolve(name, layer, nodes))))


def _default(name: str) -> nn.Module:
    library = _library(name)
    return _blank(library, name, library.options(name, parse_weights(name, "random:0", ()), ()))


def _blank(library: Library, name: str, options: Mapping[str, Any]) -> nn.Module:
    with filled_by(None):
        return library.build(name, options).eval().requires_grad_(False)


def _preprocessing(library: Library, name: str, request: Weights, preprocessing: str) -> Preprocessing:
    if preprocessing not in PREPROCESSINGS:
        raise UnknownComponentError("preprocessing", preprocessing, PREPROCESSINGS)
    if preprocessing == "resize224":
        return Preprocessing(resize=(224, 224))
    return library.preprocessing(name, request.library_name)


def _read_state(library: Library, name: str, request: Weights) -> State:
    if request.seed is not None:
        return State({})
    path = request.path or fetch(library.url(name, str(request.library_name)), name)
    return read_checkpoint(path, library.rename)


def _load(library: Library, name: str, request: Weights, options: Mapping[str, Any], state: State) -> nn.Module:
    if request.seed is not None:
        with filled_by(np.random.RandomState(request.seed)):
            return library.build(name, options).eval().requires_grad_(False)
    network = _blank(library, name, options)
    load_state(network, state, name=name, source=request.label)
    return network
