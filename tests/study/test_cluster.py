"""A study whose work is done by a Dask cluster finds what it finds alone."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
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
from img2brain.spec import BackboneSpec, ClusterSpec, StudySpec, parse
from img2brain.store import Store
from img2brain.study.cluster import Cluster, cluster_of, slurm_cluster

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
    keys = {name: f"{name}.pem" for name in ("tls_ca", "tls_cert", "tls_key")}
    found = parse(ClusterSpec, keys, "study.toml", tmp_path)
    assert found.tls_key == tmp_path.resolve() / "tls_key.pem"


# Long options of sbatch (SLURM 24.05) that a job of ours may have, and what each takes.
SBATCH = {
    "-J": r"[\w-]+", "-p": r"\S+", "-A": r"\S+", "-n": r"\d+", "--cpus-per-task": r"\d+", "--mem": r"\d+[KMGT]?",
    "-t": r"(\d+-)?\d+(:\d+){0,2}", "--gres": r"\w+(:\w+)?:\d+", "--constraint": r"\S+", "-e": r"\S+", "-o": r"\S+",
}  # fmt: skip


@settings(max_examples=20)
@given(
    workers=st.integers(1, 64),
    threads=st.integers(1, 128),
    memory_gb=st.floats(0.5, 2000),
    gpu=st.booleans(),
    queue=st.sampled_from(["", "gpu", "gpu,long"]),
    account=st.sampled_from(["", "lab"]),
    walltime=st.sampled_from(["30", "01:00:00", "2-00:00:00"]),
)
def test_scripts_hold_what_sbatch_takes(**asked: Any) -> None:
    spec = ClusterSpec(kind="slurm", directives=("--constraint=a100",), prologue=("module load cuda",), **asked)
    script = script_of(spec)
    options = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    found = dict(re.split("[ =]", option, maxsplit=1) for option in options)
    assert len(found) == len(options)
    for name, value in found.items():
        assert re.fullmatch(SBATCH[name], value), (name, value)
    assert found["-n"] == "1"  # one process in each job, and a GPU for it
    assert found["--cpus-per-task"] == str(spec.threads)
    assert found.get("--gres") == ("gpu:1" if spec.gpu else None)
    assert ("-p" in found, "-A" in found) == (bool(spec.queue), bool(spec.account))
    (command,) = (line for line in script.splitlines() if "dask_worker" in line)
    assert "--nthreads 1 " in command
    assert "--nworkers" not in command
    assert script.index("export OMP_NUM_THREADS") < script.index("module load cuda") < script.index(command)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=True).returncode == 0


def script_of(spec: ClusterSpec) -> str:
    found = slurm_cluster(spec)
    try:
        return str(found.job_script())
    finally:
        found.close()
