"""Rows that the benchmarks of regressors and scores share: components of images, and responses to them."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_TRAIN, N_VALIDATION, N_COMPONENTS, N_VOXELS = 7086, 1771, 100, 10_000

Array = NDArray[Any]


def components(n: int, k: int, seed: int = 0) -> Array:
    """Draw components whose variances fall as 1/j, as those of pictures do, and rotate them to be uncorrelated."""
    drawn = np.random.default_rng(seed).standard_normal((n, k)) / np.sqrt(np.arange(1, k + 1))
    drawn -= drawn.mean(axis=0)
    rotated: Array = drawn @ np.linalg.svd(drawn, full_matrices=False)[2].T
    return rotated


def correlated(Z: Array, seed: int = 1) -> Array:
    """Mix components into features that are correlated with each other, as units of a layer are."""
    k = Z.shape[1]
    mixed: Array = Z @ (np.eye(k) + np.random.default_rng(seed).standard_normal((k, k)) / np.sqrt(k))
    return mixed


def responses(Z: Array, n_voxels: int, seed: int = 2) -> Array:
    """Simulate responses whose best linear prediction has r from 0.2 to 0.6."""
    random = np.random.default_rng(seed)
    signal = Z @ random.standard_normal((Z.shape[1], n_voxels))
    signal /= signal.std(axis=0)
    r = random.uniform(0.2, 0.6, n_voxels)
    return signal * r + random.standard_normal(signal.shape) * np.sqrt(1 - r**2)


def rows(folder: Path, kind: str, dtype: type = np.float64) -> tuple[Array, Array, Array, Array]:
    """Return X, Y of the training rows and X, Y of the validation rows; drawn once for a folder.

    Parameters
    ----------
    folder : Path
        What the contenders share.
    kind : {"pca", "correlated"}
        Principal components of the training rows, or correlated features.
    dtype : type
        They are kept in float32, as features and responses are; in float64 they are the same numbers.
    """
    if not (folder / "responses.npy").exists():
        process = multiprocessing.get_context("spawn").Process(target=_draw, args=(folder,))
        process.start()  # its memory is nobody's
        process.join()
    X, Y = (np.load(folder / f"{name}.npy").astype(dtype, copy=False) for name in (kind, "responses"))
    return X[:N_TRAIN], Y[:N_TRAIN], X[N_TRAIN:], Y[N_TRAIN:]


def _draw(folder: Path) -> None:
    Z = components(N_TRAIN, N_COMPONENTS)
    Z = np.concatenate([Z, components(N_VALIDATION, N_COMPONENTS, seed=3)])
    for name, array in (("pca", Z), ("correlated", correlated(Z)), ("responses", responses(Z, N_VOXELS))):
        np.save(folder / f"{name}.npy", array.astype(np.float32))
