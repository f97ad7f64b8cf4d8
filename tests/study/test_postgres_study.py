"""A study whose search log is in PostgreSQL: by several workers, of homes of their own, through restarts."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from img2brain.home import Home
from img2brain.leaderboard.collect import collect
from img2brain.spec import load_study
from img2brain.study.runner import run_study
from img2brain.study.search import stored_trials
from img2brain.tracking._store import TrackingStore
from tests.mlflow_server import running
from tests.postgres import PASSWORD
from tests.study.test_workers_at_work import results

if TYPE_CHECKING:
    from tests.conftest import Launcher, MakeSpec, NewHome
    from tests.postgres import Postgres

    StudyFile = Callable[..., Path]


def scores(home: Home) -> list[tuple[object, ...]]:
    (told,) = stored_trials(home).values()
    return [(trial.number, trial.spec.layer, trial.spec.n_components, round(trial.score, 9)) for trial in told]


@pytest.mark.slow
def test_a_study_in_a_database_is_that_of_the_journal(
    given_study: Path, new_home: NewHome, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec = load_study(given_study)
    one, other = Home(new_home("a")), Home(new_home("b"), storage=database)
    assert run_study(spec, one).name == run_study(spec, other).name
    assert scores(one) == scores(other)
    assert not other.search_log.exists()
    assert PASSWORD not in caplog.text
    outcome = run_study(spec.model_copy(update={"trials": 4}), other)
    assert [trial.number for trial in outcome.trials] == [0, 1, 2, 3]
    text = b"".join(path.read_bytes() for path in other.folder.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in text


def longer(study: Path, folder: Path, n_trials: int = 80) -> Path:
    """Write the study of given features with more trials, and other points for each."""
    path = folder / "longer.toml"
    text = study.read_text().replace("trials = 3", f'trials = {n_trials}\nsampler = "random"')
    path.write_text(text.replace('path = "rows"', f'path = "{study.parent / "rows"}"'))
    return path


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_a_study_outlives_its_database_and_its_workers(
    img2brain: Launcher, given_study: Path, new_home: NewHome, tmp_path: Path, postgres: Postgres, database: str
) -> None:
    study, home, name = longer(given_study, tmp_path), new_home("shaken"), database.rpartition("/")[2]
    environment = {"IMG2BRAIN_STORAGE": database}

    def has_told(n_trials: int) -> bool:
        assert run.poll() is None, run.stderr
        return int(postgres.ask(name, "SELECT count(*) FROM trials WHERE state = 'COMPLETE'")) >= n_trials

    run = img2brain.start("study", "run", study, "--workers", 2, "--home", home, env=environment)
    until(lambda: postgres.ask(name, "SELECT to_regclass('trials') IS NOT NULL") == "t")
    for n_trials in (5, 15):
        until(partial(has_told, n_trials))
        postgres.kill()
        time.sleep(1)
        postgres.start()
    until(partial(has_told, 25))
    os.kill(_worker_of(run.pid), signal.SIGKILL)
    assert run.wait() == 0, run.stderr
    assert "Traceback" not in run.stderr
    assert PASSWORD not in run.stderr + run.stdout
    calm = Home(new_home("calm"))
    run_study(load_study(study), calm)
    assert scores(Home(home, storage=database)) == scores(calm)
    assert _tracked(Home(home)) == _tracked(calm)


@pytest.mark.slow
def test_four_workers_find_in_a_database_what_one_finds(
    img2brain: Launcher, given_study: Path, new_home: NewHome, tmp_path: Path, postgres: Postgres
) -> None:
    study, found = longer(given_study, tmp_path, 400), []
    study.write_text(study.read_text().replace('regressors = ["ridge"]', 'regressors = ["ridge", "lasso"]'))
    for n_workers in (1, 4):
        name, home = postgres.new_database(), new_home(f"by {n_workers}")
        environment = {"IMG2BRAIN_STORAGE": postgres.url(name)}
        run = img2brain.run("study", "run", study, "--home", home, "--workers", n_workers, env=environment)
        assert run.code == 0, run.stderr
        assert postgres.ask(name, NUMBERS) == "400|400|0|399"
        found.append(results(Home(home, storage=postgres.url(name))))
    assert found[0] == found[1]
    assert sorted(found[0]) == list(range(400))


NUMBERS = """
    SELECT count(*), count(DISTINCT value_json), min(value_json::int), max(value_json::int)
    FROM trials JOIN trial_user_attributes USING (trial_id) WHERE key = 'number'
