from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from img2brain import digest
from img2brain.backbones._preprocessing import Preprocessing
from img2brain.datasets._images import (
    digest_of_picture,
    find_images,
    find_other_files,
    look_for_silent,
    open_image,
    open_pixels,
    size_of,
)
from img2brain.datasets._presentation import Presentation
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
        ("LA", (90, 255), [90, 90, 90]),
        ("LA", (90, 0), [128, 128, 128]),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 0), [128, 128, 128]),
        ("RGBA", (0, 28, 228, 128), [64, 78, 178]),
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


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("shade", [0, 1])
def test_a_transparent_shade_of_few_bits_is_laid_over_the_background(tmp_path: Path, bits: int, shade: int) -> None:
    row = b"\0" + bytes([shade << (8 - bits)] + [255] * (bits - 1))
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in (
        (b"IHDR", struct.pack(">IIBBBBB", 8, 8, bits, 0, 0, 0, 0)),
        (b"tRNS", struct.pack(">H", shade)),
        (b"IDAT", zlib.compress(row * 8)),
        (b"IEND", b""),
    ):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    (tmp_path / "a.png").write_bytes(content)
    found = open_pixels(tmp_path / "a.png", Presentation("#204060"))
    assert found[0, 0].tolist() == [0x20, 0x40, 0x60]
    assert bits == 1 or found[0, 7].tolist() == [255, 255, 255]
    assert look_for_silent(tmp_path / "a.png").is_transparent


def test_a_palette_with_transparency_is_laid_over_the_background(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putpixel((1, 0), 1)
    image.putpixel((2, 0), 2)
    image.save(tmp_path / "a.png", transparency=bytes([0, 128, 255]))
    found = _pixels(open_image(tmp_path / "a.png", Presentation(background="#ffffff")))
    assert found == [[[255, 255, 255], [147, 152, 157], [70, 80, 90]]]


@pytest.mark.parametrize(
    ("mode", "clear", "other"),
    [("1", 0, 1), ("L", 7, 90), ("I;16", 300, 257 * 90), ("RGB", (1, 2, 3), (90, 90, 90))],
)
def test_one_transparent_colour_is_laid_over_the_background(tmp_path: Path, mode: str, clear: Any, other: Any) -> None:
    image = Image.new(mode, (2, 1), clear)
    image.putpixel((1, 0), other)
    image.save(tmp_path / "a.png", transparency=clear)
    ours, plain = (open_image(path, Presentation("#123456")) for path in (tmp_path / "a.png", _opaque(image, tmp_path)))
    assert _pixels(ours)[0] == [[0x12, 0x34, 0x56], _pixels(plain)[0][1]]
    assert look_for_silent(tmp_path / "a.png").is_transparent


def _opaque(image: Image.Image, folder: Path) -> Path:
    image.save(folder / "opaque.png")
    assert not look_for_silent(folder / "opaque.png").is_transparent
    return folder / "opaque.png"


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_opaque_pixels_are_as_they_were_without_an_alpha(tmp_path: Path, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    image = Image.fromarray(pixels).convert(mode)
    image.save(tmp_path / "a.png")
    for background in ("#000000", "#808080", "#ffffff"):
        assert _pixels(open_image(tmp_path / "a.png", Presentation(background))) == _pixels(image.convert("RGB"))
    assert digest_of_picture(tmp_path / "a.png", Presentation()) == digest.of_file(tmp_path / "a.png")


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_what_is_half_transparent_mixes_with_the_background(value: int, alpha: int, behind: int) -> None:
    seen = open_image(Image.new("RGBA", (1, 1), (value,) * 3 + (alpha,)), Presentation(f"#{behind:02x}{behind:02x}00"))
    red, _, blue = _pixels(seen)[0][0]
    assert abs(red - (value * alpha + behind * (255 - alpha)) / 255) <= 1
    assert abs(blue - value * alpha / 255) <= 1


def test_a_transparent_colour_of_16_bits_is_refused(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    row = zlib.compress(b"\0" + struct.pack(">3H", 40000, 300, 65535))
    chunks = [(b"IHDR", header), (b"IDAT", row), (b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*item) for item in chunks))
    np.testing.assert_allclose(_pixels(open_image(tmp_path / "a.png"))[0][0], [155.6, 1.2, 255], atol=1)
    chunks.insert(1, (b"tRNS", struct.pack(">3H", 40000, 300, 65535)))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*item) for item in chunks))
    with pytest.raises(DataError, match="Got: a transparent colour of 16 bits"):
        open_image(tmp_path / "a.png")


def test_an_animation_is_refused(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (0, 100)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"must decode as JPEG or PNG\. Got: an animation"):
        open_image(tmp_path / "a.png")


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_an_orientation_turns_a_picture_where_it_was_shown_so(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif)
    stored = open_image(path)
    with Image.open(path) as image:
        turned = ImageOps.exif_transpose(image).convert("RGB")
    assert stored.size == (24, 16)
    assert _pixels(open_image(path, Presentation(orientation="exif"))) == _pixels(turned)
    assert open_pixels(path, Presentation(orientation="exif")).tolist() == _pixels(turned)
    assert look_for_silent(path).is_turned == (2 <= orientation <= 8)
    as_shown = digest_of_picture(path, Presentation(orientation="exif"))
    assert (as_shown != digest_of_picture(path, Presentation())) == (2 <= orientation <= 8)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_turn_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert not look_for_silent(tmp_path / "a.jpg").is_turned
    assert open_pixels(tmp_path / "a.jpg", Presentation(orientation="exif")).shape == (4, 8, 3)


def test_what_has_a_say_is_in_the_digest(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 254)).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    grey, white = Presentation(), Presentation("#ffffff")
    assert digest_of_picture(tmp_path / "a.png", grey) != digest_of_picture(tmp_path / "a.png", white)
    assert digest_of_picture(tmp_path / "a.png", grey) != digest.of_file(tmp_path / "a.png")
    for name in ("b.png", "c.png"):
        assert digest_of_picture(tmp_path / name, white) == digest.of_file(tmp_path / name)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_sliver_is_refused_before_it_is_resized(tmp_path: Path, kind: str) -> None:
    path, resized = tmp_path / "a.png", Preprocessing(resize=(256,), crop=224).resized
    Image.new("L", (20_000, 1)).save(path, kind)
    for source in (path, path.read_bytes(), Image.open(path), np.zeros((1, 20_000), np.uint8)):
        with pytest.raises(DataError, match=r"at most 16777216 pixels when it is resized.*which become 5120000 x 256"):
            open_pixels(source, resized=resized)
        assert open_pixels(source).shape == (1, 20_000, 3)


def test_bytes_are_what_their_file_is(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        Image.new("RGB", (6, 3), (200, 10, 10)).save(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        np.testing.assert_array_equal(open_pixels(content), open_pixels(tmp_path / name))
        assert size_of(content) == (6, 3)


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
