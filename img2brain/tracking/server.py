"""The MLflow server over a home folder."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from img2brain.errors import TrackingError
from img2brain.home import Home
from img2brain.tracking._database import database_uri, tell_sizes
from img2brain.tracking._store import QUIET
from img2brain.tracking.view import show_scores

_PAUSE_S = 0.1  # between two questions whether it answers
_GRACE_S = 10  # for a server that is told to end
_WATCH = 'read -r _; kill -s TERM -- "-$1"; sleep "$2"; kill -s KILL -- "-$1"'


def command(home: Home, host: str, port: int) -> list[str]:
    """Return the command of a small MLflow server: one worker, no job runner."""
    return [
        sys.executable, "-m", "mlflow", "server",
        "--backend-store-uri", database_uri(home.database),
        "--default-artifact-root", home.artifacts.as_uri(),
        "--host", host,
        "--port", str(port),
        "--workers", "1",
    ]  # fmt: skip


def _environment() -> dict[str, str]:
    """Return the environment of a server: of its own store, whatever server this process is told to use."""
    own = {
        name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    }
    return own | QUIET | {"MLFLOW_LOGGING_LEVEL": "ERROR", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def serve(home: Home, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve the user interface over the home's own database until it is interrupted.

    However this call ends, the server and all its processes end with it.

    Parameters
    ----------
    home : Home
        Its own database is served.
    host, port : str, int
        Where to listen.
    tell : callable
        Told the addresses, a line each, when the server answers: the runs of each dataset with their scores.

    Raises
    ------
    TrackingError
        If the port is taken, or the server ends by itself.
    """
    require_free(host, port)
    pages = show_scores(Home(home.folder))  # also makes the database before the processes race for it
    tell_sizes(home.database)
    with _running(command(home, host, port)) as server:
        while server.poll() is None and not _answers(host, port):
            time.sleep(_PAUSE_S)
        if server.poll() is None:
            for line in _addresses(host, port, pages):
                tell(line)
        code = server.wait()
    raise TrackingError(f"The MLflow server ended with code {code}.")


def require_free(host: str, port: int) -> None:
    """Raise `TrackingError` where an address is taken, or is none of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise TrackingError(f"The address {host}:{port} cannot be served: {error.strerror}.") from None


def _addresses(host: str, port: int, pages: dict[str, str]) -> list[str]:
    top = f"http://{host}:{port}"
    return [f"{name}: {top}/{page}" for name, page in pages.items()] or [top]


@contextmanager
def _running(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in a group of its own; at the end no process of the group is left."""
    server = subprocess.Popen(words, env=_environment(), stdout=subprocess.DEVNULL, start_new_session=True)
    with _watched(server):
        try:
            yield server
        finally:
            _signal(server, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                server.wait(_GRACE_S)
            _signal(server, signal.SIGKILL)
            server.wait()


@contextmanager
def _watched(server: subprocess.Popen[bytes]) -> Iterator[None]:
    """Have a server ended also where this process is killed: the pipe that the watcher reads from closes with it."""
    words = ["/bin/sh", "-c", _WATCH, "sh", str(server.pid), str(_GRACE_S)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True) as watcher:
        try:
            yield
        finally:
            watcher.kill()


def _signal(server: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to all processes of the group; its number is the server's own as long as any is there."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, number)


def _answers(host: str, port: int) -> bool:
    """Tell whether the server answers, asked directly, whatever proxy the environment names."""
    connection = http.client.HTTPConnection("127.0.0.1" if host == "0.0.0.0" else host, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
