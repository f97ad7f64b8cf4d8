"""What a GPU gives: the contract tests there, then each computation that can run on it beside the CPU and its peers.

Passes of networks stand beside their bare forward passes; PCA, ridge, lasso and scoring beside the same code on the
processor, ridge also beside himalaya on the same GPU; last the predecessor's whole study. It takes under 9 minutes on
one GPU of 80 GB with 16 cores, and no network. Without a GPU it says so and measures nothing. Run it with

    uv run --group bench python experiments/benchmarks/gpu.py [CONTENDER ...]
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import features
import numpy as np
import predecessor
import torch
from _bare import images_per_second
from _bench import Figures, main, seconds, table
from _pictures import write_dataset
from _rows import components, responses

from img2brain.catalog import REGRESSORS
from img2brain.datasets._images import find_images
from img2brain.features import pca
from img2brain.features.activations import InMemory
from img2brain.features.extract import find_device
from img2brain.features.network import choose_precision
from img2brain.metrics.pearson import Pearson
from img2brain.moments import Moments
from img2brain.predecessor.layers import LAYERS
from img2brain.regressors.base import folds_of
from img2brain.regressors.ridge_cv import RidgeCV
from img2brain.sums import Sums

ROOT = Path(__file__).parents[2]
CONTRACTS = (
    "tests/contracts",
    "tests/regressors",
    "tests/test_moments.py",
    "tests/features",
    "tests/study/test_gpu.py",
)
N_IMAGES, N_COMPONENTS = 8857, 30
NETWORKS = {**LAYERS, "vit_b_16": tuple(f"encoder.layers.encoder_layer_{block}" for block in range(12))}
SHAPES = {"small": (3000, 1000, 30_000), "wide": (1000, 512, 200_000)}  # rows, features, voxels
N_HELD_OUT = 300
ALPHAS = np.geomspace(1e-2, 1e5, 20)
SHARE_OF_SCALE = 0.01
LAYER = (8857, 43_264)  # images and features that PCA is taken of: AlexNet's first maps after pooling are 46,656 wide
_STUDY_S = 60.0

Array = np.ndarray[Any, Any]


def contracts(_folder: Path) -> Figures:
    """Run the tests that have a GPU in them."""
    words = [sys.executable, "-m", "pytest", "-q", "-k", "cuda", "-p", "no:cacheprovider", *CONTRACTS]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    last = ended.stdout.strip().splitlines()[-1]
    return {
        "last": re.sub(r"^=+ | =+$", "", last),
        "failed": re.findall(r"^(?:FAILED|ERROR) (\S+)", ended.stdout, re.M),
    }


def ours(name: str) -> Callable[[Path], Figures]:
    """Measure one pass and the PCA of all layers, and what it takes of the GPU's memory."""

    def measure(folder: Path) -> Figures:
        _images(folder)  # with the responses of a whole study
        figures = features.ours(name, NETWORKS[name])(folder)
        return {**figures, "gpu_mib": torch.cuda.max_memory_allocated() / 2**20}

    return measure


def bare(name: str) -> Callable[[Path], Figures]:
    """Measure the whole network's forward pass on tensors in the GPU's memory, in the same precision."""

    def measure(_folder: Path) -> Figures:
        device = find_device("cuda")
        rate, size = images_per_second(name, choose_precision("auto", N_IMAGES, device), device)
        return {"seconds": N_IMAGES / rate, "rate": rate, "batch_size": size}

    return measure


def decoding(folder: Path) -> Figures:
    """Measure what feeds a pass: pictures decoded and resized by all cores, with no network behind them."""
    from concurrent.futures import ThreadPoolExecutor

    from img2brain.backbones import load_backbone
    from img2brain.datasets._images import open_pixels

    images = _images(folder)
    prepare = load_backbone("alexnet", "random:224", "resize224").preprocessing

    def decode(path: Path) -> None:
        prepare.pixels(open_pixels(path))

    with ThreadPoolExecutor() as pool:
        return {"seconds": seconds(lambda: list(pool.map(decode, images)), 1)}


