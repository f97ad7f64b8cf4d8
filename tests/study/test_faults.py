"""Studies whose disk fills, whose workers stand still, and whose home is tended while workers are at work in it."""

from __future__ import annotations

import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from img2brain.health import check
from img2brain.home import Home
from img2brain.study.search import stored_trials
from img2brain.tracking._store import TrackingStore
from tests.disks import fill, make_room, mounted
from tests.study.test_workers_at_work import NEVER, TIMEOUT_S, assert_sound, results, study, wait_for

if TYPE_CHECKING:
    from tests.conftest import Launcher, NewHome, Process

__all__ = ["study"]

Study = Callable[..., Path]

N_TRIALS = 24


def problems(home: Path) -> list[str]:
    """Return what is wrong with a home, but for the small disk that it may be on."""
    found = check(Home.as_it_is(home), deep=True).findings
    return [str(item) for item in found if "must have room for a study" not in item.problem]


def tracked(home: Path) -> list[Any]:
    """Return the runs of the trials of a home."""
    store = TrackingStore(Home(home))
    experiments = [item.experiment_id for item in store.client.search_experiments()]
    return list(store.runs(experiments, "tags.`img2brain.kind` = 'trial'"))


def n_told(home: Path) -> int:
    return sum(map(len, stored_trials(Home(home)).values())) if (home / "optuna.log").exists() else 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 48 MB; tests that need it skip where none can be mounted."""
    yield from mounted(tmp_path / "disk", 48)


def on_disk(disk: Path, new_home: NewHome) -> Path:
    return Path(shutil.copytree(new_home(), disk / "home"))


def assert_whole(home: Path, n_trials: int) -> None:
    """Hold a finished study against what it must be: every trial once, with its complete record, and no torn entry."""
    assert sorted(results(home)) == list(range(n_trials))
    assert_sound(home)
    assert problems(home) == []


@pytest.mark.slow
def test_a_disk_that_is_full_refuses_a_study_on_one_line(
    img2brain: Launcher, study: Study, new_home: NewHome, disk: Path
) -> None:
    home, path = on_disk(disk, new_home), study(N_TRIALS)
    fill(disk, but_for=20_000)
    for command in ("run", "worker"):
        refused = img2brain.run("study", command, path, "--home", home)
        assert refused.code == 2
        assert "does not fit" in refused.error
    make_room(disk)
    assert img2brain.run("study", "run", path, "--home", home).code == 0
    assert_whole(home, N_TRIALS)


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_disk_that_fills_up_ends_each_worker_on_one_line_and_the_same_command_goes_on(
    img2brain: Launcher, study: Study, new_home: NewHome, disk: Path, n_workers: int
) -> None:
    home = on_disk(disk, new_home)
    command = ("study", "worker", study(N_TRIALS), "--home", home)
    workers = [img2brain.start(*command) for _ in range(n_workers)]
    wait_for(lambda: n_told(home) >= 3, workers[0])
    fill(disk)
    for worker in workers:
        assert worker.wait(TIMEOUT_S) == 2, worker.stderr
        assert re.search("full|No space left", worker.error), worker.error
    make_room(disk)
    again = img2brain.run(*command)
    assert again.code == 0, again.stderr
    assert_whole(home, N_TRIALS)


@pytest.mark.slow
def test_a_home_that_can_only_be_read_is_refused_on_one_line_and_left_as_it_is(
    img2brain: Launcher, study: Study, new_home: NewHome, disk: Path
) -> None:
    home, path = on_disk(disk, new_home), study(3)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for command in ("run", "worker"):
        refused = img2brain.run("study", command, path, "--home", home)
        assert refused.code == 2
        assert "cannot be written: Read-only file system" in refused.error
    looked = img2brain.run("home", "check", "--home", home)
    assert (looked.code, looked.stderr) == (2, "")
    assert "Its disk is mounted to be read alone." in looked.stdout
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert img2brain.run("study", "run", path, "--home", home).code == 0
    assert_whole(home, 3)


def two_at_work(img2brain: Launcher, path: Path, home: Path) -> list[Process]:
    """Start two workers, and wait until both have told a trial or more."""
    workers = [img2brain.start("study", "worker", path, "--home", home) for _ in range(2)]
    wait_for(lambda: n_told(home) >= 4, workers[0])
    return workers


@pytest.mark.slow
def test_a_worker_that_stands_still_is_told_of_and_nothing_is_twice_or_lost(
    img2brain: Launcher, study: Study, new_home: NewHome
) -> None:
    home = new_home()
    first, second = two_at_work(img2brain, study(N_TRIALS), home)
    first.send(signal.SIGSTOP)
    wait_for(lambda: f"process {first.pid}, which stands still" in second.stderr, second)
    if second.poll() is None:
        assert any(f"Process {first.pid} " in told for told in problems(home))
    first.send(signal.SIGCONT)
    assert [worker.wait(TIMEOUT_S) for worker in (first, second)] == [0, 0], [first.stderr, second.stderr]
    assert_whole(home, N_TRIALS)


def damage_a_line(log: Path) -> bytes:
    """Spoil a byte of a line in the middle of a log, in its place, and return what stands before the line."""
    content = log.read_bytes()
    start = content.rfind(b"\n", 0, len(content) // 2) + 1
    with log.open("rb+") as stream:
        stream.seek(start)
        stream.write(b"#")
    return content[: start + 1]


@pytest.mark.slow
def test_who_only_looks_leaves_a_damaged_log_to_the_workers_at_work_on_it(
    img2brain: Launcher, study: Study, new_home: NewHome, tmp_path: Path
) -> None:
    home, path = new_home(), study(NEVER)
    worker = img2brain.start("study", "worker", path, "--home", home, "--no-finish")
    wait_for(lambda: n_told(home) >= 12, worker)
    log, inode = home / "optuna.log", (home / "optuna.log").stat().st_ino
    before = damage_a_line(log)
    looks = "study list", "study show given", f"study plan {study(NEVER)}", "home show", "home check"
    others = "leaderboard show", "compare given#0 given#1", f"home backup {tmp_path / 'kept'}"
    n_damaged = before.count(b"\n") + 1
    for words in (*looks, *others):
        looked = img2brain.run(*words.split(), "--home", home)
        assert "Traceback" not in looked.stderr, looked.stderr
        is_told = re.search(rf"[Ll]ine {n_damaged} of the search log {log} is damaged", looked.stdout + looked.stderr)
        assert is_told or words in others, (words, looked.stdout, looked.stderr)
    second = img2brain.run("study", "worker", path, "--home", home)
    assert second.code == 2
    assert f"is damaged, and others are at work on it, such as process {worker.pid}." in second.error
    assert log.stat().st_ino == inode
    assert log.read_bytes().startswith(before[:-1] + b"#")
    assert list(home.glob("optuna.log.damaged-*")) == []
    assert worker.poll() is None, worker.stderr
    worker.send(signal.SIGKILL)
    worker.wait()
    told = [run.data.tags["img2brain.trial"] for run in tracked(home) if run.info.status == "FINISHED"]
    n_trials = max(map(int, told)) + 4
    again = img2brain.run("study", "run", study(n_trials), "--home", home)
    assert again.code == 0, again.stderr
    assert "is damaged: the log is kept as optuna.log.damaged-1" in again.stderr
    assert "that the search log lacked are back from their records" in again.stderr
    assert_whole(home, n_trials)


@pytest.mark.slow
def test_a_worker_that_runs_out_of_memory_costs_the_other_nothing(
    img2brain: Launcher, study: Study, new_home: NewHome
) -> None:
    home = new_home()
    first, second = two_at_work(img2brain, study(N_TRIALS), home)
    resource.prlimit(first.pid, resource.RLIMIT_AS, (1 << 20, 1 << 20))  # it has more: nothing more is given
    assert second.wait(TIMEOUT_S) == 0, second.stderr
    if first.wait(TIMEOUT_S) != 0:
        assert "emory" in first.error
    assert_whole(home, N_TRIALS)


@pytest.mark.slow
def test_a_home_is_tended_while_workers_are_at_work(
    img2brain: Launcher, study: Study, new_home: NewHome, tmp_path: Path
) -> None:
    home = new_home()
    workers = two_at_work(img2brain, study(150), home)
    for words in (("backup", tmp_path / "kept"), ("relocate",), ("check",)):
        tended = img2brain.run("home", *words, "--home", home)
        assert tended.code == 0, (words, tended.stdout, tended.stderr)
    refused = img2brain.run("home", "gc", "--home", home)
    assert refused.code == 2
    assert "A study is at work with the home folder" in refused.error
    shutil.rmtree(home / "cache", ignore_errors=True)
    assert [worker.wait(TIMEOUT_S) for worker in workers] == [0, 0], [worker.stderr for worker in workers]
    assert_whole(home, 150)


@pytest.mark.slow
def test_a_kill_while_the_best_is_published_publishes_it_once(
    img2brain: Launcher, study: Study, new_home: NewHome
) -> None:
    home, command = new_home(), ("study", "run", study(6))
    for kill in range(4):
        process = img2brain.start(*command, "--home", home)
        wait_for(lambda: n_told(home) == 6, process)
        time.sleep(0.2 * kill)
        process.send(signal.SIGKILL)
        process.wait()
    again = img2brain.run(*command, "--home", home)
    assert again.code == 0, again.stderr
    assert "rows version 1" in again.stdout
    assert_whole(home, 6)


@pytest.mark.slow
def test_a_study_whose_trials_all_fail_says_so_by_each_worker(
    img2brain: Launcher, study: Study, new_home: NewHome
) -> None:
    path = study(4, name="failing")
    constant = '[{ name = "lasso", alpha = { low = 1e6, high = 1e8, log = true } }]'
    path.write_text(path.read_text(encoding="utf-8").replace('["ridge", "lasso"]', constant), encoding="utf-8")
    home = new_home()
    workers = [img2brain.start("study", "worker", path, "--home", home) for _ in range(2)]
    for worker in workers:
        assert worker.wait(TIMEOUT_S) == 2, worker.stderr
        assert "All 4 trials of failing-" in worker.error
