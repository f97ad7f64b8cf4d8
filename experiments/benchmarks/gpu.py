"""What a GPU gives: the contract tests there, then each computation that can run on it beside the CPU and its peers.

Passes of networks stand beside their bare forward passes; PCA, ridge, lasso and scoring beside the same code on the
processor, ridge also beside himalaya on the same GPU; last the predecessor's whole study. It takes under 9 minutes on
one GPU of 80 GB with 16 cores, and no network. Each stage has a limit of time, and one that fails or is stopped costs
the others nothing; what is found is printed and written as it comes. Without a GPU it says so and measures nothing,
unless the whole is tried at a small size, to see that it runs to its end. Run it with

    uv run --group bench python experiments/benchmarks/gpu.py [CONTENDER ...]
    uv run --group bench python experiments/benchmarks/gpu.py --device cpu --small
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import features
import numpy as np
import predecessor
import torch
from _bare import images_per_second
from _bench import Figures, is_contender, machine, measured, seconds, table
from _pictures import write_dataset
from _rows import components, responses

from img2brain.catalog import REGRESSORS
from img2brain.datasets._images import find_images
from img2brain.features import pca
from img2brain.features.activations import InMemory
from img2brain.features.network import choose_precision
from img2brain.metrics.pearson import Pearson
from img2brain.moments import Moments
from img2brain.predecessor.layers import LAYERS
from img2brain.regressors.base import folds_of
from img2brain.regressors.ridge_cv import RidgeCV
from img2brain.sums import Sums

ROOT = Path(__file__).parents[2]
VIT = {"vit_b_16": tuple(f"encoder.layers.encoder_layer_{block}" for block in range(12))}
ALPHAS = np.geomspace(1e-2, 1e5, 20)
SHARE_OF_SCALE = 0.01
LIMIT_S = 530.0  # of all stages together
LEAST_S = 10.0  # that are left for a stage to be started
STUDY_S = 60.0  # the aim
LONG_S = 4.0  # what takes longer is measured once

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes
    ----------
    n_images, n_voxels : int
        Of the generated pictures and their responses.
    networks : tuple of str
        Whose passes are measured.
    shapes : tuple of (str, tuple of int)
        By name, rows, features and voxels of the solvers.
    n_held_out : int
        Rows that are scored.
    layer : tuple of int
        Images and features that PCA is taken of: AlexNet's first maps after pooling are 46,656 wide.
    share : float
        Of the time that a bare pass is usually measured for.
    tests : tuple of str
        The contract tests.
    is_whole : bool
        Whether the study is the published one.
    patience : float
        By how much the limits of time are multiplied.
    """

    n_images: int = 8857
    n_voxels: int = predecessor.N_VOXELS
    networks: tuple[str, ...] = (*LAYERS, *VIT)
    shapes: tuple[tuple[str, tuple[int, int, int]], ...] = (
        ("small", (3000, 1000, 30_000)),
        ("wide", (1000, 512, 200_000)),
    )
    n_held_out: int = 300
    layer: tuple[int, int] = (8857, 43_264)
    share: float = 1.0
    tests: tuple[str, ...] = (
        "tests/contracts",
        "tests/regressors",
        "tests/test_moments.py",
        "tests/features",
        "tests/study/test_gpu.py",
    )
    is_whole: bool = True
    patience: float = 1.0

    @property
    def changes(self) -> dict[str, Any]:
        """What the study is not as published in: of few pictures one network's, on any rows."""
        if self.is_whole:
            return {}
        network = {"name": "alexnet", "weights": "random:224", "layers": ["features.12"]}
        return {"split": {}, "backbones": [network], "n_components": [5], "regressors": ["linear", "ridge"]}


FULL = Sizes()
SMALL = Sizes(
    48, 30, ("alexnet",), (("small", (120, 20, 60)), ("wide", (60, 10, 200))), 20, (60, 1300), 0.02,
    ("tests/features/test_pca.py",), is_whole=False, patience=20.0,  # other work may be going on beside a test
)  # fmt: skip
# Seconds that a stage may take at most; the processor's share is cut off where the lasso is slow there.
LIMITS = {
    "pictures": 90,
    "contracts": 120,
    "study": 150,
    "decoding": 30,
    "bare": 30,
    "ours": 60,
    "cpu": 60,
    "other": 45,
}


