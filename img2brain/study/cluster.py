"""Clusters by Dask: the processes of this machine, jobs of SLURM, or the workers of a scheduler.

Scheduler, workers and this process send each other Python objects, pickled: whoever reaches one of them can run code in
all. They are for the people of a study alone.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from img2brain._quiet import ignored
from img2brain.errors import ResourceError, SpecError
from img2brain.spec import ClusterSpec

log = logging.getLogger(__name__)

_LOOK_S = 5.0  # between two looks whether anybody is at work
_NO_PAGE = "127.0.0.1:0"  # The page of a scheduler is for this machine alone, at any free port.
_PAUSE_S = 0.1  # between two looks whether the first one came


@contextmanager
def cluster_of(spec: ClusterSpec | None) -> Iterator[Cluster | None]:
    """Hand out a cluster for as long as it is needed; None where none is asked for. It starts with the first work.

    Parameters
    ----------
    spec : ClusterSpec, optional
        The cluster.

    Raises
    ------
    SpecError
        If Dask is not installed.
    """
    if spec is None:
        yield None
        return
    _require_dask()
    cluster = Cluster(spec)
    try:
        yield cluster
    finally:
        cluster.close()


class Cluster:
    """The workers of a Dask cluster. What was lost with one of them is done again by another.

    Parameters
    ----------
    spec : ClusterSpec
        Where they are, or how they are started.

    Notes
    -----
    Each use raises `ResourceError` where there is no scheduler, or no worker for as long as the study waits.
    """

    def __init__(self, spec: ClusterSpec) -> None:
        self._spec = spec
        self._starting = threading.Lock()
        self._started: Any = None
        self._seen_s = 0.0

    @property
    def _client(self) -> Any:
        with self._starting:
            if self._started is None:
                self._started = _client(self._spec)
                self._seen_s = time.monotonic()
                log.info("work goes to the cluster %s", self._started.scheduler.address)
            return self._started

    def close(self) -> None:
        """Let go of the workers, and end those that were started."""
        if self._started is not None:
            cluster = self._started.cluster
            self._started.close()
            if cluster is not None:
                cluster.close()

    @property
    def n_workers(self) -> int:
        """Count the workers."""
        return len(self._workers)

    @property
    def n_at_once(self) -> int:
        """Count the tasks that are worked on at once."""
        return sum(worker["nthreads"] for worker in self._workers.values())

    @property
    def _workers(self) -> dict[str, Any]:
        return dict(self._client.scheduler_info(n_workers=-1)["workers"])

    def submit(self, work: Any, /, *arguments: Any) -> _Asked:
        """Have a function called by a worker, on values, and on what other work gives, wherever that lies."""
        taken = [item.future if isinstance(item, _Asked) else item for item in arguments]
        with _telling("The cluster"), ignored(UserWarning):  # Dask advises against large values.
            return _Asked(self._client.submit(work, *taken, pure=False), self)

    def everywhere(self, work: Any, /, *arguments: Any) -> list[Any]:
        """Call a function in every worker, and return what each gives; of one that cannot, its error."""
        with _telling("The cluster"):
            self._await_workers()
            return list(self._client.run(work, *arguments, on_error="return").values())

    def require_workers(self) -> None:
        """Raise `ResourceError` where no worker was seen for as long as work waits."""
        if self._workers:
            self._seen_s = time.monotonic()
        elif time.monotonic() - self._seen_s > self._spec.wait_s:
            raise ResourceError(
                f"The cluster {self._client.scheduler.address} must have workers. None was there for "
                f"{self._spec.wait_s:g} s ('wait_s')."
            )

    def _await_workers(self) -> None:
        while not self._workers:
            self.require_workers()
            time.sleep(_PAUSE_S)


@dataclass(frozen=True)
class _Asked:
    """Work that was asked for."""

    future: Any
    cluster: Cluster

    def result(self) -> Any:
        """Wait for what it gives, as long as there are workers, and bring it here."""
        with _telling("The cluster"):
            while True:
                try:
                    return self.future.result(timeout=_LOOK_S)
                except TimeoutError:
                    if self.future.status == "error":  # It is the work's own.
                        raise
                    self.cluster.require_workers()


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Tell on one line where a cluster gives out; errors of the work itself are passed on as they are."""
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    try:
        yield
    except KilledWorker as error:
        raise ResourceError(
            f"{what} could not go on: workers died {error.allowed_failures + 1} times at the same work, the last one "
            f"{error.last_worker.address}. They may need more memory."
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise ResourceError(f"{what} could not go on: the scheduler is gone, or let go of the work.") from error
    except ModuleNotFoundError as error:
        raise ResourceError(f"{what} could not go on: a worker lacks a module ({error}).") from error


def _require_dask() -> None:
    try:
        import dask_jobqueue  # noqa: F401
        import distributed  # noqa: F401
    except ModuleNotFoundError:
        raise SpecError("A cluster needs Dask. Install it: pip install 'img2brain[dask]'.") from None


def _client(spec: ClusterSpec) -> Any:
    """Start what a cluster needs, and return what speaks to it."""
    from distributed import Client

    made: Callable[[ClusterSpec], Any] = {"local": _local, "slurm": _slurm}.get(spec.kind, _address)
    try:
        place = made(spec)
        return Client(place, security=_security(spec), set_as_default=False, timeout=min(spec.wait_s, 30))
    except OSError as error:
        raise ResourceError(
            f"A Dask scheduler must be at {spec.address or 'this machine'}. Got: {' '.join(str(error).split())}."
        ) from error


def _address(spec: ClusterSpec) -> str:
    return spec.address


def _local(spec: ClusterSpec) -> Any:
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=spec.workers,
        threads_per_worker=1,
        memory_limit=int(spec.memory_gb * 1e9),
        dashboard_address=_NO_PAGE,
        silence_logs=logging.ERROR,
        security=_security(spec),
        env=_threads(spec.threads),
    )


def _slurm(spec: ClusterSpec) -> Any:
    found = slurm_cluster(spec)
    found.adapt(minimum_jobs=spec.workers, maximum_jobs=spec.workers)  # A job that ends is started again.
    return found


def slurm_cluster(spec: ClusterSpec) -> Any:
    """Return a cluster of SLURM without a job yet; its ``job_script()`` says what ``sbatch`` is handed."""
    from dask_jobqueue import SLURMCluster

    exports = [f"export {name}={value}" for name, value in _threads(spec.threads).items()]
    return SLURMCluster(
        cores=1,  # One process works on one thing at a time, with as many threads of its own as it has cores.
        processes=1,
        job_cpu=spec.threads,
        memory=f"{spec.memory_gb:g}GB",
        queue=spec.queue or None,
        account=spec.account or None,
        walltime=spec.walltime,
        interface=spec.interface or None,
        job_extra_directives=[*(["--gres=gpu:1"] if spec.gpu else []), *spec.directives],
        job_script_prologue=[*exports, *spec.prologue],
        scheduler_options={"dashboard_address": _NO_PAGE},
        security=_security(spec),
    )


def _threads(n_threads: int) -> dict[str, str]:
    """Return what tells libraries how many threads a worker has."""
    return {name: str(n_threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def _security(spec: ClusterSpec) -> Any:
    if spec.tls_ca is None:
        return None
    from distributed import Security

    roles = ("client", "scheduler", "worker")
    shown = {f"tls_{role}_{kind}": os.fspath(path) for role in roles for kind, path in
             (("cert", spec.tls_cert), ("key", spec.tls_key)) if path is not None}  # fmt: skip
    return Security(tls_ca_file=os.fspath(spec.tls_ca), require_encryption=True, **shown)
