"""Pooling: what is made of a layer's activations of one image before they are features.

The *places* of a layer are those of its map, or its patches: the tokens behind those that a transformer puts before
them, a class token and registers, where the network says how many these are.

- ``none``: all activations, those of one place together;
- ``mean``, ``max``: of each channel, over the places;
- ``grid:SIDE``: of each channel, the mean within each cell of a grid of SIDE x SIDE (`adaptive_avg_pool2d`);
- ``cls``: the class token, which is the first;
- ``patches``: the patches alone;
- ``tokens``: all tokens.

A vector has nothing to pool, and is taken as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from img2brain.backbones import Extractor, LayerKind
from img2brain.errors import ModelError
from img2brain.spec import NO_POOLING, is_pooling

_OF_TOKENS = ("cls", "patches", "tokens")


class Block(NamedTuple):
    """A layer, and how it is pooled: what one pass over the images gives of a network.

    Attributes
    ----------
    layer : str
        The layer.
    pooling : str
        How it is pooled, see `resolved`.
    """

    layer: str
    pooling: str = NO_POOLING

    def __str__(self) -> str:
        return self.layer if self.pooling == NO_POOLING else f"{self.layer} {self.pooling}"


class Pooled(nn.Module):
    """A network whose layers are pooled as they are computed; one forward pass gives them all.

    Parameters
    ----------
    extractor : Extractor
        Computes the layers.
    blocks : sequence of Block
        What is made of them.
    kinds : mapping of str to LayerKind
        Of the layers that are pooled.

    Attributes
    ----------
    n_features : dict of Block to int
        Numbers of each block for one image.
    n_widest : int
        The most numbers that one operation makes of one image.
    """

    def __init__(self, extractor: Extractor, blocks: Sequence[Block], kinds: Mapping[str, LayerKind]) -> None:
        super().__init__()
        self.extractor, self._kinds = extractor, kinds
        self.n_widest = extractor.n_widest
        self.n_features = {block: self._width(block) for block in blocks}

    def forward(self, batch: torch.Tensor) -> dict[Block, torch.Tensor]:
        """Compute all blocks.

        Parameters
        ----------
        batch : torch.Tensor of shape (n_images, 3, height, width)
            As for the extractor.

        Returns
        -------
        dict of Block to torch.Tensor
            (n_images, n_features), of the network's type.
        """
        given = self.extractor(batch)
        return {block: self._pooled(given[block.layer], block) for block in self.n_features}

    def _pooled(self, values: torch.Tensor, block: Block) -> torch.Tensor:
        return values if block.pooling == NO_POOLING else pool(values, self._kinds[block.layer], block.pooling)

    def _width(self, block: Block) -> int:
        return width(self.extractor.n_features[block.layer], self._kinds.get(block.layer), block.pooling)


def side_by_side(blocks: Mapping[Any, torch.Tensor]) -> torch.Tensor:
    """Put the features of several blocks beside one another, (n_images, n_features)."""
    found = list(blocks.values())
    return found[0] if len(found) == 1 else torch.cat(found, dim=1)


def possible(kind: LayerKind, pooling: str) -> bool:
    """Tell whether a layer of this kind can be pooled so.

    Examples
    --------
    >>> possible(LayerKind("map", (64, 7, 7)), "grid:3"), possible(LayerKind("map", (64, 7, 7)), "cls")
    (True, False)
    """
    if pooling == NO_POOLING or kind.kind == "vector":
        return True
    if kind.kind == "other":
        return False
    if pooling in _OF_TOKENS:
        n_prefix = 0 if pooling == "tokens" else -1 if kind.n_prefix is None else kind.n_prefix
        return kind.kind == "tokens" and n_prefix >= (pooling == "cls")
    return not pooling.startswith("grid") or min(_places(kind)) >= _side(pooling)


def resolved(kind: LayerKind, pooling: str) -> str:
    """Name what is computed: two poolings that give the same numbers of a layer have one name.

    Examples
    --------
    >>> resolved(LayerKind("tokens", (16, 64), n_prefix=0), "patches"), resolved(LayerKind("vector", (9,)), "mean")
    ('none', 'none')
    """
    whole = pooling == "tokens" or (pooling == "patches" and not kind.n_prefix)
    return NO_POOLING if whole or kind.kind == "vector" else pooling


def pool(values: torch.Tensor, kind: LayerKind, pooling: str) -> torch.Tensor:
    """Pool the activations of a layer.

    Parameters
    ----------
    values : torch.Tensor
        What `Extractor` gives of the layer, (n_images, n_features).
    kind : LayerKind
        Of the layer.
    pooling : str
        One that is `possible`, as `resolved` names it.

    Returns
    -------
    torch.Tensor
        (n_images, n_pooled); the channels of one place, or cell, stand together.

    Examples
    --------
    >>> pool(torch.tensor([[9.0, 1.0, 3.0]]), LayerKind("tokens", (3, 1), n_prefix=1), "mean")
    tensor([[2.]])
    """
    channels = _by_place(values, kind)
    if pooling == "cls":
        return channels[:, 0]
    places = channels[:, kind.n_prefix or 0 :]
    if pooling.startswith("grid"):
        maps = places.reshape(-1, *_places(kind), places.shape[2]).permute(0, 3, 1, 2)
        return nn.functional.adaptive_avg_pool2d(maps, _side(pooling)).permute(0, 2, 3, 1).flatten(1)
    return places.flatten(1) if pooling == "patches" else places.mean(1) if pooling == "mean" else places.amax(1)


def width(n_features: int, kind: LayerKind | None, pooling: str) -> int:
    """Return how many numbers of one image there are of a layer as it is pooled."""
    if pooling == NO_POOLING or kind is None:
        return n_features
    return pool(torch.empty((1, n_features), device="meta"), kind, pooling).shape[1]


def _by_place(values: torch.Tensor, kind: LayerKind) -> torch.Tensor:
    """Return (n_images, n_places or n_tokens, channels).

    Of three dimensions an extractor puts the first last.
    """
    if kind.kind == "map-last":
        height, width, n_channels = kind.shape
        return values.reshape(-1, width, n_channels, height).permute(0, 3, 1, 2).flatten(1, 2)
    n_channels = kind.shape[0] if kind.kind == "map" else kind.shape[1]
    return values.reshape(-1, math.prod(kind.shape) // n_channels, n_channels)


def _places(kind: LayerKind) -> tuple[int, int]:
    """Return height and width of the places; 0 where the patches are no square."""
    if kind.kind == "tokens":
        n_patches = kind.shape[0] - (kind.n_prefix or 0)
        side = math.isqrt(n_patches)
        return (side, side) if side * side == n_patches else (0, 0)
    return (kind.shape[1], kind.shape[2]) if kind.kind == "map" else (kind.shape[0], kind.shape[1])


def _side(pooling: str) -> int:
    return int(pooling.partition(":")[2])


def to_dict(kind: LayerKind, pooling: str) -> dict[str, Any]:
    """Give a pooling of a layer as JSON can hold it."""
    return {"name": pooling, "kind": kind.kind, "shape": list(kind.shape), "n_prefix": kind.n_prefix}


def pooled_layers(told: Any) -> dict[str, tuple[LayerKind, str]]:
    """Return how a saved model pools its layers, by their names; raises `ModelError` where that is no such thing."""
    if not isinstance(told, Mapping):
        raise ModelError(f"A saved model must say by layer how it pools. Got {told!r}.")
    return {layer: from_dict(item) for layer, item in told.items()}


def from_dict(told: Any) -> tuple[LayerKind, str]:
    """Return what `to_dict` gave; raises `ModelError` where it is no pooling that a layer can have."""
    try:
        kind, pooling = LayerKind(told["kind"], tuple(told["shape"]), told["n_prefix"]), told["name"]
        if is_pooling(pooling) and possible(kind, pooling):
            return kind, pooling
    except (KeyError, TypeError, ValueError, IndexError):
        pass
    raise ModelError(f"A saved model must pool its layer as a layer can be pooled. Got {told!r}.")
