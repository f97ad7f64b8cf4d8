"""What a layer computes, as a digest: the operations that lead to it, with their settings, code and tensors.

The digest of a node of the traced graph is made of its operation and of the digests of what it is applied to, so that
the digest of a layer holds all that leads to it, and nothing else. Operations of torch, torchvision and the standard
library enter by their names. The code of all others enters as byte code, with the values it closes over, its defaults
and the globals that it names: as it runs, whatever the file says by now.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import singledispatchmethod
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from img2brain import digest
from img2brain.backbones._hooked import HookedGraph
from img2brain.backbones._prune import as_it_is, written

_KNOWN = frozenset({"torch", "torchvision", "numpy", "timm", "transformers", "open_clip", *sys.stdlib_module_names}) - {
    "__main__"
}
_MACHINERY = frozenset(vars(nn.Module()))
_OF_EVERY_CLASS = frozenset({"__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__", "_abc_impl"})
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def tensor_digests(network: nn.Module) -> dict[str, str]:
    """Digest each parameter and buffer of a network, by name, those that it does not save included; 2 s per GB."""
    known: dict[int, str] = {}
    found = {}
    for name, tensor in (
        *network.named_parameters(remove_duplicate=False),
        *network.named_buffers(remove_duplicate=False),
    ):
        if id(tensor) not in known:
            known[id(tensor)] = _of_tensor(tensor)
        found[name] = known[id(tensor)]
    return found


def weights_digest(network: nn.Module, tensors: Mapping[str, str]) -> str:
    """Digest the names and values of the parameters and buffers that a network saves, by the digests of its tensors."""
    return digest.of_value({name: tensors[name] for name in network.state_dict() if name in tensors})


def layer_digests(body: fx.GraphModule, tensors: Mapping[str, str]) -> dict[str, str]:
    """Digest what each output of a pruned network depends on, down to the picture.

    Parameters
    ----------
    body : torch.fx.GraphModule
        See `Graph.prune`.
    tensors : mapping of str to str
        Digests of the parameters and buffers by name; `body` itself may be without values.

    Returns
    -------
    dict of str to str
        By the name of the output.
    """
    described = _Description(tensors)
    found: dict[fx.Node, str] = {}
    for node in body.graph.nodes:
        if node.target is as_it_is:
            found[node] = found[node.args[0]]
        elif node.target is written:
            found[node] = digest.of_value(["written", *(found[item] for item in node.args)])
        elif node.op != "output":
            found[node] = digest.of_value(described.node(node, body, found))
    output = next(node for node in body.graph.nodes if node.op == "output")
    return {name: found[node] for name, node in output.args[0].items()}


def hooked_digests(
    graph: HookedGraph, layers: Sequence[str], tensors: Mapping[str, str], version: str
) -> dict[str, str]:
    """Digest what layers depend on that are taken by hooks: the modules that run up to each, and the tensors they read.

    Parameters
    ----------
    graph : HookedGraph
        The network.
    layers : sequence of str
        The layers.
    tensors : mapping of str to str
        Digests of the parameters and buffers by name.
    version : str
        Of the library, whose code enters by its name.
    """
    described = _Description(tensors)
    return {
        layer: digest.of_value(
            [
                *("hooked", layer, version),
                {path: described.alone(module) for path, module in graph.modules(layer).items()},
                {name: tensors[name] for name in graph.used(layer)},
            ]
        )
        for layer in layers
    }


class _Description:
    """Turns whatever a network is made of into plain data that depends on nothing else.

    Parameters
    ----------
    tensors : mapping of str to str
        Digests of tensors by name.
    """

    def __init__(self, tensors: Mapping[str, str]) -> None:
        self._tensors = tensors
        self._open: dict[int, int] = {}
        self._done: dict[int, tuple[Any, str]] = {}  # with the object itself, so that its identity stays its own

    def node(self, node: fx.Node, body: fx.GraphModule, known: Mapping[fx.Node, str]) -> Any:
        """Describe an operation, and what it is applied to by digest."""
        if node.op == "call_module":
            target = self.module(body.get_submodule(str(node.target)), f"{node.target}.")
        elif node.op == "get_attr":
            target = self._attribute(body, str(node.target))
        elif node.op == "placeholder":
            target = "picture"
        else:
            target = self.value(node.target)
        return [node.op, target, self._arguments(node.args, known), self._arguments(node.kwargs, known)]

    def module(self, module: nn.Module, prefix: str) -> Any:
        """Describe a module that is called as a whole: its class, settings, tensors, hooks and what is inside it."""
        own = {
            name: self._tensor(f"{prefix}{name}", value)
            for name, value in (*module._parameters.items(), *module._buffers.items())
            if value is not None
        }
        inside = {name: self.module(item, f"{prefix}{name}.") for name, item in module._modules.items() if item}
        kind, settings, training, hooks = self.alone(module)
        return [kind, settings, training, own, inside, hooks]

    def alone(self, module: nn.Module) -> Any:
        """Describe a module without its tensors and what is inside it: its class, settings and hooks."""
        settings = {name: value for name, value in vars(module).items() if name not in _MACHINERY}
        hooks = [self.value(list(getattr(module, name).values())) for name in _HOOKS]
        return [self.value(type(module)), self.value(settings), module.training, hooks]

    def value(self, value: Any) -> str:
        """Describe any value: plain data by its text; tensors, code as it runs, and objects by the digest of parts."""
        if value is None or isinstance(value, str | int | float | complex | bytes | Enum):
            return f"{type(value).__name__} {value!r}"
        if id(value) in self._open:
            return f"again {self._open[id(value)]}"
        if id(value) not in self._done:
            self._open[id(value)] = len(self._open)
            self._done[id(value)] = value, digest.of_value(self._parts(value))
            del self._open[id(value)]
        return self._done[id(value)][1]

    @singledispatchmethod
    def _parts(self, value: Any) -> Any:
        """Give the parts of an object; one of torch's or Python's own has its text, where that tells no address."""
        if callable(inner := getattr(value, "__wrapped__", None)):
            return ["wrapped", self.value(inner)]
        if _is_known(type(value).__module__):
            text = repr(value)
            return [_name(type(value)), "" if " at 0x" in text else text]
        return ["object", self.value(type(value)), self.value(getattr(value, "__dict__", {}))]

    @_parts.register
    def _(self, value: list | tuple | range) -> Any:  # type: ignore[type-arg]
        return [type(value).__name__, *map(self.value, value)]

    @_parts.register
    def _(self, value: slice) -> Any:
        return ["slice", *map(self.value, (value.start, value.stop, value.step))]

    @_parts.register
    def _(self, value: set | frozenset) -> Any:  # type: ignore[type-arg]
        return ["set", *sorted(map(self.value, value))]

    @_parts.register
    def _(self, value: Mapping) -> Any:  # type: ignore[type-arg]
        return ["mapping", *([self.value(key), self.value(item)] for key, item in value.items())]

    @_parts.register
    def _(self, value: torch.Tensor | np.ndarray) -> Any:
        return ["tensor", _of_tensor(torch.as_tensor(value))]

    @_parts.register
    def _(self, value: nn.Module) -> Any:
        return self.module(value, "")

    @_parts.register
    def _(self, value: functools.partial) -> Any:  # type: ignore[type-arg]
        return ["partial", *map(self.value, (value.func, value.args, value.keywords))]

    @_parts.register
    def _(self, value: MethodType) -> Any:
        return ["method", self.value(value.__func__), self.value(value.__self__)]

    @_parts.register
    def _(self, value: staticmethod | classmethod) -> Any:  # type: ignore[type-arg]
        return ["function", self.value(value.__func__)]

    @_parts.register
    def _(self, value: property) -> Any:
        return ["property", *map(self.value, (value.fget, value.fset))]

    @_parts.register
    def _(self, value: ModuleType) -> Any:
        return ["module", value.__name__]

    @_parts.register
    def _(self, value: BuiltinFunctionType) -> Any:
        return _name(value)

    @_parts.register
    def _(self, value: CodeType) -> Any:
        return [value.co_name, digest.of_bytes(value.co_code), self.value(value.co_consts), list(value.co_names)]

    @_parts.register
    def _(self, value: FunctionType) -> Any:
        if _is_known(value.__module__):
            return _name(value)
        closed = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        named = {name: value.__globals__[name] for name in _names(value.__code__) if name in value.__globals__}
        parts = (value.__code__, closed, value.__defaults__, value.__kwdefaults__, named)
        return ["function", *map(self.value, parts)]

    @_parts.register
    def _(self, value: type) -> Any:
        if _is_known(value.__module__):
            return _name(value)
        own = {name: self.value(item) for name, item in vars(value).items() if name not in _OF_EVERY_CLASS}
        return ["class", value.__qualname__, own, *map(self.value, value.__bases__)]

    def _arguments(self, arguments: Any, known: Mapping[fx.Node, str]) -> Any:
        if isinstance(arguments, fx.Node):
            return known[arguments]
        if isinstance(arguments, list | tuple):
            return [type(arguments).__name__, *(self._arguments(item, known) for item in arguments)]
        if isinstance(arguments, Mapping):
            return {str(key): self._arguments(item, known) for key, item in arguments.items()}
        if isinstance(arguments, slice):
            parts = (arguments.start, arguments.stop, arguments.step)
            return ["slice", *(self._arguments(item, known) for item in parts)]
        return self.value(arguments)

    def _attribute(self, body: fx.GraphModule, name: str) -> Any:
        found: Any = body
        for part in name.split("."):
            found = getattr(found, part)
        return self._tensor(name, found) if isinstance(found, torch.Tensor) else self.value(found)

    def _tensor(self, name: str, value: torch.Tensor) -> str:
        return self._tensors.get(name) or _of_tensor(value)


def _is_known(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _KNOWN


def _is_filled(cell: CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _names(code: CodeType) -> list[str]:
    """Return the names that some code, and the code inside it, may look up among the globals, sorted."""
    inner = (item for item in code.co_consts if isinstance(item, CodeType))
    return sorted({*code.co_names, *(name for item in inner for name in _names(item))})


def _name(value: Any) -> list[str]:
    # Functions of torch that choose between two share one qualified name, but not their name.
    return [str(getattr(value, name, "")) for name in ("__module__", "__qualname__", "__name__")]


def _of_tensor(tensor: torch.Tensor) -> str:
    values = tensor.detach().cpu()
    if values.dtype == torch.bfloat16:  # which NumPy lacks
        return f"bfloat16 {digest.of_array(values.view(torch.int16).numpy())}"
    return digest.of_array(values.numpy())
