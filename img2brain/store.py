"""A content-addressed cache that survives a kill and is shared by processes.

An entry is a folder named by the digest of its key, written beside its place and then renamed into it: it is there
whole or not at all. The key is kept as ``key.json``, so that a person can read what an entry is, and the digests of all
its files as ``digests.json``, so that damage is noticed before a number is read.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from numpy.typing import DTypeLike, NDArray

from img2brain import digest, plain
from img2brain._mapped import scratch_array
from img2brain.amounts import size_text
from img2brain.errors import StoreError, lack_of
from img2brain.holders import WaitingLock

Write = Callable[[Path], None]
Stamp = tuple[tuple[str, int, int, int], ...]

log = logging.getLogger(__name__)

_DIGESTS = "digests.json"
_NO_KINDS = ("locks", "unfinished")
_ATTEMPTS = 3  # at an entry, where somebody deletes the cache meanwhile


class Store:
    """A cache of folders, each named by the digest of its key.

    Parameters
    ----------
    folder : Path
        Where the entries are kept.

    Examples
    --------
    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()))
    >>> entry = store.get_or_compute("greeting", {"to": "V4"}, lambda folder: print("computed"))
    computed
    >>> store.get_or_compute("greeting", {"to": "V4"}, lambda folder: print("computed")) == entry
    True
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unfinished = folder / "unfinished"
        self._sound: dict[Path, Stamp] = {}
        with self._in_use():
            self._unfinished.mkdir(parents=True, exist_ok=True)
            self._sweep()

    def find(self, kind: str, key: Mapping[str, Any]) -> Path | None:
        """Return the entry of this key, or None.

        Notes
        -----
        The files of an entry are compared with their digests when it is first found, at some GB per second, and again
        when their times or sizes change. A damaged entry is said and removed: it is as if it had never been.
        """
        path = self._place(kind, key)
        stamp = _stamp(path)
        if stamp and self._sound.get(path) == stamp:
            return path
        return path if self._is_sound(path, stamp, digest.of_file) else None

    def read(self, kind: str, key: Mapping[str, Any]) -> dict[str, bytes] | None:
        """Return the files of an entry by name, each as its digest says; None where there is no such entry.

        Notes
        -----
        What is returned is what was compared: nothing that becomes of the files afterwards can change it.
        """
        path, found = self._place(kind, key), dict[str, bytes]()

        def kept(file: Path) -> str:
            found[file.name] = file.read_bytes()
            return digest.of_bytes(found[file.name])

        return found if self._is_sound(path, _stamp(path), kept) else None

    def read_or_compute(self, kind: str, key: Mapping[str, Any], write: Write) -> dict[str, bytes]:
        """Return the files of an entry by name, computed by whichever process comes first.

        Raises
        ------
        StoreError
            If somebody removes the entry each time.
        """
        for _ in range(_ATTEMPTS):
            self.get_or_compute(kind, key, write)
            if (found := self.read(kind, key)) is not None:
                return found
        raise StoreError(f"The entries of the cache {self.folder} must stay while they are read. They were removed.")

    def keys(self, kind: str) -> Iterator[dict[str, Any]]:
        """Yield the keys of all entries of a kind; whether an entry is sound is for `find` to say."""
        for path in sorted((self.folder / kind).glob("*/*/key.json")):
            with contextlib.suppress(OSError, ValueError, TypeError):  # what cannot be read is no key
                yield key_of(path.parent)

    def get_or_compute(self, kind: str, key: Mapping[str, Any], write: Write) -> Path:
        """Return the entry of this key, computed by whichever process comes first.

        Parameters
        ----------
        kind : str
            The folder that the entry is kept in, such as ``"pca"``.
        key : mapping
            Plain data that names everything the entry depends on.
        write : callable
            Writes the files of the entry into the folder it is handed.

        Returns
        -------
        Path
            The folder of the entry; its files are read-only.
        """
        if found := self.find(kind, key):
            return found
        with self.lock(kind, key):
            return self.find(kind, key) or self.put(kind, key, write)

    def put(self, kind: str, key: Mapping[str, Any], write: Write) -> Path:
        """Write an entry and move it into its place at once.

        Raises
        ------
        StoreError
            If the disk is full, or fails.
        """
        with self._in_use():
            for attempt in range(_ATTEMPTS):
                with self.scratch() as folder:
                    try:
                        return self._put(folder / "entry", kind, key, write)
                    except FileNotFoundError:
                        if folder.is_dir() or attempt == _ATTEMPTS - 1:
                            raise
        raise AssertionError("the last attempt returns or raises")

    def adopt(self, kind: str, key: Mapping[str, Any], bring: Write) -> bool:
        """Take a copy of an entry that another cache made, where it is whole and of this key.

        Parameters
        ----------
        kind, key
            As for `get_or_compute`.
        bring : callable
            Brings the files of the copy into the folder it is handed.

        Returns
        -------
        bool
            Whether the entry is there now.
        """
        if self.find(kind, key):
            return True
        with self._in_use(), self.scratch() as scratch:
            entry = scratch / "entry"
            entry.mkdir()
            bring(entry)
            if damage := _damage(entry, digest.of_file) or _difference(entry, key):
                log.warning(
                    "a copy of the cache entry %s is left: %s", self._place(kind, key).name[: digest.SHORT], damage
                )
                return False
            self._settled(entry, kind, key)
        return True

    def lock(self, kind: str, key: Mapping[str, Any]) -> FileLock:
        """Return the lock under which the entry of this key is computed."""
        folder = self.folder / "locks"
        with self._in_use():
            folder.mkdir(parents=True, exist_ok=True)
        return WaitingLock(folder / f"{kind}-{digest.of_value(key)[: digest.SHORT]}.lock")

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Hand out a folder that is removed at the end, or by a later process where this one is killed."""
        folder = self._unfinished / uuid.uuid4().hex
        with self._in_use():
            self._unfinished.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder.with_suffix(".lock"))
            lock.acquire()
            folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()
            with contextlib.suppress(OSError):
                Path(lock.lock_file).unlink()

    def array(self, shape: tuple[int, ...], kind: DTypeLike) -> NDArray[Any]:
        """Return a new array of zeros for a while: in memory or, where it is large, in a file that goes with it."""
        with self._in_use():
            return scratch_array(self._unfinished, shape, kind)

    def require_free(self, n_bytes: int, what: str) -> None:
        """Raise `StoreError` where the disk has no room for so many bytes."""
        free = shutil.disk_usage(self.folder).free
        if n_bytes > free:
            raise StoreError(f"{what} needs {size_text(n_bytes)} of disk. {self.folder} has {size_text(free)} free.")

    def _place(self, kind: str, key: Mapping[str, Any]) -> Path:
        name = digest.of_value(key)
        return self.folder / kind / name[:2] / name

    def _put(self, entry: Path, kind: str, key: Mapping[str, Any], write: Write) -> Path:
        entry.mkdir()
        write(entry)
        (entry / "key.json").write_text(json.dumps(key, indent=1, sort_keys=True), encoding="utf-8")
        (entry / _DIGESTS).write_text(json.dumps(_digests(entry, digest.of_file), indent=1), encoding="utf-8")
        return self._settled(entry, kind, key)

    def _settled(self, entry: Path, kind: str, key: Mapping[str, Any]) -> Path:
        """Move a finished entry into its place, unless another process has put one there."""
        _settle(entry)
        place = self._place(kind, key)
        if self.find(kind, key):
            return place
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError) if place.is_dir() else contextlib.nullcontext():
            entry.rename(place)
        return place

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        """Tell on one line that names the cache where its disk is full or fails."""
        try:
            yield
        except OSError as error:
            raise StoreError(f"The cache {self.folder} cannot be used: {lack_of(error)}.") from error

    def _is_sound(self, path: Path, stamp: Stamp, digest_of: Callable[[Path], str]) -> bool:
        """Compare an entry with its digests; a damaged one is said and taken out of its place."""
        if not stamp:
            return False
        if damage := _damage(path, digest_of):
            self._discard(path, stamp, f"{path.parts[-3]}/{path.name[: digest.SHORT]}", damage)
            return False
        self._sound[path] = stamp
        return True

    def _discard(self, path: Path, stamp: Stamp, name: str, damage: str) -> None:
        """Take a damaged entry out of its place, unless another process has put a sound one there meanwhile."""
        with self.scratch() as folder:
            if _stamp(path) != stamp:
                return
            with self._in_use(), contextlib.suppress(FileNotFoundError):  # another process has seen it as well
                self._obstacle(path).rename(folder / "damaged")
                log.warning("the cache entry %s is damaged (%s): it is removed and computed anew", name, damage)

    def _obstacle(self, path: Path) -> Path:
        """Return what lies at the place of an entry: a file in place of one of its folders, or the entry itself.

        The folders are made ours again, as far as we may, where somebody took the permissions.
        """
        folders = [folder for folder in (path, *path.parents) if folder.is_relative_to(self.folder)]
        for folder in reversed(folders):
            if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()) and folder != self.folder:
                return folder
            with contextlib.suppress(OSError):
                folder.chmod(0o755)
        return path

    def _sweep(self) -> None:
        """Remove what killed processes left: a scratch folder whose lock is free has no owner."""
        for path in self._unfinished.glob("*.lock"):
            with contextlib.suppress(Timeout, OSError), FileLock(path).acquire(timeout=0):
                shutil.rmtree(path.with_suffix(""), ignore_errors=True)
                path.unlink(missing_ok=True)


def key_of(entry: Path) -> dict[str, Any]:
    """Return the key of an entry."""
    return dict(plain.of_json(_regular(entry / "key.json").read_text(encoding="utf-8")))


def entries(cache: Path) -> Iterator[Path]:
    """Yield the entries of a cache, kind by kind; links are not followed."""
    for kind in _folders(cache):
        if kind.name not in _NO_KINDS:
            for part in _folders(kind):
                yield from _folders(part)


def damage(entry: Path, deep: bool = False) -> str:
    """Say what is wrong with an entry, or nothing; it is left as it is.

    Parameters
    ----------
    entry : Path
        Its folder.
    deep : bool
        Whether to read all bytes of its files, rather than what they are and that they are there.
    """
    return _damage(entry, digest.of_file if deep else None) or _misplaced(entry)


def _misplaced(entry: Path) -> str:
    try:
        return "" if digest.of_value(key_of(entry)) == entry.name else "key.json is that of another entry"
    except (OSError, ValueError, TypeError) as error:
        return f"key.json cannot be read: {type(error).__name__}"


def _folders(folder: Path) -> list[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as found:
        return sorted(Path(item.path) for item in found if item.is_dir(follow_symlinks=False))
    return []


def _stamp(entry: Path) -> Stamp:
    """Return the names, sizes, times and inodes of an entry's files; empty where there is no entry."""
    try:
        return tuple(
            (file.name, found.st_size, found.st_mtime_ns, found.st_ino)
            for file in sorted(os.scandir(entry), key=lambda file: file.name)
            if (found := file.stat(follow_symlinks=False))
        ) or (("", 0, 0, 0),)
    except FileNotFoundError:
        return (("a link to nowhere", 0, 0, 0),) if os.path.lexists(entry) else ()
    except OSError as error:
        return ((type(error).__name__, 0, 0, 0),)


