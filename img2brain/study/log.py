"""The store of searches: what all workers of a study share, on one machine or on many."""

from __future__ import annotations

from img2brain.home import Home
from img2brain.study._database_log import PostgresLog, SqliteLog, holds_searches
from img2brain.study._journal import Journal, JournalToRead, read_journal
from img2brain.study._search_log import QUIET, SearchLog

__all__ = ["QUIET", "SearchLog", "existing_log", "holds_searches", "open_log", "read_journal"]


def open_log(home: Home) -> SearchLog:
    """Open the store of searches of a home, made where it is not there.

    Raises
    ------
    StoreError
        If it cannot be read or written.
    """
    if home.storage is None:
        return Journal(home)
    kind = SqliteLog if home.storage.startswith("sqlite:") else PostgresLog
    return kind(home.storage)


def existing_log(home: Home) -> SearchLog | None:
    """Open the store of searches of a home for reading; None where there is none yet.

    A journal is read as it is now, up to the first line that is damaged, which is said: nothing of it is changed.
    """
    if home.storage is None:
        return JournalToRead(home) if home.search_log.exists() else None
    file = home.search_file
    is_there = PostgresLog.is_begun(home.storage) if file is None else file.exists()
    return open_log(home) if is_there else None
