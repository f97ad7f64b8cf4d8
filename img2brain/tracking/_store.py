"""The MLflow store: opened quietly, once, under a lock, its failures turned into one clear line."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from img2brain import secret
from img2brain._mapped import LARGE_BYTES
from img2brain._quiet import Quiet
from img2brain.errors import RecordError, TrackingError
from img2brain.home import Home
from img2brain.tracking._database import database_uri, make_ready
from img2brain.tracking._relocation import follow
from img2brain.tracking._uri import local_folder
from img2brain.tracking._version import require_same_server

T = TypeVar("T")

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines for each run on a server
    "MLFLOW_LOG_UV_FILES": "false",  # a lock file names the index that it was made with
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
# What MLflow logs as an error, with its whole stack, it raises as well: it is told once, on a line.
_QUIETLY = Quiet("mlflow", ("mlflow", "alembic", "urllib3"), logging.CRITICAL, QUIET)
_PAGE = 1000
_IS_THERE = ("RESOURCE_ALREADY_EXISTS", "BAD_REQUEST")  # the second where a database itself refuses to add it twice
_SHOWN_AS = {"mlflow.experimentKind": "custom_model_development"}  # training runs; else the pages of language models


class TrackingStore:
    """An MLflow tracking store and registry: the home's own database, or the server that the home names.

    It is told to MLflow's client alone: the URI that MLflow itself uses in this process stays as it is.

    Parameters
    ----------
    home : Home
        Holds the store (``mlflow.db`` and ``artifacts``), or names a server.

    Attributes
    ----------
    uri : str
        The tracking and registry URI.
    client : mlflow.MlflowClient
        Its client.
    lock : FileLock
        Held where processes of one home must look and then write, one after another.

    Raises
    ------
    TrackingError
        If the store cannot be opened.
    """

    def __init__(self, home: Home) -> None:
        self._local = None if home.tracking_uri else home
        self.uri = home.tracking_uri or database_uri(home.database)
        self.lock = home.lock("tracking store")
        with _QUIETLY, answering(self.uri):
            self.client = self._open()

    @property
    def is_local(self) -> bool:
        """Whether its artifacts lie in the home."""
        return self._local is not None

    def find_run(self, run_id: str) -> Any:
        """Return a run, or None where there is none of this id."""
        from mlflow.exceptions import MlflowException

        with answering(self.uri):
            try:
                return self.client.get_run(run_id)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise

    def experiment(self, name: str) -> str:
        """Return the id of the experiment of this name, made where it is not there."""
        with answering(self.uri), self.lock:
            return look_and_add(lambda: self._experiment(name))

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            where = self._local.artifacts.as_uri() if self._local else None
            return str(self.client.create_experiment(name, artifact_location=where, tags=_SHOWN_AS))
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def runs(self, experiments: Sequence[str], query: str) -> Iterator[Any]:
        """Yield the runs of some experiments that a query of MLflow's finds."""
        token = None
        while experiments:
            page = self.client.search_runs(list(experiments), query, max_results=_PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def attach(self, run: Any, path: Path, name: str) -> None:
        """Make a file an artifact of a run; on a local store as a link, so that equal content takes its space once.

        Parameters
        ----------
        run : mlflow.entities.Run
            The run.
        path : Path
            A file that never changes.
        name : str
            Where it is found among the artifacts, such as ``"model/regressor.json"``.
        """
        with self.artifacts(run) as folder:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            try:
                os.link(path, target)
            except OSError:
                shutil.copyfile(path, target)

    @contextmanager
    def artifacts(self, run: Any) -> Iterator[Path]:
        """Hand out a folder: what is written there becomes artifacts of the run, at once where the store is local."""
        local = local_folder(run.info.artifact_uri)
        if local is not None:
            local.mkdir(parents=True, exist_ok=True)
            yield local
            return
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
            self.client.log_artifacts(run.info.run_id, folder)

    def array(self, run: Any, name: str) -> np.ndarray[Any, Any] | None:
        """Read an artifact (``.npy``, never unpickled), or return None where the run has none of this name."""
        with self._artifact(run, name) as path:
            return _read_array(path) if path else None

    def text(self, run: Any, name: str) -> str | None:
        """Read an artifact that is text, damaged places marked, or return None where the run has none of this name."""
        with self._artifact(run, name) as path:
            return path.read_text(encoding="utf-8", errors="replace") if path else None

    def names(self, run: Any, folder: str) -> list[str]:
        """Name the artifacts in a folder of a run, in order."""
        local = local_folder(run.info.artifact_uri)
        if local is not None:
            return sorted(f"{folder}/{path.name}" for path in (local / folder).glob("*") if path.is_file())
        return sorted(item.path for item in self.client.list_artifacts(run.info.run_id, folder) if not item.is_dir)

    @contextmanager
    def folder(self, uri: str) -> Iterator[Path]:
        """Hand out a folder of artifacts, a copy of it where it is remote."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        local = local_folder(uri)
        if local is not None:
            yield local
            return
        with tempfile.TemporaryDirectory() as copy:
            yield Path(get_artifact_repository(uri, tracking_uri=self.uri).download_artifacts("", copy))

    @contextmanager
    def _artifact(self, run: Any, name: str) -> Iterator[Path | None]:
        """Hand out the file of an artifact, where there is one."""
        local = local_folder(run.info.artifact_uri)
        if local is not None:
            yield local / name if (local / name).is_file() else None
            return
        parent = str(Path(name).parent)
        known = {item.path for item in self.client.list_artifacts(run.info.run_id, None if parent == "." else parent)}
        with tempfile.TemporaryDirectory() as folder:
            yield Path(self.client.download_artifacts(run.info.run_id, name, folder)) if name in known else None

    def _open(self) -> Any:
        from mlflow.tracking import MlflowClient

        if self._local:
            with self.lock:
                make_ready(self._local.database, self._local.artifacts)
                follow(self._local)
                _write_ahead(self._local.database)
        client = MlflowClient(self.uri, registry_uri=self.uri)
        client.search_experiments(max_results=1)
        require_same_server(self.uri)
        return client


def look_and_add(work: Callable[[], T]) -> T:
    """Do what looks for something and adds it where it is not there; again, where another machine added it meanwhile.

    A server has no lock that machines share, and what was sent twice, since the first answer was lost, is there too.
    """
    from mlflow.exceptions import MlflowException

    try:
        return work()
    except MlflowException as error:
        if error.error_code not in _IS_THERE:
            raise
        return work()


def _read_array(path: Path, large_bytes: int = LARGE_BYTES) -> np.ndarray[Any, Any]:
    """Read an array; a large one is mapped: pages show few of the predictions of all voxels."""
    try:
        is_large = path.stat().st_size >= large_bytes
        array: np.ndarray[Any, Any] = np.load(path, mmap_mode="r" if is_large else None, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise RecordError(f"The artifact {path} must be a complete .npy of numbers or texts. It is not.") from error
    return array


def _write_ahead(database: Path) -> None:
    """Let SQLite keep a write-ahead log, as the file then says: a commit waits once for the disk, not four times."""
    with closing(sqlite3.connect(database, timeout=0)) as connection, suppress(sqlite3.OperationalError):
        # Refused while another process reads the file of a store that has none yet: the next to open it will.
        connection.execute("PRAGMA journal_mode = WAL")


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn every failure of the tracking store into one clear line, with MLflow quiet for as long.

    Raises
    ------
    TrackingError
        Naming the store and the reason.
    """
    # A store that needs MLflow has imported it when it was opened; one that does not is not made to wait for it.
    with _QUIETLY if "mlflow" in sys.modules else nullcontext():
        try:
            yield
        except Exception as error:
            if not isinstance(error, _failures()):
                raise
            reason = f"does not answer: {_reason(error)}"
            told = f"The tracking store {_shown(uri)} {_refusal(error) or reason}{_room(uri, reason)}"
            raise TrackingError(secret.without(told, uri)) from error


def _failures() -> tuple[type[Exception], ...]:
    """Return what a store raises where it does not answer, of the libraries that are in use."""
    named = {
        "mlflow.exceptions": "MlflowException",
        "sqlalchemy.exc": "SQLAlchemyError",
        "requests": "RequestException",
    }
    used = (getattr(sys.modules[module], name) for module, name in named.items() if module in sys.modules)
    return (sqlite3.Error, OSError, *used)


def _refusal(error: Exception) -> str:
    """Say that a server does not let in who asks, or does not let them do it; nothing for any other failure."""
    said, code = str(error), getattr(error, "error_code", "")
    if code == "UNAUTHENTICATED" or "error code 401" in said or "401 Client Error" in said:
        return (
            "does not know who asks. Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to an account of the "
            "server."
        )
    if code == "PERMISSION_DENIED" or "error code 403" in said or "403 Client Error" in said:
        return f"refuses: {_reason(error)}"
    return ""


def _room(uri: str, reason: str) -> str:
    """Say how much room the disk of a database has where SQLite says no more than that its disk fails."""
    folder = Path(_shown(uri)).parent
    if "disk I/O error" not in reason or not folder.is_dir():
        return ""
    return f" ({shutil.disk_usage(folder).free:,} bytes of its disk are free)"


def _reason(error: BaseException) -> str:
    """Say in one line what the database itself said, where it did; MLflow and SQLAlchemy tell it at length."""
    cause: BaseException | None = error
    said = next(iter(str(error).splitlines()), type(error).__name__)
    while cause is not None:
        if getattr(cause, "orig", None):
            return str(cause.orig)  # type: ignore[attr-defined]
        if isinstance(cause, ConnectionError | TimeoutError | socket.gaierror) and cause.strerror:
            said = cause.strerror
        cause = cause.__cause__ or cause.__context__
    return said


def _shown(uri: str) -> str:
    """Return the name of a store for a person: a database's path, a server's address."""
    from sqlalchemy.engine import make_url

    return str(make_url(uri).database) if uri.startswith("sqlite") else uri
