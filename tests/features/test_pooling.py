from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from img2brain.backbones import LayerKind, load_backbone
from img2brain.errors import ModelError
from img2brain.features.pooling import Block, Pooled, from_dict, pool, possible, resolved, to_dict

ALL = ("none", "mean", "max", "grid:1", "grid:2", "grid:3", "cls", "patches", "tokens")


@st.composite
def layers(draw: st.DrawFn) -> tuple[LayerKind, torch.Tensor]:
    """Draw what a layer gives of some images, and its kind."""
    side, channels, n_images = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    other, n_prefix = draw(st.integers(1, 5)), draw(st.integers(0, 3))
    shape: tuple[int, ...] = draw(
        st.sampled_from([(channels, side, other), (side, other, channels), (n_prefix + side * side, channels)])
    )
    kind = "tokens" if len(shape) == 2 else "map" if shape == (channels, side, other) else "map-last"
    random = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    values = torch.randn((n_images, *shape), generator=random)
    return LayerKind(kind, shape, n_prefix if kind == "tokens" else None), values  # type: ignore[arg-type]


def flattened(values: torch.Tensor) -> torch.Tensor:
    """Flatten as an extractor does."""
    return (values.permute(0, 2, 3, 1) if values.ndim == 4 else values).reshape(len(values), -1)


def plain(values: torch.Tensor, kind: LayerKind, pooling: str) -> torch.Tensor:
    """Pool by what torch calls it, channels last."""
    n_prefix, n = kind.n_prefix or 0, len(values)
    if kind.kind == "tokens":
        if pooling == "cls":
            return values[:, 0]
        if pooling in ("tokens", "none"):
            return values.reshape(n, -1)
        side = math.isqrt(values.shape[1] - n_prefix)
        maps = values[:, n_prefix:].transpose(1, 2).reshape(n, -1, side, side)
    else:
        maps = values if kind.kind == "map" else values.permute(0, 3, 1, 2)
    if pooling == "patches":
        return maps.permute(0, 2, 3, 1).reshape(n, -1)
    if pooling == "mean":
        return maps.mean(dim=(2, 3))
    if pooling == "max":
        return maps.amax(dim=(2, 3))
    cells = nn.functional.adaptive_avg_pool2d(maps, int(pooling[5:]))
    return cells.permute(0, 2, 3, 1).reshape(n, -1)


@given(layers(), st.sampled_from(ALL))
def test_a_pooling_is_what_torch_calls_so(layer: tuple[LayerKind, torch.Tensor], pooling: str) -> None:
    kind, values = layer
    if not possible(kind, pooling) or resolved(kind, pooling) == "none":
        return
    found = pool(flattened(values), kind, resolved(kind, pooling))
    torch.testing.assert_close(found, plain(values, kind, pooling))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (LayerKind("map", (8, 2, 5)), {"none", "mean", "max", "grid:1", "grid:2"}),
        (LayerKind("map-last", (3, 3, 8)), {"none", "mean", "max", "grid:1", "grid:2", "grid:3"}),
        (LayerKind("tokens", (10, 8), 1), set(ALL)),
        (LayerKind("tokens", (9, 8), 0), set(ALL) - {"cls"}),
        (LayerKind("tokens", (8, 8), 1), {"none", "mean", "max", "cls", "patches", "tokens"}),
        (LayerKind("tokens", (9, 8), None), set(ALL) - {"cls", "patches"}),
        (LayerKind("vector", (8,)), set(ALL)),
        (LayerKind("other", (2, 3, 4, 5)), {"none"}),
    ],
)
def test_a_layer_can_have_what_it_has_places_for(kind: LayerKind, expected: set[str]) -> None:
    assert {pooling for pooling in ALL if possible(kind, pooling)} == expected


def test_what_gives_the_same_numbers_has_one_name() -> None:
    kinds = [LayerKind("tokens", (9, 8), 0), LayerKind("tokens", (10, 8), 1), LayerKind("vector", (8,))]
    assert [resolved(kind, "tokens") for kind in kinds] == ["none"] * 3
    assert [resolved(kind, "patches") for kind in kinds] == ["none", "patches", "none"]
    assert [resolved(kind, "mean") for kind in kinds] == ["mean", "mean", "none"]


def test_one_pass_gives_all_poolings_of_all_layers() -> None:
    backbone = load_backbone("squeezenet1_1", "random:0", "resize224")
    names = ("features.2", "features.12")
    blocks = [Block(name, pooling) for name in names for pooling in ("none", "mean", "grid:2")]
    extractor = backbone.extractor(names)
    pooled = Pooled(extractor, blocks, backbone.layer_kinds(names))
    batch = torch.randn((2, 3, 224, 224), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, given_ = pooled(batch), {}
        for name in names:
            backbone.network.get_submodule(name).register_forward_hook(
                lambda _, __, output, name=name: given_.update({name: output})
            )
        backbone.network(batch)
    assert {block: values.shape[1] for block, values in found.items()} == pooled.n_features
    for block in blocks:
        kind = LayerKind("map", tuple(given_[block.layer].shape[1:]))
        expected = flattened(given_[block.layer]) if block.pooling == "none" else None
        expected = plain(given_[block.layer], kind, block.pooling) if expected is None else expected
        torch.testing.assert_close(found[block], expected)


def test_a_vision_transformer_has_its_class_token() -> None:
    kinds = load_backbone("vit_b_32", "random:0").layer_kinds(["encoder.layers.encoder_layer_3"])
    assert kinds["encoder.layers.encoder_layer_3"] == LayerKind("tokens", (50, 768), 1)


@pytest.mark.parametrize(
    "change", [{"name": "cls"}, {"name": "grid:9"}, {"name": 3}, {"kind": "tokens"}, {"shape": 4}, {"shape": []}]
)
def test_a_saved_pooling_that_is_none_is_refused(change: dict[str, Any]) -> None:
    told = to_dict(LayerKind("map", (8, 4, 4)), "grid:2")
    assert from_dict(told) == (LayerKind("map", (8, 4, 4)), "grid:2")
    with pytest.raises(ModelError, match="must pool its layer"):
        from_dict(told | change)
    with pytest.raises(ModelError, match="must pool its layer"):
        from_dict({})
