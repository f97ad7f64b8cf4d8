from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import models, transforms

from img2brain.backbones import Preprocessing
from img2brain.backbones.torchvision import Torchvision
from img2brain.errors import FeatureError, ModelError

WEIGHTS = [
    ("alexnet", "IMAGENET1K_V1"),
    ("inception_v3", "IMAGENET1K_V1"),
    ("resnet50", "IMAGENET1K_V2"),
    ("efficientnet_b0", "IMAGENET1K_V1"),
    ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1"),
    ("vgg16", "IMAGENET1K_FEATURES"),
    ("swin_v2_t", "IMAGENET1K_V1"),
]


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("name", "weights"), WEIGHTS)
@pytest.mark.parametrize("shape", [(425, 425), (300, 500), (90, 60)])
def test_equals_the_transform_of_the_weights(name: str, weights: str, shape: tuple[int, int]) -> None:
    image = picture(*shape)
    expected = models.get_model_weights(name)[weights].transforms()(image)
    assert torch.equal(Torchvision().preprocessing(name, weights)(image), expected)


@settings(max_examples=10, deadline=None)
@given(height=st.integers(1, 500), width=st.integers(1, 500))
def test_resize224_equals_a_resize_without_a_crop(height: int, width: int) -> None:
    image = picture(height, width)
    normalise = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    expected = transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor(), normalise])(image)
    assert torch.equal(Preprocessing(resize=(224, 224))(image), expected)


def test_no_weights_means_the_default_ones() -> None:
    assert Torchvision().preprocessing("alexnet", None) == Torchvision().preprocessing("alexnet", "DEFAULT")


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA"])
def test_other_modes_are_converted(mode: str) -> None:
    image = picture(50, 50).convert(mode)
    preprocessing = Preprocessing(resize=(32, 24))
    assert preprocessing(image).shape == (3, 32, 24)
    assert torch.equal(preprocessing(image), preprocessing(image.convert("RGB")))


@pytest.mark.parametrize(("name", "weights"), WEIGHTS)
def test_survives_json(name: str, weights: str) -> None:
    preprocessing = Torchvision().preprocessing(name, weights)
    again = Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict())))
    assert again == preprocessing
    assert again.digest == preprocessing.digest


def test_digest_names_every_setting() -> None:
    plain = Preprocessing(resize=(224, 224))
    others = [
        Preprocessing(resize=(224, 225)),
        Preprocessing(resize=(224, 224), crop=224),
        Preprocessing(resize=(224, 224), interpolation="bicubic"),
        Preprocessing(resize=(224, 224), mean=(0.0, 0.0, 0.0)),
    ]
    assert len({settings.digest for settings in (plain, *others)}) == 5


def test_size() -> None:
    assert Preprocessing(resize=(256,), crop=224).size == (224, 224)
    assert Preprocessing(resize=(224, 160)).size == (224, 160)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(FeatureError, match="'resize'"):
        Preprocessing(resize=(256,))
    with pytest.raises(FeatureError, match="'interpolation'"):
        Preprocessing(resize=(2, 2), interpolation="fancy")
    with pytest.raises(FeatureError, match="channels"):
        Preprocessing(resize=(2, 2), mean=(0.0,))
    with pytest.raises(ModelError, match="keys"):
        Preprocessing.from_dict({"resize": [2, 2]})
