"""Settings of other libraries that stand while a call of ours needs them, and are then as before."""

from __future__ import annotations

import importlib
import logging
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType


class Quiet:
    """A context in which some loggers tell errors only, and some environment variables are set where they are not.

    Calls may stand within one another, in one thread or in several: the first sets, the last restores.

    Parameters
    ----------
    library : str
        Imported first: it sets the levels of its loggers when it is imported.
    loggers : sequence of str
        The loggers.
    level : int
        What they tell.
    environment : mapping of str to str
        The variables; one that is set already keeps its value.

    Examples
    --------
    >>> with Quiet("json", ["noisy"]):
    ...     logging.getLogger("noisy").level == logging.ERROR
    True
    >>> logging.getLogger("noisy").level == logging.NOTSET
    True
    """

    def __init__(
        self,
        library: str,
        loggers: Sequence[str],
        level: int = logging.ERROR,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._library, self._loggers, self._level = library, tuple(loggers), level
        self._environment = dict(environment or {})
        self._lock = threading.Lock()
        self._n_users = 0
        self._levels: dict[str, int] = {}
        self._set_here: list[str] = []

    def __enter__(self) -> None:
        with self._lock:
            self._n_users += 1
            if self._n_users == 1:
                self._set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._n_users -= 1
            if self._n_users == 0:
                self._restore()

    def _set(self) -> None:
        self._set_here = [name for name in self._environment if name not in os.environ]
        os.environ.update({name: self._environment[name] for name in self._set_here})
        importlib.import_module(self._library)
        self._levels = {name: logging.getLogger(name).level for name in self._loggers}
        for name in self._loggers:
            logging.getLogger(name).setLevel(self._level)

    def _restore(self) -> None:
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        for name in self._set_here:
            os.environ.pop(name, None)


class _Warnings:
    """Which warnings are ignored: one list for a whole process. The first user keeps it, the last restores it."""

    def __init__(self) -> None:
        self._lock, self._n_users = threading.Lock(), 0
        self._kept: warnings.catch_warnings[None] = warnings.catch_warnings()

    @contextmanager
    def ignored(self, category: type[Warning] = Warning) -> Iterator[None]:
        """Ignore warnings of some kind in a context, of which several threads may have one each."""
        with self._lock:
            if not self._n_users:
                self._kept = warnings.catch_warnings()
                self._kept.__enter__()
            warnings.simplefilter("ignore", category)
            self._n_users += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_users -= 1
                if not self._n_users:
                    self._kept.__exit__(None, None, None)


ignored = _Warnings().ignored
