"""Who holds the locks of files, seen from outside: none is taken for longer than a look; and a lock that says so."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

_LOCKS, _PROCESSES = Path("/proc/locks"), Path("/proc")
_STOPPED = ("T", "t")  # by a signal, or by a debugger


class WaitingLock(FileLock):
    """The lock of a file that is waited for as long as it takes; where its holder stands still, that is said once."""

    quiet_s = 5.0  # of waiting, until its holder is looked at

    def acquire(self, timeout: float | None = None, *args: Any, **options: Any) -> Any:
        """Take the lock; with a `timeout` as any other lock."""
        if timeout is not None:
            return super().acquire(timeout, *args, **options)
        is_told = False
        while True:
            try:
                return super().acquire(self.quiet_s, *args, **options)
            except Timeout:
                is_told = is_told or _tell_of_holder(Path(self.lock_file))


def _tell_of_holder(path: Path) -> bool:
    """Say who holds a lock and stands still; return whether anybody does."""
    process = holders([path]).get(path)
    if process is None or not is_stopped(process):
        return False
    log.warning("waiting for process %d, which stands still: %s", process, how_to_wake(process))
    return True


def how_to_wake(process: int) -> str:
    """Say what can be done about a process that stands still."""
    return f"let it go on (kill -CONT {process}), or end it"


@contextmanager
def flocked(path: Path, how: int) -> Iterator[None]:
    """Hold the lock of a file, which is made where it is not there; it is free when its holders end.

    Parameters
    ----------
    path : Path
        The file.
    how : int
        ``fcntl.LOCK_SH`` to share it with others or ``fcntl.LOCK_EX``, with ``fcntl.LOCK_NB`` to wait for nobody.

    Raises
    ------
    BlockingIOError
        If it is not free, and nobody is waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        fcntl.flock(stream, how)
        yield


def is_held(path: Path, shared: bool = False) -> bool:
    """Tell whether any process holds the lock of a file; nobody holds that of a file that is not there.

    Parameters
    ----------
    path : Path
        The file.
    shared : bool
        Whether many may hold it at once.
    """
    try:
        stream = path.open("rb")
    except OSError:
        return False
    with stream:
        try:
            fcntl.flock(stream, (fcntl.LOCK_EX if shared else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


def holders(paths: Iterable[Path]) -> dict[Path, int]:
    """Return the ids of the processes that hold the locks of some files, as far as this system tells them."""
    by_inode = dict[int, Path]()
    for path in paths:
        with suppress(OSError):
            by_inode[path.stat().st_ino] = path
    found = {}
    for inode, process in _held():
        if inode in by_inode and _has_open(process, by_inode[inode]):
            found[by_inode[inode]] = process
    return found


def is_stopped(process: int) -> bool:
    """Tell whether a process stands still until it is told to continue."""
    with suppress(OSError, IndexError):
        told = (_PROCESSES / str(process) / "stat").read_text(encoding="utf-8", errors="replace")
        return told.rpartition(")")[2].split()[0] in _STOPPED
    return False


def _held() -> list[tuple[int, int]]:
    """Return the inodes of the files that are locked, with who locked them; who waits for a lock is left out."""
    try:
        lines = _LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    words = [line.split() for line in lines if "->" not in line]
    return [(int(word[5].rpartition(":")[2]), int(word[4])) for word in words if word[1:2] == ["FLOCK"]]


def _has_open(process: int, path: Path) -> bool:
    """Tell whether a process has a file open: inodes of two disks may have one number."""
    folder = _PROCESSES / str(process) / "fd"
    with suppress(OSError):
        return any(_leads_to(link, path) for link in list(folder.iterdir()))
    return False


def _leads_to(link: Path, path: Path) -> bool:
    with suppress(OSError):
        return link.samefile(path)
    return False
