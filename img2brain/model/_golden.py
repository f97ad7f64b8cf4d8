"""The golden example: one input with what the model made of it when it was saved, kept in its files.

A rebuilt model is compared with it, from the file of a picture to the voxels, in float32 on the processor: code of the
network, of preprocessing or of a library below them that computes something else by now is found before it predicts.
Coordinates and regressor are compared one after the other, since a regressor such as the nearest neighbours may jump
where coordinates hardly differ.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from img2brain.datasets._responses import open_array
from img2brain.errors import ModelError

Floats = NDArray[np.floating]

FOLDER = "golden"
_PICTURE, _ROW = "input.png", "input.npy"
_HEIGHT, _WIDTH = 120, 160  # of no network's input: it is brought to that size
_COORDINATES_APART = 5e-3  # of their size: processors without AVX2 resize bytes otherwise, and were .0005 off
_RESPONSES_APART = 1e-4


@dataclass(frozen=True, eq=False)
class Golden:
    """One input and what the model makes of it.

    Attributes
    ----------
    content : bytes or ndarray (1, n_features)
        A picture as a PNG file, or a row of features.
    coordinates : ndarray (1, n_components)
        Along the principal axes.
    responses : ndarray (1, n_voxels)
        What the regressor makes of these.
    """

    content: bytes | NDArray[Any]
    coordinates: Floats
    responses: Floats

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its files in the folder of a model."""
        return tuple(f"{FOLDER}/{name}" for name in (self._input, "coordinates.npy", "responses.npy"))

    @property
    def _input(self) -> str:
        return _PICTURE if isinstance(self.content, bytes) else _ROW

    def save(self, folder: Path) -> None:
        """Write it among the files of a model."""
        (folder / FOLDER).mkdir(exist_ok=True)
        if isinstance(self.content, bytes):
            (folder / FOLDER / _PICTURE).write_bytes(self.content)
        else:
            np.save(folder / FOLDER / _ROW, self.content)
        np.save(folder / FOLDER / "coordinates.npy", self.coordinates)
        np.save(folder / FOLDER / "responses.npy", self.responses)

    @classmethod
    def load(cls, folder: Path) -> Golden:
        """Read what `save` wrote; a `ValueError` tells of files that are none of these."""
        kept = folder / FOLDER
        drawn = kept / _PICTURE
        content = drawn.read_bytes() if drawn.is_file() else _read(kept / _ROW)
        return cls(content, _read(kept / "coordinates.npy"), _read(kept / "responses.npy"))

    def require_coordinates(self, found: Floats, what: str) -> None:
        """Raise `ModelError` where the coordinates of the input are others than they were."""
        self._require(found, self.coordinates, _COORDINATES_APART, what)

    def require_responses(self, predict: Callable[[Floats], Floats], what: str) -> None:
        """Raise `ModelError` where the coordinates that are kept give other responses than they did."""
        self._require(predict(self.coordinates), self.responses, _RESPONSES_APART, what)

    def _require(self, found: Floats, kept: Floats, most: float, what: str) -> None:
        apart = distance(found, kept)
        if not apart <= most:
            raise ModelError(
                f"{what} is not what this model was saved with: it makes something else of the golden example in its "
                f"files, {apart:.2g} of its size away, with the same numbers in it."
            )


def _read(path: Path) -> NDArray[Any]:
    return np.array(open_array(path, ("images", "numbers")))


def distance(found: Floats, kept: Floats) -> float:
    """Return how far numbers are from others, as a share of the size of these; infinity where they do not compare."""
    if found.shape != kept.shape:
        return float("inf")
    size = float(np.linalg.norm(kept.astype(np.float64)))
    apart = float(np.linalg.norm(found.astype(np.float64) - kept))
    return apart / size if size else apart


def picture() -> Image.Image:
    """Draw the golden picture, by a formula: waves of all three colours, within hard edges.

    Examples
    --------
    >>> picture().size
    (160, 120)
    """
    y, x = np.mgrid[0:_HEIGHT, 0:_WIDTH].astype(np.float64)
    waves = [np.sin(x * (0.05 + 0.04 * channel) + y * y * 0.0007 + channel) for channel in range(3)]
    disc = (x - 105) ** 2 + (y - 50) ** 2 < 900
    shown = np.where(disc[..., None], -np.stack(waves[::-1], axis=-1), np.stack(waves, axis=-1))
    shown[80:100, 20:70] = [0.9, -0.6, 0.1]
    return Image.fromarray(np.round(127.5 + 120 * shown).astype(np.uint8))


def png() -> bytes:
    """Return the golden picture as a file."""
    stream = io.BytesIO()
    picture().save(stream, "PNG")
    return stream.getvalue()


def row(n_features: int) -> NDArray[np.float64]:
    """Return the golden row of features, by a formula: a wave from 1 to -1."""
    return np.cos(np.arange(n_features, dtype=np.float64))[None]
