"""The home: the folder that holds all that img2brain keeps. It knows its own place and name."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import sqlite3
import stat
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from img2brain import digest, plain, secret
from img2brain.errors import NoHomeError, StoreError, quoted
from img2brain.holders import WaitingLock, flocked, is_held
from img2brain.store import Store

FORMAT = 2
_IDENTITY = "home.json"
_SOME_BYTES = 1 << 20  # that a trial takes
_STORAGES = ("sqlite:///", "postgresql://")
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # of what is no file
_SIGNS = (_IDENTITY, "mlflow.db", "optuna.log")  # what tells a home from any other folder


@dataclass(frozen=True)
class Identity:
    """What a home says of itself, in ``home.json``.

    Attributes
    ----------
    format : int
        Of what it keeps: 1 where runs have no records yet.
    id : str
        Names the home, wherever it is moved.
    path : str
        Where it is.
    also : tuple of str
        The ids of the homes that it is a copy of.
    was : tuple of str
        Where it was before it was moved or copied, as long as its database may name paths there.
    """

    format: int
    id: str
    path: str
    also: tuple[str, ...] = ()
    was: tuple[str, ...] = ()


class Home:
    """The folder that holds all that img2brain keeps: tracking store, artifacts, search log, cache, pages.

    Parameters
    ----------
    folder : Path or str
        Made where it is not there.
    tracking_uri : str, optional
        An MLflow server that takes runs, artifacts and models in place of the home's own database. It is named here or
        not at all: no environment variable is read.
    storage : str, optional
        A database that takes the search log in place of the home's own journal, ``sqlite:///FILE`` or
        ``postgresql://USER@HOST/DATABASE``: workers of several homes and machines share it.
    cache : Path or str, optional
        A folder that takes the cache in place of the home's own, such as one on a network disk that homes share.

    Attributes
    ----------
    folder, database, artifacts, search_log, datasets, leaderboards, plugins, cache, looks, imported, index : Path
        Its parts.
    tracking_uri, storage : str or None
        As above. They may hold a password: show them by `secret.masked`.

    Raises
    ------
    StoreError
        If the folder cannot be made or written, or the storage is no such URL.

    Notes
    -----
    Runs carry the id of the home that made them. A home that is *moved* keeps its id. A *copy*, whose original is still
    in its place, gets an id of its own, so that the two are never taken for one another on a server; in its own
    database it also owns the runs of the ids that it had, and goes on with their studies. A copy whose original is out
    of sight, on another computer, cannot be told from a moved home: ``img2brain home relocate --new-id`` tells it.
    """

    def __init__(
        self,
        folder: Path | str,
        tracking_uri: str | None = None,
        storage: str | None = None,
        cache: Path | str | None = None,
    ) -> None:
        self._name_parts(Path(folder), tracking_uri, storage, cache)
        self._make()

    @classmethod
    def of(cls, home: Home | Path | str) -> Home:
        """Return the home that is given, or that is in a folder."""
        return home if isinstance(home, Home) else cls(home)

    @classmethod
    def existing(
        cls,
        folder: Path | str,
        tracking_uri: str | None = None,
        storage: str | None = None,
        cache: Path | str | None = None,
    ) -> Home:
        """Return a home for reading, without making one; what a server or a database holds can be read without any.

        Raises
        ------
        StoreError
            If there is no home in the folder, and neither a server nor a database is named.
        """
        found = cls.as_it_is(folder, tracking_uri, storage, cache)
        if found._is_there:
            try:
                found._make()
            except StoreError:  # Who only reads needs no room, and who frees some has none.
                if not found._is_full:
                    raise
        return found

    @classmethod
    def as_it_is(
        cls,
        folder: Path | str,
        tracking_uri: str | None = None,
        storage: str | None = None,
        cache: Path | str | None = None,
    ) -> Home:
        """Return a home to look at: nothing in it is made, tried or put right, whatever state it is in.

        Raises
        ------
        StoreError
            If there is no home in the folder, and neither a server nor a database is named.
        """
        found = cls.__new__(cls)
        found._name_parts(Path(folder), tracking_uri, storage, cache)
        if not (found._is_there or tracking_uri or storage):
            raise NoHomeError(_absent(found.folder))
        return found

    @property
    def _is_there(self) -> bool:
        try:
            signs = [self.folder / name for name in _SIGNS]
            return any(path.exists() or path.is_symlink() for path in signs)
        except PermissionError:
            return True

    def _name_parts(
        self, folder: Path, tracking_uri: str | None, storage: str | None, cache: Path | str | None
    ) -> None:
        self.folder = _named(folder, "home")
        self.tracking_uri = tracking_uri or None
        self.storage = _storage(storage) if storage else None
        self.database = self.folder / "mlflow.db"
        self.artifacts = self.folder / "artifacts"
        self.search_log = self.folder / "optuna.log"
        self.datasets = self.folder / "datasets"
        self.leaderboards = self.folder / "leaderboards"
        self.plugins = self.folder / "plugins"
        self.cache = _named(Path(cache), "cache") if cache else self.folder / "cache"
        self.looks = self.folder / "looks.jsonl"
        self.imported = self.folder / "imported"
        self.index = self.folder / ".trials.json"
        self._locks = self.folder / "locks"

    def no_files(self) -> list[tuple[Path, str]]:
        """Return what is no file in place of one of its files, and what it is instead; nothing is opened to see that.

        To open a pipe may take for ever, and a device may have no end.
        """
        files = (self.identity_file, self.database, self.search_file, self.looks, self.index)
        return [(path, kind) for path in files if path is not None and (kind := _kind_of(path))]

    def _make(self) -> None:
        for path, kind in self.no_files():
            raise StoreError(f"{path} must be a plain file. It is {kind}: move it away.")
        try:
            self._locks.mkdir(parents=True, exist_ok=True)
            self._try_to_write(8)
            self._know_itself()
        except OSError as error:
            raise StoreError(f"The home folder {self.folder} cannot be written: {error.strerror}.") from None

    @property
    def _is_full(self) -> bool:
        """Whether it knows itself and can be used, but for the room on its disk."""
        try:
            self._try_to_write(8)
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            return is_full and _is_same(self.said_folder, self.folder)
        return False

    def require_room(self) -> None:
        """Raise `StoreError` where nothing of some size can be written any more."""
        try:
            self._try_to_write(_SOME_BYTES)
        except OSError as error:
            raise StoreError(f"The home folder {self.folder} cannot be written: {error.strerror}.") from None

    def _try_to_write(self, n_bytes: int) -> None:
        probe = self._locks / f"{uuid.uuid4().hex}.probe"
        try:
            probe.write_bytes(bytes(n_bytes))
        finally:
            probe.unlink(missing_ok=True)

    @property
    def shares_cache(self) -> bool:
        """Whether the cache lies elsewhere, where other homes may use it as well."""
        return self.cache != self.folder / "cache"

    @cached_property
    def store(self) -> Store:
        """The cache of features and components."""
        return Store(self.cache)

    @property
    def id(self) -> str:
        """The name of the home, in every run that it makes."""
        return self._identity.id

    @property
    def format(self) -> int:
        """The format of what it keeps."""
        return self._identity.format

    @property
    def search_file(self) -> Path | None:
        """The file that holds its searches, the journal or one of SQLite's; None where a server does."""
        if self.storage is None:
            return self.search_log
        kind, _, file = self.storage.partition(":///")
        return Path(file).absolute() if kind == "sqlite" else None

    @property
    def former_folders(self) -> tuple[Path, ...]:
        """Where it was before it was moved or copied, as long as its database may name paths there."""
        return tuple(map(Path, self._identity.was))

    @property
    def identity_file(self) -> Path:
        """What it says of itself."""
        return self.folder / _IDENTITY

    @property
    def said_folder(self) -> Path:
        """Where it says that it is."""
        return Path(self._identity.path)

    @property
    def lock_folders(self) -> tuple[Path, ...]:
        """Where the locks of the home and its cache are."""
        return (self._locks, self.cache / "locks", self.cache / "unfinished")

    @property
    def own_ids(self) -> tuple[str, ...]:
        """The ids whose runs are the home's own: in its own database those of the homes that it is a copy of, too."""
        identity = self._identity
        return (identity.id,) if self.tracking_uri else (identity.id, *identity.also)

    def become(self, **changes: Any) -> None:
        """Change what the home says of itself: `format`, `id`, `also` or `was`."""
        with self.lock("home"):
            _write(self.folder / _IDENTITY, replace(self._identity, **changes))

    def take_new_id(self) -> None:
        """Get an id of its own, as a copy does; the runs of the old one stay its own in its own database."""
        changed = _with_new_id(self._identity)
        self.become(id=changed.id, also=changed.also)

    def lock(self, name: str) -> FileLock:
        """Return the lock of this name, free again when its process ends, however it ends."""
        return WaitingLock(self._locks / f"{digest.of_value(name)[: digest.SHORT]}.lock")

    @contextlib.contextmanager
    def only_here(self, name: str, what: str) -> Iterator[None]:
        """Hold the lock of this name, or raise `StoreError` where another process holds it."""
        try:
            with self.lock(name).acquire(timeout=0):
                yield
        except Timeout:
            raise StoreError(f"{what} is at work in another process with the home folder {self.folder}.") from None

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep what the home holds from being freed; any number of threads and processes may. Waits for `unused`."""
        with self._use(fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def unused(self) -> Iterator[None]:
        """Hold the home alone, to free what it holds, or raise `StoreError` where it is in use."""
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(self._use(fcntl.LOCK_EX | fcntl.LOCK_NB))
            except BlockingIOError:
                raise StoreError(f"A study is at work with the home folder {self.folder}. Wait for its end.") from None
            yield

    @contextlib.contextmanager
    def _use(self, how: int) -> Iterator[None]:
        """Hold the lock of the use of the home and its cache, which many may share; free when its holders end."""
        with contextlib.ExitStack() as held:
            for path in self._use_locks:
                held.enter_context(flocked(path, how))
            yield

    @property
    def is_in_use(self) -> bool:
        """Whether a study is at work in the home, or with its cache."""
        return any(is_held(path, shared=True) for path in self._use_locks)

    @property
    def _use_locks(self) -> list[Path]:
        folders = (self._locks, self.cache / "locks") if self.shares_cache else (self._locks,)
        return [folder / "use.lock" for folder in folders]

    @property
    def _identity(self) -> Identity:
        try:
            return _read(self.folder / _IDENTITY)
        except FileNotFoundError:
            raise NoHomeError(_absent(self.folder)) from None

    def _know_itself(self) -> None:
        """Write what the home says of itself where it says nothing yet, or where it was moved or copied."""
        path = self.folder / _IDENTITY
        if path.exists() and _is_same(Path(self._identity.path), self.folder):
            return
        with self.lock("home"):
            if not path.exists():
                _write(path, self._first_identity())
            elif not _is_same(Path(self._identity.path), self.folder):
                _write(path, self._identity_here())

    def _first_identity(self) -> Identity:
        """Return the identity of a home that says nothing: a new one, one of old, or one that lost what it said."""
        if known := _id_of_runs(self.database):
            return Identity(FORMAT, known, str(self.folder))
        is_of_old = self.database.exists() or self.search_log.exists()
        return Identity(1 if is_of_old else FORMAT, uuid.uuid4().hex, str(self.folder))

    def _identity_here(self) -> Identity:
        """Return the identity of a home that is not where it says: moved, or a copy where that one is still there."""
        said = self._identity
        was = [path for path in dict.fromkeys((said.path, *said.was)) if path != str(self.folder)]
        here = replace(said, path=str(self.folder), was=tuple(was))
        return _with_new_id(here) if id_at(Path(said.path)) == said.id else here


def _named(folder: Path, what: str) -> Path:
    try:
        return plain.path_of(folder).resolve()
    except ValueError as error:
        raise StoreError(f"The {what} folder cannot be named {str(folder)[:80]!r}: {error}.") from None


def _storage(url: str) -> str:
    if not url.startswith(_STORAGES) or not url.isprintable():
        shown = quoted(secret.masked(url))
        raise StoreError(f"The storage must be a URL 'sqlite:///FILE' or 'postgresql://HOST/DATABASE'. Got {shown}.")
    return url


def _absent(folder: Path) -> str:
    return f"There is no home at {folder}: no study was run there. Name another with --home."


def _with_new_id(identity: Identity) -> Identity:
    return replace(identity, id=uuid.uuid4().hex, also=(identity.id, *identity.also))


def _is_same(first: Path, second: Path) -> bool:
    """Tell whether two paths are one folder, also under two names, such as that of a mounted disk."""
    return first == second or (first.exists() and first.samefile(second))


def _kind_of(path: Path) -> str:
    """Name what is in place of a file; nothing where that is a file, or nothing is there, or others say why."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "a link to nowhere" if path.is_symlink() else ""
    except OSError as error:
        return "a link in a circle" if error.errno == errno.ELOOP else ""
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")


