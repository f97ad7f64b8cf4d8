"""Backbones: a network with its weights, its preprocessing and its layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from img2brain import digest
from img2brain.backbones._content import hooked_digests, layer_digests
from img2brain.backbones._graph import Extractor, Size
from img2brain.backbones._hooked import HookedGraph
from img2brain.backbones._kinds import LayerKind, layer_kind
from img2brain.backbones._network import AnyGraph, graph_of
from img2brain.backbones._preprocessing import Preprocessing
from img2brain.backbones._probe import agree, sketch
from img2brain.backbones._source import Source
from img2brain.errors import UnknownLayerError, WeightsError, did_you_mean

NAMING = 2  # What the layer of a saved network is called by: 2 its modules; without a number, torchvision's nodes.


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network in evaluation mode, on the CPU and without gradients.

    Attributes
    ----------
    name : str
        As asked for, such as ``"alexnet"``.
    source : Source
        The library that it comes from, and what it is called there.
    weights : str
        As asked for.
    trained : {"trained", "untrained", "trained (file)"}
        State of the weights; that of a file is its owner's claim.
    weights_digest : str
        Of the names and values of all parameters and buffers.
    tensors : mapping of str to str
        Digests of all parameters and buffers, by name.
    network : torch.nn.Module
        The whole network.
    preprocessing : Preprocessing
        From a picture to the network's input.
    layers : tuple of str
        The curated layers, in order of depth.
    options : dict
        The constructor's arguments that change what is computed.
    label : str
        `weights` without the folders of a machine.
    taken : str
        What was taken of a checkpoint file, where that is not all of it as it is.
    absent : tuple of str
        The tensors of a classifier that a checkpoint lacks; layers that need them are refused.
    """

    name: str
    source: Source = field(repr=False)
    weights: str
    trained: str
    weights_digest: str
    tensors: Mapping[str, str] = field(repr=False)
    network: nn.Module = field(repr=False)
    preprocessing: Preprocessing
    layers: tuple[str, ...]
    options: dict[str, Any]
    label: str
    taken: str = ""
    absent: tuple[str, ...] = ()

    @cached_property
    def graph(self) -> AnyGraph:
        """The operations of the network, or its modules where it cannot be traced."""
        return graph_of(self.name, self.network, lambda: self.preprocessing.size)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of all operations, or modules that run, in order of execution."""
        return self.graph.nodes

    def digests(self, layers: Sequence[str]) -> dict[str, str]:
        """Digest, by layer, all that its activations depend on.

        That is the operations up to it, their settings, code and tensors, the library, and the preprocessing; what the
        network does after the layer has no part in it.
        """
        check_weights(self.graph, layers, self.preprocessing.size, self.absent, self.label)
        return content_digests(self.source, self.graph, layers, self.preprocessing, self.tensors)

    def extractor(self, layers: Sequence[str]) -> Extractor:
        """Prune the network to some layers.

        Parameters
        ----------
        layers : sequence of str
            Modules, meaning what they give, or operations of the graph.

        Returns
        -------
        Extractor
            A module from a batch to a dict of layer -> (n_images, n_features), in this order. It shares the parameters
            of the network.

        Raises
        ------
        UnknownLayerError
            For a name that the network lacks, with near names, or that could mean several things, with all of them.
        FeatureError
            For a node that gives no activations of an image, such as a shape.
        WeightsError
            For a layer that needs the classifier, where the weights come without it.
        """
        check_weights(self.graph, layers, self.preprocessing.size, self.absent, self.label)
        return self.graph.extractor(layers, self.preprocessing.size)

    def layer_kinds(self, layers: Sequence[str]) -> dict[str, LayerKind]:
        """Tell, by layer, what it gives for one image: a map, tokens or a vector; the errors are those of `extractor`.

        Nothing is computed but shapes, in one run without numbers.
        """
        return kinds(self.source, self.network, self.extractor(layers), self.preprocessing.size)

    def export(self, *layers: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Give what `restore` needs to compute a layer again, or several together.

        Returns
        -------
        config : dict
            Plain data for JSON, without paths of this machine.
        tensors : dict of str to torch.Tensor
            The parameters and buffers that they need.
        """
        config = {
            "backbone": self.source.full_name,
            "options": dict(self.options),
            "layer": "+".join(layers),
            **({"layers": list(layers)} if len(layers) > 1 else {}),
            "preprocessing": self.preprocessing.to_dict(),
            "weights": self.label,
            "trained": self.trained,
            "weights_digest": self.weights_digest,
            "naming": NAMING,
        }
        return config, {name: tensor.contiguous() for name, tensor in self.extractor(layers).body.state_dict().items()}


