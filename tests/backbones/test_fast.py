from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from img2brain.backbones import _fast as module
from img2brain.backbones import accelerated, curated_layers, load_backbone
from img2brain.backbones._fast import _Convolution, _Linear
from img2brain.backbones._graph import Extractor, Graph

CPU = torch.device("cpu")
NETWORKS = (
    *("alexnet", "resnet18", "resnet50", "inception_v3", "googlenet", "squeezenet1_1", "densenet121", "mobilenet_v2"),
    *("shufflenet_v2_x0_5", "mnasnet0_5", "convnext_tiny", "vit_b_32", "swin_t", "regnet_y_400mf", "efficientnet_b0"),
)
fused = pytest.mark.skipif(not module._has_fused_operations(torch.float32), reason="no oneDNN in this build of torch")


def batch(n_images: int, size: tuple[int, int] = (24, 24), channels: int = 3) -> torch.Tensor:
    drawn = torch.randn((n_images, channels, *size), generator=torch.Generator().manual_seed(0))
    return drawn.contiguous(memory_format=torch.channels_last)


def n_fused(extractor: Extractor) -> int:
    return sum(isinstance(item, _Convolution | _Linear) for item in extractor.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_of_a_network_stays_what_it_was(name: str) -> None:
    backbone = load_backbone(name, "random:0")
    layers = curated_layers(name)
    extractor = backbone.extractor(layers)
    pictures = batch(2, backbone.preprocessing.size)
    with torch.inference_mode():
        expected = extractor(pictures)
        found = accelerated(extractor, CPU, torch.float32)(pictures)
        narrow = accelerated(extractor, CPU, torch.bfloat16)(pictures.bfloat16())
    for layer in layers:
        scale = expected[layer].norm()
        assert (found[layer] - expected[layer]).norm() <= 1e-4 * scale
        assert (narrow[layer].float() - expected[layer]).norm() <= 0.05 * scale


class Block(nn.Module):
    """Two convolutions, and a sum that some function takes."""

    def __init__(self, add: Callable[[Any, Any], Any], rectify: Callable[[Any], Any]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 5, 3, padding=1)
        self.last = nn.Conv2d(5, 2, 1)
        self.add, self.rectify = add, rectify

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        start = self.first(pictures)
        total = self.add(self.second(start), start)
        return self.last(self.rectify(total))  # type: ignore[no-any-return]


def twice(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return one + one


def into_the_other(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    again = other
    again += one
    return again + other


def a_number(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return one + 1.0


def weighted(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.add(one, other, alpha=2.0)


@fused
@pytest.mark.parametrize(
    ("add", "n_sums"),
    [
        (operator.add, 1),
        (operator.iadd, 1),
        (torch.add, 1),
        (twice, 0),
        (into_the_other, 1),
        (a_number, 0),
        (weighted, 0),
    ],
)
@pytest.mark.parametrize("rectify", [torch.relu, nn.functional.relu, nn.ReLU(inplace=True), nn.Sigmoid()])
@pytest.mark.parametrize("layers", [("last",), ("first", "last"), ("second", "last")])
def test_sums_become_part_of_a_convolution_where_they_may(
    add: Any, n_sums: int, rectify: Any, layers: tuple[str, ...]
) -> None:
    torch.manual_seed(0)
    network = Block(add, rectify).eval()
    extractor = Graph("block", network).extractor(layers, (24, 24))
    fast = accelerated(extractor, CPU, torch.float32)
    assert n_fused(fast) == 3
    assert isinstance(fast.body, torch.fx.GraphModule)
    calls = [node for node in fast.body.graph.nodes if node.op == "call_module"]
    assert sum(len(node.args) == 2 for node in calls) == (n_sums if "second" not in layers else 0)
    with torch.inference_mode():
        for n_images in (4, 1, 4):  # weights are laid out for a shape, and again for another
            pictures = batch(n_images)
            expected, found = extractor(pictures), fast(pictures)
            for layer in layers:
                torch.testing.assert_close(found[layer], expected[layer], atol=1e-5, rtol=1e-5)


@fused
@pytest.mark.parametrize("settings", [{"padding": "same"}, {"padding_mode": "reflect", "padding": 1}])
def test_an_unusual_convolution_is_left_as_it_is(settings: dict[str, Any]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, **settings), nn.ReLU()).eval()
    extractor = Graph("block", network).extractor(["1"], (24, 24))
    fast = accelerated(extractor, CPU, torch.float32)
    assert n_fused(fast) == 0
    with torch.inference_mode():
        torch.testing.assert_close(fast(batch(2))["1"], extractor(batch(2))["1"])


def test_a_build_without_the_operations_runs_the_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    backbone = load_backbone("squeezenet1_1", "random:0")
    assert n_fused(accelerated(backbone.extractor(["features.3"]), CPU, torch.float32)) == 0


@fused
def test_the_extractor_itself_is_left_as_it_is() -> None:
    extractor = load_backbone("resnet18", "random:0").extractor(["layer1", "avgpool"])
    before = str(extractor.body.graph)
    assert n_fused(accelerated(extractor, CPU, torch.float32)) > 0
    assert str(extractor.body.graph) == before
    assert n_fused(extractor) == 0


class ReadsItsWeights(nn.Module):
    """A network that reads the weights of a convolution beside calling it, as position encodings do for their type."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.norm(self.conv(x)) + self.conv.weight.sum()
        return found


def test_a_convolution_whose_weights_are_read_elsewhere_is_left_as_it_is() -> None:
    torch.manual_seed(0)
    extractor = Graph("block", ReadsItsWeights().eval()).extractor(["norm"], (24, 24))
    whole = Graph("block", nn.Sequential(ReadsItsWeights(), nn.ReLU()).eval()).extractor(["1"], (24, 24))
    with torch.inference_mode():
        for item, layer in ((extractor, "norm"), (whole, "1")):
            found = accelerated(item, CPU, torch.float32)(batch(2))
            torch.testing.assert_close(found[layer], item(batch(2))[layer], atol=1e-5, rtol=1e-5)