def solvers(shape: str, device: str) -> Callable[[Path], Figures]:
    """Measure ridge with 20 alphas for each voxel, lasso, and scores, from rows in main memory."""

    def measure(folder: Path) -> Figures:
        X, Y = _rows(folder, shape)
        train, held = slice(None, -N_HELD_OUT), slice(-N_HELD_OUT, None)
        Moments.from_rows(X[:50], Y[:50, :50], device=device)  # starts the device
        figures: Figures = {"moments": _timed(lambda: Moments.from_rows(X[train], Y[train], device=device))}
        ridge = RidgeCV(alphas=tuple(ALPHAS), cv=3, per_voxel=True)
        folds = folds_of(len(X) - N_HELD_OUT, 3)
        figures["ridge_cv"] = _timed(
            lambda: ridge.fit_folds(
                [Moments.from_rows(X[train][fold], Y[train][fold], device=device) for fold in folds]
            )
        )
        np.save(folder / f"alphas-{shape}-{device}.npy", ridge.alpha_)
        moments = Moments.from_rows(X[train], Y[train], device=device)
        for name in ("ridge", "lasso", "multi_task_lasso"):
            regressor = REGRESSORS[name](alpha=SHARE_OF_SCALE * REGRESSORS[name]().alpha_scale(moments))
            figures[name] = _timed(partial(regressor.fit_moments, moments))
            np.save(folder / f"{name}-{shape}-{device}.npy", regressor.coef_[:1000])
        validation = Moments.from_rows(X[held], Y[held], device=device)
        figures["score"] = _timed(
            lambda: Pearson().from_sums(Sums.from_moments(regressor.coef_.T, regressor.intercept_, validation))
        )
        return figures

    return measure


def himalaya(shape: str) -> Callable[[Path], Figures]:
    """Measure himalaya's ridge of 20 alphas and 3 folds on the GPU, from rows in main memory."""

    def measure(folder: Path) -> Figures:
        from himalaya.backend import set_backend
        from himalaya.ridge import RidgeCV as Peer
        from sklearn.model_selection import KFold

        backend = set_backend("torch_cuda")
        X, Y = (array[:-N_HELD_OUT] for array in _rows(folder, shape))
        params = {"n_targets_batch": 20_000, "n_alphas_batch": 5, "n_targets_batch_refit": 20_000}
        peer = Peer(alphas=ALPHAS, cv=KFold(3), fit_intercept=True, solver_params=params)
        peer.fit(X[:200], Y[:200, :50])  # starts the device

        def fit() -> None:
            peer.fit(X, Y)
            torch.cuda.synchronize()

        duration = _timed(fit)
        np.save(folder / f"alphas-{shape}-himalaya.npy", backend.to_numpy(peer.best_alphas_))
        return {"ridge_cv": duration}

    return measure


