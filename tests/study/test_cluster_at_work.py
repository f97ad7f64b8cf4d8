"""Whole studies on clusters, whose hosts and workers are killed, find what one process finds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from img2brain.datasets._sample import write_sample
from img2brain.home import Home
from img2brain.spec import load_study
from img2brain.study.runner import run_study
from img2brain.study.search import stored_trials
from img2brain.tracking._store import TrackingStore

STUDY = """
name = "spread"
trials = {trials}
seed = 1
sampler = "random"
n_components = [3, 8]
regressors = [{{ name = "gathering.py:Gathering", alpha = {{ low = 1.0, high = 1e6, log = true }} }}]

[dataset]
path = "recordings"

[[backbones]]
name = "squeezenet1_1"
weights = "random:0"
layers = ["features.2", "features.5", "features.12"]

[[backbones]]
name = "pixels"
weights = "random:0"
"""
GATHERING = '''
"""Ridge regression that waits for company."""

import os
import time
from pathlib import Path

from img2brain.regressors.ridge import Ridge

N_ALONE, N_FIRST, N_ALL = 3, 3, 4
solved = []


def wait_for_company():
    """Wait, before the first fit, for three processes, and after some for a fourth."""
    met = Path(os.environ["MET"])
    (met / str(os.getpid())).touch()
    solved.append(1)
    while len(list(met.iterdir())) < (N_FIRST if len(solved) <= N_ALONE else N_ALL):
        time.sleep(0.1)


class Gathering(Ridge):
    """As ridge."""

    def solve(self, state):
        """Wait first, where processes are to meet."""
        if "MET" in os.environ:
            wait_for_company()
        return super().solve(state)
'''
N_TRIALS = 24
TIMEOUT_S = 900
PROGRAM = "from img2brain.cli import main; main()"

Found = dict[int, tuple[str, NDArray[np.float32]]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Study files with their data, in shards enough that a host can be lost between two of them."""
    top = tmp_path_factory.mktemp("spread")
    write_sample(top / "recordings", n_images=200, n_voxels=20, seed=0, size=64)
    (top / "gathering.py").write_text(GATHERING, encoding="utf-8")
    for name, cluster in (("alone", ""), ("local", "[cluster]\nworkers = 2\n"), ("slurm", SLURM)):
        (top / f"{name}.toml").write_text(f"{STUDY.format(trials=N_TRIALS)}\n{cluster}", encoding="utf-8")
    return top


@dataclass
class Study:
    """A study that runs."""

    folder: Path
    file: str
    home: str
    options: tuple[str, ...] = ()
    gathers: bool = False

    def __enter__(self) -> Study:
        self.met = self.folder / f"{self.home}.met"
        self.met.mkdir()
        command = [sys.executable, "-c", PROGRAM, "study", "run", self.file, "--home", self.home, *self.options]
        environment = os.environ | ({"MET": str(self.met)} if self.gathers else {})
        self._log = (self.folder / f"{self.home}.log").open("wb")
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=self._log, stderr=self._log, env=environment)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()

    @property
    def said(self) -> str:
        return (self.folder / f"{self.home}.log").read_text(encoding="utf-8")

    def until(self, condition: Callable[[], Any]) -> Any:
        end = time.monotonic() + TIMEOUT_S
        while not (found := condition()):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.05)
        return found

    def found(self) -> Found:
        """Wait for its end, and return what it found."""
        assert self.process.wait(TIMEOUT_S) == 0, self.said
        return found_in(self.folder / self.home)

    @property
    def n_met(self) -> int:
        """Count the processes that have evaluated trials."""
        return len(list(self.met.iterdir()))


