"""Sample data: generated pictures and simulated voxels with known noise, so that recovery can be checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from PIL import Image

from img2brain.beside import whole
from img2brain.datasets._scenes import draw_scene
from img2brain.datasets._voxels import assign_regions, describe, simulate
from img2brain.errors import SpecError
from img2brain.progress import track

N_REPEATS = 3
NCSNR_RANGE = (0.3, 2.0)
LEAST_IMAGES = 20

_EVERY = 10  # every tenth image is a test image
_BLOCK = 256


@dataclass(frozen=True)
class _Part:
    name: str
    indices: NDArray[np.intp]


def write_sample(
    folder: Path,
    n_images: int = 600,
    n_voxels: int = 500,
    seed: int = 0,
    size: int = 96,
    name: str | None = None,
) -> Path:
    """Write a dataset folder of generated pictures and simulated responses.

    Parameters
    ----------
    folder : Path
        Where to; absent or empty.
    n_images : int
        Number of images, at least 20. Every tenth is a test image, with responses.
    n_voxels : int
        Number of voxels, in regions V1, V4 and IT.
    seed : int
        Another seed gives other pictures, receptive fields and noise.
    size : int
        Height and width of the pictures in pixels, at least 32.
    name : str, optional
        What the dataset is called; by default as the folder is.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    SpecError
        If a number is out of its range.
    DataError
        If `folder` exists and is not empty.

    Notes
    -----
    The signal of a voxel has standard deviation 1 over images, and each of 3 repeats adds noise of 1 / ncsnr, with
    ncsnr drawn from 0.3..2 (log-uniform); a response is the mean over repeats. Beside the layout of `FolderDataset`,
    ``truth/training.npy`` and ``truth/test.npy`` hold the signals without noise. A picture depends on its number,
    `seed` and `size` only. The folder appears whole or not at all. 600 images of 500 voxels take 3 to 6 s on one core.
    """
    _require_range("images", n_images, LEAST_IMAGES)
    _require_range("voxels", n_voxels, 1)
    _require_range("seed", seed, 0, 2**32 - 1)
    _require_range("size", size, 32, 4096)
    with whole(folder) as temporary:
        descriptions = _write_images(temporary, n_images, seed, size)
        _write_responses(temporary, descriptions, n_images, n_voxels, seed)
        _write_about(temporary, name)
    return folder


def _require_range(key: str, value: int, least: int, most: int | None = None) -> None:
    if value < least or (most is not None and value > most):
        allowed = f">= {least}" if most is None else f"in {least}..{most}"
        raise SpecError(f"The {key!r} of sample data must be {allowed}. Got {value}.")


def _parts(n_images: int) -> tuple[_Part, _Part]:
    indices = np.arange(n_images, dtype=np.intp)
    in_test = indices % _EVERY == _EVERY - 1
    return _Part("training", indices[~in_test]), _Part("test", indices[in_test])


def _write_images(root: Path, n_images: int, seed: int, size: int) -> tuple[NDArray[np.float32], ...]:
    width = max(5, len(str(n_images)))
    described: list[tuple[NDArray[np.float32], ...]] = [()] * n_images
    for part in _parts(n_images):
        folder = root / f"{part.name}IMG"
        folder.mkdir()
        for index in track(part.indices.tolist(), len(part.indices), f"drawing {part.name} images"):
            scene = draw_scene(seed, index, size)
            Image.fromarray(scene.pixels).save(folder / f"{index + 1:0{width}}.png", compress_level=1)
            described[index] = describe(scene.pixels, scene.latents)
    return tuple(np.stack(kind) for kind in zip(*described, strict=True))


def _write_responses(
    root: Path, descriptions: tuple[NDArray[np.float32], ...], n_images: int, n_voxels: int, seed: int
) -> None:
    random = np.random.RandomState([seed, 1])
    regions = assign_regions(n_voxels)
    signals = simulate(descriptions, regions, random)
    low, high = np.log(NCSNR_RANGE)
    ncsnr = np.exp(random.uniform(low, high, n_voxels)).astype(np.float32)
    for part in _parts(n_images):
        _write_part(root, part.name, signals[part.indices], 1 / ncsnr, random)
    np.save(root / "ncsnr.npy", ncsnr)
    rois: dict[str, Any] = {name: voxels.tolist() for name, voxels in regions.items()}
    (root / "rois.json").write_text(json.dumps(rois) + "\n", encoding="utf-8")


def _write_about(root: Path, name: str | None) -> None:
    named = "" if name is None else f"name = {json.dumps(name)}\n"
    (root / "dataset.toml").write_text(f'{named}unit = "z"\nsubject = "simulated"\n', encoding="utf-8")


def _write_part(
    root: Path, name: str, signals: NDArray[np.float32], noise: NDArray[Any], random: np.random.RandomState
) -> None:
    folder, truth = root / f"{name}fMRI", root / "truth"
    folder.mkdir()
    truth.mkdir(exist_ok=True)
    np.save(truth / f"{name}.npy", signals)
    n_images, n_voxels = signals.shape
    repeats = open_memmap(folder / f"{name}_repeats.npy", "w+", np.float32, (n_images, N_REPEATS, n_voxels))
    responses = open_memmap(folder / f"{name}.npy", "w+", np.float32, signals.shape)
    for start in range(0, n_images, _BLOCK):
        block = signals[start : start + _BLOCK, None]
        trials = block + noise * random.standard_normal((len(block), N_REPEATS, n_voxels))
        repeats[start : start + _BLOCK] = trials
        responses[start : start + _BLOCK] = repeats[start : start + _BLOCK].mean(axis=1)
    for array in (repeats, responses):
        array.flush()
