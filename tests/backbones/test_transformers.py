"""Networks of transformers: from configurations, folders and the cache of the hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from img2brain.backbones import build_fresh, check_request, find, load_backbone, matching, restore
from img2brain.backbones.transformers import COMPONENT, Transformers, preprocessing_of
from img2brain.errors import Img2BrainError, ModelError, SpecError, WeightsError
from img2brain.features.freshness import freshness
from img2brain.features.network import NetworkFeatures
from img2brain.spec import BackboneSpec, parse
from img2brain.store import Store
from img2brain.testing import check_backbones
from tests.backbones.small import CONFIGS, VIT

transformers: Any = pytest.importorskip("transformers")

HEADS = {"clip": "visual_projection", "convnext": "layernorm", "siglip": "head", "vit": "classifier"}
PREFIXES = {"beit": 1, "clip": 1, "dinov2": 1, "dinov2_with_registers": 5, "siglip": 0, "vit": 1, "vit_mae": 1}
QUICK = ("clip", "vit_mae")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of small networks with random weights, as ``save_pretrained`` writes them."""
    root = tmp_path_factory.mktemp("hub")
    told = transformers.utils.logging
    told.disable_progress_bar()
    state = torch.get_rng_state()
    torch.manual_seed(1)
    for kind, settings in CONFIGS.items():
        config = transformers.AutoConfig.for_model(kind, **settings)
        classes = {"vit": transformers.ViTForImageClassification}
        network = classes[kind](config) if kind in classes else transformers.AutoModel.from_config(config)
        network.save_pretrained(root / kind)
    torch.set_rng_state(state)
    told.enable_progress_bar()
    return root


