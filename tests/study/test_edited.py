"""Data, weights and plug-ins that are edited under a study: results of two different ones are never mixed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from img2brain import run_study
from img2brain.backbones import load_backbone
from img2brain.catalog import Catalog
from img2brain.datasets import open_dataset
from img2brain.errors import ResourceError
from img2brain.features.given import GivenFeatures
from img2brain.features.network import NetworkFeatures
from img2brain.features.pass_ import Pass
from img2brain.home import Home
from img2brain.spec import BackboneSpec, StudySpec, parse
from img2brain.store import Store
from img2brain.study.member_run import MemberRun
from img2brain.study.search import stored_trials
from tests.study.test_checked_data import X, Y, make

NewHome = Callable[..., Path]
Edit = Callable[[], object]

MUST_STAY = r"must stay as they are while they are read\. .*{} was changed or removed meanwhile"


def study(root: Path) -> StudySpec:
    """Ask for three trials on two matrices of features."""
    table = {
        "name": "edited", "trials": 3, "n_components": [2, 4], "regressors": ["linear"], "sampler": "grid",
        "dataset": {"path": str(root)}, "backbones": [{"name": "given", "weights": "none"}],
    }  # fmt: skip
    return parse(StudySpec, table, "the test's study")


def two_matrices(root: Path) -> Path:
    make(root)
    for part in ("training", "test"):
        np.save(root / f"{part}Features" / "g.npy", 2 * np.load(root / f"{part}Features" / "f.npy")[:, ::-1])
    return root


def before_trial(number: int, edit: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Edit something just before the evaluation of a trial."""
    evaluate = MemberRun.evaluate
    seen: list[Any] = []

    def evaluate_later(run: MemberRun, suggestion: Any) -> Any:
        if len(seen) == number:
            edit()
        seen.append(suggestion)
        return evaluate(run, suggestion)

    monkeypatch.setattr(MemberRun, "evaluate", evaluate_later)


@pytest.mark.parametrize("how", ["in place", pytest.param("another file", marks=pytest.mark.slow)])
def test_no_trial_is_told_of_responses_that_changed(
    tmp_path: Path, new_home: NewHome, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    root, home = two_matrices(tmp_path / "data"), new_home()
    file = root / "trainingfMRI" / "training.npy"
    edited = np.roll(Y[:40], 1, axis=0)

    def edit() -> None:
        np.save(tmp_path / "new.npy", edited)
        (file.write_bytes((tmp_path / "new.npy").read_bytes()) if how == "in place" else
         shutil.move(tmp_path / "new.npy", file))  # fmt: skip

    before_trial(2, edit, monkeypatch)  # the first on the other matrix: the others share moments
    with pytest.raises(ResourceError, match=MUST_STAY.format("training.npy'")):
        run_study(study(root), home)
    assert [len(trials) for trials in stored_trials(Home(home)).values()] == [2]
    monkeypatch.undo()
    outcome = run_study(study(root), home)
    assert len(outcome.trials) == 3
    assert sorted(len(trials) for trials in stored_trials(Home(home)).values()) == [2, 3], "two studies"


def test_nothing_is_kept_of_given_features_that_changed(tmp_path: Path) -> None:
    root, store = two_matrices(tmp_path / "data"), Store(tmp_path / "cache")
    dataset = open_dataset(root)
    features = GivenFeatures(
        BackboneSpec(name="given", weights="none"), dataset.features, store, np.arange(30), 4,
        require_unchanged=dataset.require_unchanged,
    )  # fmt: skip
    assert features.facts["label"] == "none"
    np.save(root / "trainingFeatures" / "g.npy", X[:40] ** 2)
    with pytest.raises(ResourceError, match=MUST_STAY.format("g.npy'")):
        features.extract()
    assert not list((tmp_path / "cache").rglob("*.npy")), "nothing is in the cache"


def test_nothing_is_kept_of_pictures_that_changed(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    shutil.copytree(recordings, root)
    dataset = open_dataset(root)
    spec = BackboneSpec(name="pixels", weights="random:0", layers=("grid",))
    features = NetworkFeatures(
        spec, dataset.images, dataset.image_digests, Store(tmp_path / "cache"), np.arange(40), 4,
        require_unchanged=dataset.require_unchanged,
    )  # fmt: skip
    recorded = Pass.recorded

    def recorded_later(*args: Any) -> Any:
        Image.new("RGB", (64, 64)).save(dataset.images[3])
        return recorded(*args)

    monkeypatch.setattr(Pass, "recorded", recorded_later)
    with pytest.raises(ResourceError, match=MUST_STAY.format(f"{dataset.images[3].name}'")):
        features.extract()
    assert features.lacking(), "nothing is in the cache"


@pytest.mark.slow
def test_weights_that_changed_are_not_taken_for_those_that_were_looked_at(recordings: Path, tmp_path: Path) -> None:
    weights, dataset = tmp_path / "mine.pth", open_dataset(recordings)

    def write(seed: int) -> None:
        torch.save(load_backbone("squeezenet1_1", f"random:{seed}").network.state_dict(), weights)

    write(1)
    spec = BackboneSpec(name="squeezenet1_1", weights=str(weights), layers=("features.2",))
    given = spec, dataset.images, dataset.image_digests, Store(tmp_path / "cache"), np.arange(40), 4
    assert NetworkFeatures(*given).facts["label"] == "mine.pth"
    features = NetworkFeatures(*given)
    assert features.facts["label"] == "mine.pth"
    write(2)
    with pytest.raises(ResourceError, match=MUST_STAY.format("mine.pth'")):
        features.extract()


def test_a_plugin_is_kept_as_it_was_run(tmp_path: Path) -> None:
    catalog = Catalog("regressor", "regressors", "img2brain.regressors.base:Regressor")
    file = tmp_path / "mine.py"
    file.write_text("from img2brain.regressors.ridge import Ridge\nclass Mine(Ridge):\n    n = 1\n")
    name = catalog.load(f"{file}:Mine")
    plugin = catalog.plugin(name)
    assert plugin is not None
    file.write_text("class Mine: pass\n")
    plugin.keep(tmp_path / "kept")
    again = Catalog("regressor", "regressors", "img2brain.regressors.base:Regressor")
    assert again.exactly("mine.py:Mine", plugin.digest, tmp_path / "kept").n == 1
