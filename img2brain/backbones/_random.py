"""Random weights that are the same everywhere.

torch's own generator gives other last bits on other processors, and its algorithms change between releases. Here a
network is built by its own code, with its own scheme of initialisation, while every random fill is drawn from
`numpy.random.RandomState`, whose stream is frozen (NEP 19), in float64 rounded to the tensor's type.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from img2brain._forks import alone
from img2brain.errors import FeatureError

_BLOCK = 1 << 20


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
        drawn = {"generator": self._generator} if torch.Tag.nondeterministic_seeded in func.tags else {}
        return func(*args, **{**(kwargs or {}), **drawn})


@contextmanager
def filled_by(stream: np.random.RandomState | None, block: int = _BLOCK) -> Iterator[None]:
    """Let networks built inside draw their weights from `stream`, and leave torch's and numpy's global state alone."""
    with alone, RandomFill(stream, block) as fill, _own_trunc_normal(fill):
        yield


@contextmanager
def _own_trunc_normal(fill: RandomFill) -> Iterator[None]:
    # torch's trunc_normal_ is several operations, and other ones in other releases: it is replaced as a whole.
    original, owner = nn.init.trunc_normal_, threading.get_ident()

    def trunc_normal_(
        tensor: torch.Tensor,
        mean: float = 0.0,
        std: float = 1.0,
        a: float = -2.0,
        b: float = 2.0,
        generator: Any = None,
    ) -> torch.Tensor:
        if threading.get_ident() != owner:
            return original(tensor, mean, std, a, b, generator)
        return fill.trunc_normal_(tensor, mean, std, a, b)

    nn.init.trunc_normal_ = trunc_normal_
    try:
        yield
    finally:
        nn.init.trunc_normal_ = original