@pytest.fixture
def nothing_known(no_internet: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same for a library that knows no folder yet."""
    monkeypatch.setattr(COMPONENT, "_folders", {})
    forget()
    return no_internet


def forget() -> None:
    """Look at the hub and the folders anew, as another process does."""
    COMPONENT._config.cache_clear()  # type: ignore[attr-defined]
    COMPONENT._revision.cache_clear()  # type: ignore[attr-defined]


def named(folders: Path, kind: str) -> str:
    return f"transformers:{folders / kind}"


def check(folders: Path, *kinds: str) -> None:
    library = Transformers()
    check_backbones(library, [library.known(kind, folders) for kind in kinds])


def test_it_is_a_library(folders: Path) -> None:
    check(folders, *QUICK)


@pytest.mark.slow
def test_every_kind_of_network_is_of_the_library(folders: Path) -> None:
    check(folders, *(kind for kind in CONFIGS if kind not in QUICK))


@pytest.mark.parametrize("kind", [*HEADS, *(kind for kind in PREFIXES if kind not in HEADS)])
def test_layers_are_blocks_and_the_head(folders: Path, kind: str) -> None:
    found = load_backbone(named(folders, kind), "DEFAULT")
    assert found.trained == "trained"
    kinds = found.layer_kinds(found.layers)
    if kind in HEADS:
        assert found.layers[-1] == HEADS[kind]
        assert kinds[HEADS[kind]].kind == "vector"
    if kind in PREFIXES:
        assert {kinds[layer].n_prefix for layer in found.layers[:3]} == {PREFIXES[kind]}


def test_a_folder_gives_what_the_library_makes_of_it(folders: Path) -> None:
    batch = torch.randn((2, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    plain = transformers.CLIPModel.from_pretrained(folders / "clip").eval()
    found = load_backbone(named(folders, "clip"), "DEFAULT")
    layer = "vision_model.encoder.layers.1"
    with torch.inference_mode():
        expected = plain.vision_model(batch, output_hidden_states=True)
        embedding = plain.visual_projection(expected.pooler_output)
        values = found.extractor([layer, "visual_projection"]).body(batch)
    torch.testing.assert_close(values[layer], expected.hidden_states[2])
    torch.testing.assert_close(values["visual_projection"], embedding)


def test_a_masked_autoencoder_sees_all_patches_in_order(folders: Path) -> None:
    config = transformers.ViTMAEConfig(**VIT, mask_ratio=0.0)
    plain = transformers.ViTMAEModel.from_pretrained(folders / "vit_mae", config=config).eval()
    batch = torch.randn((2, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = plain(batch, noise=torch.arange(16.0).expand(2, -1)).last_hidden_state
        found = load_backbone(named(folders, "vit_mae"), "DEFAULT").extractor(["layernorm"]).body(batch)["layernorm"]
    torch.testing.assert_close(found, expected)


def test_a_folder_is_called_by_its_own_name(folders: Path) -> None:
    spec = parse(BackboneSpec, {"name": "transformers:./vit", "weights": "DEFAULT"}, "here", folders)
    assert spec.name == "transformers:vit"
    backbone = load_backbone(spec.name, "random:3")
    config, tensors = backbone.export("vit.layers.1")
    assert str(folders) not in json.dumps(config)
    assert (config["backbone"], backbone.weights_digest) == (
        spec.name,
        load_backbone(spec.name, "random:3").weights_digest,
    )
    COMPONENT._folders.pop("vit")  # type: ignore[attr-defined]
    assert restore(json.loads(json.dumps(config)), tensors).layer == "vit.layers.1"


def test_weights_come_from_the_cache_of_the_hub(folders: Path, nothing_known: Path) -> None:
    place = nothing_known / "models--some--dinov2-tiny"
    shutil.copytree(folders / "dinov2", place / "snapshots" / "1")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("1")
    found = load_backbone("transformers:some/dinov2-tiny", "DEFAULT")
    assert found.weights_digest == load_backbone(named(folders, "dinov2"), "DEFAULT").weights_digest


@pytest.mark.parametrize("weights", ["DEFAULT", "random:0"])
def test_two_revisions_of_a_name_are_two_networks(
    folders: Path, nothing_known: Path, tmp_path: Path, recordings: Path, weights: str
) -> None:
    hub = nothing_known / "models--some--vit-tiny"
    before, after = ("a" * 40, "b" * 40)
    shutil.copytree(folders / "vit_mae", hub / "snapshots" / before)
    shutil.copytree(folders / "vit_mae", hub / "snapshots" / after)
    change(hub / "snapshots" / after)
    (hub / "refs").mkdir()
    images = tuple(sorted((recordings / "trainingIMG").iterdir()))[:8]
    spec = BackboneSpec(name="transformers:some/vit-tiny", weights=weights, layers=("layernorm",))

    def coordinates(store: Path, revision: str) -> Any:
        (hub / "refs" / "main").write_text(revision)
        forget()
        rows = np.arange(len(images))
        found = NetworkFeatures(spec, images, ["made"] * len(images), Store(store), rows, 3, device="cpu")
        return found.components("layernorm", rows, 3).coordinates

    first = coordinates(tmp_path / "cache", before)
    second = coordinates(tmp_path / "cache", after)
    np.testing.assert_array_equal(second, coordinates(tmp_path / "another", after))
    assert not np.allclose(first, second, rtol=1e-3)
    np.testing.assert_array_equal(first, coordinates(tmp_path / "cache", before))


def change(folder: Path) -> None:
    """Write other weights, and another configuration, into a folder."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    state = load_file(folder / "model.safetensors")
    save_file({name: 2 * tensor for name, tensor in state.items()}, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("weights", ["DEFAULT", "random:0"])
def test_without_internet_it_says_what_to_fetch(nothing_known: Path, weights: str) -> None:
    with pytest.raises(WeightsError) as caught:
        load_backbone("transformers:facebook/dinov2-small", weights)
    said = str(caught.value)
    assert "Fetch https://huggingface.co/facebook/dinov2-small on a machine with internet, with config.json" in said
    assert "name its folder, 'transformers:FOLDER'" in said
    assert "\n" not in said


def test_weights_that_hold_code_are_not_read(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "dinov2", tmp_path / "pickled", ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save({}, tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="The folder 'pickled' must hold a network of transformers with config"):
        load_backbone(f"transformers:{tmp_path / 'pickled'}", "DEFAULT")


HOSTILE = """
import pathlib
pathlib.Path({mark!r}).touch()
from transformers import Dinov2Config as C, Dinov2Model as M, ViTImageProcessor as P
"""


@pytest.mark.parametrize("kind", ["dinov2", "never-heard-of"])
def test_code_in_a_folder_is_not_run_whatever_the_answer(
    kind: str, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library asks at the keyboard whether to run it, where it is not told otherwise."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setattr(COMPONENT, "_folders", {})
    folder, mark = tmp_path / f"with-code-{kind}", tmp_path / "it ran"
    shutil.copytree(folders / "dinov2", folder)
    told = json.loads((folder / "config.json").read_text())
    code = {"auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M", "AutoImageProcessor": "code.P"}}
    (folder / "config.json").write_text(json.dumps(told | code | {"model_type": kind}))
    (folder / "preprocessor_config.json").write_text(json.dumps(code | {"image_processor_type": "P"}))
    (folder / "code.py").write_text(HOSTILE.format(mark=str(mark)))
    if kind == "dinov2":
        load_backbone(f"transformers:{folder}", "DEFAULT")
    else:
        with pytest.raises(WeightsError, match="contains custom code"):
            load_backbone(f"transformers:{folder}", "DEFAULT")
    assert not mark.exists()


def retrained(folder: Path, seed: int) -> Path:
    """Write a network of the kind dinov2 into a folder, in place of the one that was there."""
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model("dinov2", **CONFIGS["dinov2"])
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder


def test_a_folder_with_other_weights_has_other_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the network of the same name was when it was last looked at."""
    monkeypatch.setattr(COMPONENT, "_folders", {})
    image = tmp_path / "1.png"
    Image.new("RGB", (8, 8), (200, 10, 10)).save(image)
    found = []
    for seed in (0, 1):
        name = f"transformers:{retrained(tmp_path / 'best', seed)}"
        spec = parse(BackboneSpec, {"name": name, "weights": "DEFAULT"}, "here", tmp_path)
        store = Store(tmp_path / "store")
        features = NetworkFeatures(spec, [image] * 3, ["a", "b", "c"], store, np.arange(2), 1)
        found.append(features.facts["weights_digest"])
    assert found[0] != found[1]


def test_two_folders_of_one_name_are_not_taken_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(COMPONENT, "_folders", {})
    one, other = (retrained(tmp_path / str(seed) / "best", seed) for seed in (0, 1))
    assert find(f"transformers:{one}").name == find(f"transformers:{one}").name == "best"
    with pytest.raises(SpecError, match="must have names of their own"):
        find(f"transformers:{other}")
    shutil.rmtree(other)
    shutil.copytree(one, other)
    assert find(f"transformers:{other}").name == "best"


def test_weights_without_the_head_leave_it_out(folders: Path, tmp_path: Path) -> None:
    bare = transformers.AutoModel.from_pretrained(folders / "vit")
    told = json.loads((folders / "vit" / "config.json").read_text())
    bare.save_pretrained(tmp_path / "headless")
    (tmp_path / "headless" / "config.json").write_text(json.dumps(told))
    found = load_backbone(f"transformers:{tmp_path / 'headless'}", "DEFAULT")
    assert found.absent == ("classifier.weight", "classifier.bias")
    assert found.layers == ("vit.layers.0", "vit.layers.1", "vit.layers.2")
    with pytest.raises(WeightsError, match="needs weights that DEFAULT lacks"):
        found.extractor(["classifier"])


def test_what_is_wrong_is_said_on_one_line(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in (f"transformers:{tmp_path / 'empty'}", "transformers:./gone", "transformers:facebook/a b"):
        with pytest.raises(SpecError) as caught:
            check_request(name, "random:0")
        assert "\n" not in str(caught.value)
    text = {"model_type": "bert", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    (tmp_path / "empty" / "config.json").write_text(json.dumps(text))
    with pytest.raises(Img2BrainError, match=r"cannot take images of 224 x 224 pixels|must see pictures"):
        check_request(f"transformers:{tmp_path / 'empty'}", "random:0", ["pooler"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"architecture": "logging", "config": {}},
        {"architecture": "ViTModel", "config": {"model_type": "no such"}},
        {"architecture": "ViTModel", "config": {"model_type": "vit", "hidden_size": "wide"}},
        {"architecture": "ViTModel", "config": []},
    ],
)
def test_options_of_others_build_networks_only(options: dict[str, Any]) -> None:
    with pytest.raises(Img2BrainError) as caught:
        find("transformers:some/network").blank(options)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ModelError) or options["config"]


def train(network: Any) -> None:
    """Train a network to tell the colour of pictures."""
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        colours = torch.randn((16, 3, 1, 1), generator=generator)
        batch = colours + torch.randn((16, 3, 32, 32), generator=generator)
        loss = (network(batch).pooler_output[:, :3] - colours[:, :, 0, 0]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.requires_grad_(False)


def test_fresh_weights_are_known_as_such(tmp_path: Path) -> None:
    wide = {**VIT, "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3}
    transformers.AutoModel.from_config(transformers.Dinov2Config(**wide)).save_pretrained(tmp_path / "wide")
    untrained = load_backbone(f"transformers:{tmp_path / 'wide'}", "DEFAULT")
    assert freshness(untrained).is_fresh
    trained = build_fresh(untrained, 3)
    train(trained.network.requires_grad_(True))
    assert not freshness(trained).is_fresh


PROCESSORS: dict[str, dict[str, Any]] = {
    "CLIPImageProcessor": {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
    "ConvNextImageProcessor": {"size": {"shortest_edge": 32}, "crop_pct": 0.875},
    "ViTImageProcessor": {"size": {"height": 32, "width": 32}},
    "BitImageProcessor": {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}},
}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_pictures_are_brought_to_the_size_as_the_processor_does(kind: str) -> None:
    processor = getattr(transformers, kind)(**PROCESSORS[kind])
    noise = np.random.RandomState(0).randint(0, 256, (9, 12, 3)).astype(np.uint8)
    picture = Image.fromarray(noise).resize((60, 45), Image.Resampling.BICUBIC)
    expected = processor(picture, return_tensors="pt")["pixel_values"][0]
    found = preprocessing_of(processor, "it")(picture)
    assert found.shape == expected.shape
    assert (found - expected).abs().mean() < 0.02


def test_names_of_the_hub_are_at_hand() -> None:
    found = matching("transformers:*dinov2*")
    assert {"transformers:facebook/dinov2-small", "transformers:facebook/dinov2-with-registers-base"} <= set(found)
