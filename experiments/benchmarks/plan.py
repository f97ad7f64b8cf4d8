"""What the plan of a study says it takes, beside what it took: time, disk and memory, at three sizes.

Each study is planned in a process of its own, then run in another. Time is that of one core: what others take of the
machine meanwhile does not count, but slows caches and memory down. Run it with

    uv run python experiments/benchmarks/plan.py [CONTENDER ...]
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from _bench import main, table

Figures = dict[str, Any]
SIZES: dict[str, dict[str, Any]] = {
    "small": {"images": 120, "voxels": 200, "trials": 20, "layers": ["features.9", "features.12"]},
    "middle": {"images": 600, "voxels": 5000, "trials": 40, "layers": ["features.6", "features.9", "features.12"]},
    "large": {"images": 2000, "voxels": 30000, "trials": 60, "layers": ["features.9", "features.12"]},
}
GROUPS = {
    "open": ("open",),
    "extract, reduce": ("extract", "reduce"),
    "moments, search, track": ("moments", "search", "track"),
    "publish": ("publish",),
}


def _spec(folder: Path, size: str) -> Any:
    from img2brain.spec import StudySpec, parse

    asked = SIZES[size]
    told = {
        "name": size, "trials": asked["trials"], "n_components": [10, 20, 40], "regressors": ["ridge"],
        "dataset": {"path": str(_data(folder, size))},
        "backbones": [{"name": "alexnet", "weights": "random:0", "layers": asked["layers"]}],
    }  # fmt: skip
    return parse(StudySpec, told, "the benchmark's study")


def _data(folder: Path, size: str) -> Path:
    """Write the data of a size, once."""
    from img2brain.datasets._sample import write_sample

    place = folder / f"data-{size}"
    if not place.is_dir():
        write_sample(place, SIZES[size]["images"], SIZES[size]["voxels"], 0, name=size)
    return place


def planned(size: str, folder: Path) -> Figures:
    """Plan a study; what the libraries take to load is part of it."""
    start, core = time.perf_counter(), time.process_time()
    from img2brain.study.plan import plan

    loaded = time.process_time() - core
    found = plan(_spec(folder, size))
    work = {stage.name: stage.work_s for stage in found.stages}
    groups = {group: sum(work[name] for name in names) for group, names in GROUPS.items()}
    return {
        "plan_s": time.perf_counter() - start,
        "plan_core_s": time.process_time() - core,
        "loaded_core_s": loaded,
        "work": groups,
        "disk": found.disk_bytes,
        "memory": found.memory_bytes,
    }


def ran(size: str, folder: Path) -> Figures:
    """Run a study, and tell what its stages took; the opening begins with the loading of the libraries."""
    start, wall = time.process_time(), time.perf_counter()
    from img2brain.home import Home
    from img2brain.study import runner
    from img2brain.study.extraction import Extraction

    spec, home, took = _spec(folder, size), Home(folder / f"home-{size}"), dict.fromkeys(GROUPS, 0.0)
    took["open"] = time.process_time() - start
    with ExitStack() as timed:
        timed.enter_context(_timed(runner, "make_ready", took, "open"))
        timed.enter_context(_timed(Extraction, "now", took, "extract, reduce"))
        timed.enter_context(_timed(runner.Run, "work_through", took, "moments, search, track"))
        outcome = runner.run_study(spec, home)
    assert outcome.published is not None
    took["publish"] = time.process_time() - start - sum(took.values())
    sizes = {
        found.st_ino: found.st_size for path in home.folder.rglob("*") if (found := path.stat()) and path.is_file()
    }
    load = os.getloadavg()[0]
    return {"work": took, "disk": sum(sizes.values()), "wall_s": time.perf_counter() - wall, "load": load}


@contextmanager
def _timed(owner: Any, name: str, took: dict[str, float], stage: str) -> Iterator[None]:
    """Add the time of a core that a function takes to a stage, while this lasts."""
    function: Callable[..., Any] = getattr(owner, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            took[stage] += time.process_time() - start

    setattr(owner, name, timed)
    try:
        yield
    finally:
        setattr(owner, name, function)


def report(_: Path, figures: dict[str, Figures]) -> str:
    """Tell what was planned beside what was measured."""
    return "\n\n".join(_of_size(size, figures) for size in SIZES if f"{size}: plan" in figures)


def _of_size(size: str, figures: dict[str, Figures]) -> str:
    said, found, asked = figures[f"{size}: plan"], figures[f"{size}: study"], SIZES[size]
    rows = [(f"core seconds: {group}", *_beside(said["work"][group], found["work"][group])) for group in GROUPS]
    rows += [
        ("core seconds in all", *_beside(sum(said["work"].values()), sum(found["work"].values()))),
        ("disk, MB", *_beside(said["disk"] / 1e6, found["disk"] / 1e6)),
        ("memory, MiB", *_beside(said["memory"] / 2**20, found["peak_mib"])),
    ]
    head = f"{size}: {asked['images']} images, {asked['voxels']:,} voxels, {len(asked['layers'])} layers of AlexNet"
    took = f"the study took {found['wall_s']:.0f} s by the clock, load {found['load']:.1f} at its end"
    planned = (
        f"planned in {said['plan_core_s']:.1f} core seconds, {said['loaded_core_s']:.1f} of them to load libraries"
    )
    told = f"{asked['trials']} trials; {planned} ({said['plan_s']:.0f} s by the clock); {took}"
    return f"{head}\n{told}\n\n{table(('', 'planned', 'measured', 'ratio'), rows)}"


def _beside(said: float, found: float) -> tuple[str, str, str]:
    return f"{said:,.1f}", f"{found:,.1f}", f"{said / found:.2f}" if found else "-"


if __name__ == "__main__":
    contenders: dict[str, Any] = {}
    for each in SIZES:
        contenders |= {f"{each}: data": partial(lambda size, folder: {"at": str(_data(folder, size))}, each)}
        contenders |= {f"{each}: plan": partial(planned, each), f"{each}: study": partial(ran, each)}
    main(__file__, contenders, report)
