"""A study whose work is done by a Dask cluster finds what it finds alone."""

from __future__ import annotations

import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from img2brain import digest
from img2brain.datasets._images import find_images
from img2brain.errors import ResourceError, SpecError
from img2brain.features.network import NetworkFeatures
from img2brain.home import Home
from img2brain.spec import BackboneSpec, ClusterSpec, StudySpec, parse
from img2brain.store import Store
from img2brain.study._handed import handed_on
from img2brain.study.cluster import Cluster, cluster_of, job_script
from img2brain.study.joining import Joining
from img2brain.study.workers import Command, Warned, Worker

TLS = ("tls_ca", "tls_cert", "tls_key")
SPEC = BackboneSpec(name="squeezenet1_1", weights="random:0", layers=("features.2", "features.12"))


def in_this_process(n_workers: int) -> Any:
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        dashboard_address="127.0.0.1:0",
        memory_limit=0,
        silence_logs=logging.ERROR,
    )


@pytest.fixture(scope="module")
def scheduler() -> Iterator[Any]:
    """A scheduler with two workers, all in this process, that are reached as any others are."""
    with in_this_process(2) as cluster:
        yield cluster


@pytest.fixture
def cluster(scheduler: Any) -> Iterator[Cluster]:
    with cluster_of(ClusterSpec(kind="scheduler", address=scheduler.scheduler_address, wait_s=60)) as found:
        assert found is not None
        yield found


def test_features_of_a_cluster_are_those_of_this_process(cluster: Cluster, recordings: Path, tmp_path: Path) -> None:
    images = find_images(recordings / "trainingIMG")[:24]
    one, other = (bank(images, tmp_path / name, hands) for name, hands in (("one", None), ("other", cluster)))
    for features in (one, other):
        features.extract()
    assert list(one._store.keys("layers")) == list(other._store.keys("layers"))
    for layer in SPEC.single_layers:
        first, second = (item.components(layer, np.arange(12), 4) for item in (one, other))
        np.testing.assert_allclose(first.coordinates, second.coordinates, rtol=1e-4, atol=1e-4)


def bank(images: tuple[Path, ...], folder: Path, hands: Cluster | None) -> NetworkFeatures:
    digests = [digest.of_file(path) for path in images]
    rows = np.arange(0, len(images), 2)
    return NetworkFeatures(SPEC, images, digests, Store(folder), rows, 6, device="cpu", hands=hands)


@pytest.mark.slow
def test_local_workers_have_their_threads_and_leave_this_process_as_it_was() -> None:
    before = dict(os.environ)
    with cluster_of(ClusterSpec(workers=1, threads=2)) as found:
        assert found is not None
        assert found.submit(threads_of).result() == {2}
    assert dict(os.environ) == before


def threads_of() -> set[int]:
    import torch
    from threadpoolctl import threadpool_info

    return {torch.get_num_threads(), *(item["num_threads"] for item in threadpool_info())}


def test_work_is_handed_on_by_who_cannot_import_it() -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    call = handed_on(digest.of_value, [None], [0])
    sent = cloudpickle.dumps(call)
    code = (
        "import sys, cloudpickle; sys.modules['img2brain'] = None; "
        "held = cloudpickle.loads(sys.stdin.buffer.read()); sys.stdout.buffer.write(cloudpickle.dumps(held))"
    )
    passed_on = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=False)
    assert passed_on.returncode == 0, passed_on.stderr
    assert cloudpickle.loads(passed_on.stdout)({"a": 1}) == digest.of_value({"a": 1})
    assert handed_on(divmod, [7, None], [1])(2) == (3, 1)


def test_errors_of_work_are_what_they_were(cluster: Cluster) -> None:
    with pytest.raises(SpecError, match="as it was"):
        cluster.submit(fail, SpecError("as it was")).result()
    with pytest.raises(TimeoutError):
        cluster.submit(fail, TimeoutError("of the work")).result()
    with pytest.raises(ResourceError, match="lacks a module"):
        cluster.submit(fail, ModuleNotFoundError("No module named 'mine'")).result()


def fail(error: Exception) -> None:
    raise error


def test_cluster_without_workers_is_told_on_one_line() -> None:
    with (
        in_this_process(0) as empty,
        cluster_of(ClusterSpec(kind="scheduler", address=empty.scheduler_address, wait_s=0.5)) as found,
    ):
        assert found is not None
        with pytest.raises(ResourceError, match=r"must have workers\. None was there for 0\.5 s"):
            found.everywhere(fail)


