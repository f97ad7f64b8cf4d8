from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from img2brain.datasets._images import find_images, find_other_files, open_image
from img2brain.errors import DataError


def _pixels(image: Image.Image) -> Any:
    return np.asarray(image).tolist()


def test_images_are_sorted_by_name_and_nothing_else_counts(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "c.JpEg", ".hidden.png", "Thumbs.db", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in find_images(tmp_path)] == ["a.png", "b.JPG", "c.JpEg"]
    assert [path.name for path in find_other_files(tmp_path)] == ["Thumbs.db", "notes.txt"]


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must hold"):
        find_images(tmp_path)
    with pytest.raises(DataError, match="must exist"):
        find_images(tmp_path / "absent")


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 200, [200, 200, 200]),
        ("1", 1, [255, 255, 255]),
        ("LA", (90, 0), [90, 90, 90]),
        ("RGBA", (10, 20, 30, 0), [10, 20, 30]),
        ("RGB", (10, 20, 30), [10, 20, 30]),
    ],
)
def test_png_modes_become_rgb(tmp_path: Path, mode: str, colour: Any, expected: list[int]) -> None:
    Image.new(mode, (3, 2), colour).save(tmp_path / "a.png")
    image = open_image(tmp_path / "a.png")
    assert (image.mode, image.size) == ("RGB", (3, 2))
    assert _pixels(image)[1][2] == expected


def test_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    red, green, blue = _pixels(open_image(tmp_path / "a.jpg"))[8][8]
    assert red > 240
    assert green < 15
    assert blue < 15


def test_16_bit_greyscale_is_scaled_not_clipped(tmp_path: Path) -> None:
    grey = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert _pixels(open_image(tmp_path / "a.png"))[0] == [[0] * 3, [1] * 3, [128] * 3, [255] * 3]


def test_a_palette_with_transparency_keeps_its_colours(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    assert _pixels(open_image(tmp_path / "a.png")) == [[[10, 20, 30], [40, 50, 60]]]


@given(st.integers(0, 255), st.integers(1, 5), st.integers(1, 5))
def test_arrays_of_bytes_and_of_floats_are_the_same_picture(value: int, height: int, width: int) -> None:
    array = np.full((height, width), value, dtype=np.uint8)
    image = open_image(array)
    assert image.size == (width, height)
    assert _pixels(image) == _pixels(open_image(array / 255)) == _pixels(open_image(np.stack([array] * 3, axis=2)))
    assert _pixels(image)[0][0] == [value] * 3


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros((2, 2, 4), np.uint8), r"shape .* Got \(2, 2, 4\)"),
        (np.zeros((1, 2, 2, 3), np.uint8), "shape"),
        (np.zeros((0, 2), np.uint8), "shape"),
        (np.full((2, 2), 1.5), "0..1. Got 1.5"),
        (np.full((2, 2), np.nan), "0..1. Got nan"),
        (np.zeros((2, 2), np.int64), "int64"),
        (np.zeros((2, 2), np.bool_), "bool"),
    ],
)
def test_other_arrays_are_refused(array: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        open_image(array)


def test_other_sources_are_refused() -> None:
    with pytest.raises(DataError, match="Got str"):
        open_image("a.png")  # type: ignore[arg-type]


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    pixels = np.random.RandomState(0).randint(256, size=(64, 64, 3)).astype(np.uint8)
    for suffix in ("jpg", "png"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(pixels).save(path)
        path.write_bytes(path.read_bytes()[:-400])
        with pytest.raises(DataError, match=rf"a\.{suffix}' must decode"):
            open_image(path)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png' must decode as JPEG or PNG") as caught:
        open_image(tmp_path / "a.png")
    assert "\n" not in str(caught.value)


def test_other_formats_do_not_reach_their_decoders(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", format="TIFF")
    with pytest.raises(DataError, match="neither of them"):
        open_image(tmp_path / "a.png")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.png.*No such file"):
        open_image(tmp_path / "absent.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # 1600 pixels: Pillow would warn
    with pytest.raises(DataError, match=r"a\.png' must have at most 1000 pixels\. Got 1600"):
        open_image(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"a\.png"):
        open_image(tmp_path / "a.png")
