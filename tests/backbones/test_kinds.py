"""What a layer gives for one image: the kinds that pooling chooses by."""

from __future__ import annotations

import pytest

from img2brain.backbones import Request, load_backbone
from img2brain.backbones._kinds import layer_kind
from img2brain.features.pooling import possible, resolved

EXPECTED: dict[str, dict[str, tuple[str, tuple[int, ...], int | None]]] = {
    "resnet18": {
        "layer1": ("map", (64, 56, 56), None),
        "avgpool": ("map", (512, 1, 1), None),
        "fc": ("vector", (1000,), None),
    },
    "swin_v2_t": {"features.1": ("map-last", (64, 64, 96), None), "permute": ("map", (768, 8, 8), None)},
    "vit_b_32": {
        "encoder.layers.encoder_layer_3": ("tokens", (50, 768), 1),
        "heads": ("vector", (1000,), None),
    },
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_network_tells_the_kinds_of_its_layers(name: str) -> None:
    expected = EXPECTED[name]
    found = Request.parse(name, "random:0", "weights").layer_kinds(list(expected))
    assert {layer: (kind.kind, kind.shape, kind.n_prefix) for layer, kind in found.items()} == expected


def test_a_network_with_weights_tells_the_same() -> None:
    layers = ["features.2", "classifier"]
    request = Request.parse("squeezenet1_1", "random:0", "weights")
    assert load_backbone("squeezenet1_1", "random:0").layer_kinds(layers) == request.layer_kinds(layers)


def test_a_map_has_the_aspect_of_the_picture() -> None:
    wide = (128, 256)
    assert layer_kind((8, 4, 8), wide).kind == "map"
    assert layer_kind((4, 8, 8), wide).kind == "map-last"
    assert layer_kind((2, 3, 4, 5), wide).kind == "other"


def test_channels_that_were_pooled_to_one_place_are_a_vector() -> None:
    kind = layer_kind((64, 1), (32, 32), n_prefix=1)
    assert kind.kind == "vector"
    assert [resolved(kind, pooling) for pooling in ("mean", "cls", "none") if possible(kind, pooling)] == 3 * ["none"]
