"""What the trials of one long study cost: of tiny data, so that nothing but the search is measured.

Ask, tell and log are those of a study: an Optuna search by TPE in a journal, and MLflow in SQLite, each in milliseconds
of a processor, at the first hundred trials and at the last of 10,000. Then come the whole commands that read such a
study, each a second time, so that what is made once does not count. Run it with

    uv run --group bench python experiments/benchmarks/many.py

To fill a home takes a quarter of an hour; ``MANY_FROM=FOLDER`` begins with a copy of one that was filled.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _simulated
from _bench import main, table

N_TRIALS = int(os.environ.get("MANY_TRIALS", "10000"))
FILLED = os.environ.get("MANY_FROM", "")
N_SEEN = 100  # trials whose median is shown
SIZE = _simulated.Size(n_train=40, n_validation=12, n_components=10, n_voxels=20)
REGRESSORS = ["ridge", "linear", "k_neighbors", "pls"]
COMMANDS = (
    ("study list",),
    ("study show", "simulated", "--most", "20"),
    ("leaderboard show",),
    ("compare", "STUDY#0", "STUDY#1"),
    ("home check",),
    ("leaderboard build", "board"),
)


def _first(folder: Path) -> dict[str, Any]:
    return _work(folder / "first", N_SEEN)


def _last(folder: Path) -> dict[str, Any]:
    if FILLED:
        shutil.copytree(FILLED, folder / "last", copy_function=shutil.copy2)
    return _work(folder / "last", 0 if FILLED else N_TRIALS)


def _work(folder: Path, n_trials: int) -> dict[str, Any]:
    """Work on a study up to so many trials, or on a hundred more than there are, and time the last ones."""
    from img2brain.home import Home
    from img2brain.study.runner import Run
    from img2brain.study.search import Search
    from img2brain.tracking.tracker import Tracker

    folder.mkdir(exist_ok=True)
    home = Home(folder / "home")
    setting = _simulated.setting(_simulated.data(folder, SIZE), home, REGRESSORS, 10 * N_TRIALS, SIZE)
    run = Run(setting, setting.name)
    run.n_trials = n_trials or len(run.search.told()) + N_SEEN
    spent: dict[str, list[float]] = defaultdict(list)
    for owner, name in ((Search, "ask"), (Search, "tell"), (Tracker, "log_trial"), (run, "_trial")):
        setattr(owner, name, _timed(getattr(owner, name), spent[name]))
    run.work_through(quiet=True)
    run.members[0].tracker.close()
    cost = {name: 1e3 * statistics.median(times[-N_SEEN:]) for name, times in spent.items()}
    return {"cost": cost, "n": run.n_trials, "name": setting.name}


def _timed(function: Callable[..., Any], times: list[float]) -> Callable[..., Any]:
    """Measure a function by the time of the processor."""

    @functools.wraps(function)
    def timed(*args: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return function(*args, **options)
        finally:
            times.append(time.process_time() - start)

    return timed


def _reading(folder: Path) -> dict[str, Any]:
    name = json.loads((folder / "last.json").read_text(encoding="utf-8"))["name"]
    found = {}
    for words in COMMANDS:
        call = [word.replace("STUDY", name) for word in (*words[0].split(), *words[1:])]
        _call(call, folder)
        before, start = _used(), time.perf_counter()
        _call(call, folder)
        found[words[0]] = (_used() - before, time.perf_counter() - start)
    return {"seconds": found}


def _used() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _call(words: list[str], folder: Path) -> None:
    command = [sys.executable, "-m", "img2brain", *words, "--home", str(folder / "last" / "home")]
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, env=os.environ | compiled)


def _report(_: Path, figures: dict[str, dict[str, Any]]) -> str:
    parts = []
    if "first" in figures and "last" in figures:
        parts.append(_stages(figures["first"], figures["last"]))
    if "reading" in figures:
        seconds = figures["reading"]["seconds"]
        head = ("whole command", "s of a processor", "s on the clock")
        parts.append(table(head, [(name, *(f"{value:.2f}" for value in both)) for name, both in seconds.items()]))
    return "\n\n".join(parts)


def _stages(first: dict[str, Any], last: dict[str, Any]) -> str:
    head = (f"ms of a processor, median of {N_SEEN} up to trial", f"{first['n']:,}", f"{last['n']:,}", "last / first")

    def row(name: str, before: float, after: float) -> tuple[object, ...]:
        return "whole trial" if name == "_trial" else name, f"{before:.1f}", f"{after:.1f}", f"{after / before:.2f}"

    return table(head, [row(name, cost, last["cost"][name]) for name, cost in first["cost"].items()])


if __name__ == "__main__":
    main(__file__, {"first": _first, "last": _last, "reading": _reading}, _report)
