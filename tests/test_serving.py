"""A registered model behind HTTP: the server of `model serve`, and that of `mlflow models serve`."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from img2brain.datasets._images import find_images
from img2brain.home import Home
from img2brain.registered import load_model
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.registry import Registry

if TYPE_CHECKING:
    from tests.conftest import Finished

JSON = "application/json"
GENEROUS_S = 240


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def saved_as(kind: str, size: tuple[int, int]) -> str:
    stream = io.BytesIO()
    Image.new("RGB", size).save(stream, kind)
    return base64.b64encode(stream.getvalue()).decode()


class Served:
    """A server that answers."""

    def __init__(self, port: int, pid: int) -> None:
        self.port, self.pid = port, pid

    def ask(self, body: Any, kind: str | None = JSON, path: str = "/invocations") -> tuple[int, str]:
        """Send a request, and return status and text of the answer."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=GENEROUS_S)
        try:
            connection.request("POST", path, content, {} if kind is None else {"Content-Type": kind})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def predict(self, texts: list[str], **more: Any) -> np.ndarray[Any, Any]:
        """Ask for predictions."""
        status, text = self.ask({"dataframe_split": {"columns": ["image"], "data": [[item] for item in texts]}, **more})
        assert status == 200, text
        return np.asarray(json.loads(text)["predictions"])

    @property
    def n_bytes(self) -> int:
        """The memory that the process and those below it hold."""
        return sum(_n_bytes(pid) for pid in _with_children(self.pid))


