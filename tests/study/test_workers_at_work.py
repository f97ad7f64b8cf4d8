"""Real processes that work on one study, are killed, and start at once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from img2brain.home import Home
from img2brain.store import Store
from img2brain.study.search import ToldTrial, stored_trials
from img2brain.study.states import states
from img2brain.tracking._store import TrackingStore, answering
from img2brain.tracking.reading import read_trial

if TYPE_CHECKING:
    from tests.conftest import Launcher, NewHome, Process

N_TRIALS, N_KILLS = 200, 50
NEVER = 10_000  # trials, of which no test sees the end
TIMEOUT_S = 1500


@pytest.fixture
def study(given_study: Path) -> Callable[..., Path]:
    """Write the study of given features again, of so many trials."""

    def write(n_trials: int, sampler: str = "random", name: str = "given") -> Path:
        text = given_study.read_text(encoding="utf-8").replace("trials = 3", f"trials = {n_trials}")
        text = text.replace('regressors = ["ridge"]', 'regressors = ["ridge", "lasso"]')
        text = text.replace('name = "given"\n', f'name = "{name}"\nsampler = "{sampler}"\n', 1)
        path = given_study.with_name(f"{name}-{sampler}-{n_trials}.toml")
        path.write_text(text, encoding="utf-8")
        return path

    return write


def results(place: Path | Home, name: str = "given") -> dict[int, tuple[Any, ...]]:
    """Read what was told of each trial of a study, and hold it against what was tracked: no more, no less."""
    home = Home.of(place)
    (told,) = (trials for full, trials in stored_trials(home).items() if full.rpartition("-")[0] == name)
    store = TrackingStore(home)
    experiments = [item.experiment_id for item in store.client.search_experiments()]
    query = f"tags.`img2brain.study` LIKE '{name}-%' and tags.`img2brain.kind` = 'trial'"
    with answering(store.uri):
        runs = list(store.runs(experiments, query))
        tracked = {int(run.data.tags["img2brain.trial"]): run for run in runs}
        assert len(runs) == len(tracked) == len(told), "none lost, none twice"
        return {trial.number: whole(store, tracked[trial.number], trial) for trial in told}


def whole(store: TrackingStore, run: Any, trial: ToldTrial) -> tuple[Any, ...]:
    """Return what is tracked of a trial, which is whole."""
    assert run.info.status == ("FINISHED" if trial.succeeded else "FAILED")
    record = read_trial(store, run).record
    assert record.spec == trial.spec
    accuracy = store.array(run, "accuracy.npy")
    assert (accuracy is not None) == trial.succeeded
    return record.spec.digest, record.failure, None if accuracy is None else accuracy.tobytes()


def children(process: Process) -> list[int]:
    """Return the ids of the processes that a process has started, with what they are called."""
    text = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(word) for path in text for word in path.read_text().split()]


def grows(log: Path) -> Callable[[], bool]:
    before = log.stat().st_size if log.exists() else 0
    return lambda: log.exists() and log.stat().st_size > before


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_for(happens: Callable[[], object], process: Process, pause_s: float = 0.01) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not happens() and process.poll() is None:
        assert time.monotonic() < end, process.stderr
        time.sleep(pause_s)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_four_workers_find_what_one_finds(
    img2brain: Launcher, study: Callable[..., Path], new_home: NewHome, sampler: str
) -> None:
    n_trials = {"random": N_TRIALS, "grid": 12}[sampler]  # two sizes, and what alphas there are
    path = study(n_trials, sampler)
    homes = new_home("one"), new_home("four")
    for home, n_workers in zip(homes, (1, 4), strict=True):
        run = img2brain.run("study", "run", path, "--home", home, "--workers", n_workers)
        assert run.code == 0, run.stderr
    one, four = map(results, homes)
    assert four == one
    assert sorted(four) == list(range(n_trials))


@pytest.fixture(params=["journal", "postgresql"])
def place(request: pytest.FixtureRequest, new_home: NewHome) -> Home:
    """A home whose searches are logged in one store or the other."""
    storage = request.getfixturevalue("database") if request.param == "postgresql" else None
    return Home(new_home(), storage=storage)


def n_asked(home: Home) -> int:
    return sum(state.n_trials + state.n_running for state in states(home))


def has_asked(home: Home, n_trials: int) -> bool:
    return n_asked(home) >= n_trials


@pytest.mark.slow
def test_workers_that_are_killed_lose_and_repeat_nothing(
    img2brain: Launcher, study: Callable[..., Path], place: Home
) -> None:
    chance, environment = random.Random(0), {"IMG2BRAIN_STORAGE": place.storage or ""}
    home = ("--home", place.folder)
    command = ("study", "worker", study(NEVER), *home, "--no-finish")
    workers = [img2brain.start(*command, env=environment) for _ in range(3)]
    for _ in range(N_KILLS):
        killed = chance.randrange(len(workers))
        wait_for(partial(has_asked, place, n_asked(place) + chance.randint(1, 6)), workers[killed], pause_s=0.2)
        time.sleep(chance.uniform(0, 0.3))
        workers[killed].send(signal.SIGKILL)
        assert workers[killed].wait() == -signal.SIGKILL, workers[killed].stderr
        workers[killed] = img2brain.start(*command, env=environment)
    for worker in workers:
        worker.send(signal.SIGKILL)
    (told,) = stored_trials(place).values()
    n_trials = max(trial.number for trial in told) + 4
    finisher = img2brain.run("study", "run", study(n_trials), *home, env=environment)
    assert finisher.code == 0, finisher.stderr
    assert "registered     rows version 1" in finisher.stdout
    assert sorted(results(place)) == list(range(n_trials))
    assert_sound(place.folder)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_started_again(
    img2brain: Launcher, study: Callable[..., Path], new_home: NewHome
) -> None:
    process = img2brain.start("study", "run", study(N_TRIALS), "--home", (home := new_home()), "--workers", 2)
    wait_for(grows(home / "optuna.log"), process)
    wait_for(lambda: len(children(process)) == 2, process)
    os.kill(children(process)[0], signal.SIGKILL)
    assert process.wait(TIMEOUT_S) == 0, process.stderr
    assert "was killed by signal 9, as for a lack of memory: it is started again" in process.stderr
    assert sorted(results(home)) == list(range(N_TRIALS))


def assert_sound(home: Path) -> None:
    """Compare each entry of the cache with its digests."""
    cache = Store(home / "cache")
    for kind in (path.name for path in cache.folder.iterdir() if path.name not in ("locks", "unfinished")):
        for key in cache.keys(kind):
            assert cache.find(kind, key) is not None


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_who_started_them(
    img2brain: Launcher, study: Callable[..., Path], new_home: NewHome, number: signal.Signals
) -> None:
    home = new_home()
    command = ("study", "run", study(4), "--home", home, "--workers", 2)
    process = img2brain.start(*command)
    wait_for(lambda: len(children(process)) == 2, process)
    workers = children(process)
    process.send(number)
    process.wait()
    end = time.monotonic() + 120
    while any(map(is_alive, workers)):
        assert time.monotonic() < end
        time.sleep(0.05)
    again = img2brain.run(*command)
    assert again.code == 0, again.stderr
    assert sorted(results(home)) == list(range(4))


@pytest.mark.slow
def test_eight_start_in_an_empty_home_at_once(img2brain: Launcher, study: Callable[..., Path], tmp_path: Path) -> None:
    home, path = tmp_path / "home", study(24)
    processes = [img2brain.start("study", "worker", path, "--home", home, "--threads", 1) for _ in range(8)]
    assert [process.wait(TIMEOUT_S) for process in processes] == [0] * 8, [process.stderr for process in processes]
    assert sorted(results(home)) == list(range(24))
    assert sum("registered     rows version 1" in process.stdout for process in processes) == 1, "published once"


@pytest.mark.slow
def test_two_studies_share_a_home(img2brain: Launcher, study: Callable[..., Path], tmp_path: Path) -> None:
    home = tmp_path / "home"
    files = [study(20, name=name) for name in ("first", "second")]
    processes = [img2brain.start("study", "run", path, "--home", home, "--workers", 2) for path in files]
    assert [process.wait(TIMEOUT_S) for process in processes] == [0, 0], [process.stderr for process in processes]
    assert list(results(home, "first").values()) == list(results(home, "second").values())
