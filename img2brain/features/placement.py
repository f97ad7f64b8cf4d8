"""Placement: pictures as large before a network as they were before the eyes of those who saw them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageColor

from img2brain.errors import DataError, SpecError
from img2brain.features.extract import Preparation

_TEXT = re.compile(r"([0-9.e+-]+) of ([0-9.e+-]+) degrees on (#[0-9a-f]{6})")
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Placement:
    """How large pictures were shown, and how much of the visual field a network is taken to see.

    Attributes
    ----------
    degrees : float
        What a picture covered of the visual field, from one side to the other, in degrees.
    field : float
        What the network's input stands for, in degrees.
    background : str
        The colour around pictures, ``#rrggbb``.

    Notes
    -----
    The picture, of height h and width w, is laid in the middle of a canvas of ``round(field / degrees * (h, w))``
    pixels, its corner at ``round((canvas - (h, w)) / 2)``: a picture that covered less than the field gets a border,
    one that covered more is cut (`place_on_screen` of Brain-Score; Schrimpf et al., 2018). What the network does to
    pictures, it does to the canvas.

    Examples
    --------
    >>> Placement(4.0, 8.0, "#808080").place(np.zeros((2, 2, 3), np.uint8))[:, :, 0]
    array([[128, 128, 128, 128],
           [128,   0,   0, 128],
           [128,   0,   0, 128],
           [128, 128, 128, 128]], dtype=uint8)
    """

    degrees: float
    field: float
    background: str

    def __str__(self) -> str:
        return f"{self.degrees!r} of {self.field!r} degrees on {self.background}"

    @classmethod
    def parse(cls, text: str) -> Placement | None:
        """Read what `str` wrote; None of an empty text. Raises `SpecError` for any other."""
        found = _TEXT.fullmatch(text)
        try:
            if found and float(found[1]) > 0 and float(found[2]) > 0:
                return cls(float(found[1]), float(found[2]), found[3])
        except ValueError:
            found = None
        if text:
            raise SpecError(f"A placement must be such as '8.4 of 8.0 degrees on #808080'. Got {text!r}.")
        return None

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the canvas of a picture."""
        ratio = self.field / self.degrees
        return max(1, round(height * ratio)), max(1, round(width * ratio))

    def place(self, picture: Picture) -> Picture:
        """Lay a picture (height, width, 3) on its canvas.

        Raises
        ------
        DataError
            If the canvas would have too many pixels.
        """
        height, width = self.canvas(*picture.shape[:2])
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and height * width > limit:
            raise DataError(f"A picture must have at most {limit} pixels as it is placed. Got {width} x {height}.")
        screen = Image.new("RGB", (width, height), ImageColor.getrgb(self.background))
        corner = (round((width - picture.shape[1]) / 2), round((height - picture.shape[0]) / 2))
        screen.paste(Image.fromarray(picture), corner)
        return np.array(screen)


@dataclass(frozen=True)
class Placed:
    """Preprocessing of pictures that are placed first."""

    preparation: Preparation
    placement: Placement

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what the network sees, in pixels."""
        return self.preparation.size

    def resized(self, height: int, width: int, /) -> tuple[int, int]:
        """Return the size that the canvas of a picture is brought to."""
        return self.preparation.resized(*self.placement.canvas(height, width))

    def pixels(self, picture: Picture, /) -> torch.Tensor:
        """Place a picture, and bring its canvas to the size of the network."""
        return self.preparation.pixels(self.placement.place(picture))

    def normalise(self, pixels: torch.Tensor, dtype: torch.dtype, /) -> torch.Tensor:
        """Scale bytes."""
        return self.preparation.normalise(pixels, dtype)


def placed(preparation: Preparation, placement: Placement | None) -> Preparation:
    """Return a preprocessing that places pictures first, where they are to be placed."""
    return preparation if placement is None else Placed(preparation, placement)
