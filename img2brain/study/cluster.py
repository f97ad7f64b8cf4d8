"""Clusters by Dask: the processes of this machine, jobs of SLURM, or the workers of a scheduler.

Scheduler, workers and this process send each other Python objects, pickled: whoever reaches one of them can run code in
all. They are for the people of a study alone.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, Protocol

from img2brain._arrays import use_threads
from img2brain._forks import alone
from img2brain._quiet import Quiet, ignored
from img2brain.errors import ResourceError, SpecError
from img2brain.features.shards import N_SHARDS
from img2brain.spec import ClusterSpec
from img2brain.study._handed import handed_on
from img2brain.study.workers import thread_settings

log = logging.getLogger(__name__)

_LOOK_S = 5.0  # between two looks whether anybody is at work
_PATIENCE_S = 60.0  # for an answer of SLURM
_QUIET = Quiet("distributed", ["distributed"], logging.CRITICAL)  # It tells of each worker; what matters is raised.
_SET_BY_DASK = (*thread_settings(1), "MALLOC_TRIM_THRESHOLD_", "PYTHONHASHSEED", "__DASK_PARENT_PID")
_IN_A_ROW = 3  # kills of the process that helps beside a worker, until none is started there
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
        If Dask is not installed, or SLURM does not take its jobs.
    """
    if spec is None:
        yield None
        return
    _require_dask()
    if spec.kind == "slurm":
        _require_slurm(spec)
    cluster = Cluster(spec)
    with _QUIET, _same_environment():
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

    Attributes
    ----------
    turn : context manager
        Held by who makes something here of what comes from there.

    Notes
    -----
    Each use raises `ResourceError` where there is no scheduler, or no worker for as long as the study waits.
    """

    def __init__(self, spec: ClusterSpec) -> None:
        self._spec = spec
        self._starting = threading.Lock()
        self._started: Any = None
        self.turn: AbstractContextManager[object] = threading.Lock()
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
    def _workers(self) -> dict[str, Any]:
        return dict(self._client.scheduler_info(n_workers=-1)["workers"])

    def submit(self, work: Any, /, *arguments: Any) -> _Asked:
        """Have a function called by a worker, on values, and on what other work gives, wherever that lies."""
        given = {place: item for place, item in enumerate(arguments) if isinstance(item, _Asked)}
        values = [None if place in given else item for place, item in enumerate(arguments)]
        futures, frees = (
            [item.future for item in given.values()],
            bool(given),
        )  # Who takes shards makes room for others.
        call = handed_on(work, values, list(given))
        with _telling("The cluster"), ignored(UserWarning):  # Dask advises against large values.
            return _Asked(self._client.submit(call, *futures, pure=False, priority=int(frees)), self)

    def everywhere(self, work: Any, /, *arguments: Any) -> list[Any]:
        """Call a function in every worker, and return what each gives; of one that cannot, its error."""
        with _telling("The cluster"):
            self._await_workers()
            return list(self._client.run(work, *arguments, on_error="return").values())

    @property
    def n_networks(self) -> int:
        """How many networks images pass at once: enough that each worker has a shard, and the next one."""
        return 2 + self.n_workers // N_SHARDS

    @property
    def n_threads(self) -> int | None:
        """On how many threads each worker computes; None where whoever started it has said so."""
        return None if self._spec.kind == "scheduler" else self._spec.threads

    @contextmanager
    def helping(self, start: Callable[[], Helper | str]) -> Iterator[None]:
        """Have each worker that is there, or comes, start a process that helps, until the end of the context.

        Parameters
        ----------
        start : callable
            Starts the process, or says why that cannot be.
        """
        helpers = _Helpers(self._client, start)
        try:
            yield
        finally:
            helpers.close()

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


class Helper(Protocol):
    """A process that helps, beside a worker of a cluster."""

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        ...

    @property
    def code(self) -> int:
        """The code that it ended with, or minus the signal."""
        ...

    @property
    def reason(self) -> str:
        """Why it ended, as the end of a sentence."""
        ...

    def end(self, at_once: bool) -> None:
        """Wait for its end, which is forced where it has to end at once."""
        ...


class _Helpers:
    """One helper beside each worker of a cluster, whenever that comes.

    Parameters
    ----------
    client : distributed.Client
        Speaks to the cluster.
    start : callable
        Starts a helper.
    """

    def __init__(self, client: Any, start: Callable[[], Helper | str]) -> None:
        self._client, self._start = client, start
        self._asked: dict[str, Any] = {}
        self._told: set[str] = set()
        self._telling = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cluster", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End all helpers."""
        self._over.set()
        self._thread.join()
        with suppress(OSError, TimeoutError):  # The scheduler may be gone.
            self._client.cancel(list(self._asked.values()), force=True)

    def _watch(self) -> None:
        with suppress(OSError, TimeoutError):  # Whoever needs the cluster is told that it is gone.
            self._look()
            while not self._over.wait(_LOOK_S):
                self._look()

    def _look(self) -> None:
        """Have those help that came, and forget those that are gone."""
        there = set(self._client.scheduler_info(n_workers=-1)["workers"])
        gone = [self._asked.pop(address) for address in self._asked.keys() - there]
        if gone:
            self._client.cancel(gone, force=True)
        for address in there - self._asked.keys():
            call = handed_on(_help, [self._start])
            self._asked[address] = self._client.submit(call, workers=[address], pure=False)
            self._asked[address].add_done_callback(partial(self._tell, address))

    def _tell(self, address: str, asked: Any) -> None:
        """Say why a worker does not help, each reason once, however many have it."""
        reason = "" if asked.cancelled() else " ".join(str(asked.exception() or asked.result()).split())
        with self._telling:
            if reason and reason not in self._told:
                log.warning("images pass networks at %s, but trials are not evaluated there: %s", address, reason)
            self._told.add(reason)


