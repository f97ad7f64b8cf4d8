"""The main line on real recordings: macaque V4, natural photographs and objects on scenes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain.backbones import curated_layers
from img2brain.home import Home
from img2brain.moving import export_model
from img2brain.registered import load_model
from img2brain.spec import load_study, with_overrides
from img2brain.study.outcome import StudyOutcome
from img2brain.study.runner import run_study
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import run_array, tracked_trials
from tests.backbones.small import CONFIGS

if TYPE_CHECKING:
    from tests.conftest import NewHome

STUDY = """
name = "v4"
sampler = "grid"
n_components = [100]
regressors = [{{name = "ridge", alpha = [3e2, 3e3, 3e4, 3e5, 3e6]}}]
dataset.path = "{data}"
split = {{seed = 224, validation = 0.2}}

[[backbones]]
name = "squeezenet1_1"
weights = "{weights}"
layers = ["features.7", "features.12"]
"""


def confirmed(outcome: StudyOutcome) -> float:
    assert outcome.published is not None
    return outcome.published.score


def test_trained_networks_predict_v4_and_shuffled_responses_are_not_predicted(
    shared: Path, new_home: NewHome, tmp_path: Path
) -> None:
    home = new_home()

    def study(weights: str, shuffle: int | None = None) -> StudyOutcome:
        path = tmp_path / "v4.toml"
        path.write_text(STUDY.format(data=shared / "data" / "v4-210224", weights=weights))
        spec = load_study(path)
        if shuffle is not None:
            spec = with_overrides(spec, dataset={"path": shared / "data" / "v4-210224", "shuffle": shuffle})
        return run_study(spec, home)

    file = str(shared / "weights" / "squeezenet1_1.pth")
    trained, untrained, control = study(file), study("random:0"), study(file, shuffle=0)
    assert confirmed(trained) > 0.42
    assert confirmed(trained) - confirmed(untrained) >= 0.1
    assert abs(confirmed(control)) < 0.06
    assert control.best is not None
    assert abs(control.best.score) < 0.06
    assert control.published is not None
    assert control.published.registered.name == "v4-210224-shuffled"
    shutil.rmtree(home)


def test_a_confirmed_score_stands_beside_its_ceiling_and_its_controls(
    shared: Path, new_home: NewHome, tmp_path: Path
) -> None:
    home, path = new_home(), tmp_path / "v4.toml"
    weights = str(shared / "weights" / "squeezenet1_1.pth")
    path.write_text(STUDY.format(data=shared / "data" / "v4-210325", weights=weights))
    run_study(load_study(path), home)
    (found,) = (trial.confirmation for trial in tracked_trials(TrackingStore(Home(home))) if trial.confirmation)
    assert found.confirmed is not None
    whole = found.confirmed.whole
    assert whole.ceiling is not None
    assert found.confirmed.ceiling == "split halves"
    assert whole.ceiling.score == pytest.approx(0.87, abs=0.02)
    assert 0.3 < whole.ceiling.explained < 0.8
    assert whole.score.low <= whole.score.estimate <= whole.score.high
    assert found.confirmed.beats_its_twin
    assert whole.controls["untrained"].difference.low > 0
    assert abs(whole.controls["shuffled"].score) < 0.1
    shutil.rmtree(home)


@pytest.mark.slow
def test_two_recordings_in_one_study_have_the_numbers_that_each_has_alone(
    shared: Path, new_home: NewHome, tmp_path: Path
) -> None:
    names, homes = ("v4-210224", "v4-210325"), {}
    for label, data in {"both": names, **{name: (name,) for name in names}}.items():
        text = STUDY.format(data=shared / "data" / data[0], weights=shared / "weights" / "squeezenet1_1.pth")
        path = tmp_path / "v4.toml"
        path.write_text(text.replace("[3e2, 3e3, 3e4, 3e5, 3e6]", "[3e4, 3e9]").replace('"features.7", ', ""))
        spec = load_study(path)
        if len(data) > 1:
            spec = with_overrides(spec, dataset=None, datasets=[{"path": shared / "data" / name} for name in data])
        homes[label] = Home(new_home(label))
        assert run_study(spec, homes[label]).published is not None
    together = TrackingStore(homes["both"])
    of_both = {(item.record.member, item.record.number): item for item in tracked_trials(together)}
    assert len(of_both) == 4
    n_confirmed = 0
    for name in names:
        alone = TrackingStore(homes[name])
        for trial in tracked_trials(alone):
            other = of_both[name, trial.record.number]
            assert trial.record.metrics == other.record.metrics
            assert trial.record.rows == other.record.rows
            one, two = (run_array(store, item.run_id, "accuracy.npy") for store, item in
                        ((alone, trial), (together, other)))  # fmt: skip
            assert one is not None
            assert two is not None
            assert one.tobytes() == two.tobytes()
            if trial.confirmation and other.confirmation:
                n_confirmed += 1
                own = {"study": trial.confirmation.study}
                assert other.confirmation.model_copy(update=own) == trial.confirmation
    assert n_confirmed == 2, "the same trial is the best of each and of both"
    for home in homes.values():
        shutil.rmtree(home.folder)


OWN = """
from torch import nn


