"""Who is at work on a study in a home, also before it has a trial: each process holds a file that names its study."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from img2brain.holders import is_held
from img2brain.home import Home

_LONGEST = 200  # of a name that is shown


class Sign:
    """A file that is held as long as a process works on a study, and says which.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def say(self, study: str) -> None:
        """Say what the study is called, its full name once that is known."""
        with contextlib.suppress(OSError):  # a full disk is for those to tell who keep results on it
            self._path.write_text(study, encoding="utf-8")


@contextlib.contextmanager
def at_work(home: Home, study: str) -> Iterator[Sign]:
    """Say that this process works on a study, until the end of the context or of the process."""
    with home.lock("signs"):
        _sweep(home)
        path = _folder(home) / f"study-{uuid.uuid4().hex}.lock"
        lock = FileLock(path)
        lock.acquire()
    try:
        sign = Sign(path)
        sign.say(study)
        yield sign
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def studies_at_work(home: Home) -> set[str]:
    """Return the names of the studies that processes of this machine work on: the full ones, where they are known."""
    return {study for path in _signs(home) if is_held(path) and (study := _said(path))}


def _sweep(home: Home) -> None:
    """Remove what killed processes left."""
    for path in _signs(home):
        if not is_held(path):
            path.unlink(missing_ok=True)


def _signs(home: Home) -> list[Path]:
    return sorted(_folder(home).glob("study-*.lock"))


def _folder(home: Home) -> Path:
    return home.lock_folders[0]


def _said(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        said = path.read_text(encoding="utf-8")[:_LONGEST]
        return said if said.isprintable() else ""
    return ""
