"""Image files: finding them, and opening whatever they hold as RGB."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from img2brain import digest
from img2brain._arrays import n_threads, slices
from img2brain.datasets._inside import content_of
from img2brain.datasets._links import is_there
from img2brain.datasets._presentation import Presentation
from img2brain.errors import DataError
from img2brain.progress import track

SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_RESIZED_PIXELS = 2**24  # of one picture as it is brought to the size of a network: 48 MB
AS_STORED = Presentation()
ImageSource = Path | bytes | Image.Image | NDArray[Any]
Resized = Callable[[int, int], tuple[int, int]]
T = TypeVar("T")

_FORMATS = ("JPEG", "PNG")
_PLAIN = ("Gray", "YCbCr")  # colours of a JPEG file that any decoder turns into the same RGB
_PNG = b"\x89PNG\r\n\x1a\n"
_USUAL_SIDE = 518
_RUN = 16  # files that a thread is handed at a time
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MOST_SHADES = {"L;2": 3, "L;4": 15}  # the largest shade, by how Pillow names what it decodes
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
        If the folder is absent or holds no image, or a link that leads to none.
    """
    if not (is_there(folder) and folder.is_dir()):
        raise DataError(f"The image folder {str(folder)!r} must exist. It does not.")
    images = [folder / name for name in _named_images(folder)]
    if not images:
        raise DataError(f"The image folder {str(folder)!r} must hold .jpg, .jpeg or .png files. It holds none.")
    return tuple(images)


