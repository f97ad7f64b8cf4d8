"""The home's own database: there whole or not at all."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

from img2brain.errors import TrackingError

T = TypeVar("T")

log = logging.getLogger(__name__)

_BESIDE = ("", "-wal", "-shm", "-journal")  # what SQLite keeps beside a database that is in use
_LOOKED_AT = 1000  # rows of an index, at most
_KEPT = {  # what nobody may lose, by table
    "runs": "1",
    "registered_models": "1",
    "logged_models": "1",
    "trace_info": "1",
    "experiments": "experiment_id != 0",
}


def database_uri(path: Path) -> str:
    """Return the URI of an SQLite database, whatever characters are in its path.

    The driver is named, since MLflow makes the folders of a ``sqlite:///`` URI, which it takes for a plain path.
    """
    from sqlalchemy.engine import URL

    return URL.create("sqlite+pysqlite", database=str(path)).render_as_string()


@contextmanager
def connected(database: Path) -> Iterator[sqlite3.Connection]:
    """Hand out a connection to a database that is there; what is written is committed at the end, or nothing is."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=30)) as connection, connection:
        yield connection


def read(database: Path, look: Callable[[sqlite3.Connection], T]) -> T:
    """Return what a look at a database gives, by a connection that only reads and leaves no file beside it.

    Parameters
    ----------
    database : Path
        The file.
    look : callable
        Takes the connection; it may be called twice.

    Notes
    -----
    A database that nobody uses has all that was written in its own file, and is read as one that does not change:
    the files that SQLite would make beside it, it takes away again only for who may write. Where others come to use it
    meanwhile it is looked at once more, as they do.
    """
    if (before := _settled(database)) is not None:
        try:
            found = _look(database, "mode=ro&immutable=1", look)
        except sqlite3.Error:
            if _settled(database) == before:
                raise
        else:
            if _settled(database) == before:
                return found
    if _has(database, "-wal") and not _has(database, "-shm"):
        with tempfile.TemporaryDirectory() as folder:
            for ending in ("", "-wal"):
                shutil.copyfile(_beside(database, ending), Path(folder) / f"copy.db{ending}")
            return _look(Path(folder) / "copy.db", "mode=ro", look)
    return _look(database, "mode=ro", look)


def _settled(database: Path) -> tuple[int, int, int] | None:
    """Return what tells the state of a database with all that was written in its own file; None for any other."""
    if _has(database, "-wal") or _has(database, "-journal"):
        return None
    found = database.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _has(database: Path, ending: str) -> bool:
    path = _beside(database, ending)
    return path.exists() and path.stat().st_size > 0


def _beside(database: Path, ending: str) -> Path:
    return database.with_name(database.name + ending)


def _look(database: Path, how: str, look: Callable[[sqlite3.Connection], T]) -> T:
    with closing(sqlite3.connect(f"{database.as_uri()}?{how}", uri=True, timeout=30)) as connection:
        return look(connection)


def tell_sizes(database: Path) -> None:
    """Let SQLite know how large its tables are, in milliseconds.

    Where it does not know, MLflow's page sorts runs by a score in a time that grows with their square: 4 s for 8,000.
    """
    with suppress(sqlite3.Error), connected(database) as connection:  # nothing depends on it but the time
        connection.execute(f"PRAGMA analysis_limit = {_LOOKED_AT}")
        connection.execute("ANALYZE")


def make_ready(database: Path, artifacts: Path) -> None:
    """Make the database where there is none, and make it again where it is half made and holds nothing yet.

    Parameters
    ----------
    database : Path
        The file. Its lock is held by whoever calls.
    artifacts : Path
        The folder of the artifacts of experiments that name none.

    Raises
    ------
    TrackingError
        If the database is not whole and holds something, or holds nothing where there are artifacts of runs.
    sqlite3.Error
        If the file is no database.
    """
    if database.exists():
        require_sound(database)
        with connected(database) as connection:
            lacks, n_kept = _lacks(connection), _count_kept(connection)
            _require_same_version(connection, database, is_used=n_kept > 0)
        if not lacks:
            return
        if n_kept:
            raise TrackingError(
                f"The database {database} is not whole: it lacks {lacks}. It holds runs, and is left as it is. "
                "Put a copy of it in its place."
            )
        require_no_artifacts(database, artifacts)
        log.warning("the database %s was left half made and holds no run: it is made again", database)
    else:
        require_no_artifacts(database, artifacts)
    _make(database, artifacts)


