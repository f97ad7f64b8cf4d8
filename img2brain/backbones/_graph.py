"""Graphs: the parts of a network that lead to chosen layers.

A layer is named by a module (``layer1``), meaning what it gives, or by an operation of the graph (``layer1.1.add``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import fx, nn

from img2brain.backbones._prune import Pruned
from img2brain.backbones._rehearsal import Rehearsal
from img2brain.backbones._trace import Trace, Value
from img2brain.errors import FeatureError

Size = tuple[int, int]  # height and width of an image


class Extractor(nn.Module):
    """The part of a network that leads to some layers; one forward pass gives them all.

    Attributes
    ----------
    body : torch.nn.Module
        The pruned network, from a batch to a dict of layer -> activations; holds only the parameters and buffers that
        the layers need.
    shapes : dict of str to tuple of int
        What each layer gives for one image, in the order asked for.
    n_features : dict of str to int
        Number of activations of each layer for one image.
    n_widest : int
        The most numbers that one operation makes of one image.
    """

    def __init__(self, body: nn.Module, shapes: dict[str, tuple[int, ...]], n_widest: int) -> None:
        super().__init__()
        self.body = body
        self.shapes = shapes
        self.n_features = {layer: math.prod(shape) for layer, shape in shapes.items()}
        self.n_widest = n_widest

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the activations of all layers.

        Parameters
        ----------
        batch : torch.Tensor of shape (n_images, 3, height, width)
            Preprocessed images, on the device and in the type of the network.

        Returns
        -------
        dict of str to torch.Tensor
            Layer -> (n_images, n_features), of the network's type, in the order asked for. The channels of one place
            of a feature map stand together, which is how a fast network lays them out.
        """
        outputs: dict[str, torch.Tensor] = self.body(batch)
        return {
            layer: _channels_last(outputs[layer]).reshape(batch.shape[0], n_features)
            for layer, n_features in self.n_features.items()
        }


class Graph:
    """The operations of a network.

    Parameters
    ----------
    name : str
        The network, for messages.
    network : torch.nn.Module
        In evaluation mode; what is made of it shares its parameters.

    Attributes
    ----------
    network : torch.nn.Module
        The same.
    """

    def __init__(self, name: str, network: nn.Module) -> None:
        self._name, self.network = name, network
        self._parts: dict[frozenset[str], _Part] = {}

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of all operations, in order of execution.

        Raises
        ------
        FeatureError
            For a network whose operations depend on what passes through it, so that they cannot be traced.
        """
        return self._trace.nodes

    @property
    def inner(self) -> tuple[str, ...]:
        """The same without the input."""
        return self.nodes[1:]

    def gives(self, layer: str) -> bool:
        """Tell whether a name stands for what one operation gives."""
        return self._trace.gives(layer)

    def find(self, layers: Sequence[str]) -> dict[str, Value]:
        """Return what the names of layers stand for, all in one trace.

        Raises
        ------
        UnknownLayerError
            For a name that the network lacks, with near names, or that could mean several things, with all of them.
        FeatureError
            For a module that gives several values.
        """
        trace = self._part(self.opened(layers)).trace
        return {layer: trace.find(layer) for layer in layers}

    def prune(self, layers: Sequence[str], size: Size) -> fx.GraphModule:
        """Keep what leads to some layers: a module from a batch of images of this size to a dict of their values.

        Raises
        ------
        UnknownLayerError, FeatureError
            As `find` does.
        """
        return self._part(self.opened(layers)).prune(self.find(layers), size).body

    def extractor(self, layers: Sequence[str], size: Size) -> Extractor:
        """Keep what leads to some layers, and check that each gives one tensor per image.

        Raises
        ------
        UnknownLayerError, FeatureError
            As `find` does; and for a layer that gives no activations, or a network that cannot take images of this
            size.
        """
        return self._extractor(self._part(self.opened(layers)), self.find(layers), size)

    def first_extractor(self, layer: str, size: Size) -> Extractor:
        """Keep what led to a layer of this name until names became those of modules; see `Trace.find_first`."""
        return self._extractor(self._part(frozenset()), {layer: self._trace.find_first(layer)}, size)

    def is_renamed(self, layer: str) -> bool:
        """Tell whether a layer of this name was another one until names became those of modules."""
        known = self._trace.knew(layer)
        return known and self._trace.find_first(layer).given is not self.find([layer])[layer].given

    def opened(self, layers: Sequence[str]) -> frozenset[str]:
        """Name the modules of `torchvision.ops` that some layers are inside of."""
        found: frozenset[str] = frozenset()
        for layer in layers:
            while around := self._part(found).trace.whole_around(layer):
                found |= {around}
        return found

    @property
    def _trace(self) -> Trace:
        """All operations, those of `torchvision.ops` as a whole."""
        return self._part(frozenset()).trace

    def _part(self, opened: frozenset[str]) -> _Part:
        if opened not in self._parts:
            self._parts[opened] = _Part(self.network, Trace(self._name, self.network, opened))
        return self._parts[opened]

    def _extractor(self, part: _Part, values: Mapping[str, Value], size: Size) -> Extractor:
        pruned, seen = part.prune(values, size), part.rehearsal(size)
        if not pruned.kept <= seen.shapes.keys():
            reason = str(seen.error).strip().partition("\n")[0]
            raise FeatureError(
                f"{self._name} cannot take images of {size[0]} x {size[1]} pixels: {reason}"
            ) from seen.error
        shapes = {layer: seen.shapes[value.given] for layer, value in values.items()}
        for layer, shape in shapes.items():
            if shape is None:
                raise FeatureError(
                    f"A layer must give one tensor of numbers per image. The node {layer!r} of {self._name} does not."
                )
        given = {layer: shape or () for layer, shape in shapes.items()}
        n_widest = max(3 * math.prod(size), *(seen.widths[node] for node in pruned.kept))
        return Extractor(pruned.body, given, n_widest).eval()


class _Part:
    """A trace of a network, and what a batch of images shows of it."""

    def __init__(self, network: nn.Module, trace: Trace) -> None:
        self.trace, self._network = trace, network
        self._rehearsals: dict[Size, Rehearsal] = {}

    def rehearsal(self, size: Size) -> Rehearsal:
        """Return what a batch of images of this size shows."""
        if size not in self._rehearsals:
            self._rehearsals[size] = Rehearsal(self._network, self.trace.graph, size)
        return self._rehearsals[size]

    def prune(self, values: Mapping[str, Value], size: Size) -> Pruned:
        """Keep what leads to some values."""
        return Pruned(self._network, self.trace.graph, self.rehearsal(size).writes, values)


def _channels_last(values: torch.Tensor) -> torch.Tensor:
    return values.permute(0, 2, 3, 1) if values.ndim == 4 else values