def _n_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def _with_children(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return [pid, *(found for child in children for found in _with_children(int(child)))]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(says: Callable[[], Any], process: Any) -> None:
    end = time.monotonic() + GENEROUS_S
    while not says():
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def ours(finished: Finished, img2brain: Any) -> Iterator[Served]:
    port = free_port()
    process = img2brain.start("model", "serve", "sample@champion", "--port", port, "--home", finished.home)
    wait_until(lambda: f"http://127.0.0.1:{port}/invocations\n" in process.stdout, process)
    yield Served(port, process.pid)
    process.send(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert process.stderr == ""


@contextmanager
def started_by_mlflow(folder: Path) -> Iterator[Served]:
    port = free_port()
    words = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder), "--env-manager", "local"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        [*words, "--port", str(port)],
        env=os.environ | {"PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    served = Served(port, process.pid)

    def answers() -> bool:
        try:
            return served.ask(b"", path="/ping")[0] == 405
        except OSError:
            return False

    try:
        wait_until(answers, process)
        yield served
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def theirs(finished: Finished) -> Iterator[Served]:
    registry = Registry(TrackingStore(Home(finished.home)))
    with registry.files(registry.find("sample")) as folder, started_by_mlflow(folder.parents[1]) as served:
        yield served


@pytest.fixture(params=["ours", "theirs"])
def served(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def pictures(recordings: Path) -> list[Path]:
    return list(find_images(recordings / "testIMG"))


def test_it_predicts_what_the_model_does(served: Served, finished: Finished, pictures: list[Path]) -> None:
    model, texts = load_model("sample", finished.home), [encoded(path) for path in pictures]
    close = partial(np.testing.assert_allclose, rtol=0, atol=1e-4)
    close(served.predict(texts), model.predict(pictures))
    found = served.predict(texts, params={"rois": ["IT", "V1"]})
    close(found, model.predict(pictures, ["IT", "V1"]))
    status, text = served.ask({"dataframe_records": [{"image": texts[0]}]})
    close(json.loads(text)["predictions"], model.predict(pictures[:1]))
    status, text = served.ask(f"image\n{texts[0]}\n".encode(), "text/csv")
    close(json.loads(text)["predictions"], model.predict(pictures[:1]))
    assert status == 200


def split(texts: list[str], **more: Any) -> dict[str, Any]:
    return {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}, **more}


def test_what_it_does_not_answer_is_refused_on_one_line(served: Served, pictures: list[Path]) -> None:
    good, deep = encoded(pictures[0]), b'{"inputs": ' + b"[" * 100_000
    cases: list[tuple[Any, str | None, int, str]] = [
        (b"", JSON, 400, "must be JSON"),
        (b"{", JSON, 400, "must be JSON"),
        (b"\xff\xfe", JSON, 400, "must be JSON"),
        (deep, JSON, 400, "nested"),
        (b"[1]", JSON, 400, "dataframe_split"),
        ({}, JSON, 400, "dataframe_split"),
        ({"inputs": [good], "instances": [good]}, JSON, 400, "dataframe_split"),
        ({"dataframe_split": {"columns": ["picture"], "data": [[good]]}}, JSON, 400, "image"),
        ({"dataframe_split": {"columns": ["image"], "data": [[3]]}}, JSON, 422, "base64"),
        ({"dataframe_split": "/etc/passwd"}, JSON, 400, ""),
        (split([good], params={"roi": ["V1"]}), JSON, 400, "may be rois"),
        (split([good], params=["V1"]), JSON, 400, "params"),
        (split([good], params={"rois": "V1"}), JSON, 400, ""),
        (split([good], params={"rois": ["V9"]}), JSON, 422, "Unknown region 'V9'"),
        (split([good], params={"rois": ["V1", "V1"]}), JSON, 422, "each once"),
        (split(["/etc/passwd"]), JSON, 422, "must be a picture as base64 text"),
        (split([base64.b64encode(b"no picture").decode()]), JSON, 422, "must decode as JPEG or PNG"),
        (split([saved_as("GIF", (8, 8))]), JSON, 422, "must decode as JPEG or PNG"),
        (split([saved_as("PNG", (9000, 9000))]), JSON, 413, "pixels together"),
        (split([saved_as("PNG", (20_000, 1))]), JSON, 422, "pixels when it is resized"),
        (b"a,b\n1", "text/csv", 400, ""),
        (b"PAR1", "application/vnd.apache.parquet", 415, "content type"),
        (split([good]), "application/xml", 415, "content type"),
        (split([good]), None, 415, "content type"),
        (split([good]), "application/json; charset=latin1", 415, ""),
    ]
    for body, kind, status, reason in cases:
        found, text = served.ask(body, kind)
        assert found == status, (str(body)[:80], text)
        message = json.loads(text)["message"]
        assert set(json.loads(text)) == {"error_code", "message"}
        assert reason in message, message
        assert "\n" not in message
        assert len(message) < 400
        for private in (".py", "Traceback", "site-packages", "/tmp", str(Path.home()), good[:40]):
            assert private not in text
    assert len(served.predict([good])) == 1


def test_too_many_bytes_are_refused_before_they_are_read(ours: Served) -> None:
    with socket.create_connection(("127.0.0.1", ours.port), timeout=GENEROUS_S) as connection:
        connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n")
        connection.sendall(b"Content-Length: 10000000000\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def hold_still(served: Served, texts: list[str], n_requests: int) -> None:
    """Send many requests, good and bad, and see that memory does not grow with them."""
    for _ in range(n_requests // 5):
        served.predict(texts)
    before = served.n_bytes
    for number in range(n_requests):
        if number % 5:
            served.predict(texts[: 1 + number % len(texts)])
        else:
            assert served.ask(split(["/etc/passwd"]))[0] == 422
    assert served.n_bytes < before + 2**26


def test_memory_holds_still(ours: Served, pictures: list[Path]) -> None:
    hold_still(ours, [encoded(path) for path in pictures[:2]], 30)


@pytest.mark.slow
def test_memory_holds_still_over_a_thousand_requests(served: Served, pictures: list[Path]) -> None:
    hold_still(served, [encoded(path) for path in pictures], 1000)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it(finished: Finished, img2brain: Any, number: signal.Signals) -> None:
    port = free_port()
    process = img2brain.start("model", "serve", "sample", "--port", port, "--home", finished.home)
    wait_until(lambda: process.stdout, process)
    process.send(number)
    assert process.wait() == (0 if number == signal.SIGINT else 128 + number)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_what_cannot_be_served_is_said_on_one_line(finished: Finished, img2brain: Any, ours: Served) -> None:
    refused = img2brain.run("model", "serve", "sample", "--port", ours.port, "--home", finished.home)
    assert refused.code == 2
    assert f"127.0.0.1:{ours.port} cannot be served: Address already in use." in refused.error
    refused = img2brain.run("model", "serve", "smaple", "--port", free_port(), "--home", finished.home)
    assert refused.error == "Error: No model is registered as 'smaple'. Did you mean 'sample'?"
