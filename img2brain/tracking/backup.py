"""Backups: a home copied while it is in use, and brought back whole or not at all.

A backup is a folder, or a zip file, of ``backup.json`` and ``content/``: each file once, under its digest. What was
searched is taken first, then what was tracked of it, then the files that this names: a trial that ends meanwhile is in
none of them, or in the first alone, and a study that goes on in the restored home takes it from there.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from img2brain import beside, digest, untrusted
from img2brain.errors import DataError, Img2BrainError, ResourceError, lack_of
from img2brain.home import Home
from img2brain.progress import track
from img2brain.records.backup import BackupFileRecord, BackupRecord
from img2brain.records.code import this_code
from img2brain.tracking._relocation import follow
from img2brain.tracking._store import answering

MANIFEST = "backup.json"
_CONTENT = "content"
_LIMITS = untrusted.Limits(n_files=20_000_000, n_bytes=1 << 46)
_LONGEST_MANIFEST = 1 << 32  # bytes: some millions of files
_BLOCK = 1 << 20
_NOT_KEPT = ("locks", "lost+found")
_PASSING = (".lock", ".probe", "-wal", "-shm", "-journal", ".unfinished")  # ends of names in the home's own folder
_OTHER_ARCHIVES = (".7z", ".bz2", ".gz", ".tar", ".tgz", ".xz", ".zst")
_ATTEMPTS = 5  # at a file that is written meanwhile

Put = Callable[[Path, str], None]


@dataclass(frozen=True)
class Backup:
    """A backup that was made or brought back.

    Attributes
    ----------
    path : Path
        Where it is.
    record : BackupRecord
        What it holds.
    """

    path: Path
    record: BackupRecord

    @property
    def n_bytes(self) -> int:
        """What its files take, those of the same content once."""
        return sum({item.digest: item.size for item in self.record.files.values()}.values())


def backup(home: Home, path: Path, *, with_cache: bool = False) -> Backup:
    """Copy what a home holds, while studies may be at work in it.

    Parameters
    ----------
    home : Home
        The home. What a server or a database elsewhere holds is not in it: these have backups of their own.
    path : Path
        A folder that is absent or empty, or a file ``.zip`` that is absent.
    with_cache : bool
        Whether the cache is copied too, which can be computed again.

    Returns
    -------
    Backup

    Raises
    ------
    DataError
        If something is at the place, it is in the home, or it is named like an archive of another kind.
    StoreError
        If a file of the home cannot be read.
    ResourceError
        If the disk has no room.
    """
    place = path.resolve()
    if path.suffix in _OTHER_ARCHIVES:
        raise DataError(f"A backup must be a folder or a file .zip. Got {str(path)!r}.")
    if place.is_relative_to(home.folder):
        raise DataError(f"A backup must be outside of its home {str(home.folder)!r}. Got {str(path)!r}.")
    made = datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    with home.in_use(), _written(path) as (folder, put):
        files, left_out = _take(home, folder, put, with_cache=with_cache)
        record = BackupRecord(home=home.id, made=made, code=this_code(), left_out=tuple(left_out), files=files)
        (folder / MANIFEST).write_text(record.to_json(), encoding="utf-8")
        put(folder / MANIFEST, MANIFEST)
    return Backup(path, record)


def restore(path: Path, folder: Path) -> Backup:
    """Bring a home back from a backup, every file as its digest says.

    Parameters
    ----------
    path : Path
        The backup: a folder or a zip file, of anybody.
    folder : Path
        Where the home will be: absent, or an empty folder. No home is ever overwritten.

    Returns
    -------
    Backup

    Raises
    ------
    DataError
        If it is no backup, a file is absent or damaged, or something is at the place.
    ResourceError
        If the disk has no room.
    """
    beside.require_free(folder)
    with _opened(path) as (names, read), _enough(folder):
        record = _manifest(path, names, read)
        beside.require_room(folder, _room(record), f"The home in {path.name!r}")
        with beside.whole(folder) as place:
            shared: dict[str, Path] = {}
            for name, item in track(record.files.items(), len(record.files), f"restoring {path.name}"):
                _bring(path, name, item, place / name, read, shared)
            os.sync()
    _settle(Home(folder))
    return Backup(path, record)


def _settle(home: Home) -> None:
    """Let the paths of a restored home lead to where it is; where they cannot, its first use says so."""
    if home.database.exists():
        with suppress(Img2BrainError), answering(str(home.database)), home.lock("tracking store"):
            follow(home)


def _take(home: Home, folder: Path, put: Put, *, with_cache: bool) -> tuple[dict[str, BackupFileRecord], list[str]]:
    """Put each file of a home into a backup, in the order that lets what is at work be gone on with."""
    files: dict[str, BackupFileRecord] = {}
    left_out = _elsewhere(home)
    known: set[str] = set()
    names = _names(home, left_out, with_cache=with_cache)
    beside.require_room(folder, _taken_room(home.folder / name for name in names), "The backup")
    for name in track(names, len(names), f"backing up {home.folder}"):
        copy = folder / "copy"
        with suppress(FileNotFoundError):  # What is gone meanwhile was of no run.
            shared = _copy(home, home.folder / name, copy)
            item = BackupFileRecord(digest=digest.of_file(copy), size=copy.stat().st_size, shared=shared)
            files[name] = item
            if item.digest not in known:
                put(copy, _place(item.digest))
                known.add(item.digest)
        copy.unlink(missing_ok=True)
    return files, left_out


def _taken_room(paths: Iterable[Path]) -> int:
    """Return what some files take of the disk, each once that has several names; what is gone meanwhile is left out."""
    found: dict[tuple[int, int], int] = {}
    for path in paths:
        with suppress(FileNotFoundError):
            status = path.stat()
            found[status.st_dev, status.st_ino] = status.st_size
    return sum(found.values())


def _elsewhere(home: Home) -> list[str]:
    """Tell what of a home is kept elsewhere."""
    found = ["runs and models, which are on a tracking server"] if home.tracking_uri else []
    is_here = home.search_file is not None and home.search_file.is_relative_to(home.folder)
    return found if is_here else [*found, "searches, which are in a database elsewhere"]


def _names(home: Home, left_out: list[str], *, with_cache: bool) -> list[str]:
    """Name the files of a home, what was searched first, then what was tracked, then all others."""
    databases = sorted({path.name for path in home.folder.glob("*.db")} - {home.database.name})
    first = [home.search_log.name, *databases, home.database.name]
    found = [path.relative_to(home.folder).as_posix() for path in _files(home, left_out, with_cache=with_cache)]
    return sorted(found, key=lambda name: first.index(name) if name in first else len(first))


def _files(home: Home, left_out: list[str], *, with_cache: bool) -> Iterator[Path]:
    """Yield the plain files of a home: those of a folder before those in its folders, which a record names."""
    skipped = {
        home.folder: (*_NOT_KEPT, *(() if with_cache else ("cache",))),
        home.folder / "cache": ("locks", "unfinished"),
    }
    for root, folders, names in os.walk(home.folder):
        here = Path(root)
        folders[:] = sorted(name for name in folders if name not in skipped.get(here, ()) and name[0] != ".")
        for name in sorted(names):
            if not _passes(name, is_top=here == home.folder) and stat.S_ISREG((here / name).lstat().st_mode):
                yield here / name
        left_out += [f"{here / name}, which is a link" for name in (*folders, *names) if (here / name).is_symlink()]


def _passes(name: str, *, is_top: bool) -> bool:
    """Tell a file that is there only while something is at work."""
    return name[0] == "." or (is_top and (name.endswith(_PASSING) or ".unfinished-" in name))


def _copy(home: Home, source: Path, target: Path) -> bool:
    """Copy a file as it is at one moment, and tell whether it shares its place on the disk with others."""
    if source.parent == home.folder and source.suffix == ".db":
        _copy_database(source, target)
        return False
    for _ in range(_ATTEMPTS):
        before = source.stat()
        shutil.copyfile(source, target)
        after = source.stat()
        if source in (home.search_log, home.looks):
            _cut(target)
            return False
        if _stamp(before) == _stamp(after):
            break
    return after.st_nlink > 1


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _copy_database(source: Path, target: Path) -> None:
    """Let SQLite copy a database that others may be writing into."""
    with (
        answering(str(source)),
        closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, timeout=60)) as kept,
        closing(sqlite3.connect(target)) as copy,
    ):
        try:
            kept.backup(copy)
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise ResourceError(f"The backup cannot be finished: no room for {source.name}.") from error
            raise


def _cut(path: Path) -> None:
    """Cut what follows the last whole line: it is being written."""
    content = path.read_bytes()
    os.truncate(path, content.rfind(b"\n") + 1)


@contextmanager
def _written(path: Path) -> Iterator[tuple[Path, Put]]:
    """Hand out a folder to work in, and what takes files; the backup is there whole at the end or not at all."""
    with _enough(path):
        if path.suffix == ".zip":
            yield from _zip_written(path)
        else:
            yield from _folder_written(path)


def _folder_written(path: Path) -> Iterator[tuple[Path, Put]]:
    with beside.whole(path) as folder, tempfile.TemporaryDirectory(dir=folder) as work:

        def put(file: Path, name: str) -> None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            file.replace(folder / name)

        yield Path(work), put
        os.sync()


def _zip_written(path: Path) -> Iterator[tuple[Path, Put]]:
    if path.is_symlink() or path.exists():
        raise DataError(f"The file {str(path)!r} must be absent. It is not.")
    with beside.unfinished(path) as folder:
        try:
            with zipfile.ZipFile(folder / path.name, "w") as archive:
                yield folder, archive.write
            os.sync()
            (folder / path.name).replace(path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _enough(path: Path) -> Iterator[None]:
    """Tell on one line where the disk is full or fails."""
    try:
        yield
    except OSError as error:
        if lack := lack_of(error):
            raise ResourceError(f"The backup cannot be finished: {lack}.") from error
        raise DataError(f"{error.filename or path} cannot be used: {error.strerror}.") from error


def _place(name: str) -> str:
    return f"{_CONTENT}/{name[:2]}/{name}"


Read = Callable[[str], Iterable[bytes]]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[dict[str, int], Read]]:
    """Hand out the names of a backup's files with their sizes, and what reads one, block by block."""
    if path.is_dir():
        found = untrusted.files(path, _LIMITS)
        yield {name: file.stat().st_size for name, file in found.items()}, lambda name: _blocks(found[name])
        return
    with untrusted.opened(path, _LIMITS) as archive:
        yield {name: archive.size(name) for name in archive.names}, archive.blocks


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            yield block


