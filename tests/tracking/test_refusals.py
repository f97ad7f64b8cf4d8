"""A tracking server that does not let in who asks, or does not let them do it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from img2brain.errors import TrackingError
from img2brain.home import Home
from img2brain.tracking._store import TrackingStore


@contextmanager
def saying(status: int, text: str) -> Iterator[str]:
    """Serve one answer to every question."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

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