def id_at(folder: Path) -> str:
    """Return the id of the home in a folder; empty where there is none."""
    with contextlib.suppress(OSError, StoreError):
        return _read(folder / _IDENTITY).id
    return ""


def _id_of_runs(database: Path) -> str | None:
    """Return the id that the first run of a home's own database carries that it made, where there is one."""
    asked = (
        "SELECT tags.value FROM tags JOIN runs ON runs.run_uuid = tags.run_uuid WHERE tags.key = 'img2brain.home' "
        "AND NOT EXISTS (SELECT 1 FROM tags WHERE run_uuid = runs.run_uuid AND key = 'img2brain.imported')"
    )
    with contextlib.suppress(sqlite3.Error):
        connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
        with contextlib.closing(connection):
            found = connection.execute(f"{asked} ORDER BY runs.start_time LIMIT 1").fetchone()
            return str(found[0]) if found else None
    return None


def _read(path: Path) -> Identity:
    try:
        found = _identity_of(plain.of_json(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise StoreError(
            f"The file {path} must say 'format', 'id' and 'path' of the home. Got: {error}. "
            "Delete it: it is written again, with the id that the home's runs carry."
        ) from None
    if found.format > FORMAT:
        raise StoreError(
            f"The home {path.parent} must be of format {FORMAT} or lower. Got {found.format}, of a newer img2brain."
        )
    return found


def _identity_of(said: Any) -> Identity:
    (own_id,) = _texts([said["id"]])
    path, *was = _texts([said["path"], *said.get("was", ())])
    return Identity(int(said["format"]), own_id, path, _texts(said.get("also", ())), tuple(was))


def _texts(found: Iterable[Any]) -> tuple[str, ...]:
    """Return some texts that may name a home or a folder.

    Raises
    ------
    TypeError
        If one is none.
    ValueError
        If it could name no file.
    """
    items = tuple(found)
    for item in items:
        if not isinstance(item, str):
            raise TypeError(f"{item!r}, which is no text")
        plain.path_of(item)
    return items


def _write(path: Path, identity: Identity) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("w", encoding="utf-8") as stream:
        json.dump(asdict(identity), stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(path)