def tiny():
    return nn.Sequential(nn.Conv2d(3, 16, 8, stride=8), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU())
"""
ZOO = """
name = "zoo"
sampler = "grid"
n_components = [100]
pooling = ["none", "mean"]
regressors = [{{name = "ridge", alpha = [3e3, 3e5]}}]
dataset.path = "{data}"
split = {{seed = 224, validation = 0.2}}
backbones = [
    {{name = "squeezenet1_1", weights = "{weights}", layers = ["features.12"]}},
    {{name = "timm:test_vit2", weights = "random:0", layers = ["blocks.3"]}},
    {{name = "transformers:dinov2", weights = "DEFAULT", layers = ["encoder.layer.1"]}},
    {{name = "transformers:clip", weights = "DEFAULT", layers = ["{clip_layer}"]}},
    {{name = "open_clip:ViT-S-32-alt", weights = "random:0", layers = ["visual.transformer.resblocks.5"]}},
    {{name = "own.py:tiny", weights = "random:0", layers = ["3"]}},
]
"""


@pytest.mark.slow
def test_networks_of_all_libraries_are_searched_in_one_study_and_the_trained_one_wins(
    shared: Path, new_home: NewHome, tmp_path: Path
) -> None:
    transformers: Any = pytest.importorskip("transformers")
    pytest.importorskip("timm")
    pytest.importorskip("open_clip")
    for kind in ("dinov2", "clip"):
        config = transformers.AutoConfig.for_model(kind, **CONFIGS[kind])
        transformers.AutoModel.from_config(config).save_pretrained(tmp_path / kind)
    (tmp_path / "own.py").write_text(OWN)
    path, data = tmp_path / "zoo.toml", shared / "data" / "v4-210325"
    weights = shared / "weights" / "squeezenet1_1.pth"
    clip_layer = curated_layers(f"transformers:{tmp_path / 'clip'}")[-2]
    text = ZOO.format(data=data, weights=weights, clip_layer=clip_layer)
    path.write_text(text.replace("transformers:", f"transformers:{tmp_path}/"))
    home = Home(new_home())
    outcome = run_study(load_study(path), home)
    assert outcome.published is not None
    assert outcome.best is not None
    assert {trial.spec.backbone.rpartition(":")[2] for trial in outcome.trials if trial.succeeded} >= {
        "squeezenet1_1", "test_vit2", "dinov2", "clip", "ViT-S-32-alt", "tiny",
    }  # fmt: skip
    assert not [trial.failure for trial in outcome.trials if trial.failure]
    assert outcome.best.spec.backbone == "squeezenet1_1"
    assert confirmed(outcome) > 0.4
    item = outcome.published.registered
    file = export_model(f"{item.name}/{item.version}", tmp_path / "best.img2brain.zip", home)
    predicted = run_array(TrackingStore(home), item.run_id, "confirmation/predictions.npy")
    assert predicted is not None
    again = load_model(str(file)).predict(data / "testIMG")
    np.testing.assert_allclose(again, predicted, rtol=1e-4, atol=1e-4 * float(np.std(again)))
