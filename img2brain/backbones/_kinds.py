"""What a layer gives for one image: a map, tokens, or a vector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["map", "map-last", "tokens", "vector", "other"]


@dataclass(frozen=True)
class LayerKind:
    """What a layer gives for one image.

    Attributes
    ----------
    kind : {"map", "map-last", "tokens", "vector", "other"}
        ``"map"`` is (channels, height, width), ``"map-last"`` (height, width, channels), ``"tokens"`` (tokens,
        channels), ``"vector"`` (channels,), ``"other"`` anything else.
    shape : tuple of int
        Without the images.
    n_prefix : int, optional
        Of tokens: how many stand before those of the patches (a class token, registers); None where the network does
        not say, or where this layer does not hold them beside the patches.
    """

    kind: Kind
    shape: tuple[int, ...]
    n_prefix: int | None = None


def layer_kind(shape: tuple[int, ...], size: tuple[int, int], n_prefix: int | None = None) -> LayerKind:
    """Tell the kind of a layer by its shape.

    Parameters
    ----------
    shape : tuple of int
        Of what it gives for one image.
    size : tuple of int
        Height and width of the image, in pixels. The height and width of a map are to each other as these are.
    n_prefix : int, optional
        The tokens that the network puts before those of the patches.

    Examples
    --------
    >>> layer_kind((64, 56, 56), (224, 224)).kind, layer_kind((7, 7, 768), (224, 224)).kind
    ('map', 'map-last')
    >>> layer_kind((197, 384), (224, 224), n_prefix=1)
    LayerKind(kind='tokens', shape=(197, 384), n_prefix=1)
    >>> layer_kind((1, 384), (224, 224), n_prefix=1).n_prefix
    """
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):  # pooled channels may keep one place
        return LayerKind("vector", shape)
    if len(shape) == 2:
        return LayerKind("tokens", shape, n_prefix if n_prefix is not None and n_prefix < shape[0] else None)
    return LayerKind(_kind_of_map(shape, size) if len(shape) == 3 else "other", shape)


def _kind_of_map(shape: tuple[int, ...], size: tuple[int, int]) -> Kind:
    first, last = _distance(shape[1:], size), _distance(shape[:2], size)
    return "map" if first <= last else "map-last"


def _distance(place: tuple[int, ...], size: tuple[int, int]) -> float:
    """Return how far the aspect of a map is from that of the image."""
    return abs(math.log(max(place[0], 1) * size[1]) - math.log(max(place[1], 1) * size[0]))
