"""A study whose database or tracking server goes away, at random moments: it goes on, and loses and repeats nothing."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from img2brain.home import Home
from img2brain.study.runner import run_study
from img2brain.study.states import states
from img2brain.tracking._store import TrackingStore
from tests.mlflow_server import MlflowServer, running
from tests.postgres import PASSWORD, Proxy
from tests.study.test_cut_connection import N_TRIALS, study
from tests.study.test_workers_at_work import results

if TYPE_CHECKING:
    from tests.conftest import Launcher, NewHome, Process
    from tests.postgres import Postgres

__all__ = ["study"]
N_ATTEMPTS, AWAY_S = 4, 10.0
FILES = {"record.json", "accuracy.npy", "features.npy", "model/regressor.json", "model/regressor.safetensors"}

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    (tmp_path / "server").mkdir()
    with running(tmp_path / "server") as found:
        yield found


@pytest.fixture
def way(request: pytest.FixtureRequest) -> Iterator[Callable[[int], Proxy]]:
    """Make a way to a port that can be cut."""
    made: list[Proxy] = []

    def make(port: int) -> Proxy:
        made.append(Proxy(port))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


class AtWork:
    """A study that two workers are at, and is begun again where it ends before its time."""

    def __init__(self, img2brain: Launcher, study: Path, home: Home, seed: int) -> None:
        environment = {"IMG2BRAIN_STORAGE": home.storage or "", "MLFLOW_TRACKING_URI": home.tracking_uri or ""}
        words = ("study", "run", study, "--home", home.folder, "--workers", 2)
        self._start: Callable[[], Process] = lambda: img2brain.start(*words, env=environment)
        self._home, self._chance, self._run = home, random.Random(seed), self._start()
        self.n_runs, self.said = 1, ""

    def wait_for_a_moment(self, n_trials: int) -> None:
        """Wait until so many trials are over, and a little longer."""
        end = time.monotonic() + 600
        while sum(state.n_trials for state in states(self._home)) < n_trials:
            self._begin_again_if_over()
            assert time.monotonic() < end, self._run.stderr
            time.sleep(0.3)
        time.sleep(self._chance.uniform(0, 1))

    def to_the_end(self) -> None:
        while self._run.wait() != 0:
            self._begin_again_if_over()
        self.said += self._run.stderr + self._run.stdout
        assert "registered     rows version 1" in self._run.stdout

    def _begin_again_if_over(self) -> None:
        if self._run.poll() is not None:
            self.said += self._run.stderr
            assert (self._run.poll(), self.n_runs < N_ATTEMPTS) == (2, True), self._run.stderr
            assert self._run.error
            self._run, self.n_runs = self._start(), self.n_runs + 1


def assert_whole(home: Home, calm: Home) -> None:
    """Compare all that is kept with a study that nothing happened to."""
    found = results(home)
    assert sorted(found) == list(range(N_TRIALS))
    assert found == results(calm)
    store = TrackingStore(home)
    experiments = [item.experiment_id for item in store.client.search_experiments()]
    for run in store.runs(experiments, "tags.`img2brain.kind` = 'trial'"):
        wanted = FILES if run.info.status == "FINISHED" else {"record.json"}  # which says why a trial failed
        assert set(files(store, run)) >= wanted, run.info.run_id
    assert len(list(store.runs(experiments, "attributes.status = 'RUNNING'"))) == 0


def files(store: TrackingStore, run: Any) -> Iterator[str]:
    for folder in ("", "model"):
        yield from (item.path for item in store.client.list_artifacts(run.info.run_id, folder or None))


@pytest.fixture
def calm(new_home: NewHome, study: Path) -> Home:
    from img2brain.spec import load_study

    home = Home(new_home("calm"))
    run_study(load_study(study), home)
    return home


@pytest.mark.parametrize("seed", [0])
def test_a_study_outlives_its_tracking_server(
    img2brain: Launcher, study: Path, server: MlflowServer, tmp_path: Path, calm: Home, seed: int
) -> None:
    home = Home(tmp_path / "home", tracking_uri=server.url)
    work = AtWork(img2brain, study, home, seed)
    for n_trials in (4, 16):
        work.wait_for_a_moment(n_trials)
        server.stop(signal.SIGKILL)
        time.sleep(2)
        server.start()
    work.to_the_end()
    assert_whole(home, calm)
    assert "Traceback" not in work.said


@pytest.mark.parametrize("cut", ["database", "server", "both"])
def test_a_study_outlives_cut_connections(
    img2brain: Launcher, study: Path, server: MlflowServer, postgres: Postgres, database: str,
    way: Callable[[int], Proxy], tmp_path: Path, calm: Home, cut: str,
) -> None:  # fmt: skip
    to_database, to_server = way(postgres.port), way(server.port)
    far = postgres.url(database.rpartition("/")[2], port=to_database.port)
    home = Home(tmp_path / "home", storage=far, tracking_uri=f"http://127.0.0.1:{to_server.port}")
    proxies = {"database": [to_database], "server": [to_server], "both": [to_database, to_server]}[cut]
    work = AtWork(img2brain, study, home, len(cut))
    for n_trials in (4, 16):
        work.wait_for_a_moment(n_trials)
        for proxy in proxies:
            proxy.cut()
        time.sleep(AWAY_S)
        for proxy in proxies:
            proxy.mend()
    work.to_the_end()
    assert_whole(home, calm)
    assert "Traceback" not in work.said
    assert PASSWORD not in work.said