def found_in(folder: Path) -> Found:
    """Return the spec and the accuracy of each trial in a home; each is tracked once."""
    home = Home(folder)
    (told,) = stored_trials(home).values()
    store = TrackingStore(home)
    experiments = [item.experiment_id for item in store.client.search_experiments()]
    runs = list(store.runs(experiments, "tags.`img2brain.kind` = 'trial'"))
    tracked = {int(run.data.tags["img2brain.trial"]): run for run in runs}
    assert len(runs) == len(tracked) == len(told), "none lost, none twice"
    accuracy = {number: store.array(run, "accuracy.npy") for number, run in tracked.items()}
    return {trial.number: (trial.spec.label, found) for trial in told if (found := accuracy[trial.number]) is not None}


@pytest.fixture(scope="module")
def alone(folder: Path) -> Found:
    """What one process finds: this one."""
    run_study(load_study(folder / "alone.toml"), folder / "alone")
    return found_in(folder / "alone")


def require_equal(one: Found, other: Found) -> None:
    """Require the same trials, and the same numbers to what the order of sums can change in float32."""
    assert {number: label for number, (label, _) in one.items()} == {n: label for n, (label, _) in other.items()}
    largest = max(float(np.abs(values - other[number][1]).max()) for number, (_, values) in one.items())
    print(f"largest difference of a voxel's score: {largest:g}")  # noqa: T201 - shown by -s
    assert largest <= 1e-5


def helpers(pid: int) -> dict[int, int]:
    """Return the processes below one that work on trials, and the workers of the cluster beside which they do."""
    found, left = {}, [pid]
    while left:
        parent = left.pop()
        with suppress(OSError):
            for text in Path(f"/proc/{parent}/task").glob("*/children"):
                for child in map(int, text.read_text().split()):
                    left.append(child)
                    if b"\0worker\0" in Path(f"/proc/{child}/cmdline").read_bytes():
                        found[child] = parent
    return found


def test_workers_that_are_killed_are_replaced_and_the_numbers_stay(folder: Path, alone: Found) -> None:
    with Study(folder, "local.toml", "local", gathers=True) as study:
        study.until(lambda: study.n_met == 3)  # this process and two
        helper, worker = next(iter(helpers(study.process.pid).items()))
        os.kill(worker, signal.SIGKILL)
        study.until(lambda: not is_at_work(helper))
        require_equal(alone, study.found())
        assert study.n_met == 4, "one beside the worker that took its place"


