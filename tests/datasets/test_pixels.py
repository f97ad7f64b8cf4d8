from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from img2brain.datasets import _images as module
from img2brain.datasets._images import AS_STORED, open_image, open_pixels
from img2brain.errors import DataError


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pillows(source: Any) -> NDArray[np.uint8]:
    return np.asarray(open_image(source))


def outcome(decode: Any, path: Path) -> str | bytes:
    """Return the pixels, or what is said of their absence."""
    try:
        return bytes(decode(path).tobytes())
    except DataError as error:
        return str(error)


@pytest.fixture(scope="module")
def jpeg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "picture.jpg"
    Image.fromarray(noise(40, 56)).save(path)
    return path


@pytest.mark.parametrize(
    "options", [{}, {"quality": 20}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(1, 1), (17, 33), (425, 425)])
def test_a_jpeg_has_pillows_pixels(tmp_path: Path, mode: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    path = tmp_path / "picture.jpg"
    Image.fromarray(noise(*size)).convert(mode).save(path, **options)
    assert (module._from_plain_jpeg(path, AS_STORED, None) is not None) == (mode != "CMYK")
    assert open_pixels(path).flags.writeable
    np.testing.assert_array_equal(open_pixels(path), pillows(path))


def test_an_orientation_has_no_effect(jpeg: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(jpeg) as image:
        image.save(tmp_path / "turned.jpg", exif=exif, quality="keep")
    assert open_pixels(tmp_path / "turned.jpg").shape == (40, 56, 3)
    np.testing.assert_array_equal(open_pixels(tmp_path / "turned.jpg"), pillows(tmp_path / "turned.jpg"))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_other_sources_go_through_pillow(tmp_path: Path, suffix: str) -> None:
    array, path = noise(4, 5), tmp_path / f"picture.{suffix}"
    Image.fromarray(array).save(path, format="PNG")
    for source in (path, array, Image.fromarray(array)):
        np.testing.assert_array_equal(open_pixels(source), array)


@settings(max_examples=100)
@given(data=st.data())
def test_a_damaged_file_is_what_pillow_says(jpeg: Path, tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    content = bytearray(jpeg.read_bytes())
    content = content[: data.draw(st.integers(0, len(content)))]
    for _ in range(data.draw(st.integers(0, 2)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "picture.jpg"
    path.write_bytes(content)
    assert outcome(open_pixels, path) == outcome(pillows, path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_too_many_pixels_is_refused(jpeg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(DataError, match="must have at most 2000 pixels"):
        open_pixels(jpeg)
