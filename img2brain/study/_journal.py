"""The journal of all searches of a home: one file that no kill can spoil."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.trial import TrialState

from img2brain.errors import StoreError
from img2brain.home import Home
from img2brain.study._local_log import LocalLog

log = logging.getLogger(__name__)

_PATIENCE_S = 60.0  # a process at work holds the lock for milliseconds


class _Journal(JournalFileBackend):
    """A journal that waits for the disk when a trial ends, not at each of its ten lines.

    A kill loses no line: each is with the operating system at once. A power cut can lose lines after the last end of a
    trial only, and what they tell of would be asked for again anyway. The lock is free as soon as its process ends.
    """

    def __init__(self, path: Path, lock: FileLock) -> None:
        super().__init__(str(path))
        self._path, self._guard = path, lock
        self._file = path.stat().st_ino

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        try:
            with _held(self._guard, self._path), self._path.open("rb+", buffering=0) as journal:
                self._require_same(journal.fileno())
                _append(journal.fileno(), lines)
                if any(map(_ends_a_trial, logs)):
                    os.fsync(journal.fileno())
        except OSError as error:
            raise StoreError(f"The search log {self._path} cannot be written: {error.strerror}.") from error

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        try:
            yield from super().read_logs(log_number_from)
        except OSError as error:
            raise StoreError(f"The search log {self._path} cannot be read: {error.strerror}.") from error

    def _require_same(self, descriptor: int) -> None:
        if os.fstat(descriptor).st_ino != self._file:
            raise StoreError(
                f"The search log {self._path} must stay while a study is at work. It was replaced; the same command "
                "goes on."
            )


class Journal(LocalLog):
    """The journal of a home, whose workers share a machine: a lock is free as soon as its process ends.

    Parameters
    ----------
    home : Home
        Holds the journal.
    """

    def __init__(self, home: Home) -> None:
        self._home = home

    @cached_property
    def storage(self) -> JournalStorage:
        return open_journal(self._home)

    def file_lock(self, name: str) -> FileLock:
        return self._home.lock(name)


class _Lines(BaseJournalBackend):
    """Lines that are replayed once, and counted."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines, self.n_read = lines, 0

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        for line in self._lines[log_number_from:]:
            self.n_read += 1
            yield json.loads(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise AssertionError("nothing is written")


def open_journal(home: Home, patience_s: float = _PATIENCE_S) -> JournalStorage:
    """Open the search log of a home, made where it is not there.

    A damaged log is set aside and said: what stands before the damage is kept, what stood after it is written again
    from the records of the runs when their study is run.

    Parameters
    ----------
    home : Home
        Holds the log.
    patience_s : float
        How many seconds to wait for another process that holds the log.

    Raises
    ------
    StoreError
        If it cannot be read or written, or another process does not let go of it.
    """
    path, lock = home.search_log, FileLock(home.search_log.with_suffix(".lock"), timeout=patience_s)
    try:
        with _held(lock, path):
            _mend(path)
            return JournalStorage(_Journal(path, lock))
    except OSError as error:
        raise StoreError(f"The search log {path} cannot be read: {error.strerror}.") from error


def _ends_a_trial(line: dict[str, Any]) -> bool:
    return "state" in line and TrialState(line["state"]).is_finished()


@contextmanager
def _held(lock: FileLock, path: Path) -> Iterator[None]:
    """Hold the lock of the log, and say where another process does not let go of it."""
    try:
        with lock:
            yield
    except Timeout:
        raise StoreError(
            f"The search log {path} is held by another process, which must let go of it: {lock.lock_file} was not free "
            f"for {lock.timeout:g} s."
        ) from None


def _append(descriptor: int, lines: bytes) -> None:
    """Write lines at the end, all of them or none: what others write next must not be glued to half a line."""
    end, rest = os.lseek(descriptor, 0, os.SEEK_END), lines
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        os.ftruncate(descriptor, end)
        raise


def _mend(path: Path) -> None:
    """Cut a last line that a kill left unfinished, and set a log aside that is damaged before."""
    content = path.read_bytes() if path.exists() else b""
    lines = content.splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        log.warning("the unfinished last line of %s is cut", path)
        os.truncate(path, len(content) - len(lines.pop()))
    n_sound = _n_sound(lines)
    if n_sound < len(lines):
        _set_aside(path, lines, n_sound)


def _n_sound(lines: Sequence[bytes]) -> int:
    """Count the lines before the first one that cannot be replayed."""
    replayed = _Lines(lines)
    try:
        JournalStorage(replayed)
    except Exception:  # Optuna trusts its log: on a damaged line it raises anything.
        return replayed.n_read - 1
    return len(lines)


def _set_aside(path: Path, lines: Sequence[bytes], n_sound: int) -> None:
    aside = next(name for n in count(1) if not (name := path.with_name(f"{path.name}.damaged-{n}")).exists())
    shutil.copyfile(path, aside)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(b"".join(lines[:n_sound]))
    unfinished.replace(path)
    log.warning(
        "line %d of the search log %s is damaged: the log is kept as %s, and what stood from there on is written again "
        "from the records of the runs when their study is run",
        n_sound + 1, path, aside.name,
    )  # fmt: skip
