"""Every torchvision classification network."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any, cast

import torchvision
from torch import nn
from torchvision import models

from img2brain.backbones._preprocessing import Preprocessing
from img2brain.backbones._weights import UNTRAINED, Weights
from img2brain.backbones.base import Library
from img2brain.errors import ModelError

# Layers that were found to predict responses well, and outputs of blocks under the names of their modules.
_CURATED = {
    "alexnet": "features.2 features.5 features.7 features.9 features.12 classifier.2 classifier.5 classifier.6",
    "vgg16": "features.4 features.9 features.16 features.20 features.23 features.30 classifier.5 classifier.6",
    "resnet50": "layer1.1.conv1 layer1 layer2.3.conv2 layer2 layer3.5.conv3 layer3 layer4.2.conv3 layer4 avgpool",
    "inception_v3": "Conv2d_4a_3x3.conv Mixed_5b Mixed_5c.branch1x1.conv Mixed_5c Mixed_5d Mixed_6a"
    " Mixed_6b.branch1x1.conv Mixed_6b Mixed_6c.branch7x7_2.conv Mixed_6c Mixed_6d Mixed_6e Mixed_7a Mixed_7b"
    " Mixed_7c.branch_pool.conv Mixed_7c avgpool",
    "squeezenet1_1": "features.2 features.3 features.4 features.5 features.6 features.7 features.8 features.9"
    " features.10 features.11 features.12 classifier",
}

_WITH_AUXILIARY = {"googlenet": "aux", "inception_v3": "AuxLogits"}
_OPTIONS: dict[str, type] = {"transform_input": bool, "aux_logits": bool, "image_size": int}
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")


class Torchvision(Library):
    """torchvision's classification networks.

    Notes
    -----
    GoogLeNet and Inception v3 come with two peculiarities. Their weights from torchvision expect inputs scaled another
    way, and the network does that itself (``transform_input``): so it is for torchvision's weights and for checkpoint
    files, which are taken to be of that kind, but not for random weights, as in torchvision. Their auxiliary heads are
    built where the weights hold them, and for random weights; they never run outside training.

    A vision transformer has the image size of its weights; without torchvision's weights, that of the default ones.
    """

    version = torchvision.__version__

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The networks, sorted by name."""
        return tuple(models.list_models(module=models))

    def weight_names(self, name: str) -> tuple[str, ...]:
        """Name torchvision's weights, ``DEFAULT`` among them."""
        return tuple(models.get_model_weights(name).__members__)

    def url(self, name: str, weights: str) -> str:
        """Give the address of a checkpoint."""
        return cast(str, self._weights(name, weights).url)

    def rename(self, key: str) -> str:
        """Take out the point that the first DenseNet checkpoints have in ``norm.1``.

        Examples
        --------
        >>> Torchvision().rename("features.denseblock1.denselayer1.norm.1.weight")
        'features.denseblock1.denselayer1.norm1.weight'
        """
        return _OLD_DENSENET.sub(r"\1", key)

    def options(self, name: str, weights: Weights, keys: Collection[str]) -> dict[str, Any]:
        """Choose constructor arguments; see the notes of the class."""
        if prefix := _WITH_AUXILIARY.get(name):
            untrained = weights.trained == UNTRAINED
            auxiliary = untrained or any(key.startswith(prefix) for key in keys)
            return {"transform_input": not untrained, "aux_logits": auxiliary}
        if name.startswith("vit_"):
            return {"image_size": int(self._weights(name, weights.library_name).meta["min_size"][0])}
        return {}

    def build(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        """Construct a network without weights."""
        for option, value in options.items():
            if type(value) is not _OPTIONS.get(option):
                raise ModelError(
                    f"The options of a torchvision network must be among {sorted(_OPTIONS)}. Got {option}={value!r}."
                )
        scheme = {"init_weights": True} if name in _WITH_AUXILIARY else {}
        return cast(nn.Module, models.get_model(name, weights=None, **scheme, **options))

    def preprocessing(self, name: str, weights: str | None) -> Preprocessing:
        """Read the transform of the weights."""
        transform = self._weights(name, weights).transforms()
        return Preprocessing(
            resize=tuple(transform.resize_size),
            crop=int(transform.crop_size[0]),
            interpolation=transform.interpolation.value,
            antialias=bool(transform.antialias),
            mean=tuple(transform.mean),
            std=tuple(transform.std),
        )

    def n_prefix_tokens(self, name: str, network: nn.Module) -> int | None:
        """Count the class token of a vision transformer."""
        return 1 if name.startswith("vit_") else None

    def layers(self, name: str) -> tuple[str, ...]:
        """List the curated layers."""
        return tuple(_CURATED.get(name, "").split())

    @staticmethod
    def _weights(name: str, weights: str | None) -> Any:
        return models.get_model_weights(name)[weights or "DEFAULT"]


COMPONENT: Library = Torchvision()