def _manifest(path: Path, names: dict[str, int], read: Read) -> BackupRecord:
    """Read what a backup says that it holds, all of which must be in it."""
    if names.get(MANIFEST, _LONGEST_MANIFEST + 1) > _LONGEST_MANIFEST:
        raise DataError(f"{path} must be a backup of a home, with a file {MANIFEST}. It is not.")
    text = b"".join(read(MANIFEST)).decode("utf-8", "replace")
    record = BackupRecord.from_json(text, f"{path}: {MANIFEST}")
    untrusted.check_names(record.files, f"{path}: {MANIFEST}")
    for name, item in record.files.items():
        if names.get(_place(item.digest)) != item.size:
            raise DataError(f"The backup {path} is not whole: the content of {name!r} is not there.")
    return record


def _room(record: BackupRecord) -> int:
    """Return what the files of a home take, those that share their place once."""
    own = sum(item.size for item in record.files.values() if not item.shared)
    return own + sum({item.digest: item.size for item in record.files.values() if item.shared}.values())


def _bring(path: Path, name: str, item: BackupFileRecord, target: Path, read: Read, shared: dict[str, Path]) -> None:
    """Write one file where it was, or make it one with another that it shared its place with."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if item.shared and item.digest in shared:
        beside.link_or_copy(shared[item.digest], target)
        return
    with target.open("xb") as stream:
        stream.writelines(read(_place(item.digest)))
    if digest.of_file(target) != item.digest:
        raise DataError(f"The backup {path} is damaged: the content of {name!r} is not as its digest says.")
    if item.shared:
        target.chmod(0o444)  # as what is shared with the cache
        shared[item.digest] = target
