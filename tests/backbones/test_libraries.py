"""Libraries of networks in files of others: named, told apart, and known by what they compute."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain.backbones import curated_layers, find, load_backbone, restore
from img2brain.catalog import LIBRARIES
from img2brain.datasets._images import find_images
from img2brain.errors import FeatureError, ModelError, SpecError, UnknownComponentError
from img2brain.features.network import NetworkFeatures
from img2brain.model import EncodingModel
from img2brain.spec import BackboneSpec
from img2brain.store import Store
from img2brain.study.runner import run_study

if TYPE_CHECKING:
    from tests.conftest import Launcher, MakeSpec, NewHome

CODE = """
import torch
from torch import nn

from img2brain.backbones.base import Library, Preprocessing

SCALE = 2.0


@torch.fx.wrap
def scaled(x):
    return x * SCALE


class Tiny(nn.Module):
    def __init__(self, slope):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 5, stride=4)
        nn.init.normal_(self.conv.weight, std=0.1)
        self.act = nn.LeakyReLU(slope)
        self.head = nn.Conv2d(4, 3, 3, stride=2)

    def forward(self, x):
        y = self.act(self.conv(x))
        return self.head(scaled(y) * 1.25)


class Nets(Library):
    names = ("tiny", "alexnet")

    def options(self, name, weights, keys):
        return {"slope": 0.1}

    def build(self, name, options):
        return Tiny(**options)

    def preprocessing(self, name, weights):
        return Preprocessing(resize=(32, 32))

    def layers(self, name):
        return ("conv", "act", "head")
"""
EDITS = {
    "an operation": ("self.act(self.conv(x))", "self.act(-self.conv(x))"),
    "a constant": ("* 1.25", "* 1.5"),
    "a setting": ("nn.LeakyReLU(slope)", "nn.LeakyReLU(2 * slope)"),
    "an option": ('"slope": 0.1', '"slope": 0.2'),
    "the first weights": ("std=0.1", "std=0.2"),
    "a function that is not traced": ("return x * SCALE", "return x * SCALE * SCALE"),
    "a constant of the file": ("SCALE = 2.0", "SCALE = 3.0"),
    "the preprocessing": ("(32, 32)", "(48, 48)"),
}


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library in a file outside the repository, forgotten afterwards."""
    monkeypatch.setattr(LIBRARIES, "_loaded", dict(LIBRARIES._loaded))
    return write(tmp_path / "nets.py")


def write(path: Path, *changes: tuple[str, str], code: str = CODE) -> Path:
    for old, new in changes:
        assert old in code
        code = code.replace(old, new)
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(code), encoding="utf-8")
    return path


def features(file: Path, store: Path, images: tuple[Path, ...], name: str = "tiny") -> NetworkFeatures:
    spec = BackboneSpec(name=f"{file}:Nets:{name}", weights="random:0")
    rows = np.arange(len(images))
    return NetworkFeatures(spec, images, ["made"] * len(images), Store(store), rows, 4, device="cpu")


def coordinates(found: NetworkFeatures) -> np.ndarray[Any, Any]:
    return found.components("head", np.arange(found._n_images), 4).coordinates


@pytest.fixture(scope="module")
def images(recordings: Path) -> tuple[Path, ...]:
    return find_images(recordings / "trainingIMG")[:12]


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_network_has_new_features(nets: Path, tmp_path: Path, images: tuple[Path, ...], edit: str) -> None:
    store = tmp_path / "cache"
    before = features(nets, store, images)
    first = coordinates(before)
    write(nets, EDITS[edit])
    after = features(nets, store, images)
    expected = coordinates(features(nets, tmp_path / "another", images))
    np.testing.assert_array_equal(coordinates(after), expected)
    assert not np.allclose(first, expected, rtol=1e-3)
    assert after.facts["network_digest"] != before.facts["network_digest"]
    write(nets)
    again = features(nets, store, images)
    np.testing.assert_array_equal(coordinates(again), first)
    assert "backbone" in vars(again)
    assert again.facts == before.facts


def test_what_comes_after_a_layer_has_no_part_in_its_digest(nets: Path) -> None:
    def digests(layer: str) -> str:
        source = find(f"{nets}:Nets:tiny")
        return load_backbone(source.full_name, "random:0").digests([layer])[layer]

    before = {layer: digests(layer) for layer in ("conv", "act", "head")}
    assert len(set(before.values())) == 3
    assert before == {layer: digests(layer) for layer in ("conv", "act", "head")}


