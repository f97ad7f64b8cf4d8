"""What every miniature of a layout is made of: small pictures, signals that follow them, and what is expected back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]
SIDE = 16


@dataclass(frozen=True)
class Miniature:
    """A small folder of a layout.

    Attributes
    ----------
    path : Path
        The folder.
    asked : mapping
        What is asked of it, as in ``[dataset]``.
    pictures : list of ndarray
        The picture of each row that is expected, as pixels.
    responses : ndarray (n_images, n_voxels)
        Those that are expected, worked out without the layout.
    n_test : int
        How many of them are test rows.
    rois : mapping of str to list of int
        The regions that are expected.
    change : callable
        Changes one response in a copy of the folder.
    """

    path: Path
    pictures: list[Array]
    responses: Array
    change: Callable[[Path], object]
    n_test: int = 0
    asked: Mapping[str, Any] = field(default_factory=dict)
    rois: Mapping[str, list[int]] = field(default_factory=dict)


class World:
    """Pictures of coloured squares, and voxels that follow them with noise."""

    def __init__(self, n_pictures: int, n_voxels: int, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        squares = self.random.integers(0, 256, (n_pictures, 4, 4, 3), dtype=np.uint8)
        self.pictures = [np.kron(item, np.ones((SIDE // 4, SIDE // 4, 1), np.uint8)) for item in squares]
        weights = self.random.standard_normal((squares[0].size, n_voxels))
        self.signals = (squares.reshape(n_pictures, -1) / 255 - 0.5) @ weights

    def trials(self, shown: Any, noise: float = 0.5) -> Array:
        """Return a noisy response to each picture that is shown."""
        signals = self.signals[np.asarray(shown)]
        return np.asarray(signals + noise * self.random.standard_normal(signals.shape))


def write_picture(path: Path, pixels: Array) -> Path:
    """Write a picture without a loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def means(trials: Array, shown: Any) -> tuple[list[int], Array]:
    """Average trials by what was shown, in the order in which it first came up."""
    order = list(dict.fromkeys(shown))
    return order, np.stack(
        [trials[[place for place, item in enumerate(shown) if item == one]].mean(axis=0) for one in order]
    )


def z_scored(trials: Array, sessions: Any) -> Array:
    """Z-score each column within each session."""
    out = np.array(trials, dtype=np.float64)
    for session in set(sessions):
        rows = [row for row, item in enumerate(sessions) if item == session]
        out[rows] = (out[rows] - out[rows].mean(axis=0)) / out[rows].std(axis=0)
    return out


def write_plain(folder: Path, pictures: list[Array], responses: Array, n_test: int) -> Path:
    """Write the same rows in the layout of a plain folder."""
    sides = {"training": slice(0, len(pictures) - n_test), "test": slice(len(pictures) - n_test, None)}
    for part, rows in sides.items():
        if not len(pictures[rows]):
            continue
        for row, pixels in enumerate(pictures[rows]):
            write_picture(folder / f"{part}IMG" / f"{row:04}.png", pixels)
        (folder / f"{part}fMRI").mkdir(parents=True)
        np.save(folder / f"{part}fMRI" / f"{part}.npy", responses[rows])
    return folder
