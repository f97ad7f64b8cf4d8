from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import models, transforms
from torchvision.transforms.v2 import functional

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


def assert_within_grey_levels(
    n_levels: int, found: torch.Tensor, expected: torch.Tensor, std: tuple[float, ...]
) -> None:
    """Compare normalised pictures; `n_levels` is one for each direction in which the size changes.

    Both libraries resize the rows of pixels, round to bytes, resize the columns and round again. Pillow's weights have
    22 bits and torch's 15, so that the sums of a pass differ by a few hundredths of a level: enough to round a half up
    in one and down in the other, never more than one level. The second pass averages with weights that are not negative
    and sum to 1. It hands a level from the first on without enlarging it, and may add one by its own rounding. Two
    levels need neighbours that all went the same way, and are rare: about one value in a hundred million.
    """
    levels = (found - expected).abs() * 255 * torch.tensor(std)[:, None, None]
    assert found.shape == expected.shape
    assert levels.max() < n_levels + 0.01


@pytest.mark.parametrize(("name", "weights"), WEIGHTS)
@pytest.mark.parametrize("shape", [(425, 425), (300, 500), (90, 60)])
def test_is_the_transform_of_the_weights(name: str, weights: str, shape: tuple[int, int]) -> None:
    image, ours = picture(*shape), Torchvision().preprocessing(name, weights)
    expected = models.get_model_weights(name)[weights].transforms()(image)
    if ours.interpolation == "bilinear":
        assert_within_grey_levels(2, ours(image), expected, ours.std)
    else:
        torch.testing.assert_close(ours(image), expected, atol=1e-6, rtol=1e-6)


@settings(max_examples=10)
@given(height=st.integers(1, 500), width=st.integers(1, 500), seed=st.integers(0, 9))
@example(height=186, width=216, seed=0)  # has a value that differs by two levels
@example(height=224, width=300, seed=0)
@example(height=224, width=224, seed=0)
def test_resize224_is_a_resize_without_a_crop(height: int, width: int, seed: int) -> None:
    image, ours = picture(height, width, seed), Preprocessing(resize=(224, 224))
    normalise = transforms.Normalize(ours.mean, ours.std)
    expected = transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor(), normalise])(image)
    assert_within_grey_levels((height != 224) + (width != 224), ours(image), expected, ours.std)


@settings(max_examples=20)
@given(
    height=st.integers(1, 500),
    width=st.integers(1, 500),
    ours=st.sampled_from([Preprocessing((40, 30)), Preprocessing((64,), 40), Preprocessing((37,), 70)]),
)
@example(height=40, width=30, ours=Preprocessing((40, 30)))
@example(height=37, width=110, ours=Preprocessing((37,), 70))
def test_bytes_are_those_of_torchvision(height: int, width: int, ours: Preprocessing) -> None:
    pixels = np.array(picture(height, width))
    filter_ = transforms.InterpolationMode.BILINEAR
    expected = functional.resize(torch.from_numpy(pixels).permute(2, 0, 1), list(ours.resize), filter_, antialias=True)
    expected = functional.center_crop(expected, [ours.crop]) if ours.crop else expected
    assert torch.equal(ours.pixels(pixels), expected)
    assert expected.shape == (3, *ours.size)


@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos", "box", "nearest"])
def test_other_filters_are_pillows(interpolation: str) -> None:
    image = picture(90, 60)
    filtered = image.resize((24, 32), getattr(Image.Resampling, interpolation.upper()))
    found = Preprocessing(resize=(32, 24), interpolation=interpolation).pixels(np.array(image))
    np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), np.array(filtered))


@pytest.mark.parametrize("n_images", [1, 7, 20])
def test_a_batch_is_normalised_as_torchvision_does(n_images: int) -> None:
    ours = Preprocessing(resize=(32, 24))
    pixels = torch.stack([ours.pixels(np.array(picture(50, 40, seed))) for seed in range(n_images)])
    expected = transforms.Normalize(ours.mean, ours.std)(pixels.float() / 255)
    torch.testing.assert_close(ours.normalise(pixels), expected, atol=1e-6, rtol=1e-6)
    assert torch.equal(ours.normalise(pixels, torch.bfloat16), ours.normalise(pixels).bfloat16())
    assert ours.normalise(pixels).is_contiguous(memory_format=torch.channels_last)


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
