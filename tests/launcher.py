"""A process that has imported everything, and forks a real `img2brain` process for each request.

A fresh interpreter takes seconds to import torch and MLflow; a fork takes none, and is killed like any other process.
Requests and answers are lines of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

PRELOADED = (
    "img2brain.cli.study",
    "img2brain.cli.model",
    "img2brain.cli.leaderboard",
    "img2brain.study.runner",
    "img2brain.tracking.server",
    "mlflow",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "optuna",
    "plotly.graph_objects",
)


def start(request: dict[str, Any]) -> int:
    """Fork a process that runs the command line and writes its output to files."""
    pid = os.fork()
    if pid == 0:
        try:
            code = run(request)
        except BaseException:
            traceback.print_exc()
            code = 1
        os._exit(code)
    return pid


def run(request: dict[str, Any]) -> int:
    """Run the command line in this process, as its own session, and return its exit code."""
    os.setsid()
    # A shell lets what it starts in the background ignore interrupts, and these tests with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    out = Path(request["out"])
    for number, path in enumerate((Path(os.devnull), out / "stdout", out / "stderr")):
        os.dup2(os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    if request["user"] is not None:
        os.setgid(request["user"])
        os.setuid(request["user"])
    code = _exit_code(request["args"])
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _exit_code(args: list[str]) -> int:
    from img2brain.cli import main

    try:
        main(args, prog_name="img2brain")
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    return 0


def poll(pid: int) -> int | None:
    """Return the exit code of a process, negative for a signal, or None while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def main() -> None:
    """Serve requests until the input ends."""
    for name in PRELOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        answer = poll(request["poll"]) if "poll" in request else start(request)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
