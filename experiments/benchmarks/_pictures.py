"""Generated photographs-to-be: JPEG files of 425 x 425 pixels, and responses that follow what is in them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 425
_SIZES = (4, 14, 54, 160)  # of the noise that a picture is a sum of, in pixels a side: coarse to fine
_AMPLITUDES = (70, 40, 25, 12)


def write_dataset(folder: Path, n_images: int, n_voxels: int) -> Path:
    """Write a dataset in the predecessor's layout, unless it is there."""
    images = folder / "trainingIMG"
    if not images.exists():
        images.mkdir(parents=True)
        with ThreadPoolExecutor() as pool:
            seen = np.stack(list(pool.map(lambda number: _write(images, number), range(n_images))))
        responses = folder / "trainingfMRI"
        responses.mkdir()
        np.save(responses / "training.npy", _responses(seen, n_voxels))
    return folder


def _write(folder: Path, number: int) -> np.ndarray:
    random = np.random.default_rng(number)
    picture = np.full((SIDE, SIDE, 3), 128, np.float32)
    for size, amplitude in zip(_SIZES, _AMPLITUDES, strict=True):
        noise = random.normal(128, amplitude, (size, size, 3)).clip(0, 255).astype(np.uint8)
        picture += np.asarray(Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32) - 128
    image = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
    image.save(folder / f"img{number:05d}.jpg", quality=90)
    return np.asarray(image.resize((8, 8), Image.Resampling.BOX), np.float32).ravel()


def _responses(seen: NDArray[Any], n_voxels: int) -> NDArray[np.float32]:
    random = np.random.default_rng(0)
    latent = np.tanh((seen - seen.mean(axis=0)) @ random.normal(0, 0.004, (seen.shape[1], 40)))
    signal = latent @ random.standard_normal((40, n_voxels)).astype(np.float32)
    signal /= signal.std(axis=0)
    noise = random.standard_normal(signal.shape, dtype=np.float32)
    responses: NDArray[np.float32] = (signal * random.uniform(0.1, 0.8, n_voxels) + noise).astype(np.float32)
    return responses