"""


PASS = "squeezenet1_1: 60 images, 3 layers"


@pytest.mark.slow
def test_homes_share_a_database_and_a_server(
    img2brain: Launcher, study_file: StudyFile, new_home: NewHome, tmp_path: Path, database: str
) -> None:
    """Three homes at once: two that share a cache, and one that has its own."""
    file, calm = study_file(tmp_path, ("trials = 9", 'trials = 30\nsampler = "random"')), Home(new_home("calm"))
    run_study(load_study(file), calm)
    (tmp_path / "server").mkdir()
    with running(tmp_path / "server") as server:
        environment = {"IMG2BRAIN_STORAGE": database, "MLFLOW_TRACKING_URI": server.url}
        shared = {"IMG2BRAIN_CACHE": str(tmp_path / "cache")}
        processes = {
            name: img2brain.start("study", "worker", file, "--home", tmp_path / name, env=environment | own)
            for name, own in {"a": shared, "b": shared, "c": {}}.items()
        }
        assert [item.wait() for item in processes.values()] == [0, 0, 0], [item.stderr for item in processes.values()]
        passes = [name for name, process in processes.items() if PASS in process.stderr]
        assert len(passes) == 1 or (len(passes), passes[-1]) == (2, "c"), "one of those that share a cache, or of all"
        assert sum("registered     sample version 1" in item.stdout for item in processes.values()) == 1
        homes = [Home(tmp_path / name, storage=database, tracking_uri=server.url) for name in processes]
        found = [results(home, "small") for home in homes]
        assert found == [results(calm, "small")] * 3
        rows = [[(row.trial.number, row.trial.home, row.registered) for row in collect(home)] for home in homes]
        assert rows[0] == rows[1] == rows[2]
        store = TrackingStore(homes[0])
        (experiment,) = (item.experiment_id for item in store.client.search_experiments() if item.name == "sample")
        assert len(list(store.runs([experiment], "tags.`img2brain.kind` = 'study'"))) == 1
        late = img2brain.run(
            "study", "run", file, "--trials", 33, "--home", tmp_path / "d", env=environment | shared
        )  # fmt: skip
        assert late.code == 0, late.stderr
        assert PASS not in late.stderr, "a home that comes later with the same cache makes no pass"
        assert sorted(results(homes[0], "small")) == list(range(33))


def _worker_of(pid: int) -> int:
    text = Path(f"/proc/{pid}/task").glob("*/children")
    return int(next(word for path in text for word in path.read_text().split()))


def _tracked(home: Home) -> list[tuple[int, float]]:
    """Return the number and score of each run that is tracked whole, once."""
    return sorted((row.trial.number, round(row.trial.score, 9)) for row in collect(home))


@pytest.mark.slow
def test_homes_that_share_a_cache_make_one_pass(make_spec: MakeSpec, new_home: NewHome, tmp_path: Path) -> None:
    one, other = (Home(new_home(name), cache=tmp_path / "cache") for name in "ab")
    run_study(make_spec(trials=3), one)
    before = {path: path.stat().st_mtime_ns for path in one.cache.glob("*/*/*/*.npy")}
    assert before
    run_study(make_spec(trials=3), other)
    assert {path: path.stat().st_mtime_ns for path in other.cache.glob("*/*/*/*.npy")} == before
    assert not any((home.folder / "cache").exists() for home in (one, other))
