"""The part of a traced network that leads to some values, in an order in which nothing is overwritten too early.

An operation may write into its input, and the value that it gives may be left unread, so that arguments alone do not
tell what has to run. Here whatever reads after such an operation depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from img2brain.backbones._trace import Value

Writes = Mapping[fx.Node, Sequence[fx.Node]]


class Pruned:
    """The part of a network that leads to some values.

    Parameters
    ----------
    network : torch.nn.Module
        The network that was traced; its parameters are shared.
    graph : torch.fx.Graph
        Its operations; they are left as they are.
    writes : mapping of torch.fx.Node to sequence of torch.fx.Node
        See `Rehearsal.writes`.
    values : mapping of str to Value
        What to compute, by name.

    Attributes
    ----------
    body : torch.fx.GraphModule
        From a batch to a dict of the values.
    kept : frozenset of torch.fx.Node
        The operations of `graph` that are in it.
    """

    def __init__(self, network: nn.Module, graph: fx.Graph, writes: Writes, values: Mapping[str, Value]) -> None:
        self._graph, self._writes = fx.Graph(), writes
        self._copies: dict[fx.Node, fx.Node] = {}
        self._graph.graph_copy(graph, self._copies)
        self._states: dict[fx.Node, list[tuple[fx.Node, fx.Node]]] = {}
        self._originals = {copied: node for node, copied in self._copies.items()}
        for writer, changed in writes.items():
            for node in changed:
                self._read_after(writer, node)
        found = {name: self._at(value) for name, value in values.items()}
        output = self._graph.output(found)
        fx.GraphModule(network, self._graph).graph.eliminate_dead_code()
        left = set(self._graph.nodes)
        self.kept = frozenset(node for node, copied in self._copies.items() if copied in left)
        output.args = ({name: self._safe(node, output) for name, node in found.items()},)
        self.body = fx.GraphModule(network, self._graph).eval()

    def _read_after(self, writer: fx.Node, node: fx.Node) -> None:
        """Let what reads a value later depend on the operation that writes into it."""
        now, last = self._copies[writer], self._last(node)
        later = [user for user in last.users if user > now]
        with self._graph.inserting_after(now):
            state = self._graph.call_function(written, (last, now))
        for user in later:
            user.replace_input_with(last, state)
        self._originals[state] = node
        self._states.setdefault(node, []).append((writer, state))

    def _last(self, node: fx.Node) -> fx.Node:
        return self._states[node][-1][1] if node in self._states else self._copies[node]

    def _at(self, value: Value) -> fx.Node:
        """Return a value as it was when it was given."""
        by_then = [state for writer, state in self._states.get(value.given, ()) if not writer > value.last]
        return by_then[-1] if by_then else self._copies[value.given]

    def _safe(self, node: fx.Node, output: fx.Node) -> fx.Node:
        """Copy a value where it is made if a later operation writes into it (ReLU in place)."""
        original = self._originals[node]
        writers = [
            self._copies[writer] for writer in self.kept & self._writes.keys() if original in self._writes[writer]
        ]
        if not any(writer > node for writer in writers):
            return node
        with self._graph.inserting_after(node):
            return self._graph.call_function(as_it_is, (node,))


def as_it_is(value: Any) -> Any:
    """Copy a value before a later operation writes into it."""
    return value.clone() if isinstance(value, torch.Tensor) else value


def written(value: Any, _writer: Any) -> Any:
    """Give a value that another operation has written into."""
    return value