def _digests(entry: Path, digest_of: Callable[[Path], str]) -> dict[str, str]:
    """Digest the files of an entry, by name, but for the file of digests."""
    return {path.name: digest_of(_regular(path)) for path in sorted(entry.iterdir()) if path.name != _DIGESTS}


def _regular(path: Path) -> Path:
    """Return the path of a regular file; a link may lead to a file without an end, and a pipe never gives one."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path


def _damage(entry: Path, digest_of: Callable[[Path], str] | None) -> str:
    """Say what is wrong with an entry, or nothing; without digests, which files there are is compared alone."""
    try:
        kept = dict(plain.of_json(_regular(entry / _DIGESTS).read_text(encoding="utf-8")))
        found = _digests(entry, digest_of or (lambda file: kept.get(file.name, "")))
    except OSError as error:
        return f"{Path(error.filename or entry).name}: {error.strerror}"
    except (ValueError, TypeError) as error:
        return f"{_DIGESTS} cannot be read: {type(error).__name__}"
    changed = [name for name in sorted({*kept, *found}) if kept.get(name) != found.get(name)]
    return f"not as written: {', '.join(changed)}" if changed else ""


def _difference(entry: Path, key: Mapping[str, Any]) -> str:
    """Say that an entry is of another key, or nothing."""
    try:
        return "" if digest.of_value(key_of(entry)) == digest.of_value(key) else "it is of another key"
    except (OSError, ValueError, TypeError) as error:
        return f"its key cannot be read: {type(error).__name__}"


def _settle(entry: Path) -> None:
    """Make the files of an entry read-only and durable before its name promises that they are there."""
    for path in entry.rglob("*"):
        if path.is_file():
            path.chmod(0o444)
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
