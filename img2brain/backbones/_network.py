"""Looking at a network: as a graph of operations where it can be traced, otherwise by the modules that run."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from img2brain.backbones._graph import Graph, Size
from img2brain.backbones._hooked import HookedGraph
from img2brain.backbones._trace import UntraceableError

AnyGraph = Graph | HookedGraph


def graph_of(name: str, network: nn.Module, size: Callable[[], Size]) -> AnyGraph:
    """Look at a network.

    Parameters
    ----------
    name : str
        The network, for messages.
    network : torch.nn.Module
        In evaluation mode; what is made of it shares its parameters.
    size : callable
        Gives the height and width of the images that it will see; asked where it has to run.
    """
    graph = Graph(name, network)
    try:
        _ = graph.nodes
    except UntraceableError:
        return HookedGraph(name, network, size())
    return graph
