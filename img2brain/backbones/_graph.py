"""Graphs: the nodes of a network, and the part of it that leads to chosen ones.

A layer is named by torchvision's graph node (``layer1.1.conv1``), or by a module (``layer1``), meaning its output.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import fx, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from img2brain.errors import FeatureError, UnknownLayerError, did_you_mean

# A number that no network has as a dimension of its own by chance, so that it marks the images.
_PROBE_IMAGES = 13
_READERS = (nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)  # never write into their input


class Extractor(nn.Module):
    """The part of a network that leads to some layers; one forward pass gives them all.

    Attributes
    ----------
    body : torch.fx.GraphModule
        The pruned network; holds only the parameters and buffers that the layers need.
    n_features : dict of str to int
        Number of activations of each layer for one image, in the order asked for.
    n_widest : int
        The most numbers that one operation makes of one image.
    """

    def __init__(
        self, body: fx.GraphModule, node_of: dict[str, str], n_features: dict[str, int], n_widest: int
    ) -> None:
        super().__init__()
        self.body = body
        self.node_of = node_of
        self.n_features = n_features
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
        outputs = self.body(batch)
        return {
            layer: _channels_last(outputs[node]).reshape(len(batch), self.n_features[layer])
            for layer, node in self.node_of.items()
        }


def in_short(error: Exception) -> str:
    """Say on one line what the code of others raised."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0].rstrip('.')}"


def graph_nodes(name: str, network: nn.Module) -> tuple[str, ...]:
    """Name all graph nodes of the backbone `name` in evaluation mode, in order of execution.

    Raises
    ------
    FeatureError
        For a network whose operations depend on what passes through it, so that they cannot be traced.
    """
    try:
        return tuple(get_graph_node_names(network, suppress_diff_warning=True)[1])
    except Exception as error:  # the network's own code runs, and raises anything
        raise FeatureError(f"{name} cannot be traced by torch.fx: {in_short(error)}.") from error


def resolve(name: str, layer: str, nodes: Sequence[str]) -> str:
    """Name the node that `layer` stands for: itself, or the last one inside the module of this name.

    Raises
    ------
    UnknownLayerError
        With the near names, where the backbone `name` has neither.
    """
    if layer in nodes:
        return layer
    inside = [node for node in nodes if node.startswith(f"{layer}.")]
    if not layer or not inside:
        known = dict.fromkeys(chain(nodes, _modules(nodes)))
        raise UnknownLayerError(f"Unknown layer {layer!r} of {name}. {did_you_mean(layer, known)}")
    return inside[-1]


def build_extractor(
    name: str, network: nn.Module, layers: Iterable[str], nodes: Sequence[str], size: tuple[int, int]
) -> Extractor:
    """Prune the backbone `name` to `layers`, and check that each gives one tensor per image.

    Raises
    ------
    UnknownLayerError
        For a layer that the network lacks.
    FeatureError
        For a layer that gives no activations, or a network that cannot take images of `size` (height, width).
    """
    node_of = {layer: resolve(name, layer, nodes) for layer in layers}
    body = prune(network, tuple(dict.fromkeys(node_of.values())))
    shapes, n_widest = _probe(name, body, size)
    for layer, node in node_of.items():
        if shapes[node] is None:
            raise FeatureError(
                f"A layer must give one tensor of numbers per image. The node {layer!r} of {name} does not."
            )
    n_features = {layer: math.prod(shapes[node] or ()) for layer, node in node_of.items()}
    return Extractor(body, node_of, n_features, n_widest).eval()


def prune(network: nn.Module, nodes: Sequence[str]) -> fx.GraphModule:
    """Keep what leads to `nodes`: a module from a batch to a dict of their values."""
    extractor = create_feature_extractor(network, list(nodes), suppress_diff_warning=True).eval()
    graph = extractor.graph
    output = next(node for node in graph.nodes if node.op == "output")
    kept, modules = {}, dict(extractor.named_modules())
    for name, node in output.args[0].items():
        kept[name] = node
        if not all(user is output or _only_reads(user, modules) for user in node.users):
            # A later operation may write into the activations (ReLU in place): take them where they are made.
            with graph.inserting_after(node):
                kept[name] = graph.call_function(as_it_is, (node,))
    output.args = (kept,)
    return fx.GraphModule(extractor, graph).eval()


def as_it_is(value: Any) -> Any:
    """Copy a value before a later operation writes into it."""
    return value.clone() if isinstance(value, torch.Tensor) else value


def spread(network: nn.Module, nodes: Sequence[str], most: int = 8) -> tuple[str, ...]:
    """Choose up to `most` block outputs, evenly over the depth of a network without a curated list.

    The largest block is opened into the blocks inside it until there are at least four. Where a block holds plain
    operations only (the convolutions of a VGG), its pooling layers stand for it, or all of them where it has none.
    """
    nodes, blocks = nodes[1:], [""]  # the first node is the input
    while len(blocks) < 4:
        largest = max(blocks, key=lambda block: sum(_inside(node, block) for node in nodes))
        opened = _open(network, largest, nodes)
        if not opened:
            break
        place = blocks.index(largest)
        blocks[place : place + 1] = opened
    if len(blocks) <= most:
        return tuple(blocks)
    return tuple(blocks[round(i * (len(blocks) - 1) / (most - 1))] for i in range(most))


def _channels_last(values: torch.Tensor) -> torch.Tensor:
    return values.permute(0, 2, 3, 1) if values.ndim == 4 else values


def _only_reads(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    return node.op == "call_module" and isinstance(modules[str(node.target)], _READERS)


class _Widest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the most numbers of one image that any operation gives."""

    n_numbers = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.ndim and len(found) == _PROBE_IMAGES:
            self.n_numbers = max(self.n_numbers, found.numel() // _PROBE_IMAGES)
        return found


def _probe(name: str, body: fx.GraphModule, size: tuple[int, int]) -> tuple[dict[str, tuple[int, ...] | None], int]:
    """Return the shapes of the outputs for one image, and the width of the widest operation."""
    # On torch's meta device only shapes are computed.
    tensors = {key: value.to("meta") for key, value in chain(body.named_parameters(), body.named_buffers())}
    batch = torch.empty((_PROBE_IMAGES, 3, *size), device="meta")
    try:
        with torch.no_grad(), _Widest() as widest:  # type: ignore[no-untyped-call]
            outputs = functional_call(body, tensors, (batch,))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise FeatureError(f"{name} cannot take images of {size[0]} x {size[1]} pixels: {reason}") from error
    return {node: _image_shape(value) for node, value in outputs.items()}, max(widest.n_numbers, batch[0].numel())


def _image_shape(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return None
    return tuple(value.shape[1:]) if value.ndim and len(value) == _PROBE_IMAGES else None


def _modules(nodes: Iterable[str]) -> Iterable[str]:
    for node in nodes:
        parts = node.split(".")
        yield from (".".join(parts[:depth]) for depth in range(1, len(parts)))


def _inside(node: str, block: str) -> bool:
    return not block or node == block or node.startswith(f"{block}.")


def _open(network: nn.Module, block: str, nodes: Sequence[str]) -> list[str]:
    depth = block.count(".") + 2 if block else 1
    within = [node for node in nodes if _inside(node, block) and node != block]
    children = list(dict.fromkeys(".".join(node.split(".")[:depth]) for node in within))
    composite = [child for child in children if child not in nodes]
    modules = dict(network.named_modules())
    pools = [child for child in children if isinstance(modules.get(child), nn.MaxPool2d | nn.AvgPool2d)]
    return composite or pools or children
