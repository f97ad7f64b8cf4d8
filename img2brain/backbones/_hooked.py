"""Layers of a network that cannot be traced: what its modules give, as forward hooks see it.

A layer is named by a module. One that runs several times has a name for each time: ``relu_0``, ``relu_1``. Of a module
that gives several values, a tuple, a dict or a data class, the layer is the first tensor among them.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import threading
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from img2brain.backbones._graph import Extractor, Size
from img2brain.backbones._rehearsal import N_IMAGES, image_shape, memory_of, without_numbers
from img2brain.backbones._trace import absent_module, in_short, numbered, paths_of, several_meanings
from img2brain.errors import FeatureError, UnknownLayerError, did_you_mean

_AT_ONCE = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.MultiheadAttention)


@dataclass(frozen=True)
class Call:
    """One run of a module.

    Attributes
    ----------
    path : str
        The module.
    given : int
        How many modules had ended before it.
    shape : tuple of int, optional
        Of the first tensor that it gave, for one image; None where that is not one tensor of numbers per image.
    used, entered : tuple of str
        The tensors that the network had read by then, and the modules that had started.
    width : int
        The most numbers of one image that an operation had made by then.
    """

    path: str
    given: int
    shape: tuple[int, ...] | None
    used: tuple[str, ...]
    entered: tuple[str, ...]
    width: int


class Calls:
    """What one batch of images shows of a network: which modules run, in which order, and what they give.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode; it is left as it is.
    size : tuple of int
        Height and width of an image.

    Attributes
    ----------
    calls : tuple of Call
        In the order in which the modules ended.
    overwritten : frozenset of int
        The calls whose tensor a later operation writes into.
    error : Exception, optional
        What the network raised; modules after that are not seen.

    Notes
    -----
    It runs on torch's meta device, where only shapes are computed. Where its code needs numbers, it runs on the
    processor, with parameters that are the same whatever the weights are: they may not have been given values yet.
    """

    def __init__(self, network: nn.Module, size: Size) -> None:
        shape = (N_IMAGES, 3, *size)
        self._watch(without_numbers(network), torch.empty(shape, device="meta"))
        if self.error is not None:
            numbers = np.random.RandomState(0).standard_normal(shape).astype(np.float32)
            self._watch(_with_numbers(network), torch.from_numpy(numbers))

    def _watch(self, network: nn.Module, batch: torch.Tensor) -> None:
        watch = _Watch(network)
        self.error: Exception | None = None
        try:
            with torch.inference_mode(False), torch.no_grad(), watch:  # In inference mode no writes are counted.
                network(batch)
        except Exception as error:  # the network's own code runs, and raises anything
            self.error = error
        self.calls = tuple(watch.calls)
        kept = enumerate(watch.kept)
        self.overwritten = frozenset(place for place, (found, version) in kept if _version(found) != version)


class HookedGraph:
    """The modules of a network, by name; it offers what `Graph` does.

    Parameters
    ----------
    name : str
        The network, for messages.
    network : torch.nn.Module
        In evaluation mode; what is made of it shares its parameters.
    size : tuple of int
        Height and width of an image.

    Attributes
    ----------
    network : torch.nn.Module
        The same.
    """

    def __init__(self, name: str, network: nn.Module, size: Size) -> None:
        self._name, self.network, self._size = name, network, size
        self._paths = paths_of(network)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of all modules that run, in the order in which they end."""
        return tuple(self._by_name)

    @property
    def inner(self) -> tuple[str, ...]:
        """The same: the input is no module."""
        return self.nodes

    def gives(self, layer: str) -> bool:
        """Tell whether a name stands for one tensor per image."""
        found = self._by_name.get(layer)
        return found is not None and found.shape is not None

    def find(self, layers: Sequence[str]) -> dict[str, Call]:
        """Return what the names of layers stand for; the errors are those of `Graph.find`."""
        return {layer: self._find(layer) for layer in layers}

    def prune(self, layers: Sequence[str], size: Size) -> HookedBody:
        """Keep what leads to some layers: a module from a batch to a dict of their values."""
        self._require(size)
        found = self.find(layers)
        for layer, call in found.items():
            if call.shape is None:
                raise FeatureError(
                    f"A layer must give one tensor of numbers per image. The module {layer!r} of {self._name} does not."
                )
        last = max(found.values(), key=lambda call: call.given)
        wanted = {layer: (call.path, self._turn(call)) for layer, call in found.items()}
        copied = {layer for layer, call in found.items() if call.given in self._seen.overwritten}
        return HookedBody(self.network, wanted, copied, last.used)

    def extractor(self, layers: Sequence[str], size: Size) -> Extractor:
        """Keep what leads to some layers; the errors are those of `Graph.extractor`."""
        body, found = self.prune(layers, size), self.find(layers)
        shapes = {layer: call.shape or () for layer, call in found.items()}
        return Extractor(body, shapes, max(3 * math.prod(size), *(call.width for call in found.values()))).eval()

    def first_extractor(self, layer: str, size: Size) -> Extractor:
        """Refuse: until names became those of modules, no network had hooks."""
        raise UnknownLayerError(f"Unknown layer {layer!r} of {self._name}.")

    def is_renamed(self, layer: str) -> bool:
        """Tell that no layer of this name was another one."""
        return False

    def opened(self, layers: Sequence[str]) -> frozenset[str]:
        """Name the modules that have to be opened: none."""
        return frozenset()

    def modules(self, layer: str) -> dict[str, nn.Module]:
        """Return the modules that have started when a layer is given, by name."""
        return {path: self.network.get_submodule(path) for path in self._find(layer).entered}

    def used(self, layer: str) -> tuple[str, ...]:
        """Name the tensors that lead to a layer."""
        return self._find(layer).used

    @cached_property
    def _seen(self) -> Calls:
        return Calls(self.network, self._size)

    @cached_property
    def _by_name(self) -> dict[str, Call]:
        seen = self._seen
        if not seen.calls and seen.error is not None:
            raise self._refusal(seen.error) from seen.error
        names: dict[str, Iterator[str]] = {path: iter(found) for path, found in self._names.items()}
        return {next(names[call.path]): call for call in seen.calls if not self._around(call.path)}

    @cached_property
    def _names(self) -> dict[str, tuple[str, ...]]:
        return {path: numbered(path, count) for path, count in Counter(call.path for call in self._seen.calls).items()}

    def _turn(self, call: Call) -> int:
        return sum(other.path == call.path for other in self._seen.calls[: call.given])

    def _find(self, layer: str) -> Call:
        path = self._paths.get(layer, layer)
        several = self._names.get(path, ())
        if len(several) > 1:
            raise UnknownLayerError(several_meanings(layer, self._name, list(map(repr, several)), len(several)))
        if path in self._by_name:
            return self._by_name[path]
        if self._seen.error is not None and path in self._paths:
            raise self._refusal(self._seen.error) from self._seen.error
        raise UnknownLayerError(self._absent(layer, path))

    def _refusal(self, error: Exception) -> FeatureError:
        height, width = self._size
        return FeatureError(f"{self._name} cannot take images of {height} x {width} pixels: {in_short(error)}.")

    def _absent(self, layer: str, path: str) -> str:
        if path not in self._paths:
            return f"Unknown layer {layer!r} of {self._name}. {did_you_mean(layer, self._by_name)}"
        inside = [name for name in self._by_name if name.startswith(f"{path}.")]
        return absent_module(layer, self._name, self._around(path), inside)

    def _around(self, path: str) -> str | None:
        """Name the module around another that torch computes at once, on some devices."""
        parts = path.split(".")
        above = (".".join(parts[:depth]) for depth in range(1, len(parts)))
        return next((name for name in above if isinstance(self.network.get_submodule(name), _AT_ONCE)), None)

    def _require(self, size: Size) -> None:
        assert size == self._size, "a network is looked at with the images that it will see"