def _help(start: Callable[[], Helper | str]) -> str:
    """Have a process help beside this worker, as long as somebody asks for it, and return why none does."""
    from distributed import secede

    secede()  # Shards have this worker's turn, not who waits.
    reason = ""
    for _ in range(_IN_A_ROW):
        helper = start()
        if isinstance(helper, str):
            return helper
        if not _was_killed(helper):
            return "" if helper.code == 0 else helper.reason
        reason = helper.reason
    return reason


def _was_killed(helper: Helper) -> bool:
    """Wait for the end of a helper, or end it where nobody asks for it any longer; tell whether it was killed."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    is_asked = True
    while is_asked and not helper.has_ended:
        time.sleep(_PAUSE_S)
        task = worker.state.tasks.get(key)
        is_asked = task is not None and task.state in ("executing", "long-running")
    helper.end(at_once=not is_asked)
    return is_asked and helper.code < 0


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
    if not all(find_spec(name) for name in ("distributed", "dask_jobqueue")):
        raise SpecError("A cluster needs Dask. Install it: pip install 'img2brain[dask]'.")


def _client(spec: ClusterSpec) -> Any:
    """Start what a cluster needs, and return what speaks to it."""
    from distributed import Client

    made: Callable[[ClusterSpec], Any] = {"local": _local, "slurm": _slurm}.get(spec.kind, _address)
    try:
        place = made(spec)
        client = Client(place, security=_security(spec), set_as_default=False, timeout=min(spec.wait_s, 30))
    except OSError as error:
        raise ResourceError(
            f"A Dask scheduler must be at {spec.address or 'this machine'}. Got: {' '.join(str(error).split())}."
        ) from error
    if spec.kind != "scheduler":
        client.register_plugin(_threading(spec.threads))
    return client


def _threading(n_threads: int) -> Any:
    """Return what lets each worker that comes use so many threads: the environment alone comes too late for some."""
    from distributed import WorkerPlugin

    class Threading(WorkerPlugin):
        """Sets the threads of a worker."""

        def setup(self, worker: Any) -> None:
            """Set them."""
            use_threads(n_threads)

    return Threading()


@contextmanager
def _same_environment() -> Iterator[None]:
    """Leave the environment of this process as it was: what watches a worker sets that of the worker here as well."""
    before = {name: os.environ.get(name) for name in _SET_BY_DASK}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


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
        env=thread_settings(spec.threads),
    )


def _slurm(spec: ClusterSpec) -> Any:
    found = slurm_cluster(spec)
    found.adapt(minimum_jobs=spec.workers, maximum_jobs=spec.workers)  # A job that ends is started again.
    return found


def _slurm_class() -> Any:
    """Return the class of clusters of SLURM, Ctrl-C left as it is: its library takes that over where it is imported."""
    from unittest.mock import patch

    with alone, patch.object(signal, "signal"):
        from dask_jobqueue import SLURMCluster

    return SLURMCluster


def slurm_cluster(spec: ClusterSpec) -> Any:
    """Return a cluster of SLURM without a job yet."""
    return _slurm_class()(**_job(spec), scheduler_options={"dashboard_address": _NO_PAGE})


def job_script(spec: ClusterSpec) -> str:
    """Return what ``sbatch`` is handed for each worker, but for the address of the scheduler and a number."""
    return str(_slurm_class().job_cls("tcp://127.0.0.1:8786", name="0", **_job(spec)).job_script())


def _job(spec: ClusterSpec) -> dict[str, Any]:
    exports = [f"export {name}={value}" for name, value in thread_settings(spec.threads).items()]
    return {
        "cores": 1,  # One process works on one thing at a time, with as many threads of its own as it has cores.
        "processes": 1,
        "job_cpu": spec.threads,
        "memory": f"{int(spec.memory_gb * 1e9)}B",
        "queue": spec.queue or None,
        "account": spec.account or None,
        "walltime": spec.walltime,
        "interface": spec.interface or None,
        "job_extra_directives": [*(["--gres=gpu:1"] if spec.gpu else []), *spec.directives],
        "job_script_prologue": [*exports, *spec.prologue],
        "python": shlex.quote(sys.executable),
        "security": _security(spec),
    }


def _require_slurm(spec: ClusterSpec) -> None:
    """Ask SLURM whether it would take a job; none is submitted."""
    interfaces = [name for _, name in socket.if_nameindex()]
    if spec.interface and spec.interface not in interfaces:
        raise SpecError(
            f"The 'interface' of the cluster must be one of {', '.join(interfaces)}. Got {spec.interface!r}."
        )
    try:
        asked = subprocess.run(
            ["sbatch", "--test-only"], input=job_script(spec), text=True, capture_output=True, timeout=_PATIENCE_S,
            check=False,
        )  # fmt: skip
    except OSError as error:
        raise SpecError(f"A cluster of kind 'slurm' needs the command sbatch: {error.strerror}.") from None
    except subprocess.TimeoutExpired:
        raise ResourceError(f"SLURM must answer sbatch within {_PATIENCE_S:g} s. It did not.") from None
    if asked.returncode:
        said = " ".join(asked.stderr.split()).rstrip(".")
        raise SpecError(f"The jobs of the cluster must be such that sbatch takes them. It says: {said}.")


def _security(spec: ClusterSpec) -> Any:
    if spec.tls_ca is None:
        return None
    from distributed import Security

    roles = ("client", "scheduler", "worker")
    shown = {f"tls_{role}_{kind}": os.fspath(path) for role in roles for kind, path in
             (("cert", spec.tls_cert), ("key", spec.tls_key)) if path is not None}  # fmt: skip
    return Security(tls_ca_file=os.fspath(spec.tls_ca), require_encryption=True, **shown)
