from __future__ import annotations

import asyncio
import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc import scoring_server
from PIL import Image

from img2brain.datasets._images import find_images, open_image
from img2brain.errors import DataError
from img2brain.flavor import MAX_IMAGE_BYTES, decode, require_room
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
    content = decode(saved_as(kind))
    assert isinstance(content, bytes)
    for use in (open_image, lambda content: require_room([content])):
        with pytest.raises(DataError, match=r"The image must decode as JPEG or PNG\. Got: neither of them\."):
            use(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_jpeg_and_png_are_opened(kind: str, prefix: str) -> None:
    assert open_image(decode(prefix + saved_as(kind))).size == (8, 8)


def test_large_files_are_refused() -> None:
    with pytest.raises(DataError, match=r"An image must be at most 50 bytes\. Got \d+\."):
        decode(saved_as("PNG"), max_bytes=50)


def test_the_images_of_a_request_have_a_budget_together() -> None:
    one = decode(saved_as("PNG", (300, 400)))
    assert isinstance(one, bytes)
    require_room([one] * 3, max_pixels=360_000)
    with pytest.raises(DataError, match=r"at most 360000 pixels together.*Got 480000 in 4 images\."):
        require_room([one] * 4, max_pixels=360_000)
    small = decode(saved_as("PNG"))
    assert isinstance(small, bytes)
    with pytest.raises(DataError, match=r"Got 100352 in 2 images\."):
        require_room([small] * 2, max_pixels=100_000)


def answer(app: Any, texts: list[str]) -> tuple[int, str]:
    """Send a request to the server that `mlflow models serve` runs, in this process."""
    body = json.dumps({"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}}).encode()
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/invocations", "raw_path": b"/invocations", "query_string": b"",
        "headers": [(b"content-type", b"application/json")], "http_version": "1.1", "root_path": "",
        "scheme": "http", "server": ("localhost", 80), "client": ("localhost", 1),
    }  # fmt: skip
    # The thread of the tests may hold the event loop of a browser, so the request gets a thread of its own.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(app(scope, receive, send))).result()
    return sent[0]["status"], b"".join(item.get("body", b"") for item in sent[1:]).decode()


def test_a_server_refuses_on_one_line_with_a_status_and_goes_on(
    loaded: Any, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_IS_IN_SERVING_ENVIRONMENT", "")
    app = scoring_server.init(loaded)
    good = [encoded(path) for path in pictures[:2]]
    status, expected = answer(app, good)
    assert status == 200
    for texts, code, reason in (
        ([saved_as("PNG", (20_000, 1))], 422, "pixels when it is resized"),
        (["/etc/passwd"], 422, "must be a picture as base64 text"),
        ([*good, base64.b64encode(b"no picture").decode()], 422, "must decode as JPEG or PNG"),
        ([good[0]] * 2000, 413, "pixels together"),
        ([saved_as("PNG", (9000, 9000))], 413, "pixels together"),
        ([base64.b64encode(b"0" * (MAX_IMAGE_BYTES + 1)).decode()], 413, "bytes"),
    ):
        status, text = answer(app, texts)
        assert status == code
        assert set(json.loads(text)) == {"error_code", "message"}
        assert reason in json.loads(text)["message"]
        assert "\\n" not in text
        assert ".py" not in text
    assert answer(app, good) == (200, expected)