class HookedBody(nn.Module):
    """A network that gives some of its layers, and stops after the last of them.

    Parameters
    ----------
    network : torch.nn.Module
        Its parameters are shared.
    wanted : mapping of str to (str, int)
        By layer: its module, and which of the module's runs.
    copied : collection of str
        The layers that a later operation writes into.
    used : collection of str
        The tensors that lead to the layers; the others are left out.
    """

    def __init__(
        self,
        network: nn.Module,
        wanted: Mapping[str, tuple[str, int]],
        copied: Collection[str],
        used: Collection[str],
    ) -> None:
        super().__init__()
        self.network = sharing_copy(network)
        leave_out(self.network, used)
        self.wanted, self.copied = dict(wanted), frozenset(copied)
        for path in dict.fromkeys(path for path, _ in self.wanted.values()):
            self.network.get_submodule(path).register_forward_hook(_Tap(path))
        self.eval()

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the layers of a batch."""
        taken = _Taken(self.wanted, self.copied)
        with _taking(taken):
            try:
                self.network(batch)
            except _Over as over:
                if over.taken is not taken:
                    raise
        if lacking := self.wanted.keys() - taken.found.keys():
            raise FeatureError(f"The module {min(lacking)!r} must run with every batch. It did not.")
        return {layer: taken.found[layer] for layer in self.wanted}

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Give the tensors that lead to the layers, under the names of the network."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load tensors under the names of the network."""
        state = OrderedDict(state_dict)
        # Without versions, a batch normalisation takes them for old ones and adds a count that is not left out here.
        vars(state)["_metadata"] = self.network.state_dict()._metadata  # type: ignore[attr-defined]
        return self.network.load_state_dict(state, *args, **kwargs)


class _Over(BaseException):
    """All layers are there: what the network would do next is not needed. No error, so that none takes it for one."""

    def __init__(self, taken: _Taken) -> None:
        super().__init__()
        self.taken = taken