def test_scheduler_that_is_not_there_is_told_on_one_line() -> None:
    with cluster_of(ClusterSpec(kind="scheduler", address="tcp://127.0.0.1:9", wait_s=0.5)) as found:
        assert found is not None
        with pytest.raises(ResourceError, match=r"A Dask scheduler must be at tcp://127.0.0.1:9. Got: "):
            found.submit(fail, SpecError(""))


def test_ctrl_c_stays_as_it_is() -> None:
    code = (
        "import signal, threading; from img2brain.spec import ClusterSpec; from img2brain.study import cluster\n"
        "spec = ClusterSpec(kind='slurm')\n"
        "thread = threading.Thread(target=lambda: print(len(cluster.job_script(spec)) > 0)); thread.start()\n"
        "thread.join(); print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert asked.stdout.split() == ["True", "True"], asked.stderr


def test_without_dask_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SpecError, match=r"A cluster needs Dask\. Install it"), cluster_of(ClusterSpec()):
        pass


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"kind": "scheduler"}, "a cluster of kind 'scheduler' needs an 'address'"),
        ({"kind": "local", "queue": "gpu"}, "'queue' is of a cluster of kind 'slurm'"),
        ({"kind": "local", "address": "tcp://a:1"}, "'address' is of a cluster of kind 'scheduler'"),
        ({"kind": "scheduler", "address": "tcp://a:1", "workers": 2}, "'workers' is of a cluster of kind"),
        ({"kind": "scheduler", "address": "http://a"}, "'address' must be such as 'tcp://HOST:8786'"),
        ({"kind": "slurm", "directives": ["--constraint=a\n#SBATCH -A other"]}, "an option of sbatch"),
        ({"kind": "slurm", "prologue": ["a\nb"]}, "must be one line"),
        ({"kind": "slurm", "queue": "gpu --account=other"}, "neither blanks nor quotes"),
        ({"kind": "slurm", "walltime": "soon"}, "as sbatch takes it"),
        ({"kind": "slurm", "walltime": "\u0663\u0660"}, "as sbatch takes it"),
        ({"kind": "slurm", "directives": ["--array=1-4"]}, "must be said by 'workers', not by the 'directives'"),
        ({"kind": "slurm", "directives": ["-n4"]}, "must be said by 'workers'"),
        ({"kind": "slurm", "directives": ["--part x"]}, "must be said by 'queue'"),
        ({"kind": "slurm", **dict.fromkeys(TLS, "/my keys/a.pem")}, "must be without blanks and quotes"),
        ({"tls_ca": "ca.pem"}, "TLS needs 'tls_ca', 'tls_cert' and 'tls_key'"),
        ({"workers": 0}, "'workers' must be >= 1"),
    ],
)  # fmt: skip
def test_bad_cluster_is_refused(table: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=re.escape(told)):
        parse(ClusterSpec, table, "study.toml")


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"kind": "scheduler", "address": "ftp://x"}, "'cluster.address' must be such as 'tcp://HOST:8786'. Got 'ftp://x'"),
        ({"kind": "slurm", "walltime": "soon"}, "'cluster.walltime' must be such as '30', '01:00:00'"),
    ],
)  # fmt: skip
def test_bad_cluster_of_a_study_is_refused_in_the_words_of_its_key(table: dict[str, Any], told: str) -> None:
    study: dict[str, Any] = {"name": "s", "n_components": [2], "regressors": ["ridge"]}
    study["backbones"] = [{"name": "pixels", "weights": "random:0"}]
    with pytest.raises(SpecError, match=re.escape(told)):
        parse(StudySpec, study | {"cluster": table}, "study.toml")


def test_certificates_lie_beside_the_study_file(tmp_path: Path) -> None:
    keys = {name: f"{name}.pem" for name in TLS}
    found = parse(ClusterSpec, keys, "study.toml", tmp_path)
    assert found.tls_key == tmp_path.resolve() / "tls_key.pem"


