"""The search log in a database: SQLite for the processes of one machine, PostgreSQL for those of many."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from img2brain import digest, secret
from img2brain.errors import StoreError
from img2brain.holders import WaitingLock
from img2brain.study import _postgres_trials
from img2brain.study._local_log import LocalLog
from img2brain.study._patience import DatabasePatience, WaitingStorage
from img2brain.study._search_log import SearchLog

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")

PATIENCE_S = 60.0  # for a database that is away
DEATH_S = 60.0  # without a sign of life; then a worker counts as dead
_OPENING_S = 10.0  # for a database that is away when it is first asked
_IDLE = 2  # connections that are kept: one holds a lock, one asks meanwhile
_SIGNS = 4  # of life, within the time that a worker may be silent

_ADDRESS = "postgresql+psycopg://"  # where it is, its connections know
_TABLE = """
    CREATE TABLE IF NOT EXISTS img2brain_workers (worker text PRIMARY KEY, seen timestamptz NOT NULL DEFAULT now())
"""
_FORGET = "DELETE FROM img2brain_workers WHERE seen < now() - interval '7 days'"
_SIGN = """
    INSERT INTO img2brain_workers (worker) VALUES (%s) ON CONFLICT (worker) DO UPDATE SET seen = now()
"""
# All have as long again where the server itself was away.
_LIVING = """
    SELECT worker FROM img2brain_workers WHERE worker = ANY(%s)
    AND now() - greatest(seen, pg_postmaster_start_time()) < make_interval(secs => %s)
"""
# By these the server sees within a minute that a machine is gone, and lets go of what it locked.
_KEEPALIVE = """
    SELECT set_config('tcp_keepalives_idle', '30', false), set_config('tcp_keepalives_interval', '10', false),
    set_config('tcp_keepalives_count', '3', false), set_config('lock_timeout', '0', false)
"""


class _DatabaseLog(SearchLog):
    """A search log in tables of Optuna's."""

    _storage: BaseStorage

    @property
    def storage(self) -> BaseStorage:
        return self._storage

    def news(self, study: int, unfinished: Collection[int], n_known: int) -> list[FrozenTrial]:
        """Return the trials that may have changed: of those that were over Optuna asks the database no more."""
        found = self.storage.get_all_trials(study, deepcopy=False)
        return [trial for trial in found if trial.number >= n_known or trial._trial_id in unfinished]

    def _use(self, storage: RDBStorage, patience: DatabasePatience) -> None:
        self._storage = WaitingStorage(optuna.storages.get_storage(storage), patience)
        weakref.finalize(self._storage, storage.engine.dispose)  # a study may outlive the log


class SqliteLog(_DatabaseLog, LocalLog):
    """A search log in a file of SQLite's, shared by homes of one machine; the locks are files beside it.

    Parameters
    ----------
    url : str
        ``sqlite:///FILE``.
    patience_s : float
        How long a file that others write to is waited for.
    """

    def __init__(self, url: str, patience_s: float = PATIENCE_S) -> None:
        from sqlalchemy.engine import URL

        file = Path(url.removeprefix("sqlite:///")).absolute()
        self._locks = file.with_name(f"{file.name}.locks")
        try:
            self._locks.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"The search log {file} cannot be written: {error.strerror}.") from None
        address = URL.create("sqlite", database=str(file)).render_as_string().replace("{", "{{").replace("}", "}}")
        patience = DatabasePatience(url, patience_s)
        with self.lock("the tables of the search log"):
            self._use(patience(lambda: _opened(address, {"connect_args": {"timeout": patience_s}})), patience)

    def file_lock(self, name: str) -> FileLock:
        return WaitingLock(self._locks / f"{digest.of_value(name)[: digest.SHORT]}.lock")