def _named_images(folder: Path) -> list[str]:
    """Name the images of a folder; of a file that is no link the folder itself says that it is one."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".")
            and os.path.splitext(entry.name)[1].lower() in SUFFIXES  # noqa: PTH122 - of a hundred thousand names
            and (entry.is_file(follow_symlinks=False) or _is_file(folder / entry.name))
        )


def _is_file(path: Path) -> bool:
    return is_there(path) and path.is_file()


def find_other_files(folder: Path) -> tuple[Path, ...]:
    """List the files of a folder that are neither hidden nor images."""
    if not folder.is_dir():
        return ()
    return tuple(path for path in _visible(folder) if not _is_named_so(path) and path.is_file())


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _is_named_so(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def open_image(
    source: ImageSource, presentation: Presentation = AS_STORED, resized: Resized | None = None
) -> Image.Image:
    """Open an image as 8-bit RGB.

    Parameters
    ----------
    source : Path or bytes or PIL.Image.Image or ndarray
        A JPEG or PNG file of any mode, or its bytes; a PIL image; or an array of shape (height, width) or
        (height, width, 3), uint8 or float in 0..1.
    presentation : Presentation
        How it was shown.
    resized : callable, optional
        From a height and width to those that the image will be brought to: an image that would have more than
        16,777,216 pixels then is refused before it is decoded.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, in memory, independent of the file. Greyscale is repeated, 16-bit greyscale scaled to 8 bits, CMYK and
        palettes converted, and transparent pixels laid over the background.

    Raises
    ------
    DataError
        If the file does not decode to its end, is an animation or has too many pixels, or the array is of another kind.

    Examples
    --------
    >>> open_image(np.zeros((4, 6))).size
    (6, 4)
    """
    label = f"The image {str(source)!r}" if isinstance(source, Path) else "The image"
    source = content_of(source) if isinstance(source, Path) else source
    if isinstance(source, np.ndarray):
        _require_room(label, source.shape[1::-1], resized)
        return _from_array(source)

    def shown(image: Image.Image) -> Image.Image:
        _require_room(label, image.size, resized)
        return _shown(image, presentation)

    return _opened(source, label, shown)


def open_pixels(
    source: ImageSource, presentation: Presentation = AS_STORED, resized: Resized | None = None
) -> NDArray[np.uint8]:
    """Open an image as an array (height, width, 3): what `open_image` gives, of a usual JPEG file in half the time.

    Raises
    ------
    DataError
        As `open_image` does.
    """
    held = content_of(source) if isinstance(source, Path) else source
    pixels = _from_plain_jpeg(held, presentation, resized) if isinstance(held, Path | bytes) else None
    return np.array(open_image(source, presentation, resized)) if pixels is None else pixels


def decode_image(content: bytes) -> Image.Image:
    """Decode the bytes of a JPEG or PNG file, as `open_image` does; models that were registered before call it.

    Raises
    ------
    DataError
        If they do not decode to their end, or have too many pixels.
    """
    return open_image(content)


def size_of(source: Path | bytes) -> tuple[int, int]:
    """Read the width and height of a JPEG or PNG file from its header, without decoding it.

    Raises
    ------
    DataError
        If it has none.
    """
    held = content_of(source) if isinstance(source, Path) else source
    if isinstance(held, np.ndarray):
        return held.shape[1], held.shape[0]
    return _opened(held, "The image", lambda image: image.size)


@dataclass(frozen=True)
class Silent:
    """What a picture holds that most programs pass over in silence.

    Attributes
    ----------
    is_turned : bool
        Whether its EXIF data say that it is to be turned, or mirrored, when it is shown.
    is_transparent : bool
        Whether something is seen through its pixels.
    """

    is_turned: bool
    is_transparent: bool


def look_for_silent(path: Path) -> Silent:
    """Look for an orientation and for transparent pixels; only what may have them is decoded.

    Raises
    ------
    DataError
        If the file does not decode.
    """
    label, held = f"The image {str(path)!r}", content_of(path)
    if isinstance(held, np.ndarray):
        return Silent(is_turned=False, is_transparent=False)

    def look(image: Image.Image) -> Silent:
        _require_room(label, image.size, None)
        return Silent(_orientation(image) != 1, _is_transparent(image))

    return _opened(held, label, look)


def digest_of_picture(path: Path, presentation: Presentation) -> str:
    """Digest what is seen of a file: its bytes and, where they have a say, background and orientation."""
    held = path if path.is_file() else content_of(path)
    if isinstance(held, np.ndarray):
        return digest.of_array(held)
    found = digest.of_bytes(held) if isinstance(held, bytes) else digest.of_file(held)
    if not (_is_png(held) or presentation.orientation == "exif"):
        return found
    try:
        silent = look_for_silent(path)
    except DataError:  # It is said by whoever decodes it.
        return found
    says = {"orientation": "exif"} if silent.is_turned and presentation.orientation == "exif" else {}
    says |= {"background": presentation.background} if silent.is_transparent else {}
    return digest.of_value({"file": found, **says}) if says else found


def _is_png(held: Path | bytes) -> bool:
    if isinstance(held, bytes):
        return held.startswith(_PNG)
    with held.open("rb") as stream:
        return stream.read(len(_PNG)) == _PNG


def _opened(source: Path | bytes | Image.Image, label: str, use: Callable[[Image.Image], T]) -> T:
    """Open a file of a kind that is decoded, and hand it to `use`, whatever happens on one line."""
    if isinstance(source, Image.Image):
        return _decoded(label, lambda: use(source))
    if not isinstance(source, Path | bytes):
        raise DataError(f"An image must be a Path, bytes, a PIL image or an array. Got {type(source).__name__}.")

    def read() -> T:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS) as image:
            _scale_clear_shade(image)
            return use(image)

    return _decoded(label, read)


def _scale_clear_shade(image: Image.Image) -> None:
    """Bring the transparent shade of a grey PNG of 2 or 4 bits to 8 bits: Pillow does so with its pixels alone."""
    tiles: list[Any] = getattr(image, "tile", [])
    most = _MOST_SHADES.get(str(tiles[0].args)) if tiles else None
    clear = image.info.get("transparency")
    if image.mode == "L" and most and isinstance(clear, int):
        image.info["transparency"] = (clear & most) * (255 // most)  # Higher bits do not count (PNG, 11.3.2.1).


def _decoded(label: str, decode: Callable[[], T]) -> T:
    try:
        return decode()
    except (DataError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise DataError(f"{label} must decode as JPEG or PNG. Got: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "neither of them"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.splitlines() or [type(error).__name__])[0].rstrip(".")


def _require_room(label: str, size: tuple[int, ...], resized: Resized | None) -> None:
    """Refuse a picture of too many pixels, as it is or as it will be."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and math.prod(size) > limit:  # Pillow itself only warns up to twice the limit
        raise DataError(f"{label} must have at most {limit} pixels. Got {math.prod(size)}.")
    if resized is None or len(size) != 2 or 0 in size:
        return
    height, width = resized(size[1], size[0])
    if height * width > MAX_RESIZED_PIXELS:
        raise DataError(
            f"{label} must have at most {MAX_RESIZED_PIXELS} pixels when it is resized for the network. "
            f"Got {size[0]} x {size[1]}, which become {width} x {height}."
        )


