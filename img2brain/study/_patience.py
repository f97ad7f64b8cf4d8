"""Waiting for a database that is away: cut off, ended, or just starting."""

from __future__ import annotations

import json
import logging
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage

from img2brain import secret
from img2brain.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optuna.trial import TrialState

T = TypeVar("T")

log = logging.getLogger(__name__)

_SHORTEST_S, _LONGEST_S = 0.1, 5.0  # pauses between two attempts; each is twice the one before
_LONG_S = 60.0  # no attempt to connect takes as long: one that did was answered meanwhile, as by waiting for a lock
_QUIET_S = 0.5  # a connection that was cut is made anew: nobody needs to know
# A lost connection; a server that ends or starts; a deadlock; a number that another took meanwhile; too many clients; a
# lock that was not to be had.
_PASSING_STATES = ("08", "57P", "40", "23505", "53300", "55P03")
_PASSING_REFUSALS = ("starting up", "shutting down", "recovery mode", "too many", "not yet accepting")
_PASSING_OF_SQLITE = ("locked", "busy")
_NO_PASSWORD = "no password supplied"  # which the library of the client says, before any server does


@dataclass
class _Absence:
    """How long a database is away already."""

    since: float
    pause_s: float = _SHORTEST_S
    is_told: bool = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.since


class DatabasePatience:
    """How long a database that is away is waited for, and what is said of it.

    Parameters
    ----------
    url : str
        The database; it is shown without passwords.
    seconds : float
        How long to wait before giving up. What will not pass, such as a wrong password, is not waited for.
    """

    def __init__(self, url: str, seconds: float) -> None:
        self._url, self.seconds = url, seconds

    def __call__(self, work: Callable[[], T]) -> T:
        """Return what the work gives, done again as long as the database is away.

        Raises
        ------
        StoreError
            If the database does not come back, or refuses.
        """
        absence = None
        while True:
            start = time.monotonic()
            try:
                found = work()
            except Exception as error:
                if absence is None or time.monotonic() - start > _LONG_S:
                    absence = _Absence(time.monotonic())
                self._wait(absence, error)
            else:
                if absence is not None and absence.is_told:
                    log.warning("%s is back after %.0f s", self._name, absence.seconds)
                return found

    def _wait(self, absence: _Absence, error: Exception) -> None:
        """Wait a little, unless the failure will not pass, or was borne for long enough; say it once."""
        cause = _cause(error)
        if cause is None and isinstance(error, json.JSONDecodeError):
            raise StoreError(
                f"The search log {secret.masked(self._url)} must be as it was written. Something in it cannot be read "
                f"as JSON: {error}. Name another database: it is written again from the records of the runs when a "
                "study is run."
            ) from error
        if cause is None:
            raise error
        if not _is_passing(cause) or absence.seconds + absence.pause_s > self.seconds:
            raise StoreError(self._refusal(cause)) from error
        if absence.seconds > _QUIET_S and not absence.is_told:
            absence.is_told = True
            log.warning("%s is away (%s): it is waited for", self._name, self._reason(cause))
        time.sleep(absence.pause_s)
        absence.pause_s = min(2 * absence.pause_s, _LONGEST_S)

    @property
    def _name(self) -> str:
        return f"the search log {secret.masked(self._url)}"

    def _refusal(self, cause: BaseException) -> str:
        again = " The same command goes on when it does." if _is_passing(cause) else ""
        again = " Name it in PGPASSFILE, or in IMG2BRAIN_STORAGE." if _NO_PASSWORD in str(cause) else again
        return f"The search log {secret.masked(self._url)} does not answer: {self._reason(cause)}.{again}"

    def _reason(self, cause: BaseException) -> str:
        """Say on one line what the database said."""
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()] or [type(cause).__name__]
        told = next((line for line in lines if "FATAL" in line or "failed" in line), lines[0])
        return secret.without(told, self._url).rstrip(".")


def _cause(error: BaseException) -> BaseException | None:
    """Return the error of the database itself that lies under an error; None for any other."""
    found, cause = None, error if isinstance(error, _failures()) else None
    while cause is not None and isinstance(cause, _failures()):
        found = cause
        cause = getattr(cause, "orig", None) or cause.__cause__
    return found


def _failures() -> tuple[type[BaseException], ...]:
    """Return what databases raise, of the libraries that are in use."""
    named = {"sqlalchemy.exc": "SQLAlchemyError", "psycopg": "Error"}
    used = (getattr(sys.modules[module], name) for module, name in named.items() if module in sys.modules)
    return (StorageInternalError, sqlite3.Error, *used)


def _is_passing(cause: BaseException) -> bool:
    """Tell whether a failure may pass by itself."""
    said, state = str(cause), getattr(cause, "sqlstate", None)
    if isinstance(cause, sqlite3.Error):
        return isinstance(cause, sqlite3.OperationalError) and any(word in said for word in _PASSING_OF_SQLITE)
    if state:
        return str(state).startswith(_PASSING_STATES)
    if _NO_PASSWORD in said:
        return False
    is_of_a_connection = type(cause).__name__ in ("OperationalError", "InterfaceError")
    return is_of_a_connection and ("FATAL" not in said or any(word in said for word in _PASSING_REFUSALS))


class _Waiting(BaseStorage):
    """A storage of Optuna's whose database is waited for; abstract but for what must be done once."""

    def __init__(self, storage: BaseStorage, patience: DatabasePatience) -> None:
        self._storage, self._patience = storage, patience

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Tell a trial; one that a cut connection left open whether it was told is looked at again."""
        attempts = iter(range(sys.maxsize))

        def tell() -> bool:
            is_first = next(attempts) == 0
            try:
                return self._storage.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if is_first or not self._is_told(trial_id, state, values):
                    raise
                return True

        return self._patience(tell)

    def _is_told(self, trial_id: int, state: TrialState, values: Sequence[float] | None) -> bool:
        trial = self._storage.get_trial(trial_id)
        return trial.state == state and list(trial.values or ()) == list(values or ())


def _patiently(name: str) -> Callable[..., Any]:
    def method(self: _Waiting, *args: Any, **options: Any) -> Any:
        return self._patience(lambda: getattr(self._storage, name)(*args, **options))

    method.__name__ = name
    return method


def _left() -> Iterator[str]:
    """Name what every storage must do, and `_Waiting` does not say."""
    yield from sorted(_Waiting.__abstractmethods__)


# Each can be done again: a trial that was made and not heard of belongs to nobody, and all else is written by name.
WaitingStorage: Callable[[BaseStorage, DatabasePatience], BaseStorage] = type(
    "WaitingStorage", (_Waiting,), {name: _patiently(name) for name in _left()}
)
