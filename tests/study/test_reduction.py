"""Reductions in a study: all components and sparse random projections beside the leading components."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.random_projection import johnson_lindenstrauss_min_dim

from img2brain.datasets._sample import write_sample
from img2brain.errors import SpecError
from img2brain.home import Home
from img2brain.leaderboard import collect, table
from img2brain.registered import load_model
from img2brain.spec import load_study, with_overrides
from img2brain.study.runner import run_study
from img2brain.study.setting import make_ready

if TYPE_CHECKING:
    from tests.conftest import MakeSpec

STUDY = """
name = "reduced"
sampler = "grid"
n_components = [4, "all", "auto"]
reduction = ["pca", "srp"]
regressors = [{ name = "ridge", alpha = 3.0 }]
[dataset]
path = "rows"
[split]
confirmation = 0.2
[[backbones]]
name = "given"
weights = "none"
"""


@dataclass(frozen=True)
class Ran:
    home: Home
    file: Path
    outcome: Any
    features: Any
    responses: Any


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder, chance = tmp_path_factory.mktemp("reduced"), np.random.default_rng(14)
    features, weights = chance.standard_normal((60, 90)).astype(np.float32), chance.standard_normal((90, 4))
    arrays: dict[str, Any] = {"trainingFeatures/f.npy": features}
    arrays["trainingfMRI/training.npy"] = features @ weights + chance.normal(size=(60, 4))
    for name, array in arrays.items():
        (folder / "rows" / name).parent.mkdir(parents=True)
        np.save(folder / "rows" / name, array)
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    home = Home(folder / "home")
    outcome = run_study(load_study(folder / "study.toml"), home)
    return Ran(home, folder / "study.toml", outcome, features, arrays["trainingfMRI/training.npy"])


def test_a_grid_has_each_size_that_a_reduction_can_have(ran: Ran) -> None:
    found = [(trial.spec.reduction, trial.spec.n_components) for trial in ran.outcome.trials]
    assert found[:3] == [("pca", 4), ("all", 37), ("srp", 4)]
    assert found[3] == ("srp", johnson_lindenstrauss_min_dim(48, eps=0.1))
    assert not any(trial.failure for trial in ran.outcome.trials)


def test_all_components_predict_as_ridge_on_all_features(ran: Ran) -> None:
    setting = make_ready(load_study(ran.file), ran.home)
    (spec,) = (trial.spec for trial in ran.outcome.trials if trial.spec.reduction == "all")
    split, evaluator = setting.first.split, setting.first.evaluator()
    theirs = Ridge(alpha=3.0).fit(ran.features[split.train].astype(np.float64), ran.responses[split.train])
    _, found = evaluator.predict(spec)
    np.testing.assert_allclose(
        found[:, :], theirs.predict(ran.features[split.validation].astype(np.float64)), atol=1e-6
    )


def test_the_board_tells_reductions_apart(ran: Ran) -> None:
    board = table.ranked(collect.collect(ran.home))
    assert sorted(board["reduction"]) == ["all", "pca", "srp", "srp"]
    assert "reduction" in table.as_text(board).splitlines()[0]


def test_a_second_run_finds_everything_done(ran: Ran) -> None:
    again = run_study(load_study(ran.file), ran.home)
    assert (again.name, len(again.trials)) == (ran.outcome.name, 4)


def test_a_model_of_all_components_is_ridge_on_all_features(ran: Ran) -> None:
    alone = {"n_components": ["all"], "reduction": ["pca"], "name": "alone"}
    spec = with_overrides(load_study(ran.file), **alone)
    published = run_study(spec, ran.home).published
    assert published is not None
    setting, model = make_ready(spec, ran.home), load_model(f"rows/{published.registered.version}", ran.home)
    rows = setting.first.split.development
    theirs = Ridge(alpha=3.0).fit(ran.features[rows].astype(np.float64), ran.responses[rows])
    found = model.predict(ran.features)
    np.testing.assert_allclose(found[:, :], theirs.predict(ran.features.astype(np.float64)), rtol=1e-4, atol=1e-4)
    assert model.axes.axes.shape == (90, len(rows) - 1)


NETWORK = """
from torch import nn


def wide():
    return nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.Flatten())
"""


def test_all_components_of_images_are_published(tmp_path: Path) -> None:
    """The model is fitted to more rows than its trial was, and has more components than the trial."""
    write_sample(tmp_path / "rows", n_images=40, n_voxels=3, size=32)
    (tmp_path / "mine.py").write_text(NETWORK, encoding="utf-8")
    text = STUDY.replace('"given"', '"mine.py:wide"').replace('"none"', '"random:0"')
    text = text.replace('[4, "all", "auto"]', '["all"]').replace('["pca", "srp"]', '["pca"]')
    (tmp_path / "study.toml").write_text(text.replace("[split]\nconfirmation = 0.2\n", ""), encoding="utf-8")
    home = Home(tmp_path / "home")
    outcome = run_study(load_study(tmp_path / "study.toml"), home)
    assert outcome.best is not None
    assert outcome.best.spec.n_components == 28
    assert outcome.published is not None
    model = load_model("rows@champion", home)
    assert model.coordinates(sorted((tmp_path / "rows" / "testIMG").iterdir())[:2]).shape == (2, 35)
    assert model.coordinates([]).shape == (0, 35)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_components": ["all"], "reduction": ["pca", "srp"]}, "the reduction 'srp' needs numbers in 'n_components'"),
        ({"n_components": ["auto"]}, "the reduction 'pca' needs numbers in 'n_components', or 'all'"),
        ({"n_components": [3, "auto"]}, "'auto' in 'n_components' is of the reduction 'srp', which is not asked for"),
        ({"n_components": ["some"]}, r"'n_components\[0\]' must be a whole number"),
        ({"reduction": ["ica"]}, r"'reduction\[0\]' must be 'pca' or 'srp'"),
    ],
)
def test_what_cannot_be_is_refused_on_one_line(changes: Any, message: str, make_spec: MakeSpec) -> None:
    with pytest.raises(SpecError, match=message) as told:
        make_spec(**changes)
    assert "\n" not in str(told.value)