def is_at_work(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False


SLURM = """
[cluster]
kind = "slurm"
workers = 2
memory_gb = 2
gpu = true
"""
SBATCH = """#!/bin/sh
here=$(dirname "$0")
if [ "$1" = --test-only ]; then cat > "$here/tested.sh"; exit 0; fi
exec 9> "$here/lock"
flock 9
number=$(($(ls "$here" | grep -c '^job-.*sh$') + 1))
cp "$1" "$here/job-$number.sh"
setsid bash "$here/job-$number.sh" > "$here/job-$number.log" 2>&1 9>&- &
echo $! > "$here/job-$number.pid"
echo "Submitted batch job $number"
"""
SCANCEL = """#!/bin/sh
kill -TERM -- "-$(cat "$(dirname "$0")/job-$1.pid")"
"""


def test_jobs_of_slurm_do_the_work_and_are_submitted_again(
    folder: Path, alone: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of SLURM run its jobs on this machine."""
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with Study(folder, "slurm.toml", "slurm", gathers=True) as study:
        study.until(lambda: study.n_met == 3)
        assert len(list(tmp_path.glob("job-*.sh"))) == 2
        os.killpg(int((tmp_path / "job-1.pid").read_text()), signal.SIGKILL)
        require_equal(alone, study.found())
        assert study.n_met == 4, "one beside the job that took its place"
    assert len(list(tmp_path.glob("job-*.sh"))) == 3
    groups = [int(path.read_text()) for path in tmp_path.glob("job-*.pid")]
    study_over = time.monotonic() + 120
    while any(map(is_there, groups)):
        assert time.monotonic() < study_over, "jobs end with the study"
        time.sleep(0.1)


def is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@dataclass
class Hosts:
    """Two hosts with a network between them, which see neither each other's files nor those of the study."""

    folder: Path
    homes: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    names: tuple[str, ...] = ("img2brain-one", "img2brain-two")
    address: str = "10.203.77.1"

    def __enter__(self) -> Hosts:
        run("ip", "link", "add", "img2brain0", "type", "bridge")
        run("ip", "addr", "add", f"{self.address}/24", "dev", "img2brain0")
        run("ip", "link", "set", "img2brain0", "up")
        for number, name in enumerate(self.names):
            run("ip", "netns", "add", name)
            run("ip", "link", "add", f"i2b{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "link", "set", f"i2b{number}", "master", "img2brain0", "up")
            run("ip", "-n", name, "addr", "add", f"{self.address_of(number)}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.started:
            process.kill()
            process.wait()
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False)
        subprocess.run(["ip", "link", "del", "img2brain0"], check=False)

    def address_of(self, number: int) -> str:
        return f"10.203.77.{number + 2}"

    def scheduler(self) -> str:
        words = ["--host", self.address, "--port", "8786", "--no-dashboard"]
        self._start([sys.executable, "-c", SCHEDULER, *words], "scheduler")
        return f"tcp://{self.address}:8786"

    def worker(self, number: int) -> subprocess.Popen[bytes]:
        """Start the worker of a host: the study and its data are hidden from it, and its home is its own."""
        words = f"tcp://{self.address}:8786 --nthreads 1 --no-nanny --no-dashboard"
        worker = f"exec {sys.executable} -m distributed.cli.dask_worker {words}"
        command = ["unshare", "-m", "sh", "-c", f"mount -t tmpfs none {self.folder} && {worker}"]
        return self._start(["ip", "netns", "exec", self.names[number], *command], self.names[number])

    def _start(self, command: list[str], name: str) -> subprocess.Popen[bytes]:
        home = self.homes / name
        home.mkdir(exist_ok=True)
        environment = os.environ | {"HOME": str(home), "TMPDIR": str(home), "XDG_CACHE_HOME": str(home)}
        with (home / "log.txt").open("ab") as log:
            process = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log)
        self.started.append(process)
        return process


# A scheduler on a machine where this package, and what it computes with, are not installed.
SCHEDULER = """
import sys
sys.modules["img2brain"] = sys.modules["torch"] = None
from distributed.cli.dask_scheduler import main
main()
"""


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture
def hosts(folder: Path, tmp_path: Path) -> Iterator[Hosts]:
    if os.geteuid() != 0 or not shutil.which("ip") or not can_be_apart():
        pytest.skip("network namespaces need their tools, and root")
    with Hosts(folder, tmp_path) as found:
        yield found


def can_be_apart() -> bool:
    """Tell whether network namespaces can be made here."""
    made = subprocess.run(["ip", "netns", "add", "img2brain-probe"], check=False, capture_output=True).returncode == 0
    return made and not subprocess.run(["ip", "netns", "del", "img2brain-probe"], check=False).returncode


@pytest.mark.parametrize("lost", ["none", "killed", "cut off"])
def test_hosts_find_what_one_process_finds_also_where_one_is_lost(
    hosts: Hosts, folder: Path, alone: Found, lost: str
) -> None:
    from distributed import Client

    address, home = hosts.scheduler(), f"hosts-{lost.split(maxsplit=1)[0]}"
    first, _ = hosts.worker(0), hosts.worker(1)
    with Client(address, set_as_default=False, timeout=120) as client:
        client.wait_for_workers(2, timeout=120)
        with Study(folder, "alone.toml", home, ("--scheduler", address)) as study:
            study.until(lambda: all(len(client.has_what()[place]) > 2 for place in client.has_what()))
            assert not list((folder / home).rglob("layers/*/*")), "features were there before a host was lost"
            if lost == "killed":
                first.kill()
            elif lost == "cut off":
                run("ip", "link", "set", "i2b0", "down")
            found = study.found()
            assert len(client.scheduler_info()["workers"]) == (2 if lost == "none" else 1)
            assert f"the home {folder / home} is not there" in study.said
    require_equal(alone, found)
