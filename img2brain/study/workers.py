"""Workers of a study on this machine: processes that are started, watched and started again."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import IO

from img2brain.errors import ResourceError
from img2brain.holders import is_stopped
from img2brain.home import Home
from img2brain.machine import n_cores

log = logging.getLogger(__name__)

_PAUSE_S = 0.2  # between two looks at them
_IN_A_ROW = 3  # ends of each worker without a trial in between, until no more are started
_MOST_OF_A_CORE = 8  # workers; a machine that is asked for thousands stands still for everybody
_COMMAND = "import sys; sys.path[:] = {path!r}; from img2brain.cli import main; main(prog_name='img2brain')"


def most_workers() -> int:
    """Return how many workers this machine can be asked for: each takes the memory and the start of a process."""
    return _MOST_OF_A_CORE * n_cores()


def thread_settings(n_threads: int) -> dict[str, str]:
    """Return the environment of a process that computes on so many threads, which wait for work without turning."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(n_threads))
    return counts | {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "GOMP_SPINCOUNT": "0"}


def end_with_parent() -> None:
    """End this process when its standard input ends, as it does when the process at the other end is killed."""
    threading.Thread(target=_end_with_input, name="parent", daemon=True).start()


def _end_with_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)  # as by a kill, which loses nothing


class Crew:
    """Some workers of a study, each a process of its own with a share of the processors.

    They end with the context: by themselves where all trials are over, killed where it fails. They end as well when
    the process that started them does, however it ends.

    Parameters
    ----------
    study : str
        Its full name.
    home : Home
        Where it is kept.
    n_workers : int
        How many.
    program : sequence of str, optional
        What is run, before its arguments; by default img2brain itself.
    """

    def __init__(self, study: str, home: Home, n_workers: int, program: Sequence[str] = ()) -> None:
        self._study, self._home, self._n_workers = study, home, n_workers
        self._command = Command(study, home, max(1, n_cores() // n_workers), program)
        self._workers: dict[int, Worker] = {}
        self._told = Warned()
        self._n_in_a_row = 0

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers.values():
            worker.end(at_once=kind is not None)

    def watch(self, show: Callable[[], int], n_trials: int) -> None:
        """Let them work until all trials are over, and start those again that end before.

        Parameters
        ----------
        show : callable
            Shows what is new, and returns how many trials are over.
        n_trials : int
            How many there are.

        Raises
        ------
        ResourceError
            If they end again and again without finishing a trial.
        StoreError
            If one ends, and the home cannot be written any more.
        """
        n_over = show()
        while n_over < n_trials:
            self._start_missing(n_trials - n_over)
            time.sleep(_PAUSE_S)
            before, n_over = n_over, show()
            self._n_in_a_row = 0 if n_over > before else self._n_in_a_row

    def _start_missing(self, n_left: int) -> None:
        """Start those that are not there, no more than there are trials left."""
        for number in range(1, min(self._n_workers, n_left) + 1):
            worker = self._workers.get(number)
            if worker is None or worker.has_ended:
                if worker is not None:
                    self._tell_of_end(worker)
                self._workers[number] = Worker(number, self._command, self._told)

    def _tell_of_end(self, worker: Worker) -> None:
        self._home.require_room()
        self._n_in_a_row += 1
        reason = worker.reason
        if self._n_in_a_row > _IN_A_ROW * self._n_workers:
            raise ResourceError(
                f"The workers of {self._study} ended {self._n_in_a_row} times in a row without finishing a trial. The "
                f"last one {reason}. No trial is lost: the same command goes on."
            )
        log.warning("worker %d %s: it is started again", worker.number, reason)
        worker.end(at_once=False)


class Command:
    """What starts a worker that ends with the process that starts it, and leaves the best trial to others.

    Parameters
    ----------
    study : str
        Its full name.
    home : Home
        Where it is kept.
    n_threads : int, optional
        On how many threads it computes; by default as the environment says.
    program : sequence of str, optional
        What is run, before its arguments; by default img2brain itself.
    """

    def __init__(self, study: str, home: Home, n_threads: int | None, program: Sequence[str] = ()) -> None:
        own = [sys.executable, "-c", _COMMAND.format(path=sys.path), "study", "worker"]
        threads = ["--threads", str(n_threads)] if n_threads else []
        self.words = [*(program or own), study, *threads, "--no-finish", "--tied"]
        self.environment = _environment(home) | (thread_settings(n_threads) if n_threads else {})


class Warned:
    """What workers tell: warnings, each once, however many of them say so."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def tell(self, number: int, line: str) -> str:
        """Tell a line of JSON that a worker wrote, or a line of another kind as it is; return its message."""
        try:
            told = dict(json.loads(line))
            level, name, message = str(told["level"]).upper(), str(told["logger"]), str(told["message"])
        except (ValueError, KeyError, TypeError):
            level, name, message = "WARNING", __name__, line
        rank = logging.getLevelNamesMapping().get(level, logging.WARNING)
        if rank == logging.WARNING and self._is_new(message):
            logging.getLogger(name).log(rank, "worker %d: %s", number, message)
        return message

    def _is_new(self, message: str) -> bool:
        with self._lock:
            is_new = message not in self._seen
            self._seen.add(message)
            return is_new


class Worker:
    """A process that works, and what it told last.

    Parameters
    ----------
    number : int
        Names it where it is told of.
    command : Command
        Starts it.
    told : Warned
        Takes what it tells.
    """

    patience_s = 10.0  # for its end

    def __init__(self, number: int, command: Command, told: Warned) -> None:
        self.number = number
        self._process = subprocess.Popen(
            command.words,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=command.environment,
            process_group=0,  # an interrupt on the terminal is for who started it
        )
        self._last: deque[str] = deque(maxlen=1)
        assert self._process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stderr, told), daemon=True)
        self._reader.start()

    @property
    def has_ended(self) -> bool:
        """Whether the process is over."""
        return self._process.poll() is not None

    @property
    def code(self) -> int:
        """The code that it ended with, or minus the signal; it is waited for."""
        return self._process.wait()

    @property
    def reason(self) -> str:
        """Why it ended, as the end of a sentence."""
        code = self.code
        self._reader.join(self.patience_s)
        if code < 0:
            return (
                f"was killed by signal {-code}, as for a lack of memory" if code == -9 else f"ended by signal {-code}"
            )
        said = f" and said: {self._last[0].removeprefix('Error: ').rstrip('.')}" if self._last else ""
        return f"ended with code {code}{said}"

    def end(self, at_once: bool) -> None:
        """Wait for its end, which is forced where it has to end at once, or stands still and would never."""
        if at_once:
            self._process.terminate()
        while self._is_at_work():
            if at_once or is_stopped(self._process.pid):
                log.warning("worker %d does not end: it is killed", self.number)
                self._process.kill()
        self._reader.join(self.patience_s)
        for stream in (self._process.stdin, self._process.stderr):
            if stream is not None:
                stream.close()

    def _is_at_work(self) -> bool:
        """Tell whether it is still at work after a while."""
        try:
            self._process.wait(self.patience_s)
        except subprocess.TimeoutExpired:
            return True
        return False

    def _read(self, stream: IO[bytes], told: Warned) -> None:
        for line in stream:
            if text := line.decode("utf-8", "replace").strip():
                self._last.append(told.tell(self.number, text))


def _environment(home: Home) -> dict[str, str]:
    """Return what tells a worker its home; a password in it is for its own eyes, as a command line would not be."""
    said = {
        "IMG2BRAIN_HOME": str(home.folder),
        "IMG2BRAIN_CACHE": str(home.cache) if home.shares_cache else "",
        "IMG2BRAIN_STORAGE": home.storage or "",
        "MLFLOW_TRACKING_URI": home.tracking_uri or "",
        "IMG2BRAIN_LOG": "json",
    }
    others = {name: value for name, value in os.environ.items() if name not in said}
    return others | {name: value for name, value in said.items() if value}
