from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from img2brain.datasets._images import find_images, open_image
from img2brain.errors import DataError
from img2brain.flavor import decode
from img2brain.registered import load_model

if TYPE_CHECKING:
    from tests.conftest import Finished


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


@pytest.fixture(scope="module")
def pictures(recordings: Path) -> list[Path]:
    return list(find_images(recordings / "testIMG"))


@pytest.fixture(scope="module")
def expected(finished: Finished, pictures: list[Path]) -> np.ndarray[Any, Any]:
    return load_model("sample", finished.home).predict(pictures)


@pytest.fixture(scope="module")
def loaded(finished: Finished) -> Any:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{finished.home / 'mlflow.db'}")
    try:
        return mlflow.pyfunc.load_model("models:/sample@champion")
    finally:
        mlflow.set_tracking_uri(before)


def test_it_agrees_with_the_model(loaded: Any, pictures: list[Path], expected: np.ndarray[Any, Any]) -> None:
    texts = [encoded(path) for path in pictures]
    for table in (pd.DataFrame({"image": texts}), [{"image": text} for text in texts]):
        found = loaded.predict(table)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


def test_its_signature_is_pictures_to_voxels(loaded: Any) -> None:
    signature = loaded.metadata.signature.to_dict()
    assert signature["inputs"] == '[{"type": "string", "name": "image", "required": true}]'
    assert '"shape": [-1, 20]' in signature["outputs"]
    assert '"dtype": "float32"' in signature["outputs"]


def test_a_path_is_refused_unless_it_is_allowed(
    loaded: Any, pictures: list[Path], expected: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pd.DataFrame({"image": [str(path) for path in pictures]})
    with pytest.raises(DataError, match=r"An image must be a picture as base64 text\. Got "):
        loaded.predict(table)
    monkeypatch.setenv("IMG2BRAIN_ALLOW_PATHS", "1")
    np.testing.assert_array_equal(loaded.predict(table), expected)


@pytest.mark.parametrize(
    "text",
    ["/etc/passwd", "/dev/zero", "../../secret.png", "file:///etc/passwd", "http://example.org/a.png", "", "\0",
     "a" * 10_000, base64.b64encode(b"no picture").decode(), "data:image/png;base64,????"],
)  # fmt: skip
@pytest.mark.parametrize("allow_paths", [False, True])
def test_hostile_text_is_refused_on_one_line(text: str, allow_paths: bool) -> None:
    with pytest.raises(DataError, match=r"must be a picture as base64 text|must decode as JPEG or PNG") as caught:
        open_image(decode(text, allow_paths=allow_paths))  # a file that may be opened is no picture
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def saved_as(kind: str, size: tuple[int, int] = (8, 8)) -> str:
    stream = io.BytesIO()
    Image.new("RGB", size).save(stream, kind)
    return base64.b64encode(stream.getvalue()).decode()


@pytest.mark.parametrize("kind", ["EPS", "PDF", "TIFF", "GIF", "BMP"])
def test_only_jpeg_and_png_are_opened(kind: str) -> None:
    with pytest.raises(DataError, match=r"The image must decode as JPEG or PNG\. Got: neither of them\."):
        decode(saved_as(kind))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_jpeg_and_png_are_opened(kind: str, prefix: str) -> None:
    assert decode(prefix + saved_as(kind)).size == (8, 8)  # type: ignore[union-attr]


def test_large_files_and_large_pictures_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"An image must be at most 50 bytes\. Got \d+\."):
        decode(saved_as("PNG"), max_bytes=50)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(DataError, match=r"The image must .*pixels"):
        decode(saved_as("PNG", (9, 9)))