def kinds(source: Source, network: nn.Module, extractor: Extractor, size: Size) -> dict[str, LayerKind]:
    """Tell the kinds of the layers of an extractor; see `Backbone.layer_kinds`."""
    n_prefix = source.library.n_prefix_tokens(source.name, network)
    return {layer: layer_kind(shape, size, n_prefix) for layer, shape in extractor.shapes.items()}


def without(layers: Sequence[str], graph: AnyGraph, size: Size, absent: Collection[str]) -> tuple[str, ...]:
    """Leave out the layers that need tensors which are not there."""
    return tuple(layer for layer in layers if not _missing(graph, layer, size, absent))


def check_weights(graph: AnyGraph, layers: Sequence[str], size: Size, absent: Collection[str], label: str) -> None:
    """Raise `WeightsError` for a layer that needs tensors which the weights lack."""
    for layer in layers if absent else ():
        if missing := _missing(graph, layer, size, absent):
            raise WeightsError(f"The layer {layer!r} needs weights that {label} lacks: {', '.join(missing[:3])}.")


def _missing(graph: AnyGraph, layer: str, size: Size, absent: Collection[str]) -> list[str]:
    return [key for key in graph.prune([layer], size).state_dict() if key in absent]


def content_digests(
    source: Source,
    graph: AnyGraph,
    layers: Sequence[str],
    preprocessing: Preprocessing,
    tensors: Mapping[str, str],
) -> dict[str, str]:
    """Digest, by layer, all that the activations of a network depend on; see `Backbone.digests`.

    Parameters
    ----------
    source : Source
        Where the network comes from.
    graph : Graph or HookedGraph
        The network's; its parameters may be without values.
    layers : sequence of str
        As for `Backbone.extractor`.
    preprocessing : Preprocessing
        From a picture to the network's input.
    tensors : mapping of str to str
        Digests of its parameters and buffers.
    """
    shared = [source.library_name, source.plugin, preprocessing.to_dict()]
    if isinstance(graph, HookedGraph):
        hooked = hooked_digests(graph, layers, tensors, source.library.version)
        return {layer: digest.of_value([*shared, hooked[layer]]) for layer in layers}
    together: dict[frozenset[str], list[str]] = defaultdict(list)
    for layer in layers:  # The digest of a layer must not depend on which others are looked at.
        together[graph.opened([layer])].append(layer)
    found: dict[str, str] = {}
    for some in together.values():
        found |= layer_digests(graph.prune(some, preprocessing.size), tensors)
    return {layer: digest.of_value([*shared, found[layer]]) for layer in layers}


@dataclass(frozen=True, eq=False)
class RestoredBackbone:
    """One layer of a backbone, rebuilt from a saved model; the other layers are gone.

    Attributes
    ----------
    name, weights, trained, weights_digest : str
        As those of the backbone that was exported.
    layer : str
        The one layer, or the names of several joined by ``+``.
    preprocessing : Preprocessing
        From a picture to the network's input.
    """

    name: str
    weights: str
    trained: str
    weights_digest: str
    layer: str
    preprocessing: Preprocessing
    pruned: Extractor = field(repr=False)

    def extractor(self, layers: Sequence[str]) -> Extractor:
        """Give the extractor of the saved layers; raises `UnknownLayerError` for others."""
        for layer in layers:
            if layer not in self.pruned.n_features:
                raise UnknownLayerError(
                    f"A saved model holds no other layers. Unknown layer {layer!r}. "
                    f"{did_you_mean(layer, list(self.pruned.n_features))}"
                )
        return self.pruned

    def resembles(self, probe: Sequence[float]) -> bool:
        """Tell whether the layer makes of a picture what it made when `sketch` gave this."""
        return agree(sketch(self), probe)