class _Taken:
    """The layers of one batch."""

    def __init__(self, wanted: Mapping[str, tuple[str, int]], copied: frozenset[str]) -> None:
        self.found: dict[str, torch.Tensor] = {}
        self._copied = copied
        self._counts: Counter[str] = Counter()
        self._by_call: dict[tuple[str, int], list[str]] = defaultdict(list)
        for layer, call in wanted.items():
            self._by_call[call].append(layer)
        self._n_wanted = len(wanted)

    def take(self, path: str, output: Any) -> None:
        """Take what a module gives, and end the run with the last layer."""
        layers = self._by_call.get((path, self._counts[path]), ())
        self._counts[path] += 1
        for layer in layers:
            tensor = first_tensor(output)
            assert tensor is not None, "a layer gave a tensor when it was looked at"
            self.found[layer] = tensor.clone() if layer in self._copied else tensor
        if len(self.found) == self._n_wanted:
            raise _Over(self)


class _Tap:
    """A forward hook that hands on what a module gives, to the run that is on in this thread."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if _running.stack:
            _running.stack[-1].take(self._path, output)


class _Running(threading.local):
    def __init__(self) -> None:
        self.stack: list[_Taken] = []


_running = _Running()


@contextmanager
def _taking(taken: _Taken) -> Iterator[None]:
    _running.stack.append(taken)
    try:
        yield
    finally:
        _running.stack.pop()


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which modules run, which tensors are read, and how wide the values are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.kept: list[tuple[torch.Tensor | None, int]] = []
        self._width, self._used, self._entered = 0, dict[str, None](), dict[str, None]()
        self._names: dict[Any, list[str]] = defaultdict(list)
        for name, tensor in named_tensors(network):
            self._names[memory_of(tensor)].append(name)
        for path, module in network.named_modules():
            module.register_forward_pre_hook(lambda *_, path=path: self._enter(path))
            module.register_forward_hook(lambda _m, _i, output, path=path: self._leave(path, output))

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for tensor in tensors_in((args, kwargs or {})):
            self._used.update(dict.fromkeys(self._names.get(memory_of(tensor), ())))
        found = function(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.ndim and len(found) == N_IMAGES:
            self._width = max(self._width, found.numel() // N_IMAGES)
        return found

    def _enter(self, path: str) -> None:
        self._entered[path] = None

    def _leave(self, path: str, output: Any) -> None:
        tensor = first_tensor(output)
        shape = image_shape(tensor)
        if path:
            used, entered = tuple(self._used), tuple(self._entered)
            self.calls.append(Call(path, len(self.calls), shape, used, entered, self._width))
            self.kept.append((tensor, _version(tensor)))


def first_tensor(value: Any) -> torch.Tensor | None:
    """Return the first tensor of a value, or of the tuple, dict or data class that it is.

    Examples
    --------
    >>> first_tensor({"logits": None, "hidden": (torch.ones(2), torch.ones(3))}).shape
    torch.Size([2])
    """
    return next(tensors_in(value), None)


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors of a value and of what it is made of, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from tensors_in([getattr(value, field.name) for field in dataclasses.fields(value)])


def named_tensors(network: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield all parameters and buffers by all their names."""
    yield from network.named_parameters(remove_duplicate=False)
    yield from network.named_buffers(remove_duplicate=False)


def sharing_copy(network: nn.Module) -> nn.Module:
    """Copy the modules of a network; the copy shares its parameters and buffers."""
    known: dict[int, Any] = {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())}
    copied: nn.Module = copy.deepcopy(network, known)
    return copied


def _with_numbers(network: nn.Module) -> nn.Module:
    """Copy a network, and give its parameters small numbers."""
    stream = np.random.RandomState(0)
    known: dict[int, Any] = {id(tensor): tensor for tensor in network.buffers()}
    known |= {id(tensor): nn.Parameter(_drawn(tensor, stream), requires_grad=False) for tensor in network.parameters()}
    copied: nn.Module = copy.deepcopy(network, known)
    return copied


def _drawn(tensor: torch.Tensor, stream: np.random.RandomState) -> torch.Tensor:
    return torch.as_tensor(stream.uniform(-0.05, 0.1, tensor.shape)).to(tensor.dtype)


def leave_out(network: nn.Module, used: Collection[str]) -> None:
    """Put something without memory in the place of tensors that are not used; code may still ask for their shape."""
    used = frozenset(used)
    for path, module in network.named_modules(remove_duplicate=False):
        for tensors in (module._parameters, module._buffers):
            for name, tensor in list(tensors.items()):
                if tensor is not None and (f"{path}.{name}" if path else name) not in used:
                    del tensors[name]
                    vars(module)[name] = _without_memory(tensor)


def _without_memory(tensor: torch.Tensor) -> torch.Tensor:
    value = math.nan if tensor.is_floating_point() else 0
    return torch.full((), value, dtype=tensor.dtype).expand(tensor.shape)


def _version(tensor: torch.Tensor | None) -> int:
    return -1 if tensor is None else tensor._version
