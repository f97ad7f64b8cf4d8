"""Poolings in a study: searched, recorded, on the board, and in the model that is published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import torch

from img2brain.backbones import load_backbone
from img2brain.errors import FeatureError
from img2brain.home import Home
from img2brain.leaderboard import collect, table
from img2brain.model import EncodingModel
from img2brain.onnx_file import write_onnx
from img2brain.registered import load_model
from img2brain.study.runner import run_study
from img2brain.study.setting import make_ready

if TYPE_CHECKING:
    from tests.conftest import MakeSpec

POOLINGS = ["mean", "grid:2", "cls"]
NETWORK = {"name": "squeezenet1_1", "weights": "random:0", "layers": ["features.5", "features.12"]}
CHANGES: dict[str, Any] = {
    "sampler": "grid", "trials": 4, "pooling": POOLINGS, "backbones": [NETWORK], "n_components": [3],
    "regressors": [{"name": "ridge", "alpha": 10.0}],
}  # fmt: skip


@dataclass(frozen=True)
class Ran:
    home: Home
    outcome: Any
    model: EncodingModel


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, make_spec: MakeSpec) -> Ran:
    home = Home(tmp_path_factory.mktemp("pooled"))
    outcome = run_study(make_spec(**CHANGES), home)
    return Ran(home, outcome, load_model("sample/1", home))


def test_a_grid_has_each_pooling_that_a_layer_can_have(ran: Ran) -> None:
    found = [(trial.spec.layer, trial.spec.pooling) for trial in ran.outcome.trials]
    assert found == [(layer, name) for layer in NETWORK["layers"] for name in POOLINGS[:2]]
    assert not any(trial.failure for trial in ran.outcome.trials)
    assert len({trial.score for trial in ran.outcome.trials}) == 4


def test_the_board_tells_them_apart(ran: Ran) -> None:
    board = table.ranked(collect.collect(ran.home))
    assert sorted(board["pooling"]) == sorted(POOLINGS[:2] * 2)
    assert "pooling" in table.as_text(board).splitlines()[0]


def test_the_model_pools_as_the_trial_did(ran: Ran, recordings: Path, tmp_path: Path) -> None:
    spec = ran.outcome.best.spec
    assert spec.pooling != "none", "the test is of a pooled champion"
    images = sorted((recordings / "trainingIMG").iterdir())[:3]
    backbone = load_backbone(spec.backbone, "random:0")
    given: list[torch.Tensor] = []
    backbone.network.get_submodule(spec.layer).register_forward_hook(lambda *found: given.append(found[2]))
    prepared = torch.stack([backbone.preprocessing(open_(path)) for path in images])
    with torch.inference_mode():
        backbone.network(prepared)
        cells = torch.nn.functional.adaptive_avg_pool2d(given[0], 1 if spec.pooling == "mean" else 2)
    features = cells.permute(0, 2, 3, 1).flatten(1).numpy()
    expected = ran.model.regressor.predict(features @ ran.model.axes.axes - ran.model.axes.shift)
    np.testing.assert_allclose(ran.model.predict(images), expected, rtol=1e-4, atol=1e-4)
    assert ran.model.metadata["network"]["pooling"] == spec.pooling


def test_the_onnx_file_pools_too(ran: Ran, recordings: Path, tmp_path: Path) -> None:
    write_onnx(ran.model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [item.name for item in session.get_inputs()] == ["pixels"]


def test_a_second_run_finds_everything_done(ran: Ran, make_spec: MakeSpec) -> None:
    again = run_study(make_spec(**CHANGES), ran.home)
    assert [trial.score for trial in again.trials] == [trial.score for trial in ran.outcome.trials]
    assert again.name == ran.outcome.name


def test_one_that_a_layer_cannot_have_is_refused_before_any_work(make_spec: MakeSpec, tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match=r"poolings cls, tokens\. 'features.5' of squeezenet1_1, a map, has none"):
        make_ready(make_spec(**CHANGES | {"pooling": ["cls", "tokens"]}), Home(tmp_path))
    network = {"name": "squeezenet1_1", "weights": "random:0", "pooling": ["cls"]}
    with pytest.raises(FeatureError, match="has none"):
        make_ready(make_spec(**CHANGES | {"backbones": [network]}), Home(tmp_path))


def open_(path: Path) -> Any:
    from PIL import Image

    return Image.open(path)
