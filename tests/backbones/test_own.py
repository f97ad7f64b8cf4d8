"""Networks of one's own: a function in a file, or in a module that is installed."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models, transforms
from torchvision.transforms import v2

from img2brain.backbones import Preprocessing, check_request, curated_layers, find, load_backbone, restore
from img2brain.backbones._own import as_preprocessing
from img2brain.catalog import LIBRARIES
from img2brain.errors import FeatureError, Img2BrainError, ModelError, SpecError, UnknownComponentError
from img2brain.spec import BackboneSpec, parse
from img2brain.study.runner import run_study
from img2brain.testing import check_backbones

if TYPE_CHECKING:
    from tests.conftest import Launcher, MakeSpec, NewHome

CODE = """
    from torch import nn
    from torchvision import transforms
    from torchvision.transforms import v2


    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.one, self.two = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 1)

        def forward(self, x):
            return x + self.two(self.one(x).relu()) if x.isfinite().all() else x


    def tiny():
        blocks = nn.Sequential(*(Block(4) for _ in range(3)))
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        network = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), blocks, head)
        network.preprocessing = v2.Compose([v2.Resize(40), v2.CenterCrop(32), v2.Normalize([0.5] * 3, [0.2] * 3)])
        return network


    def plain():
        return nn.Sequential(nn.Conv2d(3, 4, 16, stride=16))


    def wrong():
        return 3


    def _hidden():
        return plain()
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of functions outside the repository, forgotten afterwards."""
    monkeypatch.setattr(LIBRARIES, "_loaded", dict(LIBRARIES._loaded))
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(CODE), encoding="utf-8")
    return path


def test_a_file_of_functions_is_a_library(mine: Path) -> None:
    library = LIBRARIES[LIBRARIES.load(str(mine))]
    assert library.names == ("Block", "tiny", "plain", "wrong")
    check_backbones(library, ["tiny", "plain"])


def test_a_function_is_named_with_its_file(mine: Path) -> None:
    spec = parse(BackboneSpec, {"name": "./mine.py:tiny", "weights": "random:0"}, "here", mine.parent)
    assert spec.name == "mine.py:tiny"
    found = load_backbone(spec.name, "random:0")
    assert found.source.full_name == spec.name
    assert (found.layers, found.preprocessing.size) == (("1.0", "1.1", "1.2", "2"), (32, 32))
    assert not hasattr(found.network, "preprocessing")
    assert curated_layers("mine.py:plain") == ("0",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tny", r"Unknown backbone 'mine\.py:tny'\. Did you mean 'mine\.py:tiny'"),
        ("wrong", r"mine\.py:wrong must be a torch\.nn\.Module\. Got int\."),
    ],
)
def test_what_is_no_network_is_said_on_one_line(mine: Path, name: str, message: str) -> None:
    with pytest.raises(Img2BrainError, match=message):
        check_request(f"{mine}:{name}", "random:0", ["0"])


def test_a_saved_network_needs_its_file(mine: Path) -> None:
    config, tensors = load_backbone(f"{mine}:tiny", "random:0").export("1.1")
    assert str(mine.parent) not in json.dumps(config)
    assert restore(json.loads(json.dumps(config)), tensors).layer == "1.1"
    with pytest.raises(ModelError, match=r"LIBRARIES\.load\('PATH/gone\.py'\), from the file gone\.py that the model"):
        restore({**config, "backbone": "gone.py:tiny"}, tensors)


def test_a_module_is_a_library_too(mine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "somebodys"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text(mine.read_text())
    monkeypatch.syspath_prepend(str(tmp_path))
    found = load_backbone("somebodys.nets:tiny", "random:0")
    assert found.weights_digest == load_backbone(f"{mine}:tiny", "random:0").weights_digest
    plugin = LIBRARIES.plugin("somebodys.nets")
    assert plugin is not None
    plugin.keep(tmp_path / "plugins")
    monkeypatch.setattr(LIBRARIES, "_loaded", {})
    with pytest.raises(SpecError):
        LIBRARIES.exactly("somebodys.nets", plugin.digest, tmp_path / "elsewhere")
    LIBRARIES.exactly("somebodys.nets", plugin.digest, tmp_path / "plugins")
    monkeypatch.delitem(sys.modules, "somebodys.nets")
    with pytest.raises(SpecError, match=r"The module 'somebodys\.nts' cannot be loaded: ModuleNotFoundError"):
        find("somebodys.nts:tiny")
    with pytest.raises(UnknownComponentError):
        find("torchvison:alexnet")


PRESET = models.ResNet18_Weights.IMAGENET1K_V1.transforms()
TRANSFORMS: dict[str, Any] = {
    "preset": PRESET,
    "first": transforms.Compose(
        [transforms.Resize((24, 32)), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.2] * 3)]
    ),
    "nested": v2.Compose(
        [
            v2.Compose([v2.Resize(40, v2.InterpolationMode.BICUBIC), v2.CenterCrop((32, 32))]),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    ),
}


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_a_transform_of_torchvision_is_taken(kind: str) -> None:
    picture = Image.effect_noise((60, 50), 60).convert("RGB").resize((300, 260))
    expected = TRANSFORMS[kind](picture)
    found = as_preprocessing(TRANSFORMS[kind], "it")(picture)
    torch.testing.assert_close(found, torch.as_tensor(expected), atol=0.06, rtol=0)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (transforms.Compose([transforms.Resize(40), transforms.RandomCrop(32)]), "Got RandomCrop."),
        (transforms.Compose([transforms.CenterCrop(32), transforms.Resize((40, 40))]), "Got Resize."),
        (transforms.Compose([transforms.ToTensor()]), "must resize the pictures. It does not."),
        (transforms.Compose([transforms.Resize(40)]), "or (side,) with a 'crop'"),
        ("imagnet", "must be one of resize224, imagenet. Got 'imagnet'."),
    ],
)
def test_a_transform_that_cannot_be_kept_is_refused(transform: Any, message: str) -> None:
    with pytest.raises(FeatureError) as caught:
        as_preprocessing(transform, "it")
    assert message in str(caught.value)


def test_a_preprocessing_by_name() -> None:
    assert as_preprocessing("imagenet", "it") == Preprocessing(resize=(256,), crop=224)
    assert as_preprocessing(Preprocessing(resize=(9, 9)), "it").size == (9, 9)
    assert isinstance(PRESET, nn.Module)


@pytest.mark.slow
def test_from_a_study_to_a_model(mine: Path, make_spec: MakeSpec, new_home: NewHome, img2brain: Launcher) -> None:
    from img2brain.registered import load_model

    home = new_home()
    chosen: Any = [{"name": f"{mine}:tiny", "weights": "random:0"}]
    outcome = run_study(make_spec(trials=2, backbones=chosen, n_components=[3], regressors=["linear"]), home)
    assert outcome.best is not None
    assert outcome.best.spec.backbone == "mine.py:tiny"
    mine.unlink()
    LIBRARIES._loaded.clear()
    assert load_model("sample", home).network["backbone"] == "mine.py:tiny"
