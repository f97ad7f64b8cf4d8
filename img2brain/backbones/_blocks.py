"""Good layers of a network that is made of blocks: their outputs, evenly over its depth, and the head."""

from __future__ import annotations

import re

from torch import nn

from img2brain.backbones._network import AnyGraph
from img2brain.backbones._spread import evenly, spread

_COUNTED = re.compile(r"(?:.*\.)?[^.]*\d")
_FEWEST = 3


def blocks(network: nn.Module, graph: AnyGraph, most: int = 12) -> tuple[str, ...]:
    """Choose up to `most` outputs of repeated blocks, evenly over the depth of a network, and its head.

    A block is a module whose name ends in a number, with two or more weights (matrices, filters) in it, and no such
    module inside. The head is what runs last. A network with fewer than three blocks gets what `spread` chooses.
    """
    found = [name for name in _innermost(network) if graph.gives(name)]
    if len(found) < _FEWEST:
        found = list(spread(network, graph, most))
    given = graph.find(found)
    ordered = sorted(found, key=lambda name: given[name].given)
    chosen = evenly(ordered, most)
    return (*chosen, *_head(network, graph, chosen[-1]))


def _innermost(network: nn.Module) -> list[str]:
    """Name the modules with numbers and several weights that hold no other such module."""
    several = {path for path, module in network.named_modules() if _COUNTED.fullmatch(path) and _n_weights(module) > 1}
    around = {parent for path in several for parent in _above(path)}
    return sorted(several - around)


def _n_weights(module: nn.Module) -> int:
    return sum(min(len(tensor), tensor[0].numel()) > 1 for tensor in module.parameters() if tensor.ndim > 1)


def _above(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _head(network: nn.Module, graph: AnyGraph, after: str) -> tuple[str, ...]:
    """Name the last module that gives a layer of its own, where one comes after the blocks."""
    modules = [path for path, _ in network.named_modules() if path and graph.gives(path)]
    given = graph.find([*modules, after])
    last = max(modules, key=lambda name: (given[name].given, -len(name)))
    return (last,) if given[last].given > given[after].given else ()