def test_two_libraries_of_one_name_have_features_of_their_own(
    nets: Path, tmp_path: Path, images: tuple[Path, ...]
) -> None:
    other = write(tmp_path / "others.py", ("self.act(self.conv(x))", "self.act(-self.conv(x))"))
    one, two = (features(file, tmp_path / "cache", images) for file in (nets, other))
    assert one.facts["weights_digest"] == two.facts["weights_digest"]
    assert one.facts["network_digest"] != two.facts["network_digest"]
    assert not np.allclose(coordinates(one), coordinates(two), rtol=1e-3)
    assert (one.facts["library"], two.facts["library"]) == ("nets.py:Nets", "others.py:Nets")
    assert one.facts["plugin"]["name"] == "nets.py:Nets"


def test_a_name_of_two_libraries_is_refused_with_both(nets: Path) -> None:
    LIBRARIES.load(f"{nets}:Nets")
    assert find("tiny").full_name == "nets.py:Nets:tiny"
    with pytest.raises(SpecError, match=r"several hold it: 'nets\.py:Nets:alexnet' or 'torchvision:alexnet'\."):
        load_backbone("alexnet", "random:0")
    assert find("torchvision:alexnet").library_name == "torchvision"
    assert curated_layers("nets.py:Nets:alexnet") == ("conv", "act", "head")
    with pytest.raises(UnknownComponentError, match=r"Did you mean 'nets\.py:Nets:tiny'"):
        find("nets.py:Nets:tin")
    with pytest.raises(UnknownComponentError, match=r"Did you mean 'torchvision:alexnet'"):
        find("torchvision:alexnt")
    with pytest.raises(UnknownComponentError, match=r"Unknown library of networks 'torchvison'"):
        find("torchvison:alexnet")


def test_a_saved_network_of_ours_is_found_beside_another_of_its_name(nets: Path) -> None:
    config, tensors = load_backbone("alexnet", "random:0").export("features.2")
    assert config["backbone"] == "torchvision:alexnet"
    LIBRARIES.load(f"{nets}:Nets")
    for name in ("torchvision:alexnet", "alexnet"):
        assert restore({**config, "backbone": name}, tensors).layer == "features.2"
    with pytest.raises(ModelError, match=r"the library 'gone\.py:Nets', which is not known here\. Load it first"):
        restore({**config, "backbone": "gone.py:Nets:alexnet"}, tensors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("return Tiny(**options)", "raise OSError('no\\nway')"), "nets.py:Nets:tiny cannot be built: OSError: no."),
        (("return Tiny(**options)", "return 3"), "nets.py:Nets:tiny must be a torch.nn.Module. Got int."),
        (
            ("y = self.act(self.conv(x))", "raise OSError('no\\nway')"),
            "tiny cannot take images of 32 x 32 pixels: OSError: no.",
        ),
        (
            ("y = self.act(self.conv(x))", "y = self.conv(x) if x.sum() > 9 else no"),
            "tiny cannot take images of 32 x 32 pixels: NameError",
        ),
    ],
)
def test_code_that_fails_is_said_on_one_line(nets: Path, change: tuple[str, str], message: str) -> None:
    write(nets, change)
    with pytest.raises(FeatureError, match=message.replace(".", r"\.")) as caught:
        load_backbone(f"{nets}:Nets:tiny", "random:0")
    assert "\n" not in str(caught.value)


def test_a_network_of_ones_own_from_a_study_to_a_model(
    nets: Path, tmp_path: Path, make_spec: MakeSpec, new_home: NewHome, img2brain: Launcher, images: tuple[Path, ...]
) -> None:
    from img2brain.registered import load_model

    home = new_home()
    chosen: Any = [{"name": f"{nets}:Nets:tiny", "weights": "random:0"}]
    outcome = run_study(make_spec(trials=2, backbones=chosen, n_components=[3], regressors=["linear"]), home)
    assert outcome.best is not None
    assert outcome.best.spec.backbone == "nets.py:Nets:tiny"
    model = load_model("sample", home)
    expected = model.predict(list(images), device="cpu")
    assert list(model.plugins) == ["library"]
    model.save(_made(tmp_path / "saved"))
    np.testing.assert_array_equal(EncodingModel.load(tmp_path / "saved").predict(list(images)), expected)

    write(nets, ("self.act(self.conv(x))", "self.act(-self.conv(x))"))
    LIBRARIES.load(f"{nets}:Nets")
    with pytest.raises(ModelError, match=r"The network 'nets\.py:Nets:tiny' is not what this model was saved with"):
        EncodingModel.load(tmp_path / "saved").predict(list(images))
    again = run_study(make_spec(trials=2, backbones=chosen, n_components=[3], regressors=["linear"]), home)
    assert again.name != outcome.name, "edited code is another study"

    listed = img2brain.run("layers", f"{nets}:Nets:tiny")
    assert listed.stdout.split() == ["conv", "act", "head"]
    elsewhere = img2brain.run(
        "model", "predict", tmp_path / "saved", images[0], "--out", tmp_path / "p.npy", "--home", home
    )
    assert elsewhere.wait() == 2
    assert "'nets.py:Nets' is needed, from the file 'nets.py' with the digest" in elsewhere.error


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
