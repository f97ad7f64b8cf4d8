"""Features that come with the data, folds and regions on real recordings: a double dissociation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from img2brain.home import Home
from img2brain.leaderboard.compare import compare
from img2brain.leaderboard.subjects import find_subjects
from img2brain.spec import load_study
from img2brain.study.runner import run_study
from img2brain.study.search import ToldTrial

if TYPE_CHECKING:
    from tests.conftest import NewHome

STUDY = """
name = "objects"
sampler = "grid"
n_components = [20]
regressors = [{regressor}]
dataset = {{path = "{data}"{shuffle}}}
split = {{seed = 0, folds = 9, confirmation = 0.0}}

[[backbones]]
name = "given"
weights = "none"
"""


@pytest.fixture
def folder(shared: Path, tmp_path: Path) -> Path:
    """The recordings in the project's layout, with features in place of images."""
    found = np.load(shared / "data" / "fmri-81" / "fmri81.npz", allow_pickle=False)
    root = tmp_path / "fmri-81"
    for name in ("trainingfMRI", "trainingFeatures"):
        (root / name).mkdir(parents=True)
    np.save(root / "trainingfMRI" / "training.npy", found["betas"].astype(np.float32))
    for name in ("alexnet", "word2vec"):
        np.save(root / "trainingFeatures" / f"{name}.npy", found[name])
    rois = {str(name): np.flatnonzero(found["roi_index"] == i + 1).tolist() for i, name in enumerate(found["rois"])}
    (root / "rois.json").write_text(json.dumps(rois))
    return root


def by_layer(trials: list[ToldTrial]) -> dict[str, ToldTrial]:
    ranked = sorted(trials, key=lambda trial: trial.score)
    return {trial.spec.layer: trial for trial in ranked}


@dataclass(frozen=True)
class Expected:
    """Median r of a regressor by region: AlexNet and word2vec, early visual cortex and posterior fusiform."""

    regressor: str
    early: tuple[float, float]
    fusiform: tuple[float, float]


ONE_ALPHA = Expected('{name = "ridge", alpha = [0.01, 0.1, 1.0]}', (0.53, 0.17), (0.23, 0.50))
ALPHA_PER_VOXEL = Expected('{name = "ridge_cv", per_voxel = true, cv = 9}', (0.48, 0.0), (0.15, 0.47))


@pytest.mark.parametrize("expected", [ONE_ALPHA, ALPHA_PER_VOXEL], ids=["one alpha", "alpha per voxel"])
def test_each_feature_space_wins_in_its_own_region(
    folder: Path, new_home: NewHome, tmp_path: Path, expected: Expected
) -> None:
    home = new_home()
    file = tmp_path / "objects.toml"
    file.write_text(STUDY.format(data=folder, shuffle="", regressor=expected.regressor))
    outcome = run_study(load_study(file), home)
    best = by_layer(outcome.trials)
    alexnet, word2vec = (f"{outcome.name}#{best[name].number}" for name in ("alexnet", "word2vec"))
    table = compare(*find_subjects(alexnet, word2vec, Home(home))).table.set_index("region")
    early, fusiform = table.loc["EVC"], table.loc["PFS"]
    assert early["low"] > 0, "AlexNet wins in early visual cortex"
    assert fusiform["high"] < 0, "word2vec wins in the posterior fusiform"
    assert (early["A"], early["B"]) == pytest.approx(expected.early, abs=0.06)
    assert (fusiform["A"], fusiform["B"]) == pytest.approx(expected.fusiform, abs=0.06)


def test_shuffled_responses_give_nothing(folder: Path, new_home: NewHome, tmp_path: Path) -> None:
    file = tmp_path / "objects.toml"
    file.write_text(STUDY.format(data=folder, shuffle=", shuffle = 0", regressor=ONE_ALPHA.regressor))
    outcome = run_study(load_study(file), new_home())
    assert max(trial.score for trial in outcome.trials) < 0.05
