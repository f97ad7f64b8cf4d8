"""A content-addressed cache that survives a kill and is shared by processes.

An entry is a folder named by the digest of its key, written beside its place and then renamed into it: it is there
whole or not at all. The key is kept as ``key.json``, so that a person can read what an entry is, and the digests of all
its files as ``digests.json``, so that damage is noticed before a number is read.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from img2brain import digest
from img2brain.errors import StoreError

Write = Callable[[Path], None]
Stamp = tuple[tuple[str, int, int, int], ...]

log = logging.getLogger(__name__)

_DIGESTS = "digests.json"


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
        self._unfinished.mkdir(parents=True, exist_ok=True)
        self._sound: dict[Path, Stamp] = {}
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
        if stamp and self._sound.get(path) != stamp:
            if damage := _damage(path):
                self._discard(path, stamp, f"{kind}/{path.name[: digest.SHORT]}", damage)
                return None
            self._sound[path] = stamp
        return path if stamp else None

    def keys(self, kind: str) -> Iterator[dict[str, Any]]:
        """Yield the keys of all entries of a kind; whether an entry is sound is for `find` to say."""
        for path in sorted((self.folder / kind).glob("*/*/key.json")):
            with contextlib.suppress(OSError, ValueError, TypeError):  # what cannot be read is nobody's key
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
        """Write an entry and move it into its place at once."""
        place = self._place(kind, key)
        with self.scratch() as folder:
            entry = folder / "entry"
            entry.mkdir()
            write(entry)
            (entry / "key.json").write_text(json.dumps(key, indent=1, sort_keys=True), encoding="utf-8")
            (entry / _DIGESTS).write_text(json.dumps(_digests(entry), indent=1), encoding="utf-8")
            _settle(entry)
            place.parent.mkdir(parents=True, exist_ok=True)
            self.find(kind, key)  # which makes room where a damaged entry lies
            with contextlib.suppress(FileExistsError, OSError) if place.is_dir() else contextlib.nullcontext():
                entry.rename(place)
        return place

    def lock(self, kind: str, key: Mapping[str, Any]) -> FileLock:
        """Return the lock under which the entry of this key is computed."""
        folder = self.folder / "locks"
        folder.mkdir(exist_ok=True)
        return FileLock(folder / f"{kind}-{digest.of_value(key)[: digest.SHORT]}.lock")

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Hand out a folder that is removed at the end, or by a later process where this one is killed."""
        folder = self._unfinished / uuid.uuid4().hex
        lock = FileLock(folder.with_suffix(".lock"))
        with lock:
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)

    def require_free(self, n_bytes: int, what: str) -> None:
        """Raise `StoreError` where the disk has no room for so many bytes."""
        free = shutil.disk_usage(self.folder).free
        if n_bytes > free:
            raise StoreError(
                f"{what} needs {n_bytes / 1e9:.2f} GB of disk. {self.folder} has {free / 1e9:.2f} GB free."
            )

    def _place(self, kind: str, key: Mapping[str, Any]) -> Path:
        name = digest.of_value(key)
        return self.folder / kind / name[:2] / name

    def _discard(self, path: Path, stamp: Stamp, name: str, damage: str) -> None:
        """Take a damaged entry out of its place, unless another process has put a sound one there meanwhile."""
        with self.scratch() as folder:
            if _stamp(path) != stamp:
                return
            with contextlib.suppress(FileNotFoundError):  # another process has seen it as well
                path.rename(folder / "damaged")
                log.warning("the cache entry %s is damaged (%s): it is removed and computed anew", name, damage)

    def _sweep(self) -> None:
        """Remove what killed processes left: a scratch folder whose lock is free has no owner."""
        for path in self._unfinished.glob("*.lock"):
            with contextlib.suppress(Timeout, OSError), FileLock(path).acquire(timeout=0):
                shutil.rmtree(path.with_suffix(""), ignore_errors=True)
                path.unlink(missing_ok=True)


def key_of(entry: Path) -> dict[str, Any]:
    """Return the key of an entry."""
    return dict(json.loads((entry / "key.json").read_text(encoding="utf-8")))


def _stamp(entry: Path) -> Stamp:
    """Return the names, sizes, times and inodes of an entry's files; empty where there is no entry."""
    try:
        return tuple(
            (file.name, found.st_size, found.st_mtime_ns, found.st_ino)
            for file in sorted(os.scandir(entry), key=lambda file: file.name)
            if (found := file.stat())
        ) or (("", 0, 0, 0),)
    except FileNotFoundError:
        return ()


def _digests(entry: Path) -> dict[str, str]:
    """Digest the files of an entry, by name, but for the file of digests."""
    return {path.name: digest.of_file(path) for path in sorted(entry.iterdir()) if path.name != _DIGESTS}


def _damage(entry: Path) -> str:
    """Say what is wrong with an entry, or nothing."""
    try:
        kept = dict(json.loads((entry / _DIGESTS).read_text(encoding="utf-8")))
        found = _digests(entry)
    except (OSError, ValueError, TypeError) as error:
        return f"{_DIGESTS} cannot be read: {type(error).__name__}"
    changed = [name for name in sorted({*kept, *found}) if kept.get(name) != found.get(name)]
    return f"not as written: {', '.join(changed)}" if changed else ""


def _settle(entry: Path) -> None:
    """Make the files of an entry read-only and durable before its name promises that they are there."""
    for path in entry.rglob("*"):
        if path.is_file():
            path.chmod(0o444)
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