class PostgresLog(_DatabaseLog):
    """A search log in PostgreSQL, shared by all who can reach it.

    Parameters
    ----------
    url : str
        ``postgresql://USER@HOST/DATABASE``, as libpq takes it, its password best in ``PGPASSWORD`` or a password file.
    patience_s : float
        How long a database that is away is waited for.
    death_s : float
        After how many seconds without a sign of life a worker counts as dead.

    Notes
    -----
    A lock is held by a connection of its own, and is free when that ends, however it ends: with its process at once,
    with its machine within a minute.
    """

    def __init__(self, url: str, patience_s: float = PATIENCE_S, death_s: float = DEATH_S) -> None:
        _require_driver()
        self._url, self._death_s = url, death_s
        self._idle: list[psycopg.Connection[Any]] = []  # connections; a list's own methods are safe among threads
        weakref.finalize(self, _close, self._idle)
        self._patience = DatabasePatience(url, min(patience_s, _OPENING_S))
        if not self._ask(_has_tables):
            with self.lock("the tables of the search log"):
                self._patience(self._make_tables)
        storage = self._patience(lambda: _opened(_ADDRESS, self._options, is_made=True))
        self._patience = DatabasePatience(url, patience_s)
        self._use(storage, self._patience)

    @classmethod
    def is_begun(cls, url: str) -> bool:
        """Tell whether a database holds a search log; none is made."""
        _require_driver()

        def look() -> bool:
            with _connected(url) as connection:
                return _has_tables(connection)

        return DatabasePatience(url, _OPENING_S)(look)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the lock of this name, one holder among all who share the database.

        Raises
        ------
        StoreError
            If the database does not answer, or was away meanwhile, so that another may have held the lock as well.
        """
        connection = self._patience(lambda: self._locked(name))
        try:
            yield
        except BaseException:
            connection.close()
            raise
        self._unlock(connection, name)

    def make(self, study: int, trial: FrozenTrial) -> int:
        """Add a trial to a study; one that a cut connection left open whether it was made is looked for."""
        attempts = count()

        def work() -> int:
            with self._connection() as connection:
                made = _postgres_trials.find(connection, study, trial) if next(attempts) else None
                return made or _postgres_trials.make(connection, study, trial)

        return self._patience(work)

    def tell(self, trial: int, said: Mapping[str, Any], state: TrialState, value: float | None = None) -> bool:
        return self._ask(partial(_postgres_trials.tell, trial=trial, said=said, state=state, value=value))

    def news(self, study: int, unfinished: Collection[int], n_known: int) -> list[FrozenTrial]:
        return self._ask(partial(_postgres_trials.read, study=study, unfinished=unfinished, n_known=n_known))

    @contextmanager
    def attend(self, worker: str) -> Iterator[None]:
        """Give signs of life of a worker, until the end."""
        over = threading.Event()
        self._ask(lambda connection: connection.execute(_FORGET))
        self._ask(lambda connection: connection.execute(_SIGN, [worker]))
        signs = threading.Thread(target=self._give_signs, args=(worker, over), name=f"signs of {worker}", daemon=True)
        signs.start()
        try:
            yield
        finally:
            over.set()
            signs.join()
            with suppress(Exception), self._connection() as connection:  # It counts as dead a little later then.
                connection.execute("DELETE FROM img2brain_workers WHERE worker = %s", [worker])

    def living(self, workers: Iterable[str]) -> set[str]:
        """Return those workers that live: that gave a sign of life lately."""
        if not (asked := list(workers)):
            return set()
        found = self._ask(lambda connection: connection.execute(_LIVING, [asked, self._death_s]).fetchall())
        return {worker for (worker,) in found}

    def _give_signs(self, worker: str, over: threading.Event) -> None:
        while not over.wait(self._death_s / _SIGNS):
            with suppress(Exception), self._connection() as connection:  # Whoever works says that it is away.
                connection.execute(_SIGN, [worker])

    def _ask(self, question: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Return the answer to a question that may be asked again where the database is away."""

        def work() -> T:
            with self._connection() as connection:
                return question(connection)

        return self._patience(work)

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        """Hand out a connection that nobody else uses; one on which something failed is closed."""
        connection = self._take()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._keep(connection)

    def _keep(self, connection: psycopg.Connection[Any]) -> None:
        """Keep a connection for the next question, unless there are as many as a worker needs: a server has few."""
        if len(self._idle) < _IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def _take(self) -> psycopg.Connection[Any]:
        return self._idle.pop() if self._idle else _connected(self._url)

    def _make_tables(self) -> None:
        """Make Optuna's tables, and what is added to them; the last of it says that all are there."""
        _opened(_ADDRESS, self._options).engine.dispose()
        with _connected(self._url) as connection, connection.transaction():
            connection.execute(_postgres_trials.INDEX)
            connection.execute(_TABLE)

    @property
    def _options(self) -> dict[str, Any]:
        """How SQLAlchemy connects: the password is known to the connections alone."""
        from sqlalchemy.pool import NullPool

        return {"creator": partial(_connect, self._url), "poolclass": NullPool}

    def _locked(self, name: str) -> psycopg.Connection[Any]:
        """Return a connection that holds a lock."""
        connection = self._take()
        try:
            connection.execute("SELECT pg_advisory_lock(%s)", [_key(name)])
        except BaseException:
            connection.close()
            raise
        return connection

    def _unlock(self, connection: psycopg.Connection[Any], name: str) -> None:
        import psycopg

        try:
            (was_held,) = connection.execute("SELECT pg_advisory_unlock(%s)", [_key(name)]).fetchone() or (False,)
        except psycopg.Error:
            was_held = False
        if not was_held:
            connection.close()
            raise StoreError(
                f"The search log {secret.masked(self._url)} must stay while the lock of {name!r} is held. It was away, "
                "and the lock with it. The same command goes on."
            )
        self._keep(connection)