def require_sound(database: Path) -> None:
    """Refuse to write into a database whose pages are damaged: what is still there could be lost as well."""
    try:
        with connected(database) as connection:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if "malformed" not in str(error):
            raise
        said = str(error)
    if said != "ok":
        raise TrackingError(
            f"The database {database} is damaged, and is left as it is: {' '.join(said.split())}. "
            f"{how_to_save(database)}"
        )


def require_same_version(database: Path) -> None:
    """Refuse a database with tables of another version of MLflow: no two versions write into one.

    Raises
    ------
    TrackingError
        If it is of an older or a newer one, with what to do.
    """
    read(database, lambda connection: _require_same_version(connection, database))


def _require_same_version(connection: sqlite3.Connection, database: Path, is_used: bool = True) -> None:
    """Refuse tables of another version; older ones that hold nothing may be made again."""
    from mlflow import __version__

    found = _version_of(connection)
    if found in ("", _head()) or (found in _older() and not is_used):
        return
    said = f"The database {database} must be of MLflow {__version__}, which has tables {_head()}. It has tables {found}"
    if found not in _older():
        raise TrackingError(f"{said}, of another version, newer as it seems: use that one here as well.")
    upgrade = shlex.join(["mlflow", "db", "upgrade", database_uri(database)])
    raise TrackingError(
        f"{said}, of an older version. Let nobody use the home, back it up, and bring it up to date: {upgrade}"
    )


def how_to_save(database: Path) -> str:
    """Say what can be done about a database whose pages are damaged."""
    return (
        "Put a copy of it in its place, or what SQLite can save of it: "
        f"sqlite3 {database.name} .recover | sqlite3 saved.db"
    )


def require_no_artifacts(database: Path, artifacts: Path) -> None:
    """Refuse to begin anew beside the artifacts of runs: they would be nobody's."""
    n_runs = sum(1 for _ in artifacts.glob("*/artifacts"))
    if n_runs:
        raise TrackingError(
            f"The database {database} holds no run, though {artifacts} holds the artifacts of {n_runs}. Put a copy of "
            f"it in its place; or move {artifacts.name} away, and run the studies again: their trials are tracked anew."
        )


def _lacks(connection: sqlite3.Connection) -> str:
    """Name what a database lacks of the tables of its version, or that it is of another one and holds nothing."""
    from mlflow.store.db.base_sql_model import Base

    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not (version := _version_of(connection)):
        return "the version of its tables"
    missing = sorted(set(Base.metadata.tables) - tables)
    if version == _head():
        return f"the tables {', '.join(missing)}" if missing else ""
    return "" if _count_kept(connection) else "the latest of its tables"


def _version_of(connection: sqlite3.Connection) -> str:
    """Return the version of a database's tables; nothing where it does not say one."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
        return ""
    return ", ".join(str(version) for (version,) in connection.execute("SELECT version_num FROM alembic_version"))


def _count_kept(connection: sqlite3.Connection) -> int:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    queries = (f"SELECT count(*) FROM {table} WHERE {which}" for table, which in _KEPT.items() if table in tables)
    return sum(int(connection.execute(query).fetchone()[0]) for query in queries)


@cache
def _head() -> str:
    """Return the version of the tables that MLflow makes."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    return str(_get_latest_schema_revision())


@cache
def _older() -> frozenset[str]:
    """Return the versions of the tables that MLflow can bring up to date."""
    from mlflow.store.db import utils

    scripts = utils.ScriptDirectory.from_config(utils._get_alembic_config(""))
    return frozenset(item.revision for item in scripts.walk_revisions()) - {_head()}


def _make(database: Path, artifacts: Path) -> None:
    """Make a database beside its place, and move it there when it is whole and on the disk.

    Its name is another each time: MLflow keeps the connections of a name, also to a file that is gone.
    """
    for left in database.parent.glob(f"{database.name}.unfinished*"):  # by a process that was killed
        left.unlink()
    unfinished = database.with_name(f"{database.name}.unfinished-{uuid.uuid4().hex}")
    try:
        _initialise(unfinished, artifacts)
        _settle(unfinished)
        _remove(database)
        unfinished.rename(database)
    finally:
        _remove(unfinished)


def _initialise(database: Path, artifacts: Path) -> None:
    """Let MLflow make its tables: some sixty steps, none of which can be undone."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(database_uri(database), artifacts.as_uri())
    store.engine.dispose()


def _settle(database: Path) -> None:
    """Let the database keep a write-ahead log from now on, be one file, and be on the disk."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    with database.open("rb") as stream:
        os.fsync(stream.fileno())


def _remove(database: Path) -> None:
    for ending in _BESIDE:
        _beside(database, ending).unlink(missing_ok=True)
