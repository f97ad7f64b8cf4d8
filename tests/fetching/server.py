"""A web server on this machine that behaves as it is told, and remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Handler", int], None]  # the request, and how many came for this path before


@dataclass
class Web:
    """What is served at each path, and what was asked for.

    Attributes
    ----------
    address : str
        Of the server, without a slash at its end.
    answers : dict of str to callable
        By path.
    asked : list of (str, str)
        Path and Range of each request.
    """

    address: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def ranges(self, path: str) -> list[str]:
        """Return the ranges that were asked for of a path, the empty text for all of it."""
        return [asked for name, asked in self.asked if name == path]


class Handler(BaseHTTPRequestHandler):
    """Hands each request to what is served at its path."""

    protocol_version = "HTTP/1.1"
    web: Web

    def do_GET(self) -> None:
        earlier = len(self.web.ranges(self.path))
        self.web.asked.append((self.path, self.headers.get("Range", "")))
        if self.path not in self.web.answers:
            self.send_error(404)
            return
        self.web.answers[self.path](self, earlier)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def say(self, code: int, headers: dict[str, str], content: bytes = b"") -> None:
        """Send an answer, which may end before it said it would."""
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()
        self.close_connection = True

    @property
    def start(self) -> int:
        """The first byte that is asked for."""
        return int(self.headers.get("Range", "bytes=0-")[len("bytes=") :].partition("-")[0])


def serving(content: bytes, tag: str = '"one"', cuts: tuple[int, ...] = ()) -> Answer:
    """Serve a file as a good server does, but cut the first answers after so many bytes."""

    def answer(request: Handler, earlier: int) -> None:
        start = request.start if request.headers.get("If-Range", tag) == tag else 0
        rest = content[start:]
        headers = {"Content-Length": str(len(rest)), "ETag": tag}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        sent = rest[: cuts[earlier]] if earlier < len(cuts) else rest
        request.say(206 if start else 200, headers, sent)

    return answer


def saying(code: int, headers: dict[str, str] | None = None, content: bytes = b"") -> Answer:
    """Serve the same answer each time."""
    return lambda request, _: request.say(code, {"Content-Length": str(len(content))} | (headers or {}), content)


def in_turn(*answers: Answer) -> Answer:
    """Serve one answer after another, the last one ever after."""
    return lambda request, earlier: answers[min(earlier, len(answers) - 1)](request, earlier)


@contextmanager
def running() -> Iterator[Web]:
    """Run a server until the end."""
    web = Web()
    handler = type("Bound", (Handler,), {"web": web})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        web.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield web
        finally:
            web.closing.set()
            server.shutdown()
            thread.join()
