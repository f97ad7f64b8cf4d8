"""What a study takes on a machine that others use as well: two busy loops beside it, and without them.

The whole command is timed, as one process and with two workers. Its fair share beside a busy loop on each core is half
of the machine, so that it should take twice as long; what it takes beyond that is shown as a ratio. Run it with

    uv run --group bench python experiments/benchmarks/shared_machine.py
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _bench import main, table

N_REPEATS = int(os.environ.get("SHARED_REPEATS", "1"))
STUDY = """
name = "shared"
trials = 24
sampler = "random"
n_components = [16, 64]
regressors = ["ridge", "lasso"]
[dataset]
sample = { images = 400, voxels = 500 }
[[backbones]]
name = "resnet18"
weights = "random:0"
"""
LOOP = "while True: pass"
WAYS = {"one process": 1, "two workers": 2}


def _measured(way: str) -> Callable[[Path], dict[str, Any]]:
    def measure(scratch: Path) -> dict[str, Any]:
        folder, n_workers = scratch / way, WAYS[way]
        folder.mkdir()
        file = folder / "shared.toml"
        file.write_text(STUDY, encoding="utf-8")
        _run(file, folder / "warm", 1)  # the sample is drawn, and the files are read once
        found: dict[str, list[tuple[float, float]]] = {"alone": [], "beside": []}
        for number in range(N_REPEATS):
            found["alone"].append(_run(file, folder / f"alone-{number}", n_workers))
            with _busy(os.cpu_count() or 1):
                found["beside"].append(_run(file, folder / f"beside-{number}", n_workers))
        return {name: min(times) for name, times in found.items()}

    return measure


@contextmanager
def _busy(n_loops: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(n_loops)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _run(file: Path, home: Path, n_workers: int) -> tuple[float, float]:
    """Run the study, and return the seconds that it took on the clock and on all cores."""
    words = [sys.executable, "-m", "img2brain", "study", "run", str(file), "--home", str(home)]
    before, start = _core_s(), time.perf_counter()
    subprocess.run([*words, "--workers", str(n_workers)], check=True, capture_output=True)
    return time.perf_counter() - start, _core_s() - before


def _core_s() -> float:
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def _report(_: Path, figures: dict[str, dict[str, Any]]) -> str:
    rows = []
    for way, found in figures.items():
        (alone, alone_core), (beside, beside_core) = found["alone"], found["beside"]
        seconds = (f"{alone:.1f}", f"{alone_core:.1f}", f"{beside:.1f}", f"{beside_core:.1f}")
        rows.append((way, *seconds, f"{beside / (2 * alone):.2f}"))
    head = ("study", "alone s", "core s", "beside loops s", "core s", "of its fair share")
    return table(head, rows)


if __name__ == "__main__":
    main(__file__, {way: _measured(way) for way in WAYS}, _report)
