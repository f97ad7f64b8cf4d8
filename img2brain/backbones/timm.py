"""timm's image networks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any, cast

from torch import nn

from img2brain._quiet import ignored
from img2brain.backbones._optional import imported, version_of
from img2brain.backbones._preprocessing import Preprocessing
from img2brain.backbones._weights import Weights
from img2brain.backbones.base import Library
from img2brain.errors import FeatureError, ModelError, UnavailableError

_DEFAULT = "DEFAULT"
_HUB = "https://huggingface.co/"


class Timm(Library):
    """timm's image networks, named ``timm:NAME``, or ``timm:NAME.TAG`` with the weights of this tag.

    Notes
    -----
    The names of weights are timm's tags, and ``DEFAULT`` for the first of them. A tag decides on the size of the
    pictures, the number of classes and the preprocessing too, for random weights and files as well.
    """

    package = "timm"
    version = version_of(package)
    lists_blocks = True
    in_full = True

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The networks, sorted by name."""
        return tuple(self._timm.list_models())

    @cached_property
    def variants(self) -> tuple[str, ...]:
        """The networks with the tags of their weights."""
        return tuple(name for name in self._timm.list_pretrained() if "." in name)

    def weight_names(self, name: str) -> tuple[str, ...]:
        """Name the tags of a network, ``DEFAULT`` first; of one that has its tag in its name, no others."""
        architecture, _, tag = name.partition(".")
        tags = (tag,) if tag else self._tags.get(architecture, ())
        return (_DEFAULT, *tags) if tags else ()

    def options(self, name: str, weights: Weights, keys: Collection[str]) -> dict[str, Any]:
        """Choose the tag that decides on the size and the classes."""
        return {"tag": self._tag(name, weights.library_name)}

    def build(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        """Construct a network without weights."""
        return self._create(name, options, pretrained=False)

    def pretrained(self, name: str, weights: str, options: Mapping[str, Any]) -> nn.Module:
        """Construct a network with timm's weights, read from timm's cache or downloaded."""
        try:
            return self._create(name, options, pretrained=True)
        except Exception as error:  # the network of this machine, the hub and the file may fail in any way
            place = self._config(name, str(options["tag"])).hf_hub_id
            raise UnavailableError.told(f"timm:{name}", error, f"{_HUB}{place}" if place else None) from error

    def preprocessing(self, name: str, weights: str | None) -> Preprocessing:
        """Read the transform of the tag."""
        return preprocessing_of(self._config(name, self._tag(name, weights)))

    @property
    def _timm(self) -> Any:
        return imported("timm", "timm")

    @cached_property
    def _tags(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for name in self.variants:
            architecture, _, tag = name.partition(".")
            found[architecture] = (*found.get(architecture, ()), tag)
        return found

    def _tag(self, name: str, weights: str | None) -> str:
        tag = name.partition(".")[2]
        return tag or ("" if weights in (None, _DEFAULT) else str(weights))

    def _config(self, name: str, tag: str) -> Any:
        architecture = name.partition(".")[0]
        known = f"{architecture}.{tag}" if tag else architecture
        found = self._timm.get_pretrained_cfg(known, allow_unregistered=False)
        return found or imported("timm.models", "timm").PretrainedCfg()

    def _create(self, name: str, options: Mapping[str, Any], pretrained: bool) -> nn.Module:
        architecture, tag = name.partition(".")[0], options.get("tag")
        if options.keys() != {"tag"} or not isinstance(tag, str):
            raise ModelError(f"The options of a network of timm must be its 'tag'. Got {dict(options)}.")
        if architecture not in self.names:
            raise FeatureError(f"Unknown network {name!r} of timm {self.version}.")
        known = f"{architecture}.{tag}" if tag else architecture
        with ignored():
            return cast(nn.Module, self._timm.create_model(known, pretrained=pretrained))


def preprocessing_of(config: Any) -> Preprocessing:
    """Turn timm's description of a transform into ours.

    Notes
    -----
    timm resizes the shorter side to the size of the network over ``crop_pct``, and cuts the centre out; with the crop
    mode ``squash`` both sides.
    """
    _, height, width = config.input_size
    shares = config.crop_pct or 0.875
    resize = (int(height / shares), int(width / shares))
    is_square = height == width
    cut = is_square and (config.crop_mode != "squash" or resize != (height, width))
    return Preprocessing(
        resize=(resize[0],) if cut and config.crop_mode != "squash" else resize if cut else (height, width),
        crop=height if cut else None,
        interpolation=config.interpolation or "bicubic",
        mean=tuple(config.mean),
        std=tuple(config.std),
    )


COMPONENT: Library = Timm()
