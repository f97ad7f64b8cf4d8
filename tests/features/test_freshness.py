"""Networks that were never trained give themselves away, whatever their file is called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from img2brain.backbones import load_backbone
from img2brain.features.freshness import freshness
from img2brain.features.network import UNTRAINED_BY_ITS_ACTIVATIONS
from img2brain.home import Home
from img2brain.study.setting import make_ready

if TYPE_CHECKING:
    from tests.conftest import MakeSpec, NewHome


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("squeezenet1_1", 11),
        *(
            pytest.param(name, seed, marks=pytest.mark.slow)
            for name, seed in [("squeezenet1_1", 12), ("resnet18", 11), ("resnet18", 12), ("alexnet", 11)]
        ),
    ],
)
def test_random_weights_are_fresh(name: str, seed: int) -> None:
    assert freshness(load_backbone(name, f"random:{seed}")).is_fresh


def test_a_trained_network_is_not(shared: Path) -> None:
    found = freshness(load_backbone("squeezenet1_1", str(shared / "weights" / "squeezenet1_1.pth")))
    assert not found.is_fresh


def test_an_untrained_checkpoint_is_flagged_before_the_study_starts(
    tmp_path: Path, make_spec: MakeSpec, new_home: NewHome, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "trained_for_weeks.pth"
    torch.save(load_backbone("squeezenet1_1", "random:77").network.state_dict(), path)
    backbones: Any = [{"name": "squeezenet1_1", "weights": str(path), "layers": ["features.2"]}]
    setting = make_ready(make_spec(backbones=backbones), Home(new_home()))
    (bank,) = setting.first.banks.values()
    assert bank.facts["trained"] == UNTRAINED_BY_ITS_ACTIVATIONS
    assert "are not trained" in caplog.text
