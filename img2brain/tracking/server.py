"""The MLflow server over a home folder."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress

from img2brain.errors import TrackingError
from img2brain.home import Home
from img2brain.tracking._database import database_uri
from img2brain.tracking._store import QUIET, TrackingStore


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


def serve(home: Home, host: str, port: int) -> None:
    """Serve the user interface over the home's own database until it is interrupted.

    Raises
    ------
    TrackingError
        If the port is taken, or the server ends by itself.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise TrackingError(f"The address {host}:{port} cannot be served: {error.strerror}.") from None
    TrackingStore(Home(home.folder))  # makes the database before the server's processes race for it
    server = subprocess.Popen(command(home, host, port), env=_environment(), start_new_session=True)
    try:
        code = server.wait()
    except KeyboardInterrupt:
        return
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    raise TrackingError(f"The MLflow server ended with code {code}.")
