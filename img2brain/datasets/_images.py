"""Image files: finding them, and opening whatever they hold as RGB."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from img2brain.errors import DataError
from img2brain.progress import track

SUFFIXES = (".jpg", ".jpeg", ".png")
ImageSource = Path | Image.Image | NDArray[Any]
T = TypeVar("T")

_FORMATS = ("JPEG", "PNG")
_PLAIN = ("Gray", "YCbCr")  # colours of a JPEG file that any decoder turns into the same RGB
_WIDE_GREY = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def find_images(folder: Path) -> tuple[Path, ...]:
    """List the images of a folder in lexicographic order of their file names.

    Parameters
    ----------
    folder : Path
        Images end in .jpg, .jpeg or .png, in any case; hidden and other files do not count.

    Returns
    -------
    tuple of Path
        At least one.

    Raises
    ------
    DataError
        If the folder is absent or holds no image.
    """
    if not folder.is_dir():
        raise DataError(f"The image folder {str(folder)!r} must exist. It does not.")
    images = [path for path in _visible_files(folder) if path.suffix.lower() in SUFFIXES]
    if not images:
        raise DataError(f"The image folder {str(folder)!r} must hold .jpg, .jpeg or .png files. It holds none.")
    return tuple(images)


def find_other_files(folder: Path) -> tuple[Path, ...]:
    """List the files of a folder that are neither hidden nor images."""
    if not folder.is_dir():
        return ()
    return tuple(path for path in _visible_files(folder) if path.suffix.lower() not in SUFFIXES)


def _visible_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())


def open_image(source: ImageSource) -> Image.Image:
    """Open an image as 8-bit RGB.

    Parameters
    ----------
    source : Path or PIL.Image.Image or ndarray
        A JPEG or PNG file of any mode; a PIL image; or an array of shape (height, width) or (height, width, 3),
        uint8 or float in 0..1.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, in memory, independent of the file. Greyscale is repeated, 16-bit greyscale scaled to 8 bits, CMYK and
        palettes converted, and an alpha channel dropped.

    Raises
    ------
    DataError
        If the file does not decode to its end or has too many pixels, or the array is of another kind.

    Notes
    -----
    An EXIF orientation has no effect: the pixels are taken as they are stored, as plain Pillow and torchvision do.

    Examples
    --------
    >>> open_image(np.zeros((4, 6))).size
    (6, 4)
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _decoded("The image", lambda: _to_rgb(source))
    if isinstance(source, Path):
        label = f"The image {str(source)!r}"
        return _decoded(label, lambda: _from_file(source, label))
    raise DataError(f"An image must be a Path, a PIL image or an array. Got {type(source).__name__}.")


def open_pixels(source: ImageSource) -> NDArray[np.uint8]:
    """Open an image as an array (height, width, 3): what `open_image` gives, of a usual JPEG file in half the time.

    Raises
    ------
    DataError
        As `open_image` does.
    """
    pixels = _from_plain_jpeg(source) if isinstance(source, Path) else None
    return np.array(open_image(source)) if pixels is None else pixels


def decode_image(content: bytes) -> Image.Image:
    """Decode the bytes of a JPEG or PNG file, as `open_image` does a file.

    Raises
    ------
    DataError
        If they do not decode to their end, or have too many pixels.
    """
    return _decoded("The image", lambda: _from_file(io.BytesIO(content), "The image"))


def _decoded(label: str, decode: Callable[[], Image.Image]) -> Image.Image:
    try:
        return decode()
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise DataError(f"{label} must decode as JPEG or PNG. Got: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "neither of them"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.splitlines() or [type(error).__name__])[0].rstrip(".")


def _from_file(file: Path | io.BytesIO, label: str) -> Image.Image:
    with Image.open(file, formats=_FORMATS) as image:
        n_pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
        if limit is not None and n_pixels > limit:  # Pillow itself only warns up to twice the limit
            raise DataError(f"{label} must have at most {limit} pixels. Got {n_pixels}.")
        return _to_rgb(image)


def _from_plain_jpeg(path: Path) -> NDArray[np.uint8] | None:
    """Decode a JPEG file of a usual kind in which nothing is amiss; return None for any other, which Pillow judges."""
    try:
        content = path.read_bytes()
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content, strict=True)
        limit = Image.MAX_IMAGE_PIXELS
        if colours not in _PLAIN or (limit is not None and height * width > limit):
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, colorspace="RGB", strict=True)
    except (OSError, ValueError):
        return None
    return pixels


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _WIDE_GREY:
        wide = np.clip(np.asarray(image, dtype=np.float64), 0, 65535)
        return Image.fromarray(np.round(wide / 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        return _from_array(np.asarray(image))
    if image.mode == "P":  # through RGBA, since a palette may hold transparency that RGB cannot take
        image = image.convert("RGBA")
    return image.convert("RGB")


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)) or 0 in array.shape:
        raise DataError(f"An image array must have shape (height, width) or (height, width, 3). Got {array.shape}.")
    if array.dtype.kind == "f":
        if not (np.min(array) >= 0 and np.max(array) <= 1):
            raise DataError(f"A float image array must lie in 0..1. Got {np.min(array)}..{np.max(array)}.")
        array = np.round(array.astype(np.float64) * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise DataError(f"An image array must be uint8, or float in 0..1. Got {array.dtype}.")
    return Image.fromarray(array).convert("RGB")


def map_files(function: Callable[[Path], T], paths: Sequence[Path], title: str) -> list[T]:
    """Apply `function` to each path with a pool of threads, in order: reading, hashing and decoding free the lock."""
    with ThreadPoolExecutor() as pool:
        return list(track(pool.map(function, paths), len(paths), title))