def usual_resized(height: int, width: int) -> tuple[int, int]:
    """Return the size that a picture is brought to for the largest of torchvision's networks, 518 pixels high or wide.

    Examples
    --------
    >>> usual_resized(1036, 2072)
    (518, 1036)
    """
    return _USUAL_SIDE * height // min(height, width), _USUAL_SIDE * width // min(height, width)


def _from_plain_jpeg(
    source: Path | bytes, presentation: Presentation, resized: Resized | None
) -> NDArray[np.uint8] | None:
    """Decode a JPEG file of a usual kind in which nothing is amiss; return None for any other, which Pillow judges."""
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content, strict=True)
        if colours not in _PLAIN or (presentation.orientation == "exif" and _is_turned(content)):
            return None
        _require_room("", (width, height), resized)
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, colorspace="RGB", strict=True)
    except (OSError, ValueError):  # DataError, of a picture that is too large, is a ValueError.
        return None
    return pixels


def _is_turned(content: bytes) -> bool:
    return _opened(content, "", _orientation) != 1


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Damaged EXIF data turn nothing; Pillow raises nearly anything on them.
        return 1
    return int(found) if found in _TURNS else 1


def _is_transparent(image: Image.Image) -> bool:
    """Tell whether something is seen through any pixel; one that may be so is decoded."""
    return image.has_transparency_data and int(np.asarray(_rgba(image))[..., 3].min()) < 255


def _shown(image: Image.Image, presentation: Presentation) -> Image.Image:
    """Return what was seen of a picture, as RGB."""
    if image.format == "PNG" and getattr(image, "is_animated", False):
        raise ValueError("an animation")
    image.load()
    seen = _to_rgb(image, presentation.background)
    turn = _TURNS.get(_orientation(image)) if presentation.orientation == "exif" else None
    return seen if turn is None else seen.transpose(turn)


def _to_rgb(image: Image.Image, background: str) -> Image.Image:
    if image.has_transparency_data:
        seen = _rgba(image)
        return Image.alpha_composite(Image.new("RGBA", seen.size, background), seen).convert("RGB")
    if image.mode in _WIDE_GREY:
        return _from_wide_grey(image).convert("RGB")
    if image.mode == "F":
        return _from_array(np.asarray(image))
    return image.convert("RGB")


def _rgba(image: Image.Image) -> Image.Image:
    """Return a picture that has transparency with its alpha."""
    clear = image.info.get("transparency")
    if image.mode in _WIDE_GREY:  # one shade of it is transparent
        seen = _from_wide_grey(image).convert("RGBA")
        seen.putalpha(Image.fromarray(np.where(np.asarray(image) == clear, 0, 255).astype(np.uint8)))
        return seen
    if isinstance(clear, tuple) and max(clear) > 255:
        raise ValueError("a transparent colour of 16 bits, of which 8 are read")
    straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
    return (image.convert(straight) if straight else image).convert("RGBA")


def _from_wide_grey(image: Image.Image) -> Image.Image:
    wide = np.clip(np.asarray(image, dtype=np.float64), 0, 65535)
    return Image.fromarray(np.round(wide / 257).astype(np.uint8))


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
    """Apply `function` to each path with a pool of threads, in order: reading, hashing and decoding free the lock.

    A thread is handed a run of paths: with many threads, handing out each by itself would take longer than the work.
    """
    runs = (paths[run] for run in slices(len(paths), _RUN))
    with ThreadPoolExecutor(n_threads()) as pool:
        found = pool.map(lambda run: list(map(function, run)), runs)
        return list(track(chain.from_iterable(found), len(paths), title))
