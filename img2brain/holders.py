"""Who holds the locks of files, seen from outside: nothing is written, and no lock is taken for longer than a look."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_LOCKS, _PROCESSES = Path("/proc/locks"), Path("/proc")
_STOPPED = ("T", "t")  # by a signal, or by a debugger


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
