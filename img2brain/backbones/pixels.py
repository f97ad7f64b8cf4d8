"""The pixels themselves: a control that any network has to beat."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from torch import nn

from img2brain.backbones._base import Library
from img2brain.backbones._preprocessing import Preprocessing
from img2brain.backbones._weights import Weights
from img2brain.errors import ModelError, WeightsError

NAME, LAYER, WEIGHTS = "pixels", "grid", "random:0"
_SIDE = 32


class Pixels:
    """Mean colours on a grid of 32 x 32 places, as a network of one layer, `grid`, without weights of any kind."""

    kind: ClassVar[str] = "pixels"
    names: ClassVar[tuple[str, ...]] = (NAME,)

    def weight_names(self, name: str) -> tuple[str, ...]:
        """Name no weights: there are none, so that any ``random:SEED`` is the same."""
        return ()

    def url(self, name: str, weights: str) -> str:
        """Refuse: nothing is to be had."""
        raise WeightsError(f"The backbone {name!r} has no weights to fetch. Got {weights!r}.")

    def rename(self, key: str) -> str:
        """Return the key as it is."""
        return key

    def options(self, name: str, weights: Weights, keys: Collection[str]) -> dict[str, Any]:
        """Choose nothing: the constructor takes no arguments."""
        return {}

    def build(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        """Construct the network."""
        if options:
            raise ModelError(f"The options of {name!r} must be empty. Got {dict(options)}.")
        return nn.Sequential(OrderedDict([(LAYER, nn.AdaptiveAvgPool2d(_SIDE))]))

    def preprocessing(self, name: str, weights: str | None) -> Preprocessing:
        """Show the whole picture, 224 x 224 pixels."""
        return Preprocessing(resize=(224, 224))

    def layers(self, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """List the one layer."""
        return (), (LAYER,)


COMPONENT: Library = Pixels()
