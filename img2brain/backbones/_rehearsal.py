"""One run of a network without numbers: the shapes that its operations give, and which of them write into what."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

# A number that no network has as a dimension of its own by chance, so that it marks the images.
N_IMAGES = 13


class Rehearsal:
    """What one batch of images shows of the operations of a network.

    Parameters
    ----------
    network : torch.nn.Module
        The network that was traced; it is left as it is.
    graph : torch.fx.Graph
        Its operations.
    size : tuple of int
        Height and width of an image.

    Attributes
    ----------
    shapes : dict of torch.fx.Node to tuple of int or None
        Of what an operation gives for one image; None where that is not one tensor of numbers per image.
    widths : dict of torch.fx.Node to int
        The most numbers of one image that an operation makes on its way.
    writes : dict of torch.fx.Node to list of torch.fx.Node
        By operation that writes into its input: the earlier ones whose values it changes.
    error : Exception, optional
        What the first operation raised that does not take such images; those after it are not seen.

    Notes
    -----
    On torch's meta device only shapes are computed. Tensors there count how often they were written to, all views of
    one memory together.
    """

    def __init__(self, network: nn.Module, graph: fx.Graph, size: tuple[int, int]) -> None:
        self.shapes: dict[fx.Node, tuple[int, ...] | None] = {}
        self.widths: dict[fx.Node, int] = {}
        self.writes: dict[fx.Node, list[fx.Node]] = {}
        self.error: Exception | None = None
        self._sharing: dict[Any, list[fx.Node]] = defaultdict(list)
        try:
            with torch.inference_mode(False), torch.no_grad():  # In inference mode nothing is counted.
                batch = torch.empty((N_IMAGES, 3, *size), device="meta")
                _Run(self, without_numbers(fx.GraphModule(network, graph)), graph).run(batch)
        except (AssertionError, RuntimeError, ValueError) as error:
            self.error = error

    def note(self, node: fx.Node, value: Any, width: int, written: list[torch.Tensor]) -> None:
        """Note what an operation gave, and into which tensors it wrote."""
        changed = [item for tensor in written for item in self._sharing[memory_of(tensor)]]
        if changed:
            self.writes[node] = list(dict.fromkeys(changed))
        for tensor in _tensors(value):
            self._sharing[memory_of(tensor)].append(node)
        self.shapes[node] = image_shape(value)
        self.widths[node] = width


class _Run(fx.Interpreter):
    """Runs a graph, operation by operation."""

    def __init__(self, rehearsal: Rehearsal, network: nn.Module, graph: fx.Graph) -> None:
        # What is freed makes room for memory that would be taken for the same.
        super().__init__(network, garbage_collect_values=False, graph=graph)
        self._rehearsal = rehearsal

    def run_node(self, n: fx.Node) -> Any:
        inputs = [tensor for item in n.all_input_nodes for tensor in _tensors(self.env[item])]
        before = [tensor._version for tensor in inputs]
        with _Widest() as widest:  # type: ignore[no-untyped-call]
            value = super().run_node(n)
        written = [tensor for tensor, version in zip(inputs, before, strict=True) if tensor._version != version]
        if n.op != "output":
            self._rehearsal.note(n, value, widest.n_numbers, written)
        return value


class _Widest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the most numbers of one image that any operation gives."""

    n_numbers = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.ndim and len(found) == N_IMAGES:
            self.n_numbers = max(self.n_numbers, found.numel() // N_IMAGES)
        return found


def without_numbers(network: nn.Module) -> nn.Module:
    """Copy a network onto the meta device; other threads may be running it."""
    tensors = chain(network.parameters(), network.buffers())
    known: dict[int, Any] = {id(tensor): _on_meta(tensor) for tensor in tensors}
    copied: nn.Module = copy.deepcopy(network, known)
    return copied


def _on_meta(tensor: torch.Tensor) -> torch.Tensor:
    found = torch.empty_like(tensor, device="meta")
    return nn.Parameter(found, requires_grad=False) if isinstance(tensor, nn.Parameter) else found


def memory_of(tensor: torch.Tensor) -> Any:
    """Return what tells the memory of a tensor, and of all views of it."""
    return tensor.untyped_storage()._cdata


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def image_shape(value: Any) -> tuple[int, ...] | None:
    """Return the shape of a value for one image; None where it is not one tensor of numbers per image."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return None
    return tuple(value.shape[1:]) if value.ndim and len(value) == N_IMAGES else None
