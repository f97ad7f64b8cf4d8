"""Folders that are there whole or not at all: they are written beside their place, and renamed when they are whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from img2brain.amounts import size_text
from img2brain.errors import DataError, ResourceError


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """Give an empty folder beside another one, which takes its place at the end, or goes when anything fails.

    Parameters
    ----------
    folder : Path
        The place: absent, or an empty folder.

    Raises
    ------
    DataError
        If something is there, or another process writes there.

    Notes
    -----
    What a killed process left is removed.
    """
    with unfinished(folder) as beside:
        place = beside / "whole"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        try:
            yield place
            place.replace(folder.resolve())
        finally:
            shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """Give a folder beside another one, for work towards it that one process does at a time; what is in it stays.

    Parameters
    ----------
    folder : Path
        The place: absent, or an empty folder.

    Raises
    ------
    DataError
        If something is there, or another process writes there.
    """
    folder = folder.resolve()
    require_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.unfinished")
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise DataError(f"The folder {str(folder)!r} must be written by one process. Another one is at it.") from None
    try:
        beside.mkdir(exist_ok=True)
        yield beside
    finally:
        lock.release()
        with suppress(OSError):
            Path(lock.lock_file).unlink()


def require_free(folder: Path) -> None:
    """Refuse a place where something is.

    Raises
    ------
    DataError
        If it is neither absent nor an empty folder.
    """
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise DataError(f"The folder {str(folder)!r} must be absent or empty. It is not.")


def require_room(folder: Path, n_bytes: int, what: str) -> None:
    """Refuse work for which the disk has no room, before it starts.

    Parameters
    ----------
    folder : Path
        Where it goes; the nearest folder that is there tells the disk.
    n_bytes : int
        How much it takes.
    what : str
        What it is, for messages.

    Raises
    ------
    ResourceError
        With what is needed and what is free.
    """
    there = next(place for place in (folder.resolve(), *folder.resolve().parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if n_bytes > free:
        raise ResourceError(f"{what} needs {size_text(n_bytes)} of disk. {str(there)!r} has {size_text(free)} free.")


def link_or_copy(source: Path, target: Path) -> None:
    """Make a hard link, or a copy where the file system takes none."""
    with suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)
