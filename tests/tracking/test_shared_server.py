"""Two people with one study file on one tracking server: two studies, and nobody's runs are touched."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain.curation import model_history
from img2brain.home import Home
from img2brain.leaderboard.collect import collect
from img2brain.moving import export_model, import_model
from img2brain.registered import load_model
from img2brain.spec import StudySpec, parse
from img2brain.study.runner import run_study
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import search
from tests.mlflow_server import running

if TYPE_CHECKING:
    from tests.conftest import Launcher

N_TRIALS = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server, which hands artifacts on by itself."""
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server.url


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of given features: no network has to run."""
    root, random = tmp_path_factory.mktemp("data") / "theirs", np.random.default_rng(0)
    for part, n in (("training", 60), ("test", 20)):
        features = random.standard_normal((n, 5))
        for name in (f"{part}Features", f"{part}fMRI"):
            (root / name).mkdir(parents=True)
        np.save(root / f"{part}Features" / "f.npy", features)
        np.save(root / f"{part}fMRI" / f"{part}.npy", features[:, :4] + random.standard_normal((n, 4)))
    return root


def study(folder: Path, **changes: Any) -> StudySpec:
    table = {
        "name": "shared", "trials": N_TRIALS, "n_components": [2, 5], "regressors": ["ridge"],
        "dataset": {"path": str(folder)}, "backbones": [{"name": "given", "weights": "none"}],
    }  # fmt: skip
    return parse(StudySpec, table | changes, "the test's study")


@pytest.mark.slow
def test_two_homes_have_two_studies_and_delete_nothing(server: str, folder: Path, tmp_path: Path) -> None:
    first, second = (Home(tmp_path / name, tracking_uri=server) for name in "ab")
    one, other = run_study(study(folder), first), run_study(study(folder), second)
    assert one.name == other.name
    run_study(study(folder, trials=N_TRIALS + 1), first)
    store = TrackingStore(first)
    ids = [item.experiment_id for item in store.client.search_experiments()]
    from mlflow.entities import ViewType

    assert store.client.search_runs(ids, run_view_type=ViewType.DELETED_ONLY) == []
    parents = list(search(store, ids, "tags.`img2brain.kind` = 'study'"))
    assert {run.data.tags["img2brain.home"] for run in parents} == {first.id, second.id}
    rows = collect(second)
    by_home = [sum(row.trial.home == home.id for row in rows) for home in (first, second)]
    assert by_home == [N_TRIALS + 1, N_TRIALS], "both are on the board"
    assert {row.registered for row in rows if row.registered} >= {"theirs v1", "theirs v2"}
    features = np.random.default_rng(1).standard_normal((3, 5))
    np.testing.assert_array_equal(
        load_model("theirs/1", first).predict(features), load_model("theirs/1", second).predict(features)
    )


@pytest.mark.slow
def test_models_move_between_a_server_and_homes(server: str, folder: Path, tmp_path: Path) -> None:
    there, here = Home(tmp_path / "there", tracking_uri=server), Home(tmp_path / "here")
    published = run_study(study(folder, name="moved", trials=1), there).published
    assert published is not None
    reference = f"theirs/{published.registered.version}"
    file = export_model(reference, tmp_path / "a.img2brain.zip", there)
    features = np.random.default_rng(1).standard_normal((3, 5))
    expected = load_model(reference, there).predict(features)
    assert import_model(file, here).is_champion
    np.testing.assert_array_equal(load_model("theirs", here).predict(features), expected)
    back = import_model(file, there)
    assert (back.registered.version, back.is_new) == (published.registered.version, False)
    local = run_study(study(folder, name="local", trials=1, seed=5), Home(tmp_path / "other")).published
    assert local is not None
    file = export_model("theirs", tmp_path / "b.img2brain.zip", tmp_path / "other")
    sent = import_model(file, there)
    assert sent.is_new
    np.testing.assert_array_equal(
        load_model(f"theirs/{sent.registered.version}", there).predict(features),
        load_model("theirs", tmp_path / "other").predict(features),
    )
    assert f"theirs v{sent.registered.version}" in {row.registered for row in collect(there)}
    assert len(model_history("theirs", there).versions) >= 2


@pytest.mark.slow
def test_a_dead_process_of_one_home_leaves_the_other_alone(
    server: str, folder: Path, tmp_path: Path, img2brain: Launcher
) -> None:
    file = tmp_path / "study.toml"
    file.write_text(
        f'name = "killed"\ntrials = 40\nn_components = [2, 5]\nregressors = ["ridge"]\n'
        f'dataset = {{path = "{folder}"}}\nbackbones = [{{name = "given", weights = "none"}}]\n'
    )
    command = ("study", "run", file, "--tracking-uri", server)
    process = img2brain.start(*command, "--home", tmp_path / "a")
    log = tmp_path / "a" / "optuna.log"
    end = time.monotonic() + 300
    while not (log.exists() and log.read_bytes().count(b'"state":1') >= 3):
        assert time.monotonic() < end, process.stderr
        time.sleep(0.05)
    process.send(signal.SIGKILL)
    process.wait()
    other = img2brain.run(*command, "--home", tmp_path / "b", "--trials", 4)
    assert other.code == 0, other.stderr
    again = img2brain.run(*command, "--home", tmp_path / "a", "--trials", 6)
    assert again.code == 0, again.stderr
    mine = Home(tmp_path / "a", tracking_uri=server)
    numbers = {
        home.id: sorted(row.trial.number for row in collect(mine) if row.trial.home == home.id)
        for home in (mine, Home(tmp_path / "b", tracking_uri=server))
    }
    assert numbers[mine.id] == list(range(len(numbers[mine.id])))
    assert len(numbers[mine.id]) >= 6
    assert [found for home, found in numbers.items() if home != mine.id] == [[0, 1, 2, 3]]