def components_on(device: str) -> Callable[[Path], Figures]:
    """Measure PCA of one layer's activations, which are in the memory of the device."""

    def measure(_folder: Path) -> Figures:
        place = torch.device(device)
        random = torch.Generator(place).manual_seed(0)
        held = InMemory(*LAYER, torch.bfloat16, place)
        mixing = (
            torch.randn(200, LAYER[1], generator=random, device=place) / torch.arange(1, 201, device=place)[:, None]
        )
        for _ in range(0, LAYER[0], 521):
            drawn = torch.randn(521, 200, generator=random, device=place) @ mixing
            held.append((drawn + 0.01 * torch.randn(521, LAYER[1], generator=random, device=place)).bfloat16())
        rows = np.arange(LAYER[0] * 8 // 10)
        return {"pca": _timed(lambda: pca.fit(pca.compress(held, rows, 100).projected, rows, 100))}

    return measure


def _timed(work: Callable[[], Any]) -> float:
    """Return the shorter of two durations, in seconds; what is computed ends in main memory, so that it is done."""

    def whole() -> None:
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return min(seconds(whole, 1) for _ in range(2))


def _images(folder: Path) -> tuple[Path, ...]:
    return find_images(write_dataset(folder / "data", N_IMAGES, predecessor.N_VOXELS) / "trainingIMG")


def _rows(folder: Path, shape: str) -> tuple[Array, Array]:
    """Return components of images, as every study has them, and responses, in float32; drawn once for a folder."""
    n_rows, n_features, n_voxels = SHAPES[shape]
    paths = [folder / f"{kind}-{shape}.npy" for kind in ("X", "Y")]
    if not paths[1].exists():
        parts = [components(n, n_features, seed) for seed, n in enumerate((n_rows, N_HELD_OUT + n_features))]
        X = np.concatenate([parts[0], parts[1][:N_HELD_OUT]]).astype(np.float32)
        np.save(paths[0], X)
        np.save(paths[1], responses(X, n_voxels).astype(np.float32))
    return np.load(paths[0]), np.load(paths[1])


def report(folder: Path, figures: dict[str, Figures]) -> str:
    """Build the tables."""
    parts = [f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}"]
    if found := figures.get("contracts"):
        parts.append("\n".join([f"contract tests with a GPU: {found['last']}", *found["failed"]]))
    parts += [_passes(figures), *(_solved(folder, shape, figures) for shape in SHAPES), _components(figures)]
    if whole := figures.get("study"):
        parts.append(
            f"the predecessor's whole study: {whole['seconds']:.1f} s (aim {_STUDY_S:.0f})\n"
            + table(["stage", "s"], [[k, f"{v:.1f}"] for k, v in whole["stages"].items() if isinstance(v, float)])
        )
    return "\n\n".join(part for part in parts if part)


def _passes(figures: dict[str, Figures]) -> str:
    rows = []
    for name in NETWORKS:
        plain, mine = figures.get(f"bare-{name}"), figures.get(f"ours-{name}")
        if plain and mine:
            rows.append(
                [name, f"{plain['rate']:.0f}", f"{plain['seconds']:.1f}", f"{mine['seconds']:.1f}",
                 f"{mine['seconds'] / plain['seconds']:.2f}", f"{mine['gpu_mib']:.0f}", f"{mine['peak_mib']:.0f}"]
            )  # fmt: skip
    if not rows:
        return ""
    fed = f"; decoding and resizing alone {figures['decoding']['seconds']:.1f} s" if "decoding" in figures else ""
    head = ["network", "bare images/s", "bare s", "ours s", "ratio", "GPU MiB", "ours MiB"]
    return (
        f"{N_IMAGES} JPEG files of 425 x 425 pixels, {N_COMPONENTS} components of each layer{fed}\n{table(head, rows)}"
    )


def _solved(folder: Path, shape: str, figures: dict[str, Figures]) -> str:
    there, here = figures.get(f"{shape}-cuda"), figures.get(f"{shape}-cpu")
    if not (there and here):
        return ""
    peer = figures.get(f"{shape}-himalaya", {})
    rows = []
    for name in ("moments", "ridge_cv", "ridge", "lasso", "multi_task_lasso", "score"):
        beside = f"{peer[name]:.3f}" if name in peer else ""
        ratio = f"{peer[name] / there[name]:.1f} x" if name in peer else ""
        agreement = _agreement(folder, name, shape)
        rows.append([name, f"{here[name]:.3f}", f"{there[name]:.3f}", f"{here[name] / there[name]:.1f} x",
                     agreement, beside, ratio])  # fmt: skip
    head = ["", "CPU s", "GPU s", "", "agreement", "himalaya s", ""]
    n_rows, n_features, n_voxels = SHAPES[shape]
    alphas = [folder / f"alphas-{shape}-{name}.npy" for name in ("cuda", "himalaya")]
    same = f"\nalphas as himalaya's: {np.isclose(*map(np.load, alphas)).mean():.2%}" if alphas[1].exists() else ""
    return f"{n_rows} rows, {n_features} features, {n_voxels} voxels\n{table(head, rows)}{same}"


def _agreement(folder: Path, name: str, shape: str) -> str:
    paths = [folder / f"{name}-{shape}-{device}.npy" for device in ("cpu", "cuda")]
    if not all(path.exists() for path in paths):
        return ""
    here, there = map(np.load, paths)
    return f"{np.abs(here - there).max() / np.abs(here).max():.0e}"


def _components(figures: dict[str, Figures]) -> str:
    if not {"pca-cpu", "pca-cuda"} <= set(figures):
        return ""
    here, there = figures["pca-cpu"]["pca"], figures["pca-cuda"]["pca"]
    title = "PCA of {} x {} activations, 100 components".format(*LAYER)
    return f"{title}: CPU {here:.2f} s, GPU {there:.2f} s, {here / there:.1f} x"


CONTENDERS: dict[str, Callable[[Path], Figures]] = {
    "contracts": contracts,
    "study": predecessor.ours,
    "decoding": decoding,
    **{f"{kind.__name__}-{name}": kind(name) for name in NETWORKS for kind in (bare, ours)},
    **{f"{shape}-{device}": solvers(shape, device) for shape in SHAPES for device in ("cuda", "cpu")},
    **{f"{shape}-himalaya": himalaya(shape) for shape in SHAPES},
    **{f"pca-{device}": components_on(device) for device in ("cuda", "cpu")},
}

if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("Error: a GPU must be there for this benchmark. PyTorch finds none.")
    main(__file__, CONTENDERS, report)
