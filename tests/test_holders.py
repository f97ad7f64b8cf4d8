"""Locks whose holders work, stand still or are gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import Timeout

from img2brain import holders
from img2brain.errors import StoreError
from img2brain.holders import WaitingLock, is_held, is_stopped
from img2brain.home import Home
from img2brain.study._journal import open_journal

HOLD = "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); print(flush=True); time.sleep(600)"


@contextmanager
def held(path: Path, still: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """Let another process hold the lock of a file, and stand still where it should."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if still:
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            yield process
        finally:
            process.kill()


def wait_for(path: Path) -> None:
    with WaitingLock(path):
        pass


def test_the_holder_of_a_lock_is_known_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "one.lock"
    assert (is_held(path), holders.holders([path])) == (False, {})
    with held(path) as process:
        assert (is_held(path), holders.holders([path])) == (True, {path: process.pid})
        assert not is_stopped(process.pid)
    assert (is_held(path), holders.holders([path])) == (False, {})


def test_who_waits_for_a_lock_says_so_where_its_holder_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(WaitingLock, "quiet_s", 0.05)
    path = tmp_path / "one.lock"
    lock = WaitingLock(path)
    with held(path, still=True) as process:
        with pytest.raises(Timeout):
            lock.acquire(timeout=0)
        assert caplog.messages == []
        waiting = threading.Thread(target=wait_for, args=(path,))
        waiting.start()
        while not caplog.messages:
            waiting.join(0.05)
    waiting.join()
    advice = f"let it go on (kill -CONT {process.pid}), or end it"
    assert caplog.messages == [f"waiting for process {process.pid}, which stands still: {advice}"]
    with lock:
        assert lock.is_locked


def test_a_search_log_whose_holder_stands_still_says_so(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with (
        held(home.search_log.with_suffix(".lock"), still=True) as process,
        pytest.raises(StoreError, match=rf"not free for 0\.1 s\. Process {process.pid} stands still: let it go on"),
    ):
        open_journal(home, 0.1)
