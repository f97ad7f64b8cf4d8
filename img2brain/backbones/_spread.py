"""Good layers of a network that nobody has made a list for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from torch import nn

from img2brain.backbones._network import AnyGraph


def spread(network: nn.Module, graph: AnyGraph, most: int = 8) -> tuple[str, ...]:
    """Choose up to `most` block outputs, evenly over the depth of a network without a curated list.

    The largest block is opened into the blocks inside it until there are at least four. Where a block holds plain
    operations only (the convolutions of a VGG), its pooling layers stand for it, or all of them where it has none.
    """
    nodes, blocks = graph.inner, [""]
    while len(blocks) < 4:
        largest = max(blocks, key=lambda block: sum(_inside(node, block) for node in nodes))
        opened = _open(network, largest, graph)
        if not opened:
            break
        place = blocks.index(largest)
        blocks[place : place + 1] = opened
    return evenly(blocks, most)


def evenly(blocks: Sequence[str], most: int) -> tuple[str, ...]:
    """Choose up to `most`, the first and the last among them."""
    if len(blocks) <= most:
        return tuple(blocks)
    return tuple(blocks[round(i * (len(blocks) - 1) / (most - 1))] for i in range(most))


def _inside(node: str, block: str) -> bool:
    return not block or node == block or node.startswith(f"{block}.")


def _open(network: nn.Module, block: str, graph: AnyGraph) -> list[str]:
    """Return what is inside a block, by names that each mean one thing: lists of modules give nothing themselves."""
    depth = block.count(".") + 2 if block else 1
    within = [node for node in graph.inner if _inside(node, block) and node != block]
    children = list(dict.fromkeys(".".join(node.split(".")[:depth]) for node in within))
    composite = [child for child in children if child not in graph.nodes]
    modules = dict(network.named_modules())
    pools = [child for child in children if isinstance(modules.get(child), nn.MaxPool2d | nn.AvgPool2d)]
    chosen = composite or pools or children
    return list(
        chain.from_iterable([child] if graph.gives(child) else _open(network, child, graph) for child in chosen)
    )