# What sbatch documents (SLURM 24.05): short options with their long ones, and long options of their own.
SBATCH = [
    "-A",
    "--account",
    "-a",
    "--array",
    "-b",
    "--begin",
    "-B",
    "--extra-node-info",
    "-c",
    "--cpus-per-task",
    "-C",
    "--constraint",
    "-d",
    "--dependency",
    "-D",
    "--chdir",
    "-e",
    "--error",
    "-F",
    "--nodefile",
    "-G",
    "--gpus",
    "-H",
    "--hold",
    "-h",
    "--help",
    "-I",
    "--immediate",
    "-i",
    "--input",
    "-J",
    "--job-name",
    "-k",
    "--no-kill",
    "-L",
    "--licenses",
    "-M",
    "--clusters",
    "-m",
    "--distribution",
    "-N",
    "--nodes",
    "-n",
    "--ntasks",
    "-O",
    "--overcommit",
    "-o",
    "--output",
    "-p",
    "--partition",
    "-q",
    "--qos",
    "-Q",
    "--quiet",
    "-S",
    "--core-spec",
    "-s",
    "--oversubscribe",
    "-t",
    "--time",
    "-V",
    "--version",
    "-v",
    "--verbose",
    "-W",
    "--wait",
    "-w",
    "--nodelist",
    "-x",
    "--exclude",
    "--acctg-freq",
    "--batch",
    "--bb",
    "--bbf",
    "--cluster-constraint",
    "--comment",
    "--container",
    "--container-id",
    "--contiguous",
    "--cores-per-socket",
    "--cpu-freq",
    "--cpus-per-gpu",
    "--deadline",
    "--delay-boot",
    "--exclusive",
    "--export",
    "--export-file",
    "--extra",
    "--get-user-env",
    "--gid",
    "--gpu-bind",
    "--gpu-freq",
    "--gpus-per-node",
    "--gpus-per-socket",
    "--gpus-per-task",
    "--gres",
    "--gres-flags",
    "--hint",
    "--ignore-pbs",
    "--kill-on-invalid-dep",
    "--mail-type",
    "--mail-user",
    "--mcs-label",
    "--mem",
    "--mem-bind",
    "--mem-per-cpu",
    "--mem-per-gpu",
    "--mincpus",
    "--network",
    "--nice",
    "--no-requeue",
    "--ntasks-per-core",
    "--ntasks-per-gpu",
    "--ntasks-per-node",
    "--ntasks-per-socket",
    "--open-mode",
    "--parsable",
    "--power",
    "--prefer",
    "--priority",
    "--profile",
    "--propagate",
    "--reboot",
    "--requeue",
    "--reservation",
    "--resv-ports",
    "--segment",
    "--signal",
    "--sockets-per-node",
    "--spread-job",
    "--stepmgr",
    "--switches",
    "--test-only",
    "--thread-spec",
    "--threads-per-core",
    "--time-min",
    "--tmp",
    "--tres-bind",
    "--tres-per-task",
    "--uid",
    "--usage",
    "--use-min-nodes",
    "--wait-all-nodes",
    "--wckey",
    "--wrap",
]
FORMS = {  # of the values of those that scripts have by themselves
    "-J": r"[\w-]+", "-p": r"[^\s,]+(,[^\s,]+)*", "-A": r"\S+", "-n": r"1", "--cpus-per-task": r"[1-9][0-9]*",
    "--mem": r"[1-9][0-9]*[KMGT]?", "-t": r"[0-9]+(:[0-9]+){0,2}|[0-9]+-[0-9]+(:[0-9]+){0,2}", "--gres": r"gpu:1",
}  # fmt: skip
DIRECTIVES = {"--constraint=a100": "--constraint", "-q high": "-q", "--exclusive": "--exclusive", "-x=node7": "-x"}


def options_of(script: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    found = {(words := re.split("[ =]", line, maxsplit=1))[0]: words[-1] for line in lines}
    assert len(found) == len(lines), "none is said twice"
    return found


@settings(max_examples=20)
@given(
    workers=st.integers(1, 64),
    threads=st.integers(1, 128),
    memory_gb=st.floats(0.5, 2000),
    gpu=st.booleans(),
    queue=st.sampled_from(["", "gpu", "gpu,long"]),
    account=st.sampled_from(["", "lab"]),
    walltime=st.sampled_from(["30", "30:00", "01:00:00", "2-00", "2-12:30", "2-00:00:00"]),
    directives=st.sets(st.sampled_from(sorted(DIRECTIVES))).map(tuple),
)
def test_scripts_hold_what_sbatch_takes(directives: tuple[str, ...], **asked: Any) -> None:
    spec = ClusterSpec(kind="slurm", directives=directives, prologue=("module load cuda",), **asked)
    script = job_script(spec)
    found = options_of(script)
    assert set(found) <= set(SBATCH)
    assert set(found) - set(FORMS) == {DIRECTIVES[text] for text in directives}
    for name in found.keys() & FORMS.keys():
        assert re.fullmatch(FORMS[name], found[name]), (name, found[name])
    assert found["--cpus-per-task"] == str(spec.threads)
    assert found.get("--gres") == ("gpu:1" if spec.gpu else None)
    assert ("-p" in found, "-A" in found) == (bool(spec.queue), bool(spec.account))
    assert int(found["--mem"][:-1]) * 1024 ** " KMGT".index(found["--mem"][-1]) >= int(spec.memory_gb * 1e9)
    (command,) = (line for line in script.splitlines() if "dask_worker" in line)
    assert "--nthreads 1 " in command
    assert "--nworkers" not in command
    assert script.index("export OMP_NUM_THREADS") < script.index("module load cuda") < script.index(command)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=True).returncode == 0


