"""What every backbone keeps, over a spread of families."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from img2brain.backbones import Backbone, curated_layers, layer_names, load_backbone, restore

FAMILIES = (
    "alexnet",
    "convnext_tiny",
    "efficientnet_b0",
    "inception_v3",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "vit_b_32",
)


@pytest.fixture(scope="module", params=FAMILIES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return load_backbone(request.param, "random:1")


@pytest.fixture(scope="module")
def batch(backbone: Backbone) -> torch.Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 240, 250, 3), dtype=np.uint8)
    return torch.stack([backbone.preprocessing(Image.fromarray(image)) for image in pixels])


def test_the_network_is_at_rest(backbone: Backbone) -> None:
    assert not any(module.training for module in backbone.network.modules())
    assert not any(parameter.requires_grad for parameter in backbone.network.parameters())
    assert all(torch.isfinite(tensor).all() for tensor in backbone.network.state_dict().values())


def test_layers_come_in_order_of_depth(backbone: Backbone) -> None:
    nodes = layer_names(backbone.name)
    assert nodes == backbone.nodes
    last = [max(i for i, node in enumerate(nodes) if f"{node}.".startswith(f"{layer}.")) for layer in backbone.layers]
    assert last == sorted(set(last))
    assert backbone.layers == curated_layers(backbone.name)


def test_features_have_their_shape_in_the_order_asked(backbone: Backbone, batch: torch.Tensor) -> None:
    layers = backbone.layers[::-3]
    extractor = backbone.extractor(layers)
    features = extractor(batch)
    assert tuple(features) == tuple(extractor.n_features) == layers
    for layer, values in features.items():
        assert values.shape == (2, extractor.n_features[layer])
        assert values.dtype == torch.float32
        assert torch.isfinite(values).all()
    assert not any(module.training for module in extractor.modules())
    assert all(torch.equal(values, features[layer]) for layer, values in extractor(batch).items())


def test_a_restored_layer_is_equal_bit_for_bit(backbone: Backbone, batch: torch.Tensor) -> None:
    layer = backbone.layers[len(backbone.layers) // 2]
    config, tensors = backbone.export(layer)
    assert sum(map(torch.numel, tensors.values())) < sum(map(torch.numel, backbone.network.state_dict().values()))
    restored = restore(json.loads(json.dumps(config)), tensors)
    expected = backbone.extractor([layer])(batch)[layer]
    assert torch.equal(restored.extractor([layer])(batch)[layer], expected)
    assert restored.preprocessing == backbone.preprocessing
    assert restored.weights_digest == backbone.weights_digest
    assert not any(parameter.requires_grad for parameter in restored.extractor([layer]).parameters())
