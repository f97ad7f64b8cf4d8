"""A tracking server that does not let in who asks, or does not let them do it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import pytest

from img2brain.errors import TrackingError
from img2brain.home import Home
from img2brain.tracking._store import TrackingStore


@contextmanager
def saying(status: int, text: str, version: str = "") -> Iterator[str]:
    """Serve one answer to every question, but that for the version where one is given."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            told = version if version and self.path == "/version" else text
            self.send_response(status)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told.encode())

        do_GET = do_POST  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "text", "told"),
    [
        (401, "You are not authenticated.", r"does not know who asks\. Set MLFLOW_TRACKING_USERNAME and .* server\.$"),
        (401, '{"error_code": "UNAUTHENTICATED", "message": "Who?"}', r"does not know who asks\. Set MLFLOW_"),
        (403, "Permission denied", "refuses: .*Permission denied"),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "Not you."}', "refuses: .*Not you"),
    ],
)
def test_a_refusal_is_told_on_one_line_that_says_what_to_do(status: int, text: str, told: str, tmp_path: Path) -> None:
    with (
        saying(status, text) as address,
        pytest.raises(TrackingError, match=rf"^The tracking store http://me:\*\*\*@{address} {told}") as caught,
    ):
        TrackingStore(Home(tmp_path, f"http://me:abracadabra@{address}"))
    assert "\n" not in str(caught.value)
    assert "abracadabra" not in str(caught.value)


@pytest.mark.parametrize("version", ["3.16.4", "3.18.0", "2.22.1", "4.0.0rc1"])
def test_a_server_of_another_version_is_refused_on_one_line(version: str, tmp_path: Path) -> None:
    with saying(200, "{}", version) as address, pytest.raises(TrackingError) as caught:
        TrackingStore(Home(tmp_path, f"http://{address}"))
    assert str(caught.value) == (
        f"The tracking server must run the MLflow that is here, {mlflow.__version__}. It runs {version}: use one "
        f"version of MLflow, such as pip install 'mlflow=={version}' here."
    )


@pytest.mark.parametrize("version", ["", "3.17.0", "a page of a proxy", mlflow.__version__])
def test_a_server_of_this_version_and_one_that_does_not_say_are_taken(version: str, tmp_path: Path) -> None:
    with saying(200, "{}", version) as address:
        TrackingStore(Home(tmp_path, f"http://{address}"))
