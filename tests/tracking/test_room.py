"""What takes the room of a home, and that freeing it loses nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain.datasets._images import find_images
from img2brain.errors import StoreError
from img2brain.home import Home
from img2brain.registered import load_model
from img2brain.study.runner import run_study
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.room import free, room
from img2brain.tracking.upkeep import problems

if TYPE_CHECKING:
    from tests.conftest import Finished, MakeSpec

AT_WORK = """
import sys, time
from img2brain.home import Home
with Home(sys.argv[1]).in_use():
    print("at work", flush=True)
    time.sleep(600)
"""
CUT_OFF = """
import shutil, sys, time
from img2brain.home import Home
from img2brain.tracking.room import free
remove, calls = shutil.rmtree, []
def slow(*args, **options):
    calls.append(args)
    if len(calls) == 3:
        print("midway", flush=True)
        time.sleep(600)
    remove(*args, **options)
shutil.rmtree = slow
free(Home(sys.argv[1]), deleted_runs=True)
"""


@pytest.fixture
def home(finished_copy: Path) -> Home:
    return Home(finished_copy)


@pytest.fixture
def start() -> Iterator[Callable[[str, Path], subprocess.Popen[str]]]:
    """Start a program on a home, and wait for its first line."""
    started: list[subprocess.Popen[str]] = []

    def run(program: str, folder: Path) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True)
        )
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline()
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def sizes(home: Home) -> dict[str, int]:
    return {item.kind: item.n_bytes for item in room(home)}


def entries(home: Home) -> list[Path]:
    return [path for path in home.cache.rglob("key.json") if "unfinished" not in path.parts]


def delete_run(home: Home, kind: str = "trial", number: int = 0) -> tuple[Any, Path]:
    """Delete a run as MLflow's pages do, and return it with the folder of its artifacts."""
    client = TrackingStore(home).client
    ids = [item.experiment_id for item in client.search_experiments()]
    run = client.search_runs(ids, f"tags.`img2brain.kind` = '{kind}'", order_by=["attributes.start_time"])[number]
    client.delete_run(run.info.run_id)
    return run, home.artifacts / run.info.run_id


def test_a_study_goes_on_with_the_same_numbers_after_the_cache_was_freed(
    finished: Finished, home: Home, make_spec: MakeSpec, recordings: Path
) -> None:
    images = find_images(recordings / "testIMG")[:3]
    expected = load_model("sample", home).predict(images)
    freed, left = free(home)
    assert {item.kind.partition(": ")[0] for item in freed} == {"cache"}
    assert left == []
    np.testing.assert_array_equal(load_model("sample", home).predict(images), expected)
    again = run_study(make_spec(), home)
    assert [trial.score for trial in again.trials] == [trial.score for trial in finished.outcome.trials]
    more = run_study(make_spec(trials=11), home)
    assert [trial.score for trial in more.trials[:9]] == [trial.score for trial in finished.outcome.trials]


def test_a_model_published_after_its_axes_were_freed_is_the_same(
    home: Home, make_spec: MakeSpec, recordings: Path
) -> None:
    images = find_images(recordings / "testIMG")[:3]
    expected = load_model("sample", home).predict(images)
    client = TrackingStore(home).client
    client.delete_registered_model("sample")
    free(home)
    run_study(make_spec(), home)
    np.testing.assert_allclose(load_model("sample", home).predict(images), expected, atol=1e-5)


def test_files_that_trials_share_with_the_cache_stay(home: Home) -> None:
    trial = next(home.artifacts.glob("*/artifacts/features.npy"))
    before = sizes(home)["artifacts: features"]
    shared = next((home.cache / "features").rglob("features.npy"))
    shared.replace(shared.with_name("gone"))
    os.link(trial, shared)
    shared.with_name("gone").unlink()
    free(home)
    assert shared.exists(), "to remove it would free nothing"
    assert sizes(home)["artifacts: features"] == before


def test_nothing_is_freed_while_a_study_is_at_work(
    home: Home, start: Callable[[str, Path], subprocess.Popen[str]]
) -> None:
    process = start(AT_WORK, home.folder)
    before = sizes(home)
    for dry_run in (False, True):
        with pytest.raises(StoreError, match=r"A study is at work with the home folder .*\. Wait for its end\."):
            free(home, dry_run=dry_run)
    assert sizes(home) == before
    process.kill()
    process.wait()
    assert free(home)[0]


def test_many_may_be_at_work_at_once(home: Home) -> None:
    with home.in_use(), Home(home.folder).in_use(), pytest.raises(StoreError, match="A study is at work"):
        free(home)
    assert free(home)[0]


def test_a_kill_midway_leaves_whole_entries_and_no_rest(
    home: Home, start: Callable[[str, Path], subprocess.Popen[str]], make_spec: MakeSpec
) -> None:
    delete_run(home)
    process = start(CUT_OFF, home.folder)
    process.kill()
    process.wait()
    assert list((home.cache / "unfinished").iterdir()), "it was cut off"
    for entry in (path.parent for path in entries(home)):
        assert {"key.json", "digests.json"} < {path.name for path in entry.iterdir()}
    free(home, deleted_runs=True)
    assert entries(home) == []
    assert list((home.cache / "unfinished").iterdir()) == []
    assert problems(home) == []


def test_artifacts_of_deleted_runs_are_freed_when_it_is_asked_for_alone(home: Home) -> None:
    champion = TrackingStore(home).client.get_model_version_by_alias("sample", "champion")
    runs = [delete_run(home, number=number)[1] for number in (0, 0)]
    kept = [path for path in home.artifacts.glob("*") if path not in runs]
    free(home)
    assert all(path.exists() for path in runs)
    freed, left = free(home, deleted_runs=True)
    assert [item.kind for item in freed] == ["artifacts of what was deleted"]
    assert left == []
    assert not any(path.exists() for path in runs)
    assert all(path.exists() for path in kept)
    assert problems(home) == []
    assert load_model(f"sample/{champion.version}", home).about["dataset"] == "sample"


def test_a_registered_version_keeps_its_model_when_its_run_is_deleted(home: Home) -> None:
    version = TrackingStore(home).client.get_model_version_by_alias("sample", "champion")
    client = TrackingStore(home).client
    client.delete_run(version.run_id)
    for model in client.search_logged_models([item.experiment_id for item in client.search_experiments()]):
        client.delete_logged_model(model.model_id)
    free(home, deleted_runs=True)
    assert not (home.artifacts / version.run_id).exists()
    assert load_model("sample", home).about["dataset"] == "sample"


def test_links_that_lead_out_of_the_home_are_left(home: Home, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "layers").mkdir(parents=True)
    entry = next(path.parent for path in entries(home))
    shutil.copytree(entry, outside / "layers" / entry.name)
    (entry.parent / ("a" * 64)).symlink_to(outside / "layers" / entry.name)
    (home.cache / "linked").symlink_to(outside)
    (entry / "out").symlink_to(outside)
    folder = delete_run(home)[1]
    shutil.move(folder, outside / "run")
    folder.symlink_to(outside / "run")
    before = sorted(path for path in outside.rglob("*"))
    left = free(home, deleted_runs=True)[1]
    assert sorted(path for path in outside.rglob("*")) == before
    assert left == [f"{folder / 'artifacts'} leads out of the home, and is left as it is."]
    shutil.move(home.cache, outside / "cache")
    home.cache.symlink_to(outside / "cache")
    before = sorted(path for path in outside.rglob("*"))
    assert free(home) == ([], [f"{home.cache} leads out of the home, and is left as it is."])
    assert sorted(path for path in outside.rglob("*")) == before
