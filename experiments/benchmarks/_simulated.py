"""A study without an image: simulated components of some layers, and responses that follow from them."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
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
from img2brain.spec import PCA, FeatureSpace, StudySpec, parse
from img2brain.store import Store
from img2brain.study.extraction import Extraction
from img2brain.study.member import Member
from img2brain.study.setting import Setting
from img2brain.study.space import Candidate, Space, find_domains

N_TRAIN, N_VALIDATION, N_COMPONENTS, N_VOXELS = 7086, 1771, 100, 10_000
LAYERS = tuple(f"features.{index}" for index in (1, 4, 7, 9, 11, 13))
SIZES = (10, 20, 30, 50, 70, N_COMPONENTS)
_WEIGHTS = "0" * 64


@dataclass(frozen=True)
class Size:
    """How many rows, components and voxels there are: at full size, where nothing else is said."""

    n_train: int = N_TRAIN
    n_validation: int = N_VALIDATION
    n_components: int = N_COMPONENTS
    n_voxels: int = N_VOXELS

    @property
    def choices(self) -> tuple[int, ...]:
        """The numbers of components that are searched."""
        return tuple(sorted({max(1, size * self.n_components // N_COMPONENTS) for size in SIZES}))


FULL = Size()


def data(folder: Path, size: Size = FULL) -> Path:
    """Simulate the arrays where they are not there, in a process of its own: its memory is nobody's."""
    if not (folder / "responses.npy").exists():
        process = multiprocessing.get_context("spawn").Process(target=_simulate, args=(folder, size))
        process.start()
        process.join()
    return folder


def setting(folder: Path, home: Home, regressors: list[str], n_trials: int, size: Size = FULL) -> Setting:
    """Make a study of the simulated data ready."""
    network = {"name": "alexnet", "weights": "random:0", "layers": LAYERS}
    table = {"name": "simulated", "dataset": {"path": folder}, "trials": n_trials, "backbones": [network]}
    spec = parse(StudySpec, table | {"n_components": size.choices, "regressors": regressors}, "the benchmark's study")
    dataset = SimulatedData(folder)
    rows = np.arange(size.n_train + size.n_validation)
    split = Split(rows[: size.n_train], rows[size.n_train :], rows[:0])
    (item,) = spec.backbones
    bank: Any = SimulatedBank(folder, home.store, size.n_train)
    space = Space(spec, find_domains(spec), {item: Candidate("random:0", _WEIGHTS, LAYERS)})
    banks: dict[BankKey, Any] = {(item.name, _WEIGHTS, item.preprocessing): bank}
    metrics = {"pearson": METRICS["pearson"]}
    member = Member("", spec, None, dataset, split, banks, metrics, lambda _: bank, "cpu")
    return Setting(spec, (member,), space, (), home, Extraction([]))


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

    def __init__(self, folder: Path, store: Store, n_train: int) -> None:
        self.layers, self.bases, self.precision = LAYERS, (PCA,), "float32"
        self.facts = {"trained": "untrained", "network_digest": _WEIGHTS}
        self._folder, self._store, self._n_train = folder, store, n_train

    def together(self, layer: str) -> tuple[str, ...]:
        """Return the layers that one names: it alone."""
        return (layer,)

    def components(self, space: FeatureSpace, rows: np.ndarray, n_components: int) -> Components:
        """Return the components of a layer, kept in memory."""
        return _components(self._folder / f"{space.layer}.npy", self._n_train).leading(n_components)

    def coordinates_file(self, space: FeatureSpace, rows: np.ndarray, n_components: int, n_leading: int) -> Path:
        """Return the file of the first components, one for all who ask."""

        def write(folder: Path) -> None:
            np.save(folder / "features.npy", self.components(space, rows, n_leading).coordinates)

        key = {"layer": space.layer, "rows": digest.of_array(rows.astype(np.int64)), "n_leading": n_leading}
        return self._store.get_or_compute("features", key, write) / "features.npy"


@cache
def _components(path: Path, n_train: int) -> Components:
    coordinates = np.load(path)
    return Components(coordinates, np.square(coordinates[:n_train], dtype=np.float64).sum(axis=0))


def _simulate(folder: Path, size: Size) -> None:
    """Write components with a decaying spectrum and responses that the middle layers tell best, r from .2 to .6."""
    random = np.random.default_rng(0)
    n = size.n_train + size.n_validation
    rank = 1 + np.arange(size.n_components, dtype=np.float32)
    shared = _normal(random, n, size.n_components)
    signal = np.zeros((n, size.n_voxels), np.float32)
    for depth, layer in enumerate(LAYERS):
        coordinates = _coordinates(
            (shared + _normal(random, n, size.n_components)) * rank**-0.5 * 10.0 ** (depth / 2), size.n_train
        )
        np.save(folder / f"{layer}.npy", coordinates)
        weight = np.float32(np.exp(-((depth - 3) ** 2) / 4)) * rank[:, None] ** -0.7
        signal += (
            coordinates
            / coordinates[: size.n_train].std(axis=0)
            @ (weight * _normal(random, size.n_components, size.n_voxels))
        )
    signal *= random.uniform(0.3, 0.8, size.n_voxels).astype(np.float32) / signal.std(axis=0)
    noise = np.sqrt(1 - signal.var(axis=0))
    np.save(folder / "responses.npy", signal + noise * _normal(random, n, size.n_voxels))


def _coordinates(activations: np.ndarray, n_train: int) -> np.ndarray:
    """Rotate onto the principal axes of the training rows."""
    train = activations[:n_train].astype(np.float64)
    _, vectors = np.linalg.eigh(np.cov(train.T))
    rotated: np.ndarray = ((activations - train.mean(axis=0)) @ vectors[:, ::-1]).astype(np.float32)
    return rotated


def _normal(random: np.random.Generator, *shape: int) -> Any:
    return random.standard_normal(shape, dtype=np.float32)
