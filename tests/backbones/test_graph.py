from __future__ import annotations

import pytest
import torch
from torch import nn

from img2brain.backbones import check_request, curated_layers, layer_names, load_backbone
from img2brain.backbones._graph import Graph
from img2brain.backbones._spread import spread
from img2brain.errors import FeatureError, UnknownLayerError


class Writing(nn.Module):
    """Every activation is overwritten by the next operation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.relu(self.conv(x))
        n = x.shape[0]
        y += 1
        return y.view(n, -1)


@pytest.fixture
def writing() -> nn.Module:
    torch.manual_seed(0)
    return Writing().eval().requires_grad_(False)


def test_a_layer_is_taken_before_it_is_overwritten(writing: nn.Module) -> None:
    graph = Graph("writing", writing)
    batch = torch.randn(2, 3, 8, 8)
    together = graph.extractor(["conv", "relu", "add"], (8, 8))(batch.clone())
    for layer, values in together.items():
        alone = graph.extractor([layer], (8, 8))(batch.clone())
        assert torch.equal(values, alone[layer])
    assert together["conv"].min() < 0
    assert together["relu"].min() == 0
    assert together["add"].min() == 1


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_1"])
def test_all_nodes_at_once_equal_each_alone(name: str) -> None:
    backbone = load_backbone(name, "random:0")
    batch = torch.randn(1, 3, *backbone.preprocessing.size)
    together = backbone.extractor(layer_names(name)[-30:])(batch)
    for layer in list(together)[::4]:
        assert torch.equal(together[layer], backbone.extractor([layer])(batch)[layer]), layer


def test_a_module_and_its_last_node_may_be_asked_together() -> None:
    backbone = load_backbone("squeezenet1_1", "random:0")
    found = backbone.extractor(["features.12.cat", "features", "features.12"])(torch.randn(1, 3, 224, 224))
    assert list(found) == ["features.12.cat", "features", "features.12"]
    assert torch.equal(found["features"], found["features.12.cat"])
    assert torch.equal(found["features.12"], found["features.12.cat"])


def test_unknown_layers_name_the_near_ones() -> None:
    resnet = load_backbone("resnet18", "random:0")
    with pytest.raises(
        UnknownLayerError, match=r"Unknown layer 'layer1.0.cnv1' of resnet18. Did you mean 'layer1.0.conv1'"
    ):
        resnet.extractor(["layer1.0.cnv1"])
    with pytest.raises(UnknownLayerError, match="'layer4'"):
        resnet.extractor(["layer5"])
    for layer in ("", ".", "layer1."):
        with pytest.raises(UnknownLayerError):
            resnet.extractor([layer])


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("vit_b_32", "getattr"),
        ("vit_b_32", "encoder._assert"),
        ("swin_t", "features.1.0.attn.features_1_0_attn_relative_position_bias_table"),
        ("swin_t", "features.1.0.attn.features_1_0_attn_qkv_bias"),
    ],
)
def test_a_node_without_activations_is_refused(name: str, layer: str) -> None:
    assert layer in layer_names(name)
    with pytest.raises(FeatureError, match=rf"one tensor of numbers per image. The node '{layer}' of {name}"):
        check_request(name, "random:0", [layer])


def test_images_of_another_size_are_refused(writing: nn.Module) -> None:
    with pytest.raises(FeatureError, match="writing cannot take images of 2 x 2 pixels"):
        Graph("writing", writing).extractor(["conv"], (2, 2))


def test_an_extractor_holds_only_what_it_needs() -> None:
    backbone = load_backbone("googlenet", "random:0")
    kept = set(backbone.extractor(["inception3a"]).body.state_dict())
    assert kept
    assert not [key for key in kept if key.startswith(("aux", "inception3b", "fc"))]


def test_an_extractor_takes_no_images_at_all() -> None:
    extractor = load_backbone("squeezenet1_1", "random:0").extractor(["features.2"])
    assert extractor(torch.empty(0, 3, 224, 224))["features.2"].shape == (0, extractor.n_features["features.2"])


@pytest.mark.parametrize(
    ("name", "first", "last", "n_layers"),
    [
        ("resnet18", "layer1", "layer4", 4),
        ("vgg11", "features.2", "classifier", 6),
        ("densenet121", "features.denseblock1", "features.denseblock4", 7),
        ("mobilenet_v3_small", "features.1", "classifier", 8),
        ("vit_b_32", "encoder.layers.encoder_layer_0", "heads", 8),
    ],
)
def test_a_network_without_a_list_gets_a_spread_of_blocks(name: str, first: str, last: str, n_layers: int) -> None:
    layers = curated_layers(name)
    assert (layers[0], layers[-1], len(layers)) == (first, last, n_layers)


def test_a_network_of_plain_operations_gets_all_of_them() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    assert spread(network, Graph("writing", network)) == ("0", "1")
