"""The operations of a network, as torch.fx traces them in evaluation mode, and what the names among them mean.

A name is that of a module, and means what the module gives; or that of an operation, as torchvision's feature
extraction calls it. torchvision however cuts a number off the name of a module and counts anew, so that it calls the
module ``ln_1`` ``ln``, and ``ln_2`` ``ln_1``: here they keep their names. A module that runs several times has a name
for each time: ``relu_0``, ``relu_1``.
"""

from __future__ import annotations

import inspect
import math
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torchvision
from torch import fx, nn
from torchvision.models.feature_extraction import LeafModuleAwareTracer, NodePathTracer

from img2brain._forks import alone
from img2brain.errors import FeatureError, UnknownLayerError, did_you_mean

_WHOLE = tuple(kind for _, kind in inspect.getmembers(torchvision.ops, inspect.isclass) if issubclass(kind, nn.Module))
_NUMBERED = re.compile(r"(.+)_([0-9]+)")
_SHOWN = 4


class UntraceableError(FeatureError):
    """The operations of a network cannot be written down, as they depend on what passes through it."""


@dataclass(frozen=True)
class Value:
    """What a network computes somewhere.

    Attributes
    ----------
    given : torch.fx.Node or any
        The operation that gives it; of a module that gives several values, all of them.
    last : torch.fx.Node
        The last operation that had run by then: what a later one writes into it is no part of it.
    """

    given: Any
    last: fx.Node


class Trace:
    """The operations of a network, by name.

    Parameters
    ----------
    name : str
        The network, for messages.
    network : torch.nn.Module
        In evaluation mode.
    opened : collection of str
        Modules of `torchvision.ops` to look into, which are one operation each otherwise.

    Attributes
    ----------
    graph : torch.fx.Graph
        All operations.
    nodes : tuple of str
        Their names, in order of execution.

    Raises
    ------
    UntraceableError
        For a network whose operations depend on what passes through it, so that they cannot be traced.
    """

    def __init__(self, name: str, network: nn.Module, opened: Collection[str] = ()) -> None:
        self._name, tracer = name, _Tracer(opened)
        try:
            with alone:  # torch.fx replaces methods of all modules while it traces
                self.graph = tracer.trace(network)
        except Exception as error:  # the network's own code runs, and raises anything
            raise UntraceableError(f"{name} cannot be traced by torch.fx: {in_short(error)}.") from error
        self._places = tracer.places
        self._paths = paths_of(network)
        self._leaves = dict(tracer.leaves)
        self._repeated = {path: numbered(path, len(calls)) for path, calls in tracer.calls.items() if len(calls) > 1}
        operations = list(_named(tracer.places))
        self.nodes = tuple(dict.fromkeys(operation for operation, _ in operations))
        self._meanings = _meanings(operations, tracer.calls)
        self._ran = frozenset(tracer.calls)

    def find(self, layer: str) -> Value:
        """Return what a name stands for.

        Raises
        ------
        UnknownLayerError
            With the near names, where there is nothing of this name; with all that it could mean, where that is more
            than one thing.
        FeatureError
            For a module that gives several values.
        """
        path = self._paths.get(layer, layer)
        several = self._repeated.get(path, ())
        found = self._meanings.get(path, {})
        idle = [f"the module {path!r}, which does not run"] if found and self._is_idle(path) else []
        could = [*map(repr, several), *idle, *found]
        if len(could) > 1:
            raise UnknownLayerError(several_meanings(layer, self._name, could, len(several)))
        if not found:
            raise UnknownLayerError(self._absent(layer, path))
        (value,) = found.values()
        if not isinstance(value.given, fx.Node):
            inside = [name for name in self.nodes if name.startswith(f"{path}.")]
            raise FeatureError(
                f"A layer must give one tensor of numbers per image. The module {layer!r} of {self._name} gives a "
                f"{type(value.given).__name__}. Inside it: {first_names(inside)}."
            )
        return value

    def knew(self, layer: str) -> bool:
        """Tell whether `find_first` has an answer."""
        return bool(self._first_nodes(layer))

    def find_first(self, layer: str) -> Value:
        """Return what a name stood for until names became those of modules: the node that torchvision calls so.

        Or the last one inside the module of this name.

        Raises
        ------
        UnknownLayerError
            Where there was nothing of this name.
        """
        nodes = self._first_nodes(layer)
        if not nodes:
            raise UnknownLayerError(f"Unknown layer {layer!r} of {self._name}.")
        return Value(nodes[-1], nodes[-1])

    def _first_nodes(self, layer: str) -> list[fx.Node]:
        names = self._first_names
        if layer in names:
            return [names[layer]]
        return [node for name, node in names.items() if layer and name.startswith(f"{layer}.")]

    @cached_property
    def _first_names(self) -> dict[str, fx.Node]:
        """What torchvision calls the operations; it compares each name with all before it."""
        names = NodePathTracer()
        for node, path in self._places.items():
            names.node_to_qualname[node] = names._get_node_qualname(path, node)
        return {name: node for node, name in names.node_to_qualname.items()}

    def gives(self, layer: str) -> bool:
        """Tell whether a name stands for what one operation gives."""
        is_clear = layer not in self._repeated and not self._is_idle(layer)
        found = [*self._meanings.get(layer, {}).values()] if is_clear else []
        return len(found) == 1 and isinstance(found[0].given, fx.Node)

    def whole_around(self, layer: str) -> str | None:
        """Name the module of `torchvision.ops` around a layer, which hides it as long as it is not opened."""
        around = self._around(self._paths.get(layer, layer))
        return around if around and isinstance(self._leaves[around], _WHOLE) else None

    def _is_idle(self, path: str) -> bool:
        return path in self._paths and path not in self._ran

    def _around(self, path: str) -> str | None:
        parts = path.split(".")
        above = (".".join(parts[:depth]) for depth in range(1, len(parts)))
        return next((name for name in above if name in self._leaves), None)

    def _absent(self, layer: str, path: str) -> str:
        if layer not in self._paths:
            known = dict.fromkeys([*self.nodes, *self._meanings])
            return f"Unknown layer {layer!r} of {self._name}. {did_you_mean(layer, known)}"
        inside = [name for name in self._meanings if name.startswith(f"{path}.")]
        return absent_module(layer, self._name, self._around(path), inside)


