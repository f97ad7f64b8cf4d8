"""Small pictures that a page holds in itself."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from img2brain.datasets._images import open_image, usual_resized
from img2brain.datasets._presentation import Presentation
from img2brain.errors import DataError

SIDE = 112
_CIVIDIS = ((0, 32, 76), (58, 74, 107), (124, 123, 120), (184, 171, 108), (255, 233, 69))
_WIDEST, _HIGHEST = 640, 400


def thumbnail(path: Path, presentation: Presentation) -> str:
    """Return an image as it was shown, small, as an address that holds it; empty where it does not decode."""
    try:
        image = open_image(path, presentation, usual_resized)
    except DataError:  # It is said where everything suspicious is.
        return ""
    image.thumbnail((2 * SIDE, 2 * SIDE))
    return _address(image, "JPEG", quality=80)


def raster(values: NDArray[np.float64], reach: float = 2.0) -> str:
    """Draw numbers (rows, columns) from -reach to reach as colours, as an address that holds the picture.

    What would be wider or higher than a page shows is averaged. The colours are those of *cividis* (Nuñez, Anderton and
    Renslow, 2018), in five steps.
    """
    averaged = _averaged(_averaged(values, _HIGHEST).T, _WIDEST).T
    at = np.clip((np.nan_to_num(averaged) + reach) / (2 * reach), 0, 1)
    stops = np.linspace(0, 1, len(_CIVIDIS))
    colours = np.stack([np.interp(at, stops, channel) for channel in np.array(_CIVIDIS, float).T], axis=-1)
    return _address(Image.fromarray(colours.round().astype(np.uint8)), "PNG", optimize=True)


def _averaged(values: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Average neighbouring rows until there are few enough; single ones that are missing count as their mean, 0."""
    if len(values) <= most:
        return values
    starts = np.unique(np.linspace(0, len(values), most, endpoint=False).astype(np.intp))
    counts = np.diff([*starts, len(values)])[:, None]
    # The mean of n values that are independent varies less: with the root of n noise looks as it does unaveraged.
    return np.asarray(np.add.reduceat(np.nan_to_num(values), starts, axis=0) / np.sqrt(counts))


def _address(image: Image.Image, kind: str, **options: int | bool) -> str:
    held = io.BytesIO()
    image.save(held, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(held.getvalue()).decode()}"
