"""The disk: whether the home can be written, has room, is where it says, and what killed or stopped processes left."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from img2brain.amounts import counted, size_text
from img2brain.finding import Finding
from img2brain.holders import holders, how_to_wake, is_held, is_stopped
from img2brain.home import Home
from img2brain.tracking.room import n_bytes_of

_LEAST_BYTES, _LEAST_FILES = 1_000_000_000, 10_000  # that a study of some size writes
_TO_USE = os.R_OK | os.W_OK
_TO_ENTER = _TO_USE | os.X_OK
_PARENT = attrgetter("parent")


def facts(home: Home) -> dict[str, str]:
    """Return how much room there is."""
    return {f"free at {place}": size_text(shutil.disk_usage(place).free) for place in _places(home)}


def no_files(home: Home) -> Iterator[Finding]:
    """Tell what is in place of a file of the home, such as a pipe, which to open may take for ever."""
    for path, kind in home.no_files():
        yield Finding(f"{path} must be a plain file. It is {kind}.", "Move it away, and put the file back.")


def permissions(home: Home) -> Iterator[Finding]:
    """Tell which folders and databases this user cannot use; of folders within one another the outermost."""
    for top in _places(home):
        for parent, found in groupby(sorted(_closed(top), key=_PARENT), key=_PARENT):
            first, *others = found
            more = f", and {len(others)} more in {parent}," if others else ""
            said = f"{first}{more} must be readable and writable for user {os.geteuid()}."
            yield Finding(f"{said} {_why(first)}", _opened(first if not others else parent))


def room(home: Home) -> Iterator[Finding]:
    """Tell where a disk is nearly full."""
    for place in _places(home):
        found = os.statvfs(place)
        n_bytes, n_files = found.f_bavail * found.f_frsize, found.f_favail
        if n_bytes < _LEAST_BYTES or (found.f_files and n_files < _LEAST_FILES):
            said = f"The disk of {place} must have room for a study. {size_text(n_bytes)} are free"
            advice = f"Free what can be computed again, img2brain home gc --home {_quoted(home)}, or use a larger disk."
            yield Finding(f"{said}, and {counted(n_files, 'file')}.", advice)


def place(home: Home) -> Iterator[Finding]:
    """Tell where a home does not say what it is, or was moved or copied and no command has made it know that."""
    if not home.folder.is_dir():
        return
    if not home.identity_file.exists():
        said = f"The home {home.folder} must have the file {home.identity_file.name}. It is not there."
        yield Finding(said, "Any other command makes it again, with the id that its runs carry.")
    elif home.said_folder != home.folder:
        said = f"The home {home.folder} says that it is at {home.said_folder}."
        if not (home.said_folder.exists() and home.said_folder.samefile(home.folder)):
            advice = "Any command that reads its runs lets its paths follow; where not all came with it:"
            yield Finding(said, f"{advice} img2brain home relocate --home {_quoted(home)}")


def standing(home: Home) -> Iterator[Finding]:
    """Tell which processes stand still while others wait for what they hold."""
    locks = [path for folder in home.lock_folders for path in folder.glob("*.lock")]
    for process in sorted(set(holders([*locks, home.search_log.with_suffix(".lock")]).values())):
        if is_stopped(process):
            said = f"Process {process} works with the home {home.folder}, and stands still: others wait for it."
            advice = how_to_wake(process)
            yield Finding(said, f"{advice[0].upper()}{advice[1:]}: no trial is lost.")


def leftovers(home: Home) -> Iterator[Finding]:
    """Tell what killed processes left half written; what a process is at work on is none of it."""
    if left := [path for path in _unfinished(home) if not is_held(_lock_of(path))]:
        n_bytes = sum(map(n_bytes_of, left))
        said = f"Killed processes left {size_text(n_bytes)} half written, such as {left[0]}."
        advice = "Run the same command again, or remove it: of the cache by img2brain home gc --home"
        yield Finding(said, f"{advice} {_quoted(home)}")


def _places(home: Home) -> list[Path]:
    found = (home.folder, home.cache) if home.shares_cache else (home.folder,)
    return [place for place in found if place.is_dir()]


def _closed(top: Path) -> Iterator[Path]:
    """Yield the folders below a folder that cannot be used, those within them left out, and such files at its top."""
    if not _may(top, _TO_ENTER):
        yield top
        return
    for root, folders, names in os.walk(top):
        closed = [name for name in folders if not _may(Path(root, name), _TO_ENTER)]
        yield from (Path(root, name) for name in sorted(closed))
        folders[:] = sorted({*folders} - {*closed})
        if Path(root) == top:
            yield from (path for name in sorted(names) if not _may(path := top / name, _TO_USE))


def _may(path: Path, how: int) -> bool:
    return os.access(path, how, effective_ids=os.access in os.supports_effective_ids)


def _why(path: Path) -> str:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return "Its disk is mounted to be read alone."
    found = path.stat()
    return f"It is of user {found.st_uid}, with the permissions {found.st_mode & 0o777:o}."


def _opened(path: Path) -> str:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return "Mount it to be written, or name another --home."
    return f"Let its owner give it: chown -R {os.geteuid()} {shlex.quote(str(path))}"


def _unfinished(home: Home) -> Iterator[Path]:
    """Yield what is written beside its place, in the home and its cache."""
    yield from (path for path in sorted((home.cache / "unfinished").glob("*")) if path.suffix != ".lock")
    if home.is_in_use:
        return
    for folder in (home.folder, home.leaderboards, home.datasets, *home.artifacts.glob("*/artifacts")):
        yield from sorted(path for path in folder.glob("*unfinished*") if path.suffix != ".lock")


def _lock_of(path: Path) -> Path:
    """Return the lock that who writes there holds."""
    if path.parent.name == "unfinished":
        return path.with_suffix(".lock")
    return path.with_name(path.name.replace(".unfinished", ".lock"))


def _quoted(home: Home) -> str:
    return shlex.quote(str(home.folder))
