"""Backbones: a network with its weights, its preprocessing and its layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import nn

from img2brain import digest
from img2brain.backbones._graph import Extractor, build_extractor, graph_nodes
from img2brain.backbones._preprocessing import Preprocessing
from img2brain.backbones._weights import Weights
from img2brain.errors import UnknownLayerError, did_you_mean


class Library(Protocol):
    """Where networks come from; one file of this folder, as `COMPONENT`."""

    @property
    def names(self) -> tuple[str, ...]:
        """The backbones, by name."""
        ...

    def weight_names(self, name: str) -> tuple[str, ...]:
        """Name the weights that the library has for a backbone."""
        ...

    def url(self, name: str, weights: str) -> str:
        """Give the address of these weights; the file's name holds ``-DIGEST.``."""
        ...

    def rename(self, key: str) -> str:
        """Give today's name of a tensor that an old checkpoint calls `key`."""
        ...

    def options(self, name: str, weights: Weights, keys: Collection[str]) -> dict[str, Any]:
        """Choose the constructor's arguments (plain data) that these weights, with these keys, ask for."""
        ...

    def build(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        """Construct a network; raises `ModelError` for options that `options` does not give."""
        ...

    def preprocessing(self, name: str, weights: str | None) -> Preprocessing:
        """Give the transform that these weights were trained with; None stands for the library's default weights."""
        ...

    def layers(self, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """List the layers that the predecessor published, and further good ones; both may be empty."""
        ...


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network in evaluation mode, on the CPU and without gradients.

    Attributes
    ----------
    name : str
        Such as ``"alexnet"``.
    weights : str
        As asked for.
    trained : {"trained", "untrained", "trained (file)"}
        State of the weights; that of a file is its owner's claim.
    weights_digest : str
        Of the names and values of all parameters and buffers.
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
    """

    name: str
    weights: str
    trained: str
    weights_digest: str
    network: nn.Module = field(repr=False)
    preprocessing: Preprocessing
    layers: tuple[str, ...]
    options: dict[str, Any]
    label: str

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """All graph nodes, in order of execution."""
        return graph_nodes(self.network)

    @property
    def digest(self) -> str:
        """Digest of all that the activations depend on: network, options, weights and preprocessing."""
        return digest.of_value([self.name, self.options, self.weights_digest, self.preprocessing.to_dict()])

    def extractor(self, layers: Sequence[str]) -> Extractor:
        """Prune the network to some layers.

        Parameters
        ----------
        layers : sequence of str
            Graph nodes or modules.

        Returns
        -------
        Extractor
            A module from a batch to a dict of layer -> (n_images, n_features), in this order. It shares the parameters
            of the network.

        Raises
        ------
        UnknownLayerError
            For a name that the network lacks, with near names.
        FeatureError
            For a node that gives no activations of an image, such as a shape.
        """
        return build_extractor(self.name, self.network, layers, self.nodes, self.preprocessing.size)

    def export(self, layer: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Give what `restore` needs to compute one layer again.

        Returns
        -------
        config : dict
            Plain data for JSON, without paths of this machine.
        tensors : dict of str to torch.Tensor
            The parameters and buffers that this layer needs.
        """
        config = {
            "backbone": self.name,
            "options": dict(self.options),
            "layer": layer,
            "preprocessing": self.preprocessing.to_dict(),
            "weights": self.label,
            "trained": self.trained,
            "weights_digest": self.weights_digest,
        }
        return config, {name: tensor.contiguous() for name, tensor in self.extractor([layer]).body.state_dict().items()}


@dataclass(frozen=True, eq=False)
class RestoredBackbone:
    """One layer of a backbone, rebuilt from a saved model; the other layers are gone.

    Attributes
    ----------
    name, weights, trained, weights_digest : str
        As those of the backbone that was exported.
    layer : str
        The one layer.
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
        """Give the extractor of the saved layer; raises `UnknownLayerError` for others."""
        for layer in layers:
            if layer != self.layer:
                raise UnknownLayerError(
                    f"A saved model holds one layer. Unknown layer {layer!r}. {did_you_mean(layer, [self.layer])}"
                )
        return self.pruned
