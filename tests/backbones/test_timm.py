"""timm's networks: built, named, weighed and seen as timm means them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from img2brain.backbones import check_request, curated_layers, find, load_backbone
from img2brain.backbones.timm import Timm
from img2brain.errors import FeatureError, SpecError, UnknownComponentError, WeightsError
from img2brain.testing import check_backbones

timm = pytest.importorskip("timm")


def test_it_is_a_library() -> None:
    check_backbones(Timm(), ["test_vit", "test_convnext.r160_in1k"])


def test_a_tag_is_a_name_of_weights_or_of_a_network() -> None:
    library = Timm()
    assert library.weight_names("test_vit") == ("DEFAULT", "r160_in1k")
    assert library.weight_names("test_vit.r160_in1k") == ("DEFAULT", "r160_in1k")
    assert library.weight_names("vit_base_patch16_224.augreg_in21k") == ("DEFAULT", "augreg_in21k")
    assert library.preprocessing("vit_base_patch16_224", "augreg_in21k").mean == (0.5, 0.5, 0.5)
    assert library.preprocessing("test_vit", None).to_dict() == {
        "resize": [168],
        "crop": 160,
        "interpolation": "bicubic",
        "antialias": True,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    }
    with pytest.raises(UnknownComponentError, match=r"Unknown backbone 'timm:test_vt'\. Did you mean 'timm:test_vit'"):
        find("timm:test_vt")
    with pytest.raises(UnknownComponentError):
        find("timm:test_vit.no_such_tag")
    with pytest.raises(WeightsError, match="Unknown weights 'no_such_tag' of test_vit"):
        check_request("timm:test_vit", "no_such_tag")


def test_a_name_without_the_library_is_none_of_timm() -> None:
    assert find("resnet50").library_name == "torchvision"
    with pytest.raises(SpecError):
        find("test_vit")


@pytest.mark.parametrize("tag", ["a1_in1k", "tv2_in1k"])
def test_pictures_are_brought_to_the_size_as_timm_does(tag: str) -> None:
    from PIL import Image

    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(f"resnet50.{tag}").to_dict())
    picture = Image.effect_noise((300, 260), 80).convert("RGB")
    expected = timm.data.create_transform(**config)(picture)
    torch.testing.assert_close(Timm().preprocessing("resnet50", tag)(picture), expected, atol=0.06, rtol=0)


def test_weights_come_from_the_cache_of_the_hub(no_internet: Path) -> None:
    snapshot = no_internet / "models--timm--test_vit.r160_in1k" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("1")
    drawn = load_backbone("timm:test_vit", "random:7").network
    save_file(drawn.state_dict(), snapshot / "model.safetensors")
    for name, weights in {"timm:test_vit": "r160_in1k", "timm:test_vit.r160_in1k": "DEFAULT"}.items():
        found = load_backbone(name, weights)
        assert (found.trained, found.label) == ("trained", weights)
        assert all(torch.equal(drawn.state_dict()[key], value) for key, value in found.network.state_dict().items())


def test_without_internet_it_says_what_to_fetch(no_internet: Path) -> None:
    state = torch.get_rng_state()
    with pytest.raises(WeightsError) as caught:
        load_backbone("timm:test_vit.r160_in1k", "DEFAULT")
    said = str(caught.value)
    assert said.startswith("The weights of timm:test_vit.r160_in1k cannot be had (")
    assert "Fetch https://huggingface.co/timm/test_vit.r160_in1k on a machine with internet" in said
    assert "\n" not in said
    assert torch.equal(state, torch.get_rng_state())


def test_a_file_and_the_folder_of_it_are_weights(tmp_path: Path) -> None:
    drawn = load_backbone("timm:test_vit", "random:7")
    save_file(drawn.network.state_dict(), tmp_path / "mine.safetensors")
    for weights in (tmp_path, tmp_path / "mine.safetensors"):
        found = load_backbone("timm:test_vit", str(weights))
        assert (found.weights_digest, found.label) == (drawn.weights_digest, "mine.safetensors")
        assert found.trained == "trained (file)"


def test_layers_are_outputs_of_blocks_and_the_head() -> None:
    assert curated_layers("timm:test_vit") == (*(f"blocks.{number}" for number in range(6)), "head")
    assert len(curated_layers("timm:vit_tiny_patch16_224")) == 13


@pytest.mark.slow
def test_it_is_imported_when_it_is_asked_for() -> None:
    asked = (
        "import sys; from img2brain import backbones; from img2brain.listing import backbone_names; backbone_names();"
        "backbones.find('alexnet'); backbones.backbone_names();"
        "assert not {'timm', 'transformers', 'open_clip'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", asked], check=True)


def test_where_it_is_not_installed_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "timm" else known(name))
    with pytest.raises(FeatureError) as caught:
        _ = Timm().names
    assert str(caught.value) == (
        "Networks of timm need the package timm, which is not installed: pip install 'img2brain[timm]', or "
        "uv sync --extra timm."
    )
