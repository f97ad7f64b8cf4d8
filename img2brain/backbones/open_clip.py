"""The networks of OpenCLIP that see pictures."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any, cast

import torch
from torch import nn

from img2brain._quiet import ignored
from img2brain.backbones._optional import imported, version_of
from img2brain.backbones._preprocessing import Preprocessing
from img2brain.backbones._weights import Weights
from img2brain.backbones.base import Library
from img2brain.errors import FeatureError, ModelError, UnavailableError

_HUB = "https://huggingface.co/"
_TOWER = "visual"


class OpenClip(Library):
    """The networks of OpenCLIP that see pictures, named ``open_clip:NAME``.

    Notes
    -----
    Layers and tensors have the names that they have in the whole model, ``visual.transformer.resblocks.3``, and
    ``visual`` is the embedding of a picture. A checkpoint of the whole model serves; what reads texts is left out.
    The names of weights are OpenCLIP's tags, which decide on the activation (``quick_gelu``) and the preprocessing.
    """

    package = "open-clip-torch"
    version = version_of(package)
    lists_blocks = True
    in_full = True

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The networks, sorted by name."""
        return tuple(sorted(self._library.list_models()))

    def weight_names(self, name: str) -> tuple[str, ...]:
        """Name the tags of a network."""
        return tuple(self._library.list_pretrained_tags_by_model(name))

    def rename(self, key: str) -> str:
        """Leave out what reads texts.

        Examples
        --------
        >>> OpenClip().rename("visual.proj"), OpenClip().rename("module.visual.proj"), OpenClip().rename("text.ln.bias")
        ('visual.proj', 'visual.proj', '')
        """
        key = key.removeprefix("module.")
        return key if key.startswith(f"{_TOWER}.") else ""

    def options(self, name: str, weights: Weights, keys: Collection[str]) -> dict[str, Any]:
        """Choose the activation that weights were trained with."""
        tagged = self._tagged(name, weights.library_name)
        return {"quick_gelu": bool(tagged.get("quick_gelu", self._described(name).get("quick_gelu", False)))}

    def build(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        """Construct a network without weights."""
        if options.keys() != {"quick_gelu"} or not isinstance(options["quick_gelu"], bool):
            raise ModelError(f"The options of a network of OpenCLIP must be 'quick_gelu'. Got {dict(options)}.")
        described = self._described(name)
        settings = {**described["vision_cfg"]}
        settings |= {"timm_model_pretrained": False} if "timm_model_name" in settings else {}
        with ignored():
            build = imported("open_clip.model", "open-clip")._build_vision_tower
            return Tower(build(described["embed_dim"], settings, options["quick_gelu"]))

    def pretrained(self, name: str, weights: str, options: Mapping[str, Any]) -> nn.Module:
        """Read a network with OpenCLIP's weights, from its cache or downloaded."""
        try:
            with ignored():
                whole = self._library.create_model(
                    name, weights, force_quick_gelu=options["quick_gelu"], weights_only=True, pretrained_text=False
                )
        except Exception as error:  # the network of this machine, the hub and the file may fail in any way
            tagged = self._tagged(name, weights)
            place = f"{_HUB}{tagged['hf_hub'].rstrip('/')}" if tagged.get("hf_hub") else tagged.get("url")
            raise UnavailableError.told(f"open_clip:{name}", error, place) from error
        return Tower(whole.visual)

    def preprocessing(self, name: str, weights: str | None) -> Preprocessing:
        """Read the transform of the tag; without one, that of the first."""
        tags = self.weight_names(name)
        tagged = self._tagged(name, weights or (tags[0] if tags else None))
        transform = imported("open_clip.transform", "open-clip")
        usual = transform.merge_preprocess_dict(transform.PreprocessCfg(), tagged)
        size = self._described(name)["vision_cfg"].get("image_size", 224)
        return preprocessing_of({**usual, "size": size}, f"open_clip:{name}")

    def n_prefix_tokens(self, name: str, network: nn.Module) -> int | None:
        """Count the class token."""
        tower = network.get_submodule(_TOWER)
        found = getattr(getattr(tower, "trunk", tower), "num_prefix_tokens", None)
        return found if isinstance(found, int) else 1 if hasattr(tower, "class_embedding") else None

    @property
    def _library(self) -> Any:
        return imported("open_clip", "open-clip")

    def _described(self, name: str) -> dict[str, Any]:
        found = self._library.get_model_config(name)
        if found is None:
            raise FeatureError(f"Unknown network {name!r} of OpenCLIP {self.version}.")
        return cast(dict[str, Any], found)

    def _tagged(self, name: str, tag: str | None) -> dict[str, Any]:
        return dict(self._library.get_pretrained_cfg(name, tag)) if tag else {}


class Tower(nn.Module):
    """What sees pictures, under the name that it has in the whole model."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, batch: torch.Tensor) -> Any:
        """Embed a batch of pictures."""
        return self.visual(batch)


def preprocessing_of(settings: Mapping[str, Any], name: str) -> Preprocessing:
    """Turn OpenCLIP's description of a transform into ours."""
    size = settings["size"]
    height, width = (size, size) if isinstance(size, int) else size
    mode = settings["resize_mode"]
    if mode not in ("shortest", "squash") or (mode == "shortest" and height != width):
        raise FeatureError(f"The pictures of {name} must be squashed or cropped to a square. Got {mode!r}, {size}.")
    return Preprocessing(
        resize=(height,) if mode == "shortest" else (height, width),
        crop=height if mode == "shortest" else None,
        interpolation=settings["interpolation"],
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
    )


COMPONENT: Library = OpenClip()
