from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from img2brain.errors import StoreError
from img2brain.home import Home
from img2brain.registered import load_model
from img2brain.spec import load_study, with_overrides
from img2brain.study.runner import run_study
from img2brain.tracking import _relocation
from img2brain.tracking._database import connected
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.upkeep import problems, relocate

if TYPE_CHECKING:
    from tests.conftest import NewHome, OldHome

FEATURES = np.random.default_rng(3).standard_normal((2, 5))


@pytest.fixture
def original(new_home: NewHome, given_study: Path) -> Path:
    """A home with a finished study of three trials."""
    home = new_home("original")
    run_study(load_study(given_study), home)
    return home


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """All files of a home but locks and what SQLite keeps beside its database, with size and time."""
    passing = (".lock", ".db-shm", ".db-wal")
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in passing)
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def paths(home: Path) -> list[str]:
    with connected(home / "mlflow.db") as connection:
        queries = (f"SELECT {column} FROM {table}" for table, column in _relocation._COLUMNS)
        return [path for query in queries for (path,) in connection.execute(query) if path]


def test_a_study_goes_on_in_a_copy_and_leaves_the_original_alone(
    original: Path, given_study: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    before = state(original)
    expected = load_model("rows", original).predict(FEATURES)
    outcome = run_study(with_overrides(load_study(given_study), trials=6), copy)
    assert len(outcome.trials) == 6
    assert state(original) == before
    assert problems(Home(copy)) == []
    told = [line for line in caplog.messages if "moved or copied" in line]
    assert len(told) == 1
    assert told[0].startswith(f"the home was moved or copied from {original}: ")
    original.rename(tmp_path / "elsewhere")
    np.testing.assert_array_equal(load_model("rows/1", copy).predict(FEATURES), expected)
    assert len(run_study(with_overrides(load_study(given_study), trials=7), copy).trials) == 7
    assert not original.exists()
    assert problems(Home(copy)) == []


def test_a_whole_study_at_any_path(given_study: Path, tmp_path: Path) -> None:
    home = tmp_path / "100% ä 日本 #1? a;b&c=d %41"
    outcome = run_study(load_study(given_study), home)
    assert [trial.failure for trial in outcome.trials] == ["", "", ""]
    assert load_model("rows@champion", home).predict(FEATURES).shape == (2, 4)
    assert problems(Home(home)) == []
    assert list(tmp_path.iterdir()) == [home], "nothing is made beside it"


def test_a_moved_home_is_found_by_plain_mlflow_too(original: Path, tmp_path: Path) -> None:
    import mlflow

    expected = load_model("rows", original).predict(FEATURES)
    moved = tmp_path / "100% ä #1?"
    original.rename(moved)
    store = TrackingStore(Home(moved))
    assert not [path for path in paths(moved) if "original" in path]
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store.uri)
    try:
        found = mlflow.pyfunc.load_model("models:/rows@champion").predict(FEATURES)
    finally:
        mlflow.set_tracking_uri(before)
    np.testing.assert_array_equal(found, expected)


def test_a_home_whose_artifacts_did_not_come_with_it_is_refused_until_they_do(original: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(original, copy, ignore=shutil.ignore_patterns("artifacts"))
    before = paths(copy)
    for _ in range(2):
        with pytest.raises(StoreError, match=rf"moved or copied from {original}, and 5 of .* home relocate --home"):
            TrackingStore(Home(copy))
    assert paths(copy) == before
    shutil.copytree(original / "artifacts", copy / "artifacts")
    TrackingStore(Home(copy))
    assert problems(Home(copy)) == []


def test_a_person_can_go_on_without_what_is_lost(original: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    original.rename(moved)
    lost = sorted((moved / "artifacts").glob("*/artifacts/accuracy.npy"))[0].parent
    shutil.rmtree(lost)
    with pytest.raises(StoreError, match="and 1 of its folders of artifacts did not come with it"):
        TrackingStore(Home(moved))
    done = relocate(Home(moved))
    assert done.missing == (lost.as_uri(),)
    assert done.n_paths == len([path for path in paths(moved) if str(moved) in path])
    TrackingStore(Home(moved))
    assert [found.problem for found in problems(Home(moved))] == [
        f"The run {lost.parent.name} must have the file {lost / name}. It is not there."
        for name in ("accuracy.npy", "record.json")
    ]


def test_paths_are_changed_all_or_none(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tmp_path / "moved"
    original.rename(moved)
    before = paths(moved)
    whole = _relocation._change

    def cut_off(connection: object, table: str, *args: object) -> int:
        if table == "logged_models":
            raise KeyboardInterrupt
        return whole(connection, table, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(_relocation, "_change", cut_off)
        with pytest.raises(KeyboardInterrupt):
            TrackingStore(Home(moved))
    assert paths(moved) == before
    TrackingStore(Home(moved))
    assert not [path for path in paths(moved) if path.startswith(original.as_uri())]


def test_places_of_others_are_left_alone(original: Path, tmp_path: Path) -> None:
    theirs = ["/their/mlruns/1", "s3://their/artifacts", f"{(tmp_path / 'original-2' / 'artifacts').as_uri()}/3"]
    client = TrackingStore(Home(original)).client
    for number, place in enumerate(theirs):
        client.create_experiment(f"theirs {number}", artifact_location=place)
    original.rename(tmp_path / "moved")
    TrackingStore(Home(tmp_path / "moved"))
    assert set(theirs) <= set(paths(tmp_path / "moved"))


def test_a_home_of_the_first_format_is_recognised_where_it_was_moved(old_home: OldHome) -> None:
    assert len(problems(Home(old_home.home))) == 10
    TrackingStore(Home(old_home.home))
    assert problems(Home(old_home.home)) == []
    assert Home(old_home.home).format == 1
