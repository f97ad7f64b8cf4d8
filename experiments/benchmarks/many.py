"""What the trials of one long study cost: 10,000 of them, of tiny data, so that nothing but the search is measured.

Ask, tell and log are those of a study: an Optuna search by TPE in a journal, and MLflow in SQLite, at the first hundred
trials, at the thousandth and at the last. Then come the whole commands that read such a study. Run it with

    uv run --group bench python experiments/benchmarks/many.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import _simulated
from _bench import main, table
from trials import _timed

N_TRIALS = int(os.environ.get("MANY_TRIALS", "10000"))
ENDS = (100, 1000, 3000, 10_000)
N_SEEN = 100  # trials before each end whose median is shown
SIZE = _simulated.Size(n_train=40, n_validation=12, n_components=10, n_voxels=20)
REGRESSORS = ["ridge", "linear", "k_neighbors", "pls"]
COMMANDS = (
    ("study list",),
    ("study show", "simulated"),
    ("leaderboard show",),
    ("compare", "STUDY#0", "STUDY#1"),
    ("home check",),
    ("leaderboard build", "board"),
)


def _study(folder: Path) -> dict[str, Any]:
    from img2brain.home import Home
    from img2brain.study.runner import Run
    from img2brain.study.search import Search
    from img2brain.tracking.tracker import Tracker

    home = Home(folder / "home")
    setting = _simulated.setting(_simulated.data(folder, SIZE), home, REGRESSORS, N_TRIALS, SIZE)
    run = Run(setting, setting.name)
    spent: dict[str, list[float]] = defaultdict(list)
    for owner, name in ((Search, "ask"), (Search, "tell"), (Tracker, "log_trial"), (run, "_trial")):
        setattr(owner, name, _timed(getattr(owner, name), spent[name]))
    run.work_through()
    run.members[0].tracker.close()
    return {"stages": spent, "name": setting.name}


def _reading(folder: Path) -> dict[str, Any]:
    found = {}
    for words in COMMANDS:
        first, *rest = (word.replace("STUDY", _name(folder)) for word in words)
        start = time.perf_counter()
        _call([*first.split(), *rest], folder)
        found[words[0]] = time.perf_counter() - start
    return {"seconds": found}


def _name(folder: Path) -> str:
    import json

    return str(json.loads((folder / "study.json").read_text(encoding="utf-8"))["name"])


def _call(words: list[str], folder: Path) -> None:
    command = [sys.executable, "-m", "img2brain", *words, "--home", str(folder / "home")]
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)


def _report(_: Path, figures: dict[str, dict[str, Any]]) -> str:
    parts = []
    if "study" in figures:
        parts.append(_stages(figures["study"]["stages"]))
    if "reading" in figures:
        seconds = figures["reading"]["seconds"]
        parts.append(table(("whole command", "s"), [(name, f"{value:.2f}") for name, value in seconds.items()]))
    return "\n\n".join(parts)


def _stages(stages: dict[str, list[float]]) -> str:
    ends = [end for end in ENDS if end <= N_TRIALS]

    def row(name: str, times: list[float]) -> tuple[object, ...]:
        shown = [1e3 * statistics.median(times[end - N_SEEN : end]) for end in ends]
        return (name, *(f"{value:.1f}" for value in shown), f"{shown[-1] / shown[0]:.2f}")

    head = ("median ms of the 100 up to trial", *(f"{end:,}" for end in ends), "last / first")
    return table(head, [row("whole trial" if name == "_trial" else name, times) for name, times in stages.items()])


if __name__ == "__main__":
    main(__file__, {"study": _study, "reading": _reading}, _report)