class Stages:
    """All that is measured, by name, in the order of its worth.

    Parameters
    ----------
    device : str
        The GPU, or what stands for it.
    sizes : Sizes
    """

    def __init__(self, device: str, sizes: Sizes) -> None:
        self.device, self.sizes, self.shapes = device, sizes, dict(sizes.shapes)

    @property
    def contenders(self) -> dict[str, Callable[[Path], Any]]:
        """From the name of a stage to what measures it."""
        sides = {"gpu": self.device, "cpu": "cpu"}
        return {
            "pictures": self.pictures,
            **{
                f"{kind.__name__}-{name}": partial(kind, name)
                for name in self.sizes.networks
                for kind in (self.bare, self.ours)
            },
            **{f"pca-{side}": partial(self.pca, device) for side, device in sides.items()},
            **{f"{shape}-gpu": partial(self.solvers, shape, "gpu", self.device) for shape in self.shapes},
            **{f"{shape}-himalaya": partial(self.himalaya, shape) for shape in self.shapes},
            "study": self.study,
            **{f"{shape}-cpu": partial(self.solvers, shape, "cpu", "cpu") for shape in self.shapes},
            "contracts": self.contracts,
            "decoding": self.decoding,
        }

    def pictures(self, folder: Path) -> Figures:
        """Draw the pictures that all stages see."""
        return {"seconds": seconds(lambda: self._images(folder), 1)}

    def contracts(self, _folder: Path) -> Figures:
        """Run the tests that have a GPU in them."""
        options = ("-q", "-n", "0", "-k", "cuda", "-p", "no:cacheprovider", "--continue-on-collection-errors")
        words = [sys.executable, "-m", "pytest", *options, *self.sizes.tests]
        ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        last = (ended.stdout.strip() or ended.stderr.strip()).splitlines()[-1]
        failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", ended.stdout, re.M)
        return {"last": re.sub(r"^=+ | =+$", "", last), "failed": failed}

    def study(self, folder: Path) -> Figures:
        """Run the predecessor's whole study."""
        changes = {"device": self.device, **self.sizes.changes}
        return predecessor.ours(folder, self.sizes.n_images, self.sizes.n_voxels, **changes)

    def ours(self, name: str, folder: Path) -> Figures:
        """Measure one pass and the PCA of all layers, and what it takes of the GPU's memory."""
        self._images(folder)  # with the responses of a whole study
        figures = features.ours(name, {**LAYERS, **VIT}[name], self.sizes.n_images, self.device)(folder)
        return {**figures, "gpu_mib": torch.cuda.max_memory_allocated() / 2**20 if self.device != "cpu" else 0.0}

    def bare(self, name: str, _folder: Path) -> Figures:
        """Measure the whole network's forward pass on tensors in the GPU's memory, in the same precision."""
        device = torch.device(self.device)
        dtype = choose_precision("auto", self.sizes.n_images, device)
        rate, size = images_per_second(name, dtype, device, self.sizes.share)
        return {"seconds": self.sizes.n_images / rate, "rate": rate, "batch_size": size}

    def decoding(self, folder: Path) -> Figures:
        """Measure what feeds a pass: pictures decoded and resized by all cores, with no network behind them."""
        from concurrent.futures import ThreadPoolExecutor

        from img2brain.backbones import load_backbone
        from img2brain.datasets._images import open_pixels

        images = self._images(folder)
        prepare = load_backbone("alexnet", "random:224", "resize224").preprocessing

        def decode(path: Path) -> None:
            prepare.pixels(open_pixels(path))

        with ThreadPoolExecutor() as pool:
            return {"seconds": seconds(lambda: list(pool.map(decode, images)), 1)}

    def solvers(self, shape: str, side: str, device: str, folder: Path) -> Iterator[tuple[str, float]]:
        """Measure ridge with 20 alphas for each voxel, lasso, and scores, from rows in main memory."""
        X, Y = self._rows(folder, shape)
        train, held = slice(None, -self.sizes.n_held_out), slice(-self.sizes.n_held_out, None)
        Moments.from_rows(X[:50], Y[:50, :50], device=device)  # starts the device
        yield "moments", _timed(lambda: Moments.from_rows(X[train], Y[train], device=device))
        moments = Moments.from_rows(X[train], Y[train], device=device)
        validation = Moments.from_rows(X[held], Y[held], device=device)
        for name in ("ridge", "lasso", "multi_task_lasso"):
            regressor = REGRESSORS[name](alpha=SHARE_OF_SCALE * REGRESSORS[name]().alpha_scale(moments))
            yield name, _timed(partial(regressor.fit_moments, moments))
            np.save(folder / f"{name}-{shape}-{side}.npy", regressor.coef_[:1000])
        yield (
            "score",
            _timed(lambda: Pearson().from_sums(Sums.from_moments(regressor.coef_.T, regressor.intercept_, validation))),
        )
        ridge = RidgeCV(alphas=tuple(ALPHAS), cv=3, per_voxel=True)
        folds = folds_of(len(X) - self.sizes.n_held_out, 3)
        yield (
            "ridge_cv",
            _timed(
                lambda: ridge.fit_folds(
                    [Moments.from_rows(X[train][fold], Y[train][fold], device=device) for fold in folds]
                )
            ),
        )
        np.save(folder / f"alphas-{shape}-{side}.npy", ridge.alpha_)

    def himalaya(self, shape: str, folder: Path) -> Figures:
        """Measure himalaya's ridge of 20 alphas and 3 folds on the GPU, from rows in main memory."""
        from himalaya.backend import set_backend
        from himalaya.ridge import RidgeCV as Peer
        from sklearn.model_selection import KFold

        backend = set_backend("torch" if self.device == "cpu" else "torch_cuda")
        X, Y = (array[: -self.sizes.n_held_out] for array in self._rows(folder, shape))
        params = {"n_targets_batch": 20_000, "n_alphas_batch": 5, "n_targets_batch_refit": 20_000}
        peer = Peer(alphas=ALPHAS, cv=KFold(3), fit_intercept=True, solver_params=params)
        peer.fit(X[:200], Y[:200, :50])  # starts the device
        duration = _timed(lambda: peer.fit(X, Y))
        np.save(folder / f"alphas-{shape}-himalaya.npy", backend.to_numpy(peer.best_alphas_))
        return {"ridge_cv": duration}

    def pca(self, device: str, _folder: Path) -> Figures:
        """Measure PCA of one layer's activations, which are in the memory of the device."""
        place, (n_images, n_features) = torch.device(device), self.sizes.layer
        random = torch.Generator(place).manual_seed(0)
        held = InMemory(n_images, n_features, torch.bfloat16, place)
        scale = torch.arange(1, 201, device=place)[:, None]
        mixing = torch.randn(200, n_features, generator=random, device=place) / scale
        for start in range(0, n_images, 521):
            n = min(521, n_images - start)
            drawn = torch.randn(n, 200, generator=random, device=place) @ mixing
            held.append((drawn + 0.01 * torch.randn(n, n_features, generator=random, device=place)).bfloat16())
        rows, size = np.arange(n_images * 8 // 10), min(100, n_images // 2)
        return {"pca": _timed(lambda: pca.fit(pca.compress(held, rows, size).projected, rows, size))}

    def _images(self, folder: Path) -> tuple[Path, ...]:
        return find_images(write_dataset(folder / "data", self.sizes.n_images, self.sizes.n_voxels) / "trainingIMG")

    def _rows(self, folder: Path, shape: str) -> tuple[Array, Array]:
        """Return components of images, as every study has them, and responses, in float32; drawn once for a folder."""
        (n_rows, n_features, n_voxels), n_held = self.shapes[shape], self.sizes.n_held_out
        paths = [folder / f"{kind}-{shape}.npy" for kind in ("X", "Y")]
        if not paths[1].exists():
            parts = [components(n, n_features, seed) for seed, n in enumerate((n_rows, n_held + n_features))]
            X = np.concatenate([parts[0], parts[1][:n_held]]).astype(np.float32)
            np.save(paths[0], X)
            np.save(paths[1], responses(X, n_voxels).astype(np.float32))
        return np.load(paths[0]), np.load(paths[1])


def _timed(work: Callable[[], Any]) -> float:
    """Return the shorter of two durations, in seconds; what is computed ends in main memory, so that it is done."""

    def whole() -> None:
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    first = seconds(whole, 1)
    return first if first > LONG_S else min(first, seconds(whole, 1))


class Report:
    """The tables of what is known so far.

    Parameters
    ----------
    stages : Stages
    folder : Path
        What the stages share.
    figures : dict
        What was found, by stage.
    """

    def __init__(self, stages: Stages, folder: Path, figures: dict[str, Figures]) -> None:
        self._stages, self._sizes = stages, stages.sizes
        self._folder, self._figures = folder, figures

    @property
    def text(self) -> str:
        """All tables, and what was skipped, stopped or failed."""
        parts = [self._contracts, self._passes, *map(self._solved, self._stages.shapes), self._components, self._study]
        return "\n\n".join(part for part in [*parts, self._missing] if part)

    @property
    def _contracts(self) -> str:
        found = self._figures.get("contracts", {})
        return "\n".join([f"contract tests with a GPU: {found['last']}", *found["failed"]]) if "last" in found else ""

    @property
    def _passes(self) -> str:
        rows = []
        for name in self._sizes.networks:
            plain, mine = (self._figures.get(f"{kind}-{name}", {}) for kind in ("bare", "ours"))
            if "seconds" in plain and "seconds" in mine:
                ratio = f"{mine['seconds'] / plain['seconds']:.2f}"
                seconds_ = [f"{item['seconds']:.1f}" for item in (plain, mine)]
                sizes = [f"{mine[key]:.0f}" for key in ("gpu_mib", "peak_mib")]
                rows.append([name, f"{plain['rate']:.0f}", *seconds_, ratio, *sizes, mine["precision"]])
        fed = self._figures.get("decoding", {}).get("seconds")
        told = f"; decoding and resizing alone {fed:.1f} s" if fed else ""
        head = ["network", "bare images/s", "bare s", "ours s", "ratio", "GPU MiB", "ours MiB", ""]
        title = f"{self._sizes.n_images} JPEG files of 425 x 425 pixels, {features.N_COMPONENTS} components{told}"
        return f"{title}\n{table(head, rows)}" if rows else ""

    def _solved(self, shape: str) -> str:
        there, here, peer = (self._figures.get(f"{shape}-{side}", {}) for side in ("gpu", "cpu", "himalaya"))
        rows = [
            [name, _s(here.get(name)), _s(there[name]), _times(here.get(name), there[name]),
             self._agreement(name, shape), _s(peer.get(name)), _times(peer.get(name), there[name])]
            for name in ("moments", "ridge", "lasso", "multi_task_lasso", "score", "ridge_cv") if name in there
        ]  # fmt: skip
        head = ["", "CPU s", "GPU s", "", "agreement", "himalaya s", ""]
        title = "{} rows, {} features, {} voxels".format(*self._stages.shapes[shape])
        return f"{title}\n{table(head, rows)}{self._alphas(shape)}" if rows else ""

    def _alphas(self, shape: str) -> str:
        files = [self._folder / f"alphas-{shape}-{side}.npy" for side in ("gpu", "himalaya")]
        if not all(file.exists() for file in files):
            return ""
        return f"\nalphas as himalaya's: {np.isclose(*map(np.load, files)).mean():.2%}"

    def _agreement(self, name: str, shape: str) -> str:
        files = [self._folder / f"{name}-{shape}-{side}.npy" for side in ("cpu", "gpu")]
        if not all(file.exists() for file in files):
            return ""
        here, there = map(np.load, files)
        return f"{np.abs(here - there).max() / np.abs(here).max():.0e}"

    @property
    def _components(self) -> str:
        here, there = (self._figures.get(f"pca-{side}", {}).get("pca") for side in ("cpu", "gpu"))
        title = "PCA of {} x {} activations, 100 components".format(*self._sizes.layer)
        return f"{title}: CPU {_s(here)} s, GPU {_s(there)} s {_times(here, there)}" if there else ""

    @property
    def _study(self) -> str:
        whole = self._figures.get("study", {})
        if "stages" not in whole:
            return ""
        rows = [[stage, f"{value:.1f}"] for stage, value in whole["stages"].items() if isinstance(value, float)]
        title = f"the predecessor's whole study: {whole['seconds']:.1f} s (aim {STUDY_S:.0f})"
        return f"{title}\n{table(['stage', 's'], rows)}"

    @property
    def _missing(self) -> str:
        told = {name: item.get("wrong") or item.get("absent", "") for name, item in self._figures.items()}
        return "\n".join(f"{name}: {_reason(text)}" for name, text in told.items() if text)


def _reason(text: str) -> str:
    return f"{text} is absent" if text.isidentifier() else text


def _s(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _times(one: float | None, other: float | None) -> str:
    return f"{one / other:.1f} x" if one and other else ""


def run(stages: Stages, chosen: list[str], words: list[str], out: Path | None) -> None:
    """Measure what was chosen, one stage after another; print, and write, the tables after each."""
    start, figures, text = time.monotonic(), dict[str, Figures](), ""
    whole_s = LIMIT_S * stages.sizes.patience
    with tempfile.TemporaryDirectory() as scratch:
        for name in chosen:
            began = time.monotonic()
            left_s = whole_s - (began - start)
            if left_s < LEAST_S:
                figures[name] = {"wrong": f"skipped: {whole_s:.0f} s are over"}
            else:
                limit_s = min(left_s, _limit_s(name) * stages.sizes.patience)
                figures[name] = measured(__file__, name, Path(scratch), limit_s, words)
            _tell(f"{name}: {figures[name].get('wrong', 'done')}, {time.monotonic() - began:.1f} s")
            text = _page(stages, Report(stages, Path(scratch), figures).text, time.monotonic() - start)
            if out is not None:
                out.write_text(text, encoding="utf-8")
    print(text, end="")  # noqa: T201 - a benchmark prints


def _limit_s(name: str) -> float:
    """Return the limit of a stage, by its name, what it measures, or where."""
    known = [LIMITS[word] for word in (name, *name.split("-")) if word in LIMITS]
    return known[0] if known else LIMITS["other"]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def _page(stages: Stages, body: str, took_s: float) -> str:
    today = datetime.datetime.now(tz=datetime.UTC)
    gpu = f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}" if torch.cuda.is_available() else "no GPU"
    size = "" if stages.sizes.is_whole else ", at a small size, which says nothing of speed"
    return f"{today:%Y-%m-%d}, {gpu}{size}; {machine()}\nall stages took {took_s:.0f} s\n\n{body}\n"


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What a GPU gives.")
    parser.add_argument("contenders", nargs="*", metavar="CONTENDER")
    parser.add_argument("--device", default="cuda", help="what stands for the GPU")
    parser.add_argument("--small", action="store_true", help="see that it runs to its end")
    parser.add_argument("--out", type=Path, help="where the tables are written as they come")
    return parser.parse_args(sys.argv[5:] if sys.argv[1:2] == ["--contender"] else None)


if __name__ == "__main__":
    asked = _asked()
    stages = Stages(asked.device, SMALL if asked.small else FULL)
    if not is_contender(stages.contenders):
        if asked.device != "cpu" and not torch.cuda.is_available():
            sys.exit(
                "Error: a GPU must be there for this benchmark. PyTorch finds none; --device cpu --small tries it."
            )
        if unknown := [name for name in asked.contenders if name not in stages.contenders]:
            sys.exit(f"Error: unknown contender {unknown[0]!r}. Known: {', '.join(stages.contenders)}.")
        is_kept = asked.device != "cpu" and not (asked.small or asked.contenders)
        out = asked.out or (Path(__file__).with_suffix(".txt") if is_kept else None)
        words = ["--device", asked.device, *(["--small"] if asked.small else [])]
        run(stages, asked.contenders or list(stages.contenders), words, out)