def test_jobs_show_their_certificates(tmp_path: Path) -> None:
    files = {key: tmp_path / f"{key}.pem" for key in TLS}
    spec = parse(ClusterSpec, {"kind": "slurm", **files}, "study.toml")
    (command,) = (line for line in job_script(spec).splitlines() if "dask_worker" in line)
    for option, path in zip(("--tls-ca-file", "--tls-cert", "--tls-key"), files.values(), strict=True):
        assert f"{option} {path}" in command


SBATCH_COMMAND = """#!{python}
import pathlib, sys
script = sys.stdin.read()
pathlib.Path(__file__).with_name("seen.sh").write_text(script)
if "-p nowhere" in script:
    sys.exit("sbatch: error: invalid partition specified: nowhere\\nallocation failure: Invalid partition name")
sys.exit(0 if sys.argv[1:] == ["--test-only"] else 3)
"""


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command sbatch that knows no partition of the name nowhere."""
    path = tmp_path / "bin" / "sbatch"
    path.parent.mkdir()
    path.write_text(SBATCH_COMMAND.format(python=sys.executable), encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    return path


def test_slurm_is_asked_before_work_starts(sbatch: Path) -> None:
    spec = ClusterSpec(kind="slurm", queue="gpu", gpu=True)
    with cluster_of(spec) as found:
        assert found is not None
    assert options_of(sbatch.with_name("seen.sh").read_text(encoding="utf-8")) == options_of(job_script(spec))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (
            {"kind": "slurm", "queue": "nowhere"},
            "It says: sbatch: error: invalid partition specified: nowhere allocation failure: Inv",
        ),
        ({"kind": "slurm", "interface": "ib77"}, r"The 'interface' of the cluster must be one of lo.* Got 'ib77'"),
    ],
)
def test_jobs_that_slurm_refuses_are_refused(sbatch: Path, asked: dict[str, str], told: str) -> None:
    with pytest.raises(SpecError, match=told), cluster_of(parse(ClusterSpec, asked, "study.toml")):
        pass


def test_without_slurm_its_jobs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SpecError, match="needs the command sbatch"), cluster_of(ClusterSpec(kind="slurm")):
        pass


def test_help_is_had_from_workers_that_share_the_store(tmp_path: Path) -> None:
    home = Home(tmp_path / "home", storage="postgresql://lab:secret@db/searches", tracking_uri="http://a:secret@b:5000")
    there = Joining.of("s-1", home, 2)
    assert "secret" not in repr(there)
    assert pickle.loads(pickle.dumps(there)) == there
    assert there._obstacle() == ""
    assert replace(there, machine="another")._obstacle() == ""
    assert replace(there, folder=tmp_path)._obstacle() == f"the home {tmp_path} is not there"
    other = replace(there, machine="another")
    for lacking in (replace(other, storage=None), replace(other, tracking_uri=None)):
        assert lacking.start() == "trials of several machines need '--storage postgresql://...' and '--tracking-uri'"


def test_each_worker_has_a_helper_until_the_end(scheduler: Any, cluster: Cluster, tmp_path: Path) -> None:
    with cluster.helping(partial(sleeper, tmp_path)):
        wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
        first, _ = (int(path.name) for path in tmp_path.iterdir())
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: len(list(tmp_path.iterdir())) == 3)
        assert cluster.submit(len, "abc").result() == 3, "workers have a turn beside"
    wait_for(lambda: not any(Path("/proc", path.name).exists() for path in tmp_path.iterdir()))


def sleeper(folder: Path) -> Worker:
    command = Command("s-1", Home(folder.parent / "home"), None, [sys.executable, "-c", "import sys; sys.stdin.read()"])
    started = Worker(1, command, Warned())
    (folder / str(started._process.pid)).touch()
    return started


def wait_for(happens: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_why_a_worker_does_not_help_is_said_once(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

    with cluster.helping(partial(str, "the home is not there")):
        wait_for(told)
        time.sleep(0.1)
    (line,) = told()
    assert re.fullmatch(r"images pass networks at \S+, but trials are not .* there: the home is not there", line)
