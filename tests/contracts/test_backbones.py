"""What every backbone keeps, over a spread of families."""

from __future__ import annotations

from typing import Any

import pytest

from img2brain.backbones import curated_layers, layer_names
from img2brain.backbones.pixels import Pixels
from img2brain.backbones.torchvision import Torchvision
from img2brain.testing import LibraryUnderTest, backbone_checks

CHECKS = tuple(backbone_checks())
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
def tested(request: pytest.FixtureRequest) -> LibraryUnderTest:
    return LibraryUnderTest(Torchvision, (request.param,))


@pytest.mark.parametrize(("name", "check"), CHECKS, ids=[name for name, _ in CHECKS])
def test_torchvision_keeps_what_a_library_owes(tested: LibraryUnderTest, name: str, check: Any) -> None:
    check(tested)


@pytest.mark.parametrize(("name", "check"), CHECKS, ids=[name for name, _ in CHECKS])
def test_pixels_keep_what_a_library_owes(name: str, check: Any) -> None:
    check(LibraryUnderTest(Pixels()))


def test_layers_come_in_order_of_depth(tested: LibraryUnderTest) -> None:
    (source,) = tested.sources()
    backbone, nodes = tested.load(source), layer_names(source.name)
    assert nodes == backbone.nodes
    last = [max(i for i, node in enumerate(nodes) if f"{node}.".startswith(f"{layer}.")) for layer in backbone.layers]
    assert last == sorted(set(last))
    assert backbone.layers == curated_layers(source.name)


def test_a_saved_layer_holds_no_more_than_it_needs(tested: LibraryUnderTest) -> None:
    (source,) = tested.sources()
    backbone = tested.load(source)
    _, tensors = backbone.export(backbone.layers[len(backbone.layers) // 2])
    assert sum(item.numel() for item in tensors.values()) < sum(
        item.numel() for item in backbone.network.state_dict().values()
    )
