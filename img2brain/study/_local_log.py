"""A search log whose workers share a machine: a lock is free as soon as its process ends, and so is a dead worker's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from img2brain.holders import holders, is_stopped
from img2brain.study._search_log import SearchLog


class LocalLog(SearchLog):
    """A search log with locks of files."""

    @abstractmethod
    def file_lock(self, name: str) -> FileLock:
        """Return the lock of a file that stands for a name."""

    def lock(self, name: str) -> FileLock:
        return self.file_lock(f"search {name}")

    @contextmanager
    def attend(self, worker: str) -> Iterator[None]:
        lock = self._sign_of(worker)
        with lock:
            yield
            _remove(lock)

    def living(self, workers: Iterable[str]) -> set[str]:
        return {worker for worker in workers if self._lives(worker)}

    def standing(self, workers: Iterable[str]) -> dict[str, int]:
        by_file = {Path(self._sign_of(worker).lock_file): worker for worker in workers}
        return {by_file[path]: process for path, process in holders(by_file).items() if is_stopped(process)}

    def _sign_of(self, worker: str) -> FileLock:
        """Return the lock that a worker holds as long as it lives."""
        return self.file_lock(f"worker {worker}")

    def _lives(self, worker: str) -> bool:
        lock = self._sign_of(worker)
        if not Path(lock.lock_file).exists():
            return False
        try:
            with lock.acquire(timeout=0):
                _remove(lock)
        except Timeout:
            return True
        return False


def _remove(lock: FileLock) -> None:
    """Remove the file of a lock that is held here, and that nobody will ask for again."""
    with suppress(OSError):
        Path(lock.lock_file).unlink()
