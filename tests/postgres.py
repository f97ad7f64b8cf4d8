"""A real PostgreSQL server for tests: in a folder of its own, on a port of its own, gone at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

USER, PASSWORD = "lab", "s3cret/p:w@rd%"  # as awkward as a password may be
_DEBIAN = Path("/usr/lib/postgresql")
_SETTINGS = ("-c fsync=off", "-c full_page_writes=off", "-c listen_addresses=127.0.0.1", "-c max_connections=300")


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest where there are several; None where there is none."""
    debians = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if debians:
        return debians[-1].parent
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


class Postgres:
    """A server that asks for passwords, which can be stopped as if the power went, and started again."""

    def __init__(self, folder: Path, bin_folder: Path, settings: Sequence[str] = _SETTINGS) -> None:
        self._folder, self._bin, self._settings = folder, bin_folder, settings
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._n_databases = 0

    def url(self, database: str, password: str | None = PASSWORD, port: int | None = None) -> str:
        """Return the URL of a database, with a password in it or without one."""
        secret = "" if password is None else f":{quote(password, safe='')}"
        return f"postgresql://{USER}{secret}@127.0.0.1:{port or self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database, and return its name."""
        self._n_databases += 1
        name = f"test{self._n_databases}"
        self.ask("postgres", f"CREATE DATABASE {name}")
        return name

    def ask(self, database: str, query: str) -> str:
        """Return what a query gives, as text."""
        words = [str(self._bin / "psql"), "-XAtqc", query, self.url(database, password=None)]
        asked = subprocess.run(
            words, env={**os.environ, "PGPASSWORD": PASSWORD}, capture_output=True, text=True, check=False
        )
        assert asked.returncode == 0, asked.stderr
        return str(asked.stdout).strip()

    def create(self) -> None:
        """Make the files of the server."""
        self._folder.chmod(0o755)
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        data = self._folder / "data"
        data.mkdir(mode=0o700)
        for path in (self._folder, secret, data):
            _give(path)
        words = ["--pgdata", str(data), "--username", USER, "--pwfile", str(secret), "--auth", "scram-sha-256"]
        self._run("initdb", *words, "--no-sync", "--locale", "C", "--encoding", "UTF8")

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        folder = str(self._folder)
        words = [str(self._bin / "postgres"), "-D", f"{folder}/data", "-p", str(self.port), "-k", folder]
        settings = [word for setting in self._settings for word in setting.split()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_nobody_special(), *words, *settings],
                stdout=log, stderr=log, start_new_session=True, cwd=folder,
            )  # fmt: skip
        end = time.monotonic() + 60
        while subprocess.call(
            [self._bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], stdout=subprocess.DEVNULL
        ):
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < end, (self._folder / "log").read_text()
            time.sleep(0.05)

    def cpu_s(self) -> float:
        """Return the processor seconds of the server and of its sessions, also of those that have ended."""
        assert self._process is not None
        parent, ticks = self._process.pid, 0
        for pid in (parent, *_children(parent)):
            with suppress(OSError):  # It has just ended, and counts with its parent.
                found = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
                ticks += sum(map(int, found[11:15] if pid == parent else found[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """End all of its processes as a power cut does."""
        if self._process is not None:
            children = _children(self._process.pid)
            for pid in (self._process.pid, *children):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            _wait_for_the_end_of(children)
            self._process = None

    def _run(self, program: str, *words: str) -> None:
        ended = subprocess.run(
            [*_as_nobody_special(), self._bin / program, *words],
            capture_output=True, text=True, check=False, cwd=self._folder,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout + ended.stderr


@contextmanager
def running(settings: Sequence[str] = _SETTINGS) -> Iterator[Postgres]:
    """Run a server in a temporary folder; by default one that does not wait for the disk."""
    found = programs()
    assert found is not None, "whoever asks looks first"
    with tempfile.TemporaryDirectory(prefix="pg-") as name:  # short: the path of a socket has 107 bytes
        server = Postgres(Path(name), found, settings)
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.kill()


def free_port() -> int:
    """Return a port that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _as_nobody_special() -> Sequence[str]:
    """Return the prefix by which root becomes the user `postgres`: the server refuses to run as root."""
    if os.getuid():
        return []
    user = pwd.getpwnam("postgres")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _give(path: Path) -> None:
    if not os.getuid():
        user = pwd.getpwnam("postgres")
        os.chown(path, user.pw_uid, user.pw_gid)


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return list(map(int, found.read_text().split())) if found.exists() else []


def _wait_for_the_end_of(pids: Sequence[int]) -> None:
    end = time.monotonic() + 30
    while any(_is_alive(pid) for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    return False


class Proxy:
    """A way to a server that can be cut: nobody is connected any more, and nobody gets through until it is mended."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        self._is_cut = False
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def cut(self) -> None:
        """Cut all connections."""
        self._is_cut = True
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let others through again."""
        self._is_cut = False

    def close(self) -> None:
        """Listen no more."""
        self.cut()
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (self._server, *self._open):
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                self._pass_on(near)

    def _pass_on(self, near: socket.socket) -> None:
        if self._is_cut:
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", self._to), timeout=10)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        self._open += [near, far]
        for source, target in ((near, far), (far, near)):
            self._start(_copy, source, target)

    def _start(self, work: Callable[..., None], *args: socket.socket) -> None:
        self._threads.append(threading.Thread(target=work, args=args, daemon=True))
        self._threads[-1].start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(1 << 16):
            target.sendall(content)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
