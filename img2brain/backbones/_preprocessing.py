"""Preprocessing: what happens to a picture before a network sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F  # noqa: N812 (torch's own name for it)

from img2brain import digest
from img2brain._arrays import slices
from img2brain.errors import FeatureError, ModelError

_FILTERS = tuple(mode.value for mode in InterpolationMode)
_SCALED_TOGETHER = 8  # images: float32 of more than these leaves a processor's cache
_FULL_VIEW = 4  # A view of less than this part of a picture is copied.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop and normalise a picture; plain data, so that a saved model carries it as JSON.

    Attributes
    ----------
    resize : tuple of int
        ``(height, width)``, or ``(shorter side,)`` that keeps the aspect, in pixels.
    crop : int, optional
        Side of the square taken from the centre, in pixels. Needed where `resize` keeps the aspect.
    interpolation : str
        Name of the filter: ``"bilinear"``, ``"bicubic"``, ...
    antialias : bool
        Kept for the record: a picture is always smoothed when it shrinks, as Pillow does.
    mean, std : tuple of float
        Per channel, subtracted from and dividing values in [0, 1].

    Examples
    --------
    >>> resize224 = Preprocessing(resize=(224, 224))
    >>> resize224(Image.new("RGB", (425, 300))).shape
    torch.Size([3, 224, 224])
    """

    resize: tuple[int, ...]
    crop: int | None = None
    interpolation: str = "bilinear"
    antialias: bool = True
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        if len(self.resize) not in (1, 2) or (len(self.resize) == 1 and self.crop is None):
            raise FeatureError(f"The 'resize' must be (height, width), or (side,) with a 'crop'. Got {self.resize}.")
        if self.interpolation not in _FILTERS:
            raise FeatureError(f"The 'interpolation' must be one of {', '.join(_FILTERS)}. Got {self.interpolation!r}.")
        if not len(self.mean) == len(self.std) == 3:
            raise FeatureError(f"The 'mean' and 'std' must have 3 channels. Got {len(self.mean)} and {len(self.std)}.")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what the network sees, in pixels."""
        return (self.crop, self.crop) if self.crop else (self.resize[0], self.resize[1])

    @property
    def digest(self) -> str:
        """Digest of all settings."""
        return digest.of_value(self.to_dict())

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width, in pixels, that a picture is brought to before it is cropped.

        Examples
        --------
        >>> Preprocessing(resize=(256,), crop=224).resized(1, 20_000)
        (256, 5120000)
        """
        if len(self.resize) == 2:
            return self.resize[0], self.resize[1]
        side, shorter = self.resize[0], min(height, width)
        return side * height // shorter, side * width // shorter

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Turn a picture into the network's input.

        Parameters
        ----------
        image : PIL.Image.Image
            Of any size; a mode other than RGB is converted.

        Returns
        -------
        torch.Tensor
            float32 of shape (3, height, width).
        """
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        return self.normalise(self.pixels(np.array(rgb))[None])[0]

    def pixels(self, picture: NDArray[np.uint8]) -> torch.Tensor:
        """Resize and crop a picture.

        Parameters
        ----------
        picture : ndarray of uint8, shape (height, width, 3)

        Returns
        -------
        torch.Tensor
            uint8 of shape (3, height, width), with the channels of a pixel side by side in memory.

        Notes
        -----
        Torch's bilinear filter of bytes takes a third of the time of Pillow's. It is within one grey level of Pillow's
        for each direction in which the size changes: both round after each. Its bicubic one is not, and neither is any
        where the processor lacks AVX2: there a sixth of all bytes would be others. What is left is Pillow's.
        """
        filter_ = InterpolationMode(self.interpolation)
        if filter_ is InterpolationMode.BILINEAR and _resizes_as_pillow():
            whole = self._resized(_as_tensor(picture))
        else:
            whole = _as_tensor(np.array(F.resize(Image.fromarray(picture), list(self.resize), filter_)))
        cropped = self._cropped(whole)
        # A view of a long picture would keep all of it while others are decoded.
        return cropped.clone() if cropped.numel() * _FULL_VIEW < whole.numel() else cropped

    def _resized(self, picture: torch.Tensor) -> torch.Tensor:
        """Resize bytes (3, height, width) as torchvision does, whose way to the same kernel keeps Python busy longer.

        Threads that prepare pictures side by side share Python's lock: with 16 of them it would be all that counts.
        """
        size = self.resized(*picture.shape[1:])
        if size == tuple(picture.shape[1:]):
            return picture
        return interpolate(picture[None], size, mode="bilinear", antialias=True)[0]

    def _cropped(self, whole: torch.Tensor) -> torch.Tensor:
        """Take the square in the centre; around a picture that is too small for it torchvision puts black."""
        if self.crop is None:
            return whole
        room = [side - self.crop for side in whole.shape[1:]]
        if min(room) < 0:
            framed: torch.Tensor = F.center_crop(whole, [self.crop])
            return framed
        top, left = (round(free / 2.0) for free in room)
        return whole[:, top : top + self.crop, left : left + self.crop]

    def normalise(self, pixels: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Scale bytes to what the network was made for.

        Parameters
        ----------
        pixels : torch.Tensor of uint8, shape (n, 3, height, width)
            On any device.
        dtype : torch.dtype
            Of the result; it is rounded from float32.

        Returns
        -------
        torch.Tensor
            Of this shape, with the channels of a pixel side by side in memory.
        """
        rows = pixels.permute(0, 2, 3, 1).flatten(2)  # whole rows of pixels, so that the loops inside are long
        mean, std = (torch.tensor(values).repeat(pixels.shape[3]).to(pixels.device) for values in (self.mean, self.std))
        scaled = torch.empty(rows.shape, dtype=dtype, device=pixels.device)
        together = len(rows) if pixels.is_cuda else _SCALED_TOGETHER
        for part in slices(len(rows), together):
            scaled[part] = torch.addcmul(-mean / std, rows[part], 1 / (255 * std))
        return scaled.reshape(*rows.shape[:2], -1, 3).permute(0, 3, 1, 2)

    def to_dict(self) -> dict[str, Any]:
        """Give all settings as JSON can hold them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Preprocessing:
        """Rebuild from `to_dict`; raises `ModelError` when the keys are others."""
        expected = {field.name for field in fields(cls)}
        if set(settings) != expected:
            raise ModelError(f"A preprocessing must have the keys {sorted(expected)}. Got {sorted(settings)}.")
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
        }
        return cls(**plain)


def _resizes_as_pillow() -> bool:
    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def _as_tensor(picture: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)
