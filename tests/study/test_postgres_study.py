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
from tests.postgres import PASSWORD

if TYPE_CHECKING:
    from tests.conftest import Launcher, MakeSpec, NewHome
    from tests.postgres import Postgres


def results(home: Home) -> list[tuple[object, ...]]:
    (told,) = stored_trials(home).values()
    return [(trial.number, trial.spec.layer, trial.spec.n_components, round(trial.score, 9)) for trial in told]


@pytest.mark.slow
def test_a_study_in_a_database_is_that_of_the_journal(
    given_study: Path, new_home: NewHome, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec = load_study(given_study)
    one, other = Home(new_home("a")), Home(new_home("b"), storage=database)
    assert run_study(spec, one).name == run_study(spec, other).name
    assert results(one) == results(other)
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
    assert results(Home(home, storage=database)) == results(calm)
    assert _tracked(Home(home)) == _tracked(calm)


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
