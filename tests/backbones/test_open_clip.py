"""The networks of OpenCLIP that see pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from img2brain.backbones import Backbone, Request, curated_layers, find, load_backbone
from img2brain.backbones.open_clip import COMPONENT, OpenClip
from img2brain.errors import UnknownComponentError, WeightsError
from img2brain.testing import check_backbones

open_clip: Any = pytest.importorskip("open_clip")
NAME = "ViT-S-32-alt"


@pytest.fixture(scope="module")
def drawn() -> Backbone:
    return load_backbone(f"open_clip:{NAME}", "random:3")


@pytest.mark.slow
@pytest.mark.parametrize("name", [NAME, "RN50", "coca_ViT-B-32", "PE-Core-T-16-384", "ViT-B-16-SigLIP"])
def test_it_is_a_library(name: str) -> None:
    check_backbones(OpenClip(), [name])


def test_layers_are_those_of_the_whole_model(drawn: Backbone) -> None:
    blocks = tuple(f"visual.transformer.resblocks.{number}" for number in range(12))
    assert drawn.layers == curated_layers(f"open_clip:{NAME}") == (*blocks, "visual")
    kinds = drawn.layer_kinds(drawn.layers)
    assert (kinds[blocks[0]].kind, kinds[blocks[0]].n_prefix) == ("tokens", 1)
    batch = torch.randn((2, 3, 224, 224), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = drawn.extractor([blocks[3], "visual"]).body(batch)
        visual: Any = drawn.network.visual
        taken = visual.forward_intermediates(
            batch, indices=[3], output_fmt="NLC", output_extra_tokens=True, normalize_intermediates=False
        )
        torch.testing.assert_close(found["visual"], drawn.network(batch))
    torch.testing.assert_close(found[blocks[3]][:, 1:], taken["image_intermediates"][0])


def test_a_tag_decides_on_the_activation_and_the_pictures() -> None:
    source = find("open_clip:ViT-B-32")
    with pytest.raises(UnknownComponentError, match="Did you mean 'open_clip:ViT-B-32'"):
        find("open_clip:ViT-B-33")
    assert "openai" in source.library.weight_names("ViT-B-32")
    for weights, is_quick in {"openai": True, "laion2b_s34b_b79k": False, "random:0": False}.items():
        request = Request.parse("open_clip:ViT-B-32", weights, "weights")
        assert request.options(()) == {"quick_gelu": is_quick}
    picture = Image.effect_noise((300, 260), 80).convert("RGB")
    settings = {**open_clip.get_pretrained_cfg("ViT-B-32", "openai"), "size": 224}
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**{key: settings[key] for key in ("size", "mean", "std")}), is_train=False
    )
    found = source.library.preprocessing("ViT-B-32", "openai")(picture)
    assert (found - transform(picture)).abs().mean() < 0.02


def test_a_checkpoint_of_the_whole_model_serves(drawn: Backbone, tmp_path: Path) -> None:
    state = {**drawn.network.state_dict(), "text_projection": torch.ones(2, 2), "logit_scale": torch.ones(1)}
    save_file(state, tmp_path / "clip.safetensors")
    found = load_backbone(f"open_clip:{NAME}", str(tmp_path / "clip.safetensors"))
    assert found.weights_digest == drawn.weights_digest
    assert found.taken == "without logit_scale, text_projection"


def test_without_internet_it_says_what_to_fetch(no_internet: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        load_backbone("open_clip:ViT-B-32", "laion2b_s34b_b79k")
    said = str(caught.value)
    assert "Fetch https://huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K on a machine with internet" in said
    assert "\n" not in said
    assert COMPONENT.in_full
