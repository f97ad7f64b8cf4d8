"""The pixels themselves: a control that any network has to beat."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import nn

from img2brain.backbones.base import Library
from img2brain.errors import ModelError

NAME, LAYER, WEIGHTS = "pixels", "grid", "random:0"
_SIDE = 32


class Pixels(Library):
    """Mean colours on a grid of 32 x 32 places, as a network of one layer, `grid`, without weights of any kind.

    There is nothing to draw either, so that any ``random:SEED`` is the same. The whole picture is shown.
    """

    names = (NAME,)

    def build(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        """Construct the network."""
        if name != NAME or options:
            raise ModelError(f"The network must be {NAME!r}, without options. Got {name!r} with {dict(options)}.")
        return nn.Sequential(OrderedDict([(LAYER, nn.AdaptiveAvgPool2d(_SIDE))]))

    def layers(self, name: str) -> tuple[str, ...]:
        """List the one layer."""
        return (LAYER,)


COMPONENT: Library = Pixels()
