"""How many real trials a second four workers of one PostgreSQL make, beside one worker on as many cores.

A trial fits ridge or lasso to stored components of a network's layer, scores it, tells it to the database and tracks it
in the home. The features are there before the clock starts. The rate is that of the middle eight tenths of the trials,
so that libraries that load do not count; the whole command is shown beside it. Run it with

    uv run --extra postgresql python experiments/benchmarks/throughput.py
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _bench import main, table

ROOT = Path(__file__).resolve().parents[2]
N_TRIALS = int(os.environ.get("THROUGHPUT_TRIALS", "300"))
COUNTS = (1, 4)
STUDY = """
name = "throughput"
trials = {n_trials}
sampler = "random"
n_components = [20, 50, 100]
regressors = ["ridge", "lasso"]
[dataset]
sample = {{ images = 600, voxels = 5000 }}
[[backbones]]
name = "resnet18"
weights = "random:0"
layers = ["layer3", "layer4", "avgpool"]
"""
TOLD = """
    SELECT string_agg(extract(epoch FROM datetime_complete)::text, ',' ORDER BY datetime_complete) FROM trials
    WHERE state = 'COMPLETE'
"""


def _measured(n_workers: int) -> Callable[[Path], dict[str, Any]]:
    def measure(scratch: Path) -> dict[str, Any]:
        sys.path.insert(0, str(ROOT))
        from tests.postgres import running

        home, cache = scratch / f"home-{n_workers}", scratch / "cache"
        with running(settings=("-c listen_addresses=127.0.0.1",)) as postgres:
            name = postgres.new_database()
            place = ("--home", str(home), "--cache", str(cache))
            _run(scratch, postgres.url(postgres.new_database()), 1, 1, *place)  # the features
            before, start = _core_s(), time.perf_counter()
            _run(scratch, postgres.url(name), N_TRIALS, n_workers, *place)
            whole_s, core_s = time.perf_counter() - start, _core_s() - before
            told = [float(text) for text in postgres.ask(name, TOLD).split(",")]
        first, last = len(told) // 10, len(told) * 9 // 10
        rate = (last - first) / (told[last] - told[first])
        return {"n": len(told), "rate": rate, "whole_s": whole_s, "core_s": core_s}

    return measure


def _run(folder: Path, storage: str, n_trials: int, n_workers: int, *options: str) -> None:
    file = folder / "throughput.toml"
    file.write_text(STUDY.format(n_trials=n_trials), encoding="utf-8")
    words = [sys.executable, "-m", "img2brain", "study", "run", str(file), "--workers", str(n_workers), *options]
    subprocess.run(words, check=True, capture_output=True, env=os.environ | {"IMG2BRAIN_STORAGE": storage})


def _core_s() -> float:
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def _report(_: Path, figures: dict[str, dict[str, Any]]) -> str:
    one = figures.get("1 worker", {}).get("rate")
    rows = [
        (
            name, found["n"], f"{found['rate']:.2f}", f"{found['rate'] / one:.2f} x" if one else "",
            f"{found['whole_s']:.1f}", f"{found['core_s']:.1f}",
        )
        for name, found in figures.items()
    ]  # fmt: skip
    return table(("", "trials", "trials a second", "", "whole command s", "core s"), rows)


if __name__ == "__main__":
    main(__file__, {f"{n} worker{'s' * (n > 1)}": _measured(n) for n in COUNTS}, _report)
