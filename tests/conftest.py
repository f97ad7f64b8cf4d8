"""Fixtures that every test may ask for: recordings, homes, studies, real processes, a browser."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from img2brain.catalog import LAYOUTS, LIBRARIES, METRICS, REGRESSORS
from img2brain.datasets._sample import write_sample
from img2brain.home import Home
from img2brain.records import TrialRecord
from img2brain.spec import StudySpec, parse
from tests import postgres as servers
from tests.disks import mounted
from tests.postgres import Postgres

MakeSpec = Callable[..., StudySpec]
NewHome = Callable[..., Path]

STUDY = """
name = "small"
trials = 9
seed = 1
n_components = [3, 8, 16]
regressors = ["linear", "ridge", "lasso", "k_neighbors"]

[dataset]
path = {path}

[[backbones]]
name = "squeezenet1_1"
weights = "random:0"
layers = ["features.2", "features.5", "features.12"]
"""

THEIR_WARNINGS = (  # of libraries about each other, which nobody here can mend
    "ignore:The ``noload`` loader strategy is deprecated",  # MLflow 3.17 with SQLAlchemy 2.1
    "ignore:.*Any type hint is inferred as AnyType",  # importing mlflow.pyfunc, of its own types
)

# No test may fail because the machine is busy, or by the draw of its examples: those are random under ``slow`` alone.
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=False)
settings.register_profile("derandomised", settings.get_profile("random"), derandomize=True)
settings.load_profile("derandomised")


def pytest_configure(config: pytest.Config) -> None:
    """Let warnings pass that are not ours."""
    for warning in THEIR_WARNINGS:
        config.addinivalue_line("filterwarnings", warning)
    _forget_servers()


def _forget_servers() -> None:
    """Drop what would send the tests' runs to a server; MLflow itself sets these when a test names a store to it."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def _own_components() -> Iterator[None]:
    """Keep the components of others that one test makes known from being listed in the next."""
    catalogs = (REGRESSORS, METRICS, LAYOUTS, LIBRARIES)
    known = [dict(catalog._loaded) for catalog in catalogs]
    yield
    for catalog, before in zip(catalogs, known, strict=True):
        catalog._loaded = before


@pytest.fixture(autouse=True)
def _own_stores() -> Iterator[None]:
    """Keep one test's tracking store from being that of the next."""
    yield
    _forget_servers()