def several_meanings(layer: str, network: str, meanings: Sequence[str], n_runs: int) -> str:
    """Say what a name could mean, and how often the module of this name runs."""
    times = f" The module runs {n_runs} times." if n_runs else ""
    return f"The layer {layer!r} of {network} could mean {_either(meanings)}.{times}"


def absent_module(layer: str, network: str, around: str | None, inside: Sequence[str]) -> str:
    """Say why a module gives no layer: another runs as a whole around it, it holds others only, or it does not run."""
    what = f"The module {layer!r} of {network}"
    if around:
        return f"{what} is a part of {around!r}, which torch computes at once."
    if inside:
        return f"{what} gives nothing itself. Inside it: {first_names(inside)}."
    return f"{what} does not run outside training."


def in_short(error: BaseException) -> str:
    """Say on one line what the code of others raised."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0].rstrip('.:')}"


class _Tracer(LeafModuleAwareTracer):
    """Notes what each module gives, and leaves the calls of modules in other threads alone.

    Parameters
    ----------
    opened : collection of str
        As for `Trace`.
    """

    def __init__(self, opened: Collection[str]) -> None:
        super().__init__(autowrap_modules=(math, torchvision.ops), leaf_modules=_WHOLE)
        self._opened, self._thread = frozenset(opened), threading.get_ident()
        self._path = ""
        self.calls: dict[str, list[Value]] = defaultdict(list)
        self.leaves: dict[str, nn.Module] = {}
        self.places: dict[fx.Node, str] = {}

    def is_leaf_module(self, m: nn.Module, module_qualname: str) -> bool:
        return module_qualname not in self._opened and super().is_leaf_module(m, module_qualname)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        path, around = self.path_of_module(m), self._path
        self._path = path
        try:
            found = self._call(m, path, forward, args, kwargs)
        finally:
            self._path = around
        given = found.node if isinstance(found, fx.Proxy) else found
        self.calls[path].append(Value(given, next(iter(reversed(self.graph.nodes)))))
        return found

    def _call(self, m: nn.Module, path: str, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if not self.is_leaf_module(m, path):
            return forward(*args, **kwargs)
        self.leaves[path] = m
        return self.create_proxy("call_module", path, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_proxy(self, *args: Any, **kwargs: Any) -> fx.Proxy:
        proxy: fx.Proxy = super().create_proxy(*args, **kwargs)
        self.places[proxy.node] = self._path
        return proxy


def paths_of(network: nn.Module) -> dict[str, str]:
    """Return the name that torch.fx knows a module by, for each of its names."""
    first = {module: path for path, module in network.named_modules()}
    return {path: first[module] for path, module in network.named_modules(remove_duplicate=False)}


def _named(places: Mapping[fx.Node, str]) -> Iterator[tuple[str, fx.Node]]:
    """Name operations by the module that they run in, in order; those of one name are counted."""
    runs: dict[str, list[fx.Node]] = defaultdict(list)
    for node in places:
        if node.op == "call_module":
            runs[str(node.target)].append(node)
    counted: dict[str, int] = {}
    for node, path in places.items():
        if node.op == "call_module":
            calls = runs[str(node.target)]
            name = numbered(path, len(calls))[calls.index(node)]
        else:
            plain = _NUMBERED.fullmatch(str(node))
            base = ".".join(filter(None, (path, plain[1] if plain else str(node))))
            name = f"{base}_{counted[base] + 1}" if base in counted else base
        counted[name] = 0
        if counting := _NUMBERED.fullmatch(name):
            counted[counting[1]] = int(counting[2])
        yield name, node


def numbered(path: str, n_calls: int) -> tuple[str, ...]:
    """Name the runs of a module: by the module where there is one, otherwise by a number each."""
    return (path,) if n_calls == 1 else tuple(f"{path}_{number}" for number in range(n_calls))


def _meanings(
    operations: Sequence[tuple[str, fx.Node]], calls: Mapping[str, Sequence[Value]]
) -> dict[str, dict[str, Value]]:
    """Return, by name, all that it could mean, in words."""
    found: dict[str, dict[str, Value]] = defaultdict(dict)
    for path, values in calls.items():
        for name, value in zip(numbered(path, len(values)), values, strict=True):
            again = "" if name == path else ", run several times,"
            found[name][f"what the module {path!r}{again} gives"] = value
    for name, node in operations:
        if node.op != "call_module":
            found[name][f"the operation {name!r}"] = Value(node, node)
    return dict(found)


def _either(meanings: Sequence[str]) -> str:
    shown = [*meanings[: _SHOWN - 1], "...", meanings[-1]] if len(meanings) > _SHOWN else meanings
    return f"{', '.join(shown[:-1])} or {shown[-1]}"


def first_names(names: Sequence[str]) -> str:
    """Name the first few of many."""
    return ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
