"""A study at full size without an image: simulated components of some layers, and responses that follow from them."""

from __future__ import annotations

import multiprocessing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from img2brain import digest
from img2brain.catalog import METRICS
from img2brain.datasets.base import Dataset, Split
from img2brain.evaluate import BankKey
from img2brain.features.pca import Components
from img2brain.home import Home
from img2brain.spec import StudySpec, parse
from img2brain.store import Store
from img2brain.study.member import Member
from img2brain.study.setting import Setting
from img2brain.study.space import Candidate, Space, find_domains

N_TRAIN, N_VALIDATION, N_COMPONENTS, N_VOXELS = 7086, 1771, 100, 10_000
LAYERS = tuple(f"features.{index}" for index in (1, 4, 7, 9, 11, 13))
SIZES = (10, 20, 30, 50, 70, N_COMPONENTS)
_WEIGHTS = "0" * 64


def data(folder: Path) -> Path:
    """Simulate the arrays where they are not there, in a process of its own: its memory is nobody's."""
    if not (folder / "responses.npy").exists():
        process = multiprocessing.get_context("spawn").Process(target=_simulate, args=(folder,))
        process.start()
        process.join()
    return folder


def setting(folder: Path, home: Home, regressors: list[str], n_trials: int) -> Setting:
    """Make a study of the simulated data ready."""
    network = {"name": "alexnet", "weights": "random:0", "layers": LAYERS}
    table = {"name": "simulated", "dataset": {"path": folder}, "trials": n_trials, "backbones": [network]}
    spec = parse(StudySpec, table | {"n_components": SIZES, "regressors": regressors}, "the benchmark's study")
    dataset = SimulatedData(folder)
    rows = np.arange(N_TRAIN + N_VALIDATION)
    split = Split(rows[:N_TRAIN], rows[N_TRAIN:], rows[:0])
    (item,) = spec.backbones
    bank: Any = SimulatedBank(folder, home.store)
    space = Space(spec, find_domains(spec), {item: Candidate("random:0", _WEIGHTS, LAYERS)})
    banks: dict[BankKey, Any] = {(item.name, _WEIGHTS, item.preprocessing): bank}
    metrics = {"pearson": METRICS["pearson"]}
    member = Member("", spec, None, dataset, split, banks, metrics, lambda _: bank, "cpu")
    return Setting(spec, (member,), space, (), home)


class SimulatedData(Dataset):
    """Responses, and the names of images that nobody opens."""

    digest = "0" * 64

    def __init__(self, folder: Path) -> None:
        self._Y = np.load(folder / "responses.npy", mmap_mode="r")
        images = (Path(f"/simulated/images/{row}.png") for row in range(len(self._Y)))
        super().__init__(name="simulated", n_voxels=self._Y.shape[1], images=images, unit="z", subject="nobody")

    def read_responses(self, rows: np.ndarray) -> np.ndarray:
        """Read some rows of the file."""
        found: np.ndarray = np.asarray(self._Y)[rows]
        return found


class SimulatedBank:
    """Components as a pass over images would have left them, in place of `Features`."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.layers, self.precision = LAYERS, "float32"
        self.facts = {"trained": "untrained", "network_digest": _WEIGHTS}
        self._folder, self._store = folder, store

    def components(self, layer: str, rows: np.ndarray, n_components: int) -> Components:
        """Return the components of a layer, kept in memory."""
        return _components(self._folder / f"{layer}.npy").leading(n_components)

    def coordinates_file(self, layer: str, rows: np.ndarray, n_components: int, n_leading: int) -> Path:
        """Return the file of the first components, one for all who ask."""

        def write(folder: Path) -> None:
            np.save(folder / "features.npy", self.components(layer, rows, n_leading).coordinates)

        key = {"layer": layer, "rows": digest.of_array(rows.astype(np.int64)), "n_leading": n_leading}
        return self._store.get_or_compute("features", key, write) / "features.npy"


@cache
def _components(path: Path) -> Components:
    coordinates = np.load(path)
    return Components(coordinates, np.square(coordinates[:N_TRAIN], dtype=np.float64).sum(axis=0))


def _simulate(folder: Path) -> None:
    """Write components with a decaying spectrum and responses that the middle layers tell best, r from .2 to .6."""
    random = np.random.default_rng(0)
    n = N_TRAIN + N_VALIDATION
    rank = 1 + np.arange(N_COMPONENTS, dtype=np.float32)
    shared = _normal(random, n, N_COMPONENTS)
    signal = np.zeros((n, N_VOXELS), np.float32)
    for depth, layer in enumerate(LAYERS):
        coordinates = _coordinates((shared + _normal(random, n, N_COMPONENTS)) * rank**-0.5 * 10.0 ** (depth / 2))
        np.save(folder / f"{layer}.npy", coordinates)
        weight = np.float32(np.exp(-((depth - 3) ** 2) / 4)) * rank[:, None] ** -0.7
        signal += coordinates / coordinates[:N_TRAIN].std(axis=0) @ (weight * _normal(random, N_COMPONENTS, N_VOXELS))
    signal *= random.uniform(0.3, 0.8, N_VOXELS).astype(np.float32) / signal.std(axis=0)
    noise = np.sqrt(1 - signal.var(axis=0))
    np.save(folder / "responses.npy", signal + noise * _normal(random, n, N_VOXELS))


def _coordinates(activations: np.ndarray) -> np.ndarray:
    """Rotate onto the principal axes of the training rows."""
    train = activations[:N_TRAIN].astype(np.float64)
    _, vectors = np.linalg.eigh(np.cov(train.T))
    rotated: np.ndarray = ((activations - train.mean(axis=0)) @ vectors[:, ::-1]).astype(np.float32)
    return rotated


def _normal(random: np.random.Generator, *shape: int) -> Any:
    return random.standard_normal(shape, dtype=np.float32)