def _connect(url: str) -> psycopg.Connection[Any]:
    """Connect to PostgreSQL; whether the server is still there is asked where it is silent for long."""
    import psycopg

    return psycopg.connect(
        url, connect_timeout=10, application_name="img2brain",
        keepalives=1, keepalives_idle=30, keepalives_interval=10, keepalives_count=3, tcp_user_timeout=60_000,
    )  # fmt: skip


def _connected(url: str) -> psycopg.Connection[Any]:
    """Connect to PostgreSQL for locks and single statements, each of which counts at once."""
    connection = _connect(url)
    connection.autocommit = True
    connection.execute(_KEEPALIVE)
    return connection


def _has_tables(connection: psycopg.Connection[Any]) -> bool:
    return connection.execute("SELECT to_regclass('img2brain_workers')").fetchone() != (None,)


def _opened(url: str, options: dict[str, Any], is_made: bool = False) -> RDBStorage:
    """Open Optuna's tables in a database, made where nobody has said that they are there.

    Raises
    ------
    StoreError
        If they are those of another version of Optuna.
    """
    storage = RDBStorage(url, engine_kwargs=options, skip_compatibility_check=True, skip_table_creation=is_made)
    found, wanted = storage.get_current_version(), storage.get_head_version()
    if found != wanted:
        storage.engine.dispose()
        raise StoreError(
            f"The tables of the search log must be of version {wanted}, as Optuna {optuna.__version__} writes them. "
            f"Got {found}: use one version of Optuna, or bring older tables up to date by `optuna storage upgrade`."
        )
    return storage


def holds_searches(url: str) -> bool:
    """Tell whether a database holds tables of Optuna's; it is asked once, and none are made.

    Raises
    ------
    StoreError
        If the database does not answer, or refuses.
    """
    return DatabasePatience(url, 0)(lambda: _in_file(url) if url.startswith("sqlite:") else _in_postgresql(url))


def _in_file(url: str) -> bool:
    file = Path(url.removeprefix("sqlite:///")).absolute()
    if not file.exists():
        return False
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise sqlite3.DatabaseError(said)
        return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone())


def _in_postgresql(url: str) -> bool:
    _require_driver()
    import psycopg

    with psycopg.connect(url, connect_timeout=10, application_name="img2brain") as connection:
        return connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone() == (True,)


def _close(connections: list[psycopg.Connection[Any]]) -> None:
    for connection in connections:
        connection.close()


def _key(name: str) -> int:
    """Return the number of a lock, of 64 bits with a sign."""
    return int(digest.of_value(["img2brain", name])[:16], 16) - (1 << 63)


def _require_driver() -> None:
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise StoreError(
            "A search log in PostgreSQL needs psycopg, which is not installed: pip install 'img2brain[postgresql]', or "
            "uv sync --extra postgresql."
        ) from None
