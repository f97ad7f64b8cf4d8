"""The predecessor's whole study, end to end: 23 layers of four networks, then six regressors, everything logged.

8857 generated JPEG files of 425 x 425 pixels, 10,000 voxels, its rows, its sizes. The peer is no more than the sum of
the four networks' bare forward passes on tensors in memory. The predecessor took 214 minutes (with a GPU for the
features) and logged nothing. Run it with

    uv run python experiments/benchmarks/predecessor.py
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from _bare import images_per_second
from _bench import Figures, main, table
from _pictures import write_dataset

from img2brain.features.extract import find_device, find_precision
from img2brain.home import Home
from img2brain.spec import load_study, with_overrides
from img2brain.study.runner import run_study
from img2brain.study.setting import make_ready

N_IMAGES, N_VOXELS = 8857, 10_000
EXPERIMENTS = Path(__file__).parents[1]
STUDIES = ("predecessor_layers", "predecessor_regressors")
NETWORKS = ("alexnet", "vgg16", "resnet50", "inception_v3")


def bare(folder: Path) -> Figures:
    """Measure the bare forward passes."""
    write_dataset(folder / "data", N_IMAGES, N_VOXELS)
    device = find_device("auto")
    dtype = find_precision("auto", device)
    rates = {name: images_per_second(name, dtype, device) for name in NETWORKS}
    return {"rates": rates, "precision": str(dtype)}


def ours(folder: Path, n_images: int = N_IMAGES, n_voxels: int = N_VOXELS, **changes: Any) -> Figures:
    """Run both studies as the command line does, and take the time of each network's features.

    They are as published, but for `changes`.
    """
    data = write_dataset(folder / "data", n_images, n_voxels)
    home = folder / "home"
    stages: dict[str, float | str] = {}
    start = time.perf_counter()
    for study in STUDIES:
        spec = with_overrides(load_study(EXPERIMENTS / f"{study}.toml"), dataset={"path": data}, **changes)
        setting = make_ready(spec, Home(home))
        for bank in setting.first.banks.values():
            began = time.perf_counter()
            bank.extract()
            stages[f"{study}: features of {bank.spec.name}"] = time.perf_counter() - began
        began = time.perf_counter()
        outcome = run_study(spec, home)
        stages[f"{study}: trials, publishing, leaderboard"] = time.perf_counter() - began
        assert outcome.best is not None
        stages[f"{study}: best"] = outcome.best.spec.label
    return {"seconds": time.perf_counter() - start, "stages": stages}


def report(_folder: Path, figures: dict[str, Figures]) -> str:
    """Build the table."""
    before, mine, after = figures["bare"], figures["ours"], figures["bare again"]
    rates = {name: (before["rates"][name][0], after["rates"][name][0]) for name in NETWORKS}
    plain = {name: sum(N_IMAGES / rate for rate in both) / 2 for name, both in rates.items()}
    total = sum(plain.values())
    rows = [
        [f"bare forward pass of {name}", f"{seconds:.1f}", "{:.0f} images/s, after ours {:.0f}".format(*rates[name])]
        for name, seconds in plain.items()
    ]
    rows += [["their sum", f"{total:.1f}", before["precision"]]]
    rows += [
        [stage, f"{value:.1f}", _ratio(stage, value, plain)] if isinstance(value, float) else [stage, "", value]
        for stage, value in mine["stages"].items()
    ]
    ratio = mine["seconds"] / total
    rows += [
        ["ours, end to end", f"{mine['seconds']:.1f}", f"{ratio:.2f} x the bare passes (aim 1.50)"],
        ["the predecessor, published", f"{214 * 60}", f"{214 * 60 / mine['seconds']:.0f} x ours"],
        ["peak memory of ours, MiB", f"{mine['peak_mib']:.0f}", "aim below 8192"],
    ]
    return f"{N_IMAGES} images of 425 x 425 pixels, {N_VOXELS} voxels\n\n{table(['', 'seconds', ''], rows)}"


def _ratio(stage: str, value: float, plain: dict[str, float]) -> str:
    name = stage.rpartition(" ")[2]
    return f"{value / plain[name]:.2f} x" if name in plain and "layers" in stage else ""


if __name__ == "__main__":
    main(__file__, {"bare": bare, "ours": ours, "bare again": bare}, report)
