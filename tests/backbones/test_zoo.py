"""Thirty networks over all libraries: every curated layer is what a forward hook sees on the plain network."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from img2brain.backbones import Backbone, accelerated, load_backbone
from img2brain.backbones._hooked import first_tensor
from tests.backbones.small import CONFIGS

pytestmark = pytest.mark.slow

pytest.importorskip("timm")
pytest.importorskip("open_clip")
transformers: Any = pytest.importorskip("transformers")

TIMM = (
    *("test_byobnet", "test_convnext", "test_efficientnet", "test_mambaout", "test_maxvit", "test_nfnet"),
    *("test_resnet", "test_vit", "test_vit3", "test_vit_relpos", "vit_tiny_patch16_224", "test_coatnet"),
)
TRANSFORMERS = (
    "beit",
    "clip",
    "convnext",
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
    "siglip",
    "swin",
    "vit_mae",
)
OPEN_CLIP = ("ViT-S-32-alt", "RN50", "PE-Core-T-16-384")
TORCHVISION = ("squeezenet1_1", "resnet18", "mobilenet_v3_small", "swin_t")
OWN = ("traced", "branching")
CODE = """
from torch import nn

class Branching(nn.Sequential):
    def forward(self, x):
        return super().forward(x) if x.isfinite().all() else x

def traced():
    return nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Flatten())

def branching():
    return Branching(nn.Conv2d(3, 8, 8, stride=8), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Flatten())
"""
NAMES = (
    *(f"timm:{name}" for name in TIMM),
    *(f"transformers:{name}" for name in TRANSFORMERS),
    *(f"open_clip:{name}" for name in OPEN_CLIP),
    *TORCHVISION,
    *(f"zoo_of_mine.py:{name}" for name in OWN),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("zoo")
    (root / "zoo_of_mine.py").write_text(CODE, encoding="utf-8")
    for kind in TRANSFORMERS:
        config = transformers.AutoConfig.for_model(kind, **CONFIGS[kind])
        config.save_pretrained(root / kind)
    return root


def load(name: str, folder: Path) -> Backbone:
    library, _, network = name.rpartition(":")
    place = {"transformers": f"transformers:{folder / network}", "zoo_of_mine.py": f"{folder / library}:{network}"}
    return load_backbone(place.get(library, name), "random:5")


def hooked(network: nn.Module, layers: tuple[str, ...], batch: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """What the modules of these names give, by forward hooks on the plain network, when they first give it."""
    seen: dict[str, torch.Tensor] = {}

    def keep(path: str, output: Any) -> None:
        tensor = first_tensor(output)
        assert tensor is not None
        seen.setdefault(path, tensor.clone())

    modules = dict(network.named_modules())
    for path in layers:
        if path in modules:
            modules[path].register_forward_hook(lambda _m, _i, output, path=path: keep(path, output))
    with torch.inference_mode():
        network(batch)
    yield from seen.items()


@pytest.mark.parametrize("name", NAMES)
def test_every_curated_layer_is_what_a_forward_hook_sees(name: str, folder: Path) -> None:
    backbone = load(name, folder)
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn((2, 3, *backbone.preprocessing.size), generator=generator)
    extractor = backbone.extractor(backbone.layers)
    with torch.inference_mode():
        found = extractor.body(batch.clone())
        flat = accelerated(extractor, torch.device("cpu"), torch.float32)(batch.clone())
        coarse = accelerated(extractor, torch.device("cpu"), torch.bfloat16)(batch.bfloat16())
        rounded = extractor(batch.clone())
    expected = dict(hooked(copy.deepcopy(backbone.network), backbone.layers, batch.clone()))
    in_half = dict(hooked(copy.deepcopy(backbone.network).bfloat16(), backbone.layers, batch.bfloat16()))
    assert len(expected) >= min(3, len(backbone.layers) - 1)
    for layer, values in expected.items():
        scale = values.norm()
        assert (found[layer] - values).norm() <= 1e-5 * scale, layer
        assert (flat[layer] - rounded[layer]).norm() <= 1e-5 * scale, layer
        plain = in_half[layer].float()
        plain = plain.permute(0, 2, 3, 1) if plain.ndim == 4 else plain
        assert (coarse[layer].float() - plain.reshape(2, -1)).norm() <= 1e-2 * scale, layer


def test_there_are_thirty() -> None:
    assert len(set(NAMES)) == 30
