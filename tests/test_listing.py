"""What is kept of our networks is what they say themselves."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from img2brain import backbones, listing
from img2brain.catalog import LIBRARIES
from img2brain.errors import UnknownComponentError


@pytest.fixture(autouse=True)
def read_anew() -> Iterator[None]:
    """Forget what was read of the file."""
    listing._read.cache_clear()
    yield
    listing._read.cache_clear()


@pytest.fixture
def told_by_this_version() -> None:
    if listing._read()[0] != version("torchvision").partition("+")[0]:
        pytest.skip("another torchvision is installed: the networks are asked")


@pytest.mark.usefixtures("told_by_this_version")
def test_all_networks_are_kept() -> None:
    assert tuple(map(listing._short, listing._kept())) == backbones.backbone_names() == listing.backbone_names()


@pytest.mark.usefixtures("told_by_this_version")
@pytest.mark.parametrize("name", ["pixels", "alexnet", "torchvision:resnet50", "googlenet", "vit_b_32", "swin_v2_t"])
def test_a_network_says_what_is_kept_of_it(name: str) -> None:
    assert listing._find(name) is not None
    assert listing.curated_layers(name) == backbones.curated_layers(name)
    assert listing.layer_names(name) == backbones.layer_names(name)


@pytest.mark.slow
@pytest.mark.usefixtures("told_by_this_version")
def test_every_network_says_what_is_kept_of_it() -> None:
    assert listing._kept() == listing.ask()


def test_of_another_version_the_networks_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_installed", lambda: "0.1.0")
    assert listing._kept() == {}
    assert listing.backbone_names() == backbones.backbone_names()
    assert listing.curated_layers("alexnet") == backbones.curated_layers("alexnet")
    assert listing.layer_names("alexnet") == backbones.layer_names("alexnet")


def test_beside_a_library_of_others_the_networks_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "nets.py"
    file.write_text(
        "from torch import nn\nfrom img2brain import Library\n"
        "class Nets(Library):\n    names = ('alexnet', 'tiny')\n"
        "    def build(self, name, options):\n        return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())\n"
    )
    monkeypatch.setattr(LIBRARIES, "_loaded", {})
    assert listing.curated_layers(f"{file}:Nets:tiny") == backbones.curated_layers("nets.py:Nets:tiny")
    assert listing.backbone_names() == backbones.backbone_names()
    assert {"tiny", "nets.py:Nets:alexnet", "torchvision:alexnet"} <= set(listing.backbone_names())


def test_an_unknown_network_is_refused_as_the_networks_do(told_by_this_version: None) -> None:
    with pytest.raises(UnknownComponentError) as by_listing:
        listing.curated_layers("alexnt")
    with pytest.raises(UnknownComponentError) as by_networks:
        backbones.curated_layers("alexnt")
    assert str(by_listing.value) == str(by_networks.value)


def test_the_file_is_written_by_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"pixels:pixels": listing.ListedLayers(["grid"], ["grid"])}
    monkeypatch.setattr(listing, "ask", lambda: said)
    extras = {"some": listing.ListedNames("some", "1.0", ["net"], ["net.tag"])}
    monkeypatch.setattr(listing, "ask_names", lambda: extras)
    listing.write(tmp_path / "listing.json.gz")
    content = json.loads(gzip.decompress((tmp_path / "listing.json.gz").read_bytes()))
    assert content == {
        "torchvision": version("torchvision").partition("+")[0],
        "networks": {"pixels:pixels": [["grid"], ["grid"]]},
        "extras": {"some": ["some", "1.0", ["net"], ["net.tag"]]},
    }
