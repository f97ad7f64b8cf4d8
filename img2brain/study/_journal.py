"""The journal of all searches of a home: one file that no kill can spoil."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import stat
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import TrialState

from img2brain.errors import StoreError, lack_of
from img2brain.holders import flocked, holders, how_to_wake, is_held, is_stopped
from img2brain.home import Home
from img2brain.study._local_log import LocalLog

log = logging.getLogger(__name__)

_PATIENCE_S = 60.0  # a process at work holds the lock for milliseconds


class _DamageError(StoreError):
    """A line of the log is not as it was written."""


class _Journal(BaseJournalBackend):
    """A journal that waits for the disk when a trial ends, not at each of its lines.

    A kill loses no line: each is with the operating system at once. A power cut can lose lines after the last end of a
    trial only, and what they tell of would be asked for again anyway. The lock is free as soon as its process ends.

    Parameters
    ----------
    path : Path
        The file.
    lock : FileLock
        Held where it is written.

    Attributes
    ----------
    ends : list of int
        Where the lines end that were read, in bytes, the one that was read last too if it could not be replayed.
    """

    def __init__(self, path: Path, lock: FileLock) -> None:
        self._path, self._guard = path, lock
        self._file = path.stat().st_ino
        self.ends: list[int] = []

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        try:
            with _held(self._guard, self._path), _opened(self._path, "rb+", 0) as journal:
                self._require_same(journal.fileno())
                _append(journal.fileno(), lines)
                if any(map(_ends_a_trial, logs)):
                    os.fsync(journal.fileno())
        except OSError as error:
            raise StoreError(f"The search log {self._path} cannot be written: {error.strerror}.") from error

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        try:
            with _opened(self._path) as journal:
                del self.ends[log_number_from:]
                self._require_same(journal.fileno())
                journal.seek(self._end_within(journal.fileno()))
                yield from map(self._operation, self._whole_lines(journal))
        except OSError as error:
            raise StoreError(f"The search log {self._path} cannot be read: {error.strerror}.") from error

    def _whole_lines(self, journal: BinaryIO) -> Iterator[bytes]:
        """Yield the lines from here on; the last one is not whole while another process writes it."""
        end = journal.tell()
        for line in journal:
            if line.endswith(b"\n"):
                self.ends.append(end := end + len(line))
                yield line

    def _end_within(self, descriptor: int) -> int:
        """Return where the lines end that were read; the file was cut where it is shorter."""
        end = self.ends[-1] if self.ends else 0
        if os.fstat(descriptor).st_size < end:
            raise self._damage("was cut")
        return end

    def _operation(self, line: bytes) -> dict[str, Any]:
        """Return what a line says; none may be left out, since trials are known by their order."""
        try:
            return _operation(line)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._damage("is damaged") from error

    def _damage(self, what: str) -> _DamageError:
        return _DamageError(
            f"The search log {self._path} must stay as it is while a study is at work. Line {len(self.ends)} {what}."
            " The same command goes on: what the log lacks then is written again from the records of the runs."
        )

    def _require_same(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        if found.st_ino != self._file or not stat.S_ISREG(found.st_mode):  # numbers of files are given again
            raise StoreError(
                f"The search log {self._path} must stay while a study is at work. It was replaced; the same command "
                "goes on."
            )


class _Snapshot(BaseJournalBackend):
    """The lines of a journal as they were when they were read.

    Parameters
    ----------
    lines : sequence of bytes
        Whole ones, from the first on.

    Attributes
    ----------
    n_read : int
        How many were read, with the last one if it could not be replayed.
    """

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines, self.n_read = lines, 0

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        for number, line in enumerate(self._lines[log_number_from:], log_number_from + 1):
            self.n_read = number
            yield _operation(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise AssertionError("a journal that is read is not written")


class Reading(NamedTuple):
    """What a journal says that is read alone.

    Attributes
    ----------
    storage : JournalStorage
        Optuna's view of the lines that are sound, up to the first that is not.
    damaged : int, optional
        The number of that one, from 1; None where all whole lines are sound.
    cut : int, optional
        The number of the last line, where it is not whole, as while another process writes it.
    """

    storage: JournalStorage
    damaged: int | None
    cut: int | None


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

    @contextmanager
    def attend(self, worker: str) -> Iterator[None]:
        with flocked(_attended(self._home), fcntl.LOCK_SH), super().attend(worker):
            yield


class JournalToRead(Journal):
    """The journal of a home as it is now, for those who only look at it: whatever is damaged or left stays as it is."""

    @cached_property
    def storage(self) -> JournalStorage:
        found = read_journal(self._home.search_log)
        if found.damaged is not None:
            log.warning(
                "line %d of the search log %s is damaged: the lines before it are read, and it is left as it is",
                found.damaged, self._home.search_log,
            )  # fmt: skip
        return found.storage

    def _lives(self, worker: str) -> bool:
        return is_held(Path(self._sign_of(worker).lock_file))


def read_journal(path: Path) -> Reading:
    """Read a search log without a lock, and leave it as it is.

    Raises
    ------
    StoreError
        If it cannot be read.
    """
    try:
        with _opened(path) as journal:
            lines = list(journal)
    except OSError as error:
        raise StoreError(f"The search log {path} cannot be read: {error.strerror}.") from error
    cut = len(lines) if lines and not lines[-1].endswith(b"\n") else None
    backend = _Snapshot(lines if cut is None else lines[:-1])
    try:
        return Reading(JournalStorage(backend), None, cut)
    except Exception as error:  # as where it is replayed to be used
        _require_damage(error)
    return Reading(JournalStorage(_Snapshot(lines[: backend.n_read - 1])), backend.n_read, cut)


def open_journal(home: Home, patience_s: float = _PATIENCE_S) -> JournalStorage:
    """Open the search log of a home for a worker, made where it is not there.

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
        If it cannot be read or written, another process does not let go of it, or it is damaged and other workers are
        at work on it.
    """
    path, lock = home.search_log, FileLock(home.search_log.with_suffix(".lock"), timeout=patience_s)
    try:
        with _held(lock, path):
            _cut_unfinished(path)
            return _replayed(home, lock)
    except OSError as error:
        raise StoreError(f"The search log {path} cannot be read: {error.strerror}.") from error


def _opened(path: Path, mode: str = "rb", buffering: int = -1) -> Any:
    """Open a log, and wait for nobody: a pipe in its place would have that."""
    return open(path, mode, buffering, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def _operation(line: bytes) -> dict[str, Any]:
    """Return what a line says.

    Raises
    ------
    ValueError, KeyError, TypeError, RecursionError
        If it is damaged.
    """
    found = json.loads(line)
    JournalOperation(found["op_code"]), str(found["worker_id"])
    return dict(found)


def _attended(home: Home) -> Path:
    """Return the file whose lock all workers share that are at work on the log."""
    return Path(home.lock("workers of the search log").lock_file)


def _ends_a_trial(line: dict[str, Any]) -> bool:
    return "state" in line and TrialState(line["state"]).is_finished()


@contextmanager
def _held(lock: FileLock, path: Path) -> Iterator[None]:
    """Hold the lock of the log, and say where another process does not let go of it."""
    try:
        with lock:
            yield
    except Timeout:
        holder = holders([file := Path(lock.lock_file)]).get(file)
        still = f" Process {holder} stands still: {how_to_wake(holder)}." if holder and is_stopped(holder) else ""
        raise StoreError(
            f"The search log {path} is held by another process, which must let go of it: {lock.lock_file} was not free "
            f"for {lock.timeout:g} s.{still}"
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


def _cut_unfinished(path: Path) -> None:
    """Cut a last line that a kill left unfinished."""
    if not path.exists():
        path.touch()
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        log.warning("the unfinished last line of %s is cut", path)
        os.truncate(path, end)


def _replayed(home: Home, lock: FileLock) -> JournalStorage:
    """Replay a log, once where it is sound; one that is not is set aside from its first damaged line on."""
    path = home.search_log
    journal = _Journal(path, lock)
    try:
        return JournalStorage(journal)
    except Exception as error:  # Optuna trusts its log: on a damaged line it raises anything.
        _require_damage(error)
        with _by_nobody_else(home, len(journal.ends)):
            _set_aside(path, journal.ends[:-1])
    return JournalStorage(_Journal(path, lock))


@contextmanager
def _by_nobody_else(home: Home, line: int) -> Iterator[None]:
    """Keep workers from coming, or raise `StoreError` where some are at work: what they told must stay in their log."""
    attended = _attended(home)
    try:
        with flocked(attended, fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield
    except BlockingIOError:
        found = holders([attended]).get(attended)
        who = f", such as process {found}" if found else ""
        raise StoreError(
            f"Line {line} of the search log {home.search_log} is damaged, and others are at work on it{who}. It is set "
            "aside where none is: the same command goes on when they have ended."
        ) from None


def _require_damage(error: Exception) -> None:
    """Raise an error again that says why a log cannot be read at all, not that a line of it is damaged."""
    if (isinstance(error, StoreError) and not isinstance(error, _DamageError)) or lack_of(error):
        raise error


def _set_aside(path: Path, sound: Sequence[int]) -> None:
    """Keep of a log the lines that are sound, by where they end, and all of it beside."""
    aside = next(name for n in count(1) if not (name := path.with_name(f"{path.name}.damaged-{n}")).exists())
    try:
        os.link(path, aside)  # which takes no room
    except OSError:
        shutil.copyfile(path, aside)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(path.read_bytes()[: sound[-1] if sound else 0])
    unfinished.replace(path)
    log.warning(
        "line %d of the search log %s is damaged: the log is kept as %s, and what stood from there on is written again "
        "from the records of the runs when their study is run",
        len(sound) + 1, path, aside.name,
    )  # fmt: skip
