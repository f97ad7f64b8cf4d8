"""The journal of all searches of a home: one file that no kill can spoil."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from img2brain._quiet import Quiet
from img2brain.errors import StoreError
from img2brain.home import Home

QUIET = Quiet("optuna", ["optuna"], logging.WARNING)  # which tells of every study that it makes


class _Journal(JournalFileBackend):
    """A journal that waits for the disk when a trial ends, not at each of its ten lines.

    A kill loses no line: each is with the operating system at once. A power cut can lose lines after the last end of a
    trial only, and what they tell of would be asked for again anyway. The lock is free as soon as its process ends.
    """

    def __init__(self, path: Path, lock: FileLock) -> None:
        super().__init__(str(path))
        self._path, self._guard = path, lock

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with self._guard, self._path.open("ab") as journal:
            journal.write(lines.encode())
            if any("state" in log for log in logs):
                journal.flush()
                os.fsync(journal.fileno())


def open_journal(home: Home) -> JournalStorage:
    """Open the search log of a home, made where it is not there.

    Raises
    ------
    StoreError
        If it cannot be read.
    """
    lock = FileLock(home.search_log.with_suffix(".lock"))
    try:
        _mend(home.search_log, lock)
        return JournalStorage(_Journal(home.search_log, lock))
    except (OSError, json.JSONDecodeError, ValueError, KeyError) as error:
        raise StoreError(f"The search log {home.search_log} cannot be read: {error}.") from None


def _mend(path: Path, lock: FileLock) -> None:
    """Cut a last line that a kill or a full disk left unfinished: the next one would be glued to it."""
    if not path.exists():
        return
    with lock, path.open("rb+") as log:
        content = log.read()
        if content and not content.endswith(b"\n"):
            logging.getLogger(__name__).warning("the unfinished last line of %s is cut", path)
            log.truncate(content.rfind(b"\n") + 1)
