"""Thirty networks over all libraries: every curated layer, and pooling of it, is what a forward hook sees of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from img2brain.backbones import Backbone, LayerKind, accelerated, load_backbone
from img2brain.backbones._hooked import first_tensor
from img2brain.features.pooling import Block, Pooled, possible, resolved
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


POOLINGS = ("none", "mean", "max", "grid:1", "grid:2", "grid:3", "cls", "patches", "tokens")
BY_KIND = {"tokens": set(POOLINGS), "map": {*POOLINGS[:6]}, "map-last": {*POOLINGS[:6]}, "vector": set(POOLINGS)}


def by_hand(values: torch.Tensor, kind: LayerKind, pooling: str) -> torch.Tensor:
    """Pool what a hook saw, in its own shape: (n_images, channels, height, width), channels last, tokens or numbers."""
    n_prefix = kind.n_prefix or 0
    if kind.kind == "vector":
        return values.flatten(1)
    if pooling == "none":  # A layer of three dimensions is laid out with the first of them last.
        return (values.movedim(1, -1) if values.ndim == 4 else values).flatten(1)
    if kind.kind == "tokens":
        patches = values[:, n_prefix:]
        flat = {"tokens": values, "cls": values[:, 0], "patches": patches}
        if pooling in flat:
            return flat[pooling].flatten(1)
        side = round(patches.shape[1] ** 0.5)
        is_square = pooling.startswith("grid")
        maps = patches.mT.reshape(*patches.mT.shape[:2], side, side) if is_square else patches.mT[..., None]
    else:
        maps = values if kind.kind == "map" else values.movedim(3, 1)
    if pooling in ("mean", "max"):
        return maps.mean((2, 3)) if pooling == "mean" else maps.amax((2, 3))
    n_cells = int(pooling.removeprefix("grid:"))
    edges = [(n * size // n_cells, -(-(n + 1) * size // n_cells)) for size in maps.shape[2:] for n in range(n_cells)]
    cells = [maps[:, :, a:b, c:d].mean((2, 3)) for a, b in edges[:n_cells] for c, d in edges[n_cells:]]
    return torch.cat(cells, 1)


@pytest.mark.parametrize("name", NAMES)
def test_every_pooling_of_every_curated_layer_is_that_of_what_a_forward_hook_sees(name: str, folder: Path) -> None:
    backbone = load(name, folder)
    batch = torch.randn((2, 3, *backbone.preprocessing.size), generator=torch.Generator().manual_seed(0))
    kinds = backbone.layer_kinds(backbone.layers)
    had = {layer: [item for item in POOLINGS if possible(kind, item)] for layer, kind in kinds.items()}
    blocks = dict.fromkeys(Block(layer, resolved(kinds[layer], item)) for layer, items in had.items() for item in items)
    extractor = backbone.extractor(backbone.layers)
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        network = Pooled(accelerated(extractor, torch.device("cpu"), dtype), tuple(blocks), kinds)
        with torch.inference_mode():
            found[dtype] = network(batch.to(dtype))
    plain = dict(hooked(copy.deepcopy(backbone.network), backbone.layers, batch.clone()))
    in_half = dict(hooked(copy.deepcopy(backbone.network).bfloat16(), backbone.layers, batch.bfloat16()))
    assert len(plain) >= min(3, len(backbone.layers) - 1)
    for layer, values in plain.items():
        assert had[layer], layer
        assert set(had[layer]) <= BY_KIND[kinds[layer].kind], layer
        for pooling in had[layer]:
            block = Block(layer, resolved(kinds[layer], pooling))
            expected = by_hand(values, kinds[layer], pooling)
            assert network.n_features[block] == expected.shape[1], block
            assert (found[torch.float32][block] - expected).norm() <= 1e-5 * expected.norm(), (layer, pooling)
            coarse = by_hand(in_half[layer].float(), kinds[layer], pooling)
            assert (found[torch.bfloat16][block].float() - coarse).norm() <= 1e-2 * coarse.norm(), (layer, pooling)


def test_there_are_thirty() -> None:
    assert len(set(NAMES)) == 30
