from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from img2brain import backbones
from img2brain.backbones import (
    Request,
    backbone_names,
    check_request,
    curated_layers,
    layer_names,
    load_backbone,
    restore,
)
from img2brain.errors import (
    FeatureError,
    ModelError,
    UnknownComponentError,
    UnknownLayerError,
    WeightsError,
)
from img2brain.predecessor.layers import LAYERS

LISTED = ("alexnet", "vgg16", "resnet50", "inception_v3", "squeezenet1_1")


@pytest.mark.parametrize("name", LISTED)
def test_listed_layers_exist_and_give_features(name: str) -> None:
    layers = curated_layers(name)
    assert len(set(layers)) == len(layers)
    check_request(name, "random:0", layers)
    check_request(name, "random:0", layers, preprocessing="resize224")


@pytest.mark.parametrize("name", LAYERS)
def test_the_predecessors_layers_are_curated_graph_nodes(name: str) -> None:
    assert set(LAYERS[name]) <= set(layer_names(name)) & set(curated_layers(name))


def test_every_name_is_known_once() -> None:
    names = backbone_names()
    assert {*LISTED, "vit_b_16", "convnext_tiny"} <= set(names)
    assert len(names) == len(set(names))


def test_bad_names_are_refused_before_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(backbones, "read_checkpoint", None)
    with pytest.raises(UnknownComponentError, match=r"Unknown backbone 'alexnt'. Did you mean 'alexnet'"):
        check_request("alexnt", "random:0")
    with pytest.raises(WeightsError, match="IMAGENET1K_V1"):
        check_request("alexnet", "IMAGENET1K_V9")
    with pytest.raises(WeightsError, match="must be a file that exists"):
        check_request("alexnet", str(tmp_path / "absent.pth"))
    with pytest.raises(UnknownLayerError, match=r"'features.1'"):
        check_request("alexnet", "IMAGENET1K_V1", ["features.12", "feature.1"])
    with pytest.raises(FeatureError, match="one tensor of numbers per image"):
        check_request("vit_b_32", "DEFAULT", ["getattr"])
    with pytest.raises(UnknownComponentError, match=r"Unknown preprocessing 'resize256'. Did you mean 'resize224'"):
        check_request("alexnet", "random:0", preprocessing="resize256")


def test_images_that_do_not_fit_the_network_are_refused_before_work() -> None:
    check_request("vit_b_16", "IMAGENET1K_SWAG_E2E_V1", ["encoder.ln"])
    with pytest.raises(FeatureError, match="vit_b_16 cannot take images of 224 x 224 pixels"):
        check_request("vit_b_16", "IMAGENET1K_SWAG_E2E_V1", ["encoder.ln"], preprocessing="resize224")


def test_a_check_loads_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "fetch", None)
    check_request("alexnet", "IMAGENET1K_V1", ["features.12"])


def test_random_weights_take_the_default_preprocessing() -> None:
    assert load_backbone("squeezenet1_1", "random:0").preprocessing.size == (224, 224)
    assert load_backbone("squeezenet1_1", "random:0").preprocessing.crop == 224
    assert load_backbone("squeezenet1_1", "random:0", "resize224").preprocessing.crop is None


def test_the_digest_names_all_that_features_depend_on() -> None:
    asked = [("random:0", "weights"), ("random:1", "weights"), ("random:0", "resize224")]
    backbones = [load_backbone("squeezenet1_1", *request) for request in asked]
    assert len({backbone.digests(["classifier"])["classifier"] for backbone in backbones}) == 3


@pytest.mark.parametrize(
    ("name", "layer", "was"),
    [
        ("vit_b_32", "encoder.layers.encoder_layer_1.ln_1", "encoder.layers.encoder_layer_1.ln_2"),
        ("vit_b_32", "encoder.layers.encoder_layer_1.ln", "encoder.layers.encoder_layer_1.ln_1"),
        ("resnet18", "layer1.0.relu", "layer1.0.relu_0"),
        ("resnet18", "layer1.0", "layer1.0"),
    ],
)
def test_a_layer_saved_under_the_name_of_a_node_stays_what_it_was(name: str, layer: str, was: str) -> None:
    backbone = load_backbone(name, "random:0")
    config, tensors = backbone.export(was)
    config["layer"] = layer
    del config["naming"]
    picture = torch.randn(1, 3, *backbone.preprocessing.size, generator=torch.Generator().manual_seed(0))
    restored = restore(config, tensors)
    assert torch.equal(restored.pruned(picture)[layer], backbone.extractor([was])(picture)[was])
    with pytest.raises(ModelError, match="'naming'"):
        restore({**config, "naming": 3}, tensors)


def test_a_name_that_meant_another_layer_is_known() -> None:
    block = "encoder.layers.encoder_layer_1"
    assert Request.parse("vit_b_32", "random:0", "weights").is_renamed([block, f"{block}.ln_1"])
    assert not Request.parse("vit_b_32", "random:0", "weights").is_renamed([block, f"{block}.ln_2", "encoder.ln"])
    assert not Request.parse("mobilenet_v2", "random:0", "weights").is_renamed(["features.1", "features.1.conv.0.0"])


def test_a_saved_backbone_tells_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    torch.save(load_backbone("squeezenet1_1", "random:0").network.state_dict(), path)
    config, _ = load_backbone("squeezenet1_1", str(path)).export("features.5")
    assert config["weights"] == "mine.pt"
    assert str(tmp_path) not in json.dumps(config)


def test_a_saved_backbone_that_does_not_fit_is_refused() -> None:
    config, tensors = load_backbone("squeezenet1_1", "random:0").export("features.5")
    with pytest.raises(ModelError, match="The tensors"):
        restore(config, {**tensors, "more": torch.zeros(1)})
    with pytest.raises(ModelError, match="The tensors"):
        restore({**config, "layer": "features.7"}, tensors)
    with pytest.raises(ModelError, match="must have the keys"):
        restore({"backbone": "squeezenet1_1"}, tensors)
    with pytest.raises(ModelError, match="text"):
        restore({**config, "layer": 3}, tensors)
    with pytest.raises(ModelError, match="options"):
        restore({**config, "options": {"weights": "DEFAULT"}}, tensors)
    with pytest.raises(UnknownComponentError):
        restore({**config, "backbone": "os.system"}, tensors)


def test_a_saved_backbone_has_one_layer() -> None:
    restored = restore(*load_backbone("squeezenet1_1", "random:0").export("features.5"))
    with pytest.raises(UnknownLayerError, match=r"Did you mean 'features.5'"):
        restored.extractor(["features.7"])
