"""Random weights that are the same everywhere.

torch's own generator gives other last bits on other processors, and its algorithms change between releases. Here a
network is built by its own code, with its own scheme of initialisation, while every random fill is drawn from
`numpy.random.RandomState`, whose stream is frozen (NEP 19), in float64 rounded to the tensor's type.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from img2brain._forks import alone
from img2brain.errors import FeatureError

_BLOCK = 1 << 20
_TRUNCATED = {
    "torch.nn.init": ("trunc_normal_", "_no_grad_trunc_normal_"),
    "timm.layers.weight_init": ("_trunc_normal_",),
}


class RandomFill(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Divert the random fills of a network under construction to `stream`.

    Parameters
    ----------
    stream : numpy.random.RandomState, optional
        None leaves the memory unfilled, for weights that are loaded next.
    block : int
        How many numbers are drawn at a time; they do not depend on it.

    Raises
    ------
    FeatureError
        When the network asks torch for another kind of random number: nothing falls through to torch's generator.
    """

    def __init__(self, stream: np.random.RandomState | None, block: int = _BLOCK) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stream, self._block = stream, block

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Answer one operation of torch."""
        if func is torch.ops.aten.normal_.default:
            return self.normal_(*args)
        if func is torch.ops.aten.uniform_.default:
            return self.uniform_(*args)
        if func in _MADE:
            return _made(self, func, args, kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise FeatureError(f"A network under construction may draw normal_ and uniform_ numbers. Got {func}.")
        return func(*args, **(kwargs or {}))

    def normal_(self, tensor: torch.Tensor, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
        """Fill with normal numbers."""
        return self._fill(tensor, lambda stream, n: stream.normal(mean, std, n))

    def uniform_(self, tensor: torch.Tensor, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """Fill with uniform numbers."""
        return self._fill(tensor, lambda stream, n: stream.uniform(low, high, n))

    def trunc_normal_(self, tensor: torch.Tensor, mean: float, std: float, a: float, b: float) -> torch.Tensor:
        """Fill with normal numbers, drawn again until they lie in [a, b]."""

        def draw(stream: np.random.RandomState, n: int) -> NDArray[np.float64]:
            values = stream.normal(mean, std, n)
            while (outside := (values < a) | (values > b)).any():
                values[outside] = stream.normal(mean, std, int(outside.sum()))
            return values

        return self._fill(tensor, draw)

    def _fill(
        self, tensor: torch.Tensor, draw: Callable[[np.random.RandomState, int], NDArray[np.float64]]
    ) -> torch.Tensor:
        if self.stream is not None:
            flat = tensor.detach().view(-1).numpy()
            for start in range(0, flat.size, self._block):
                block = flat[start : start + self._block]
                block[:] = draw(self.stream, block.size)
        return tensor


class SeededFill(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Divert the random fills of a network under construction to a generator of torch's own, apart from the global one.

    Parameters
    ----------
    seed : int
        The numbers are those that torch draws after ``torch.manual_seed(seed)``.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Answer one operation of torch."""
        if func in _MADE:
            return _made(self, func, args, kwargs or {})
        drawn = {"generator": self._generator} if torch.Tag.nondeterministic_seeded in func.tags else {}
        return func(*args, **{**(kwargs or {}), **drawn})

    def normal_(self, tensor: torch.Tensor, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
        """Fill with normal numbers."""
        return tensor.normal_(mean, std, generator=self._generator)

    def uniform_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Fill with uniform numbers."""
        return tensor.uniform_(generator=self._generator)


_ATEN = torch.ops.aten
_MADE = {  # operations that make a tensor and fill it: what makes it, and whether the numbers are normal
    _ATEN.randn.default: (_ATEN.empty.memory_format, True),
    _ATEN.rand.default: (_ATEN.empty.memory_format, False),
    _ATEN.randn_like.default: (_ATEN.empty_like.default, True),
    _ATEN.rand_like.default: (_ATEN.empty_like.default, False),
    _ATEN.normal.float_float: (_ATEN.empty.memory_format, True),
}


def _made(fill: RandomFill | SeededFill, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
    """Answer an operation that makes a tensor of random numbers."""
    make, is_normal = _MADE[func]
    scale, rest = (args[:2], args[2:]) if func is _ATEN.normal.float_float else ((), args)
    tensor: torch.Tensor = make(*rest, **{name: value for name, value in kwargs.items() if name != "generator"})
    return fill.normal_(tensor, *scale) if is_normal else fill.uniform_(tensor)


@contextmanager
def filled_by(stream: np.random.RandomState | None, block: int = _BLOCK) -> Iterator[None]:
    """Let networks built inside draw their weights from `stream`, and leave torch's and numpy's global state alone."""
    with alone, RandomFill(stream, block) as fill, _own_trunc_normal(fill):
        yield


@contextmanager
def _own_trunc_normal(fill: RandomFill) -> Iterator[None]:
    # torch's trunc_normal_ is several operations, and other ones in other releases: it is replaced as a whole, where
    # networks look it up, and where copies of it do that other libraries keep.
    owner, originals = threading.get_ident(), [(place, name, getattr(place, name)) for place, name in _truncated()]

    def replacing(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def trunc_normal_(
            tensor: torch.Tensor,
            mean: float = 0.0,
            std: float = 1.0,
            a: float = -2.0,
            b: float = 2.0,
            **others: Any,
        ) -> torch.Tensor:
            if threading.get_ident() != owner:
                return original(tensor, mean, std, a, b, **others)
            return fill.trunc_normal_(tensor, mean, std, a, b)

        return trunc_normal_

    for place, name, original in originals:
        setattr(place, name, replacing(original))
    try:
        yield
    finally:
        for place, name, original in originals:
            setattr(place, name, original)


def _truncated() -> Iterator[tuple[Any, str]]:
    """Yield where functions are that fill with truncated normal numbers: of torch, and of timm where it is in use."""
    for module, names in _TRUNCATED.items():
        place = sys.modules.get(module)
        yield from ((place, name) for name in names if hasattr(place, name))
