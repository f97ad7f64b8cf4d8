"""Several layers as one space: each of equal share, from the search to the published model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.decomposition import PCA as SKLEARN_PCA
from sklearn.random_projection import SparseRandomProjection

from img2brain.errors import SpecError
from img2brain.home import Home
from img2brain.registered import load_model
from img2brain.spec import FeatureSpace, load_study
from img2brain.study.runner import run_study
from img2brain.study.setting import make_ready

if TYPE_CHECKING:
    from tests.conftest import MakeSpec

STUDY = """
name = "together"
sampler = "grid"
n_components = [4, "all"]
reduction = ["pca", "srp"]
regressors = [{ name = "ridge", alpha = 3.0 }]
[dataset]
path = "rows"
[split]
confirmation = 0.2
[[backbones]]
name = "given"
weights = "none"
layers = [["f", "g"]]
"""


@dataclass(frozen=True)
class Ran:
    home: Home
    file: Path
    outcome: Any
    blocks: tuple[Any, Any]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder, chance = tmp_path_factory.mktemp("together"), np.random.default_rng(14)
    blocks = chance.standard_normal((60, 9)).astype(np.float32), 40 * chance.standard_normal((60, 80), np.float32)
    responses = blocks[0] @ chance.standard_normal((9, 4)) + chance.normal(size=(60, 4))
    named = {"trainingFeatures/f.npy": blocks[0], "trainingFeatures/g.npy": blocks[1]}
    for name, array in (named | {"trainingfMRI/training.npy": responses}).items():
        (folder / "rows" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / "rows" / name, array)
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    home = Home(folder / "home")
    return Ran(home, folder / "study.toml", run_study(load_study(folder / "study.toml"), home), blocks)


def shared(blocks: tuple[Any, Any], rows: Any) -> Any:
    """Put the blocks side by side, each divided by the root of its total variance over some rows."""
    return np.concatenate([block / np.sqrt(block[rows].var(axis=0, dtype=np.float64).sum()) for block in blocks], 1)


def test_the_components_are_those_of_blocks_of_equal_share(ran: Ran) -> None:
    setting = make_ready(load_study(ran.file), ran.home)
    (bank,), rows = setting.first.banks.values(), np.arange(0, 40, 2)
    features = shared(ran.blocks, rows)
    theirs = SKLEARN_PCA(4, svd_solver="full").fit(features[rows])
    found = bank.components(FeatureSpace("f+g"), rows, 4).coordinates
    expected = theirs.transform(features)
    np.testing.assert_allclose(found, expected * np.sign((found * expected).sum(axis=0)), atol=1e-4)
    every = bank.components(FeatureSpace("f+g", basis="all"), rows, 4).coordinates
    assert every.shape == (60, len(rows) - 1)
    np.testing.assert_allclose(np.abs(every[:, :4]), np.abs(expected), atol=1e-4)
    projected = bank.components(FeatureSpace("f+g", basis="srp:4"), rows, 4).coordinates
    projection = SparseRandomProjection(4, random_state=0).fit(features[rows])
    np.testing.assert_allclose(projected, projection.transform(features), atol=1e-4)


def test_the_published_model_computes_them(ran: Ran) -> None:
    model = load_model("rows/1", ran.home)
    assert model.spec.layer == "f+g"
    assert not any(trial.failure for trial in ran.outcome.trials)
    setting = make_ready(load_study(ran.file), ran.home)
    (bank,) = setting.first.banks.values()
    rows = setting.first.split.development
    kept = model.spec.leading(bank.components(model.spec.space, rows, 4)).coordinates
    np.testing.assert_allclose(model.coordinates(np.concatenate(ran.blocks, axis=1)), kept, atol=1e-3)


def test_layers_of_a_network_are_passed_once_and_joined(make_spec: MakeSpec, tmp_path: Path, recordings: Path) -> None:
    network = {"name": "squeezenet1_1", "weights": "random:0", "layers": [["features.5", "features.12"]]}
    network["pooling"] = ["mean"]
    home = Home(tmp_path)
    outcome = run_study(make_spec(backbones=[network], trials=1, n_components=[3]), home)
    assert outcome.best is not None
    assert (outcome.best.spec.layer, outcome.best.spec.pooling) == ("features.5+features.12", "mean")
    model = load_model("sample/1", home)
    assert model.axes.axes.shape == (128 + 512, 3)
    assert model.predict(sorted((recordings / "trainingIMG").iterdir())[:2]).shape[0] == 2


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([["features.5"]], "must hold at least 2"),
        ([["features.5", "features.5"]], "'features.5' is listed twice"),
        (["features.5+features.12", ["features.5", "features.12"]], "'features.5[+]features.12' is listed twice"),
        ([3], "must be a list"),
    ],
)
def test_what_is_no_space_is_refused(layers: Any, message: str, make_spec: MakeSpec) -> None:
    with pytest.raises(SpecError, match=message):
        make_spec(backbones=[{"name": "squeezenet1_1", "weights": "random:0", "layers": layers}])