@pytest.fixture(params=["torch", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    """Where tensors are: in main memory, or on a GPU where there is one."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    return str(request.param)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings and weights beside the repository; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the folder of real recordings is not here")
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL server; tests that need it skip where there is none."""
    if servers.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with servers.running() as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> str:
    """The URL of an empty database of it, with the password."""
    return postgres.url(postgres.new_database())


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder of 60 pictures (6 of them test images with responses) and 20 voxels. No test changes it."""
    return write_sample(tmp_path_factory.mktemp("recordings") / "sample", n_images=60, n_voxels=20, seed=0, size=64)


TABLE = '''
"""A layout of somebody else: pictures by name in a CSV file, responses in an archive of NumPy's."""

import csv

import numpy as np

from img2brain.datasets.base import Dataset


class Table(Dataset):
    """Names of pictures in images.csv, and an array "responses" in responses.npz."""

    def __init__(self, path):
        with (path / "images.csv").open(newline="") as stream:
            names = [row["image"] for row in csv.DictReader(stream)]
        with np.load(path / "responses.npz") as archive:
            self.all_responses = archive["responses"]
        images = [path / "pictures" / name for name in names]
        n_voxels = self.all_responses.shape[1]
        super().__init__(name="table", n_voxels=n_voxels, images=images, rois={"first half": range(n_voxels // 2)})

    @classmethod
    def recognises(cls, path):
        return (path / "images.csv").is_file()

    def read_responses(self, rows):
        return self.all_responses[rows]
'''


@pytest.fixture(scope="session")
def table_layout(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a layout in a file outside of the repository, as it may stand in a study file."""
    file = tmp_path_factory.mktemp("layouts") / "table.py"
    file.write_text(TABLE, encoding="utf-8")
    return f"{file}:Table"


@pytest.fixture
def table(recordings: Path, tmp_path: Path) -> Path:
    """The training part of the recordings in the layout of somebody else, in another order than that of file names."""
    folder = tmp_path / "table"
    shutil.copytree(recordings / "trainingIMG", folder / "pictures")
    names = sorted((path.name for path in (folder / "pictures").iterdir()), reverse=True)
    (folder / "images.csv").write_text("\n".join(["image", *names]) + "\n", encoding="utf-8")
    np.savez(folder / "responses.npz", responses=np.load(recordings / "trainingfMRI" / "training.npy")[::-1])
    return folder


@pytest.fixture(scope="session")
def study_file(recordings: Path) -> Callable[..., Path]:
    """Write a small study file into a folder, with some lines of it replaced."""

    def write(folder: Path, *changes: tuple[str, str], dataset: Path = recordings) -> Path:
        text = STUDY.format(path=json.dumps(str(dataset)))
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path = folder / "small.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def make_spec(recordings: Path) -> MakeSpec:
    """Make the spec of the small study, with some of its fields changed."""

    def make(dataset: Path = recordings, **changes: Any) -> StudySpec:
        table = tomllib.loads(STUDY.format(path=json.dumps(str(dataset))))
        return parse(StudySpec, table | changes, "the test's study")

    return make


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking store without a run: copying it takes milliseconds where making it takes seconds."""
    from img2brain.tracking._store import TrackingStore

    home = Home(tmp_path_factory.mktemp("empty"))
    TrackingStore(home)
    return home.database


@dataclass(frozen=True)
class Finished:
    """A finished small study: its spec, its home and what became of it. No test changes it."""

    spec: StudySpec
    home: Path
    outcome: Any


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, empty_database: Path, make_spec: MakeSpec) -> Finished:
    """The small study, undisturbed."""
    from img2brain.study.runner import run_study

    home = Home(tmp_path_factory.mktemp("finished")).folder
    shutil.copyfile(empty_database, home / "mlflow.db")
    spec = make_spec()
    return Finished(spec, home, run_study(spec, home))


@pytest.fixture
def finished_copy(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the finished home, for a test that changes it."""
    home = tmp_path / "copy"
    shutil.copytree(finished.home, home, ignore=shutil.ignore_patterns("pages", "*.lock", "locks"))
    return home


@pytest.fixture(scope="session")
def given_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study file of three trials on 60 rows of features that came with the data: no network, no pass."""
    folder = tmp_path_factory.mktemp("given")
    chance = np.random.default_rng(14)
    X, W = chance.standard_normal((60, 5)), chance.standard_normal((5, 4))
    for name, array in (
        ("trainingFeatures/f.npy", X),
        ("trainingfMRI/training.npy", X @ W + chance.normal(size=(60, 4))),
    ):
        (folder / "rows" / name).parent.mkdir(parents=True)
        np.save(folder / "rows" / name, array)
    path = folder / "given.toml"
    path.write_text(
        'name = "given"\ntrials = 3\nn_components = [2, 4]\nregressors = ["ridge"]\n[dataset]\npath = "rows"\n'
        '[split]\nconfirmation = 0.2\n[[backbones]]\nname = "given"\nweights = "none"\n',
        encoding="utf-8",
    )
    return path


@dataclass(frozen=True)
class OldHome:
    """A home as commit dd6aca5 left it, in another place, and what that commit made of it.

    The study `finished` is whole and published; `unfinished` was killed while its fourth of six trials was tracked.
    """

    home: Path
    finished: Path
    unfinished: Path
    expected: dict[str, Any]


@pytest.fixture
def old_home(tmp_path: Path) -> OldHome:
    """Unpack the home of commit dd6aca5; the archive is never made again."""
    folder = tmp_path / "old"
    with tarfile.open(Path(__file__).with_name("fixtures") / "home-dd6aca5.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    return OldHome(folder / "home", folder / "finished.toml", folder / "unfinished.toml", expected)


@pytest.fixture
def new_home(tmp_path: Path, empty_database: Path, request: pytest.FixtureRequest) -> NewHome:
    """Make a home with an empty tracking store; a warm one has the features of the small study."""

    def make(name: str = "home", *, warm: bool = False) -> Path:
        home = Home(tmp_path / name).folder
        shutil.copyfile(empty_database, home / "mlflow.db")
        if warm:
            cache = request.getfixturevalue("finished").home / "cache"
            shutil.copytree(cache, home / "cache", ignore=shutil.ignore_patterns("locks", "unfinished"))
        return home

    return make


@dataclass(frozen=True)
class Kept:
    """What a home keeps of a study: what was told, and what is tracked of each trial, by number."""

    told: list[tuple[Any, ...]]
    tracked: dict[int, tuple[str, TrialRecord]]
    n_runs: int


@pytest.fixture(scope="session")
def kept() -> Callable[..., Kept]:
    """Read back what a home keeps of its only study."""

    def read(home: Path, study: str = "small") -> Kept:
        from img2brain.study.search import stored_trials
        from img2brain.tracking._store import TrackingStore
        from img2brain.tracking.reading import read_trial

        (told,) = (trials for name, trials in stored_trials(Home(home)).items() if name.rpartition("-")[0] == study)
        store = TrackingStore(Home(home))
        experiments = [item.experiment_id for item in store.client.search_experiments()]
        runs = store.client.search_runs(experiments, f"tags.`img2brain.study` LIKE '{study}-%'", max_results=1000)
        trials = [run for run in runs if "img2brain.trial" in run.data.tags]
        whole = [run for run in trials if run.info.status != "RUNNING"]
        records = [read_trial(store, run).record for run in whole]
        tracked = {record.number: (run.info.status, record) for run, record in zip(whole, records, strict=True)}
        rounded = [(t.number, t.spec.layer, t.spec.n_components, t.spec.regressor, round(t.score, 6)) for t in told]
        return Kept(rounded, tracked, len(trials))

    return read


class Process:
    """A running ``img2brain`` process."""

    def __init__(self, launcher: Launcher, pid: int, out: Path) -> None:
        self.pid, self.out = pid, out
        self._launcher = launcher
        self.code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        if self.code is None:
            self.code = self._launcher.ask({"poll": self.pid})
        return self.code

    def wait(self, timeout_s: float = 600) -> int:
        """Wait for the end, and return the exit code."""
        end = time.monotonic() + timeout_s
        while (code := self.poll()) is None:
            assert time.monotonic() < end, f"still at work after {timeout_s} s: {self.stderr}"
            time.sleep(0.02)
        return code

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the process is over."""
        if self.poll() is None:
            os.kill(self.pid, number)

    @property
    def stdout(self) -> str:
        """What was printed."""
        return (self.out / "stdout").read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """What was said on the standard error."""
        return (self.out / "stderr").read_text(encoding="utf-8")

    @property
    def error(self) -> str:
        """The one line on what was wrong; more than one of that kind, or a traceback, fails."""
        assert "Traceback" not in self.stderr, self.stderr
        lines = [line for line in self.stderr.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1, self.stderr
        assert self.stderr.splitlines()[-1] == lines[0], self.stderr
        return lines[0]


class Launcher:
    """Starts real ``img2brain`` processes, each at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Process] = []
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("launcher.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def ask(self, request: dict[str, Any]) -> Any:
        """Send a request and return the answer."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def start(
        self, *args: object, cwd: Path | None = None, user: int | None = None, env: dict[str, str] | None = None
    ) -> Process:
        """Start ``img2brain ARGS``."""
        out = self._folder / f"{len(self._started):03d}"
        out.mkdir()
        for name in ("stdout", "stderr"):
            (out / name).touch()
        request = {"args": [str(arg) for arg in args], "out": str(out), "cwd": str(cwd or self._folder)}
        process = Process(self, self.ask(request | {"user": user, "env": env or {}}), out)
        self._started.append(process)
        return process

    def run(self, *args: object, **options: Any) -> Process:
        """Run ``img2brain ARGS`` to its end."""
        process = self.start(*args, **options)
        process.wait()
        return process

    def close(self) -> None:
        """End whatever still runs."""
        for process in self._started:
            process.send(signal.SIGKILL)
        self._server.communicate()


@pytest.fixture(scope="session")
def img2brain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """The command line, as real processes."""
    launcher = Launcher(tmp_path_factory.mktemp("processes"))
    yield launcher
    launcher.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB; tests that need it skip where none can be mounted."""
    yield from mounted(tmp_path / "disk", 1)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window; tests that need it skip without one."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"no browser here: none of {', '.join(names)} is on the path")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--no-first-run", *quiet]
        )
        yield opened
        opened.close()
