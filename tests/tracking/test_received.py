"""Servers that hand out more than they may, less than they say, or something else."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from img2brain.errors import StoreError, TrackingError
from img2brain.features.shelf import CacheEntry
from img2brain.home import Home
from img2brain.store import Store
from img2brain.study.shelf import ServerShelf, _place
from img2brain.tracking._received import receive

N_BYTES = 8000  # of the numbers of the array
ENTRY = CacheEntry("layers", {"layer": "V4"}, N_BYTES)
Behaviour = dict[str, Any]
WHERE = "/api/2.0/mlflow-artifacts/artifacts"


class Server(ThreadingHTTPServer):
    """Hands out the files of a folder as MLflow does, but for what it is told to do otherwise."""

    daemon_threads = True

    def __init__(self, folder: Path, behaviour: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.behaviour, self.n_sent = folder, behaviour, 0

    def handle_error(self, *_: Any) -> None:
        """Say nothing of who hangs up."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix(WHERE)
        if path:
            self._send_file(Path(path).name)
        else:
            self._send(self._listed(), {})

    def _listed(self) -> bytes:
        listed = self.server.behaviour.get("listed")
        if isinstance(listed, bytes):
            return listed
        files = [
            {"path": item.name, "is_dir": False, "file_size": item.stat().st_size}
            for item in self.server.folder.iterdir()
        ]
        return json.dumps({"files": listed(files) if listed else files}).encode()

    def _send_file(self, name: str) -> None:
        content, behaviour = (self.server.folder / name).read_bytes(), self.server.behaviour
        if name.endswith(behaviour.get("of", ".npy")):
            content = behaviour.get("content", lambda found: found)(content)
            self._send(content, behaviour.get("headers", {}), behaviour.get("status", 200), behaviour.get("endless"))
        else:
            self._send(content, {})

    def _send(self, content: bytes, headers: dict[str, str], status: int = 200, endless: object = False) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content)), "Connection": "close"} | headers).items():
            if value and not (endless and name == "Content-Length"):
                self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(content)
            while endless:
                self.wfile.write(bytes(1 << 16))
                self.server.n_sent += 1 << 16


def with_first(changes: dict[str, Any]) -> Callable[[list[Any]], list[Any]]:
    return lambda files: [files[0] | changes, *files[1:]]


MISBEHAVIOURS: dict[str, tuple[Behaviour, str]] = {
    "an array without an end": ({"endless": True}, r"at most \d+ bytes of numbers.npy\. Got more"),
    "a key without an end": ({"endless": True, "of": "key.json"}, r"at most \d+ bytes of key.json\. Got more"),
    "an array that is said to be large": (
        {"listed": lambda files: [item | {"file_size": 1 << 50} for item in files]}, r"at most \d+ bytes of \w+",
    ),
    "a little too much": ({"content": lambda found: found + bytes(5000)}, "not as written|Got more"),
    "too little": ({"content": lambda found: found[:100]}, "not as written: numbers.npy"),
    "less than it says": (
        {"content": lambda found: found[:100], "headers": {"Content-Length": "8128"}}, "does not answer|IncompleteRead",
    ),
    "nothing": ({"content": lambda _: b""}, "not as written: numbers.npy"),
    "other bytes": ({"content": lambda found: found[::-1]}, "not as written: numbers.npy"),
    "something packed": ({"headers": {"Content-Encoding": "gzip"}}, "numbers.npy as it is. Got 'gzip'"),
    "an error": ({"status": 404}, "Got the status 404"),
    "another key": ({"of": "key.json", "content": lambda _: b'{"layer": "V1"}'}, "not as written: key.json"),
    "no files": ({"listed": lambda _: []}, "digests.json"),
    "too many files": (
        {"listed": lambda files: [*files, *({"path": f"{n}.npy", "is_dir": False} for n in range(99))]},
        "at most 16 files. Got 102",
    ),
    "a folder": ({"listed": with_first({"is_dir": True})}, "plain files"),
    "a file of a folder": ({"listed": with_first({"path": "a/b.npy"})}, "plain files. Got 'a/b.npy'"),
    "a file elsewhere": ({"listed": with_first({"path": "../../b.npy"})}, "Invalid path|plain files"),
    "a hidden file": ({"listed": with_first({"path": ".."})}, "Invalid path|plain files"),
    "a list of no files": ({"listed": b'{"files": [5]}'}, "must list files"),
    "no list": ({"listed": b"[]"}, "must list files"),
    "no names": ({"listed": b'{"files": [{}]}'}, "must list files"),
    "no JSON": ({"listed": b"<html>"}, "must list files|does not answer"),
    "a size of words": ({"listed": with_first({"file_size": "many"})}, "must list files"),
}  # fmt: skip


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """An entry as another machine left it."""
    numbers = np.random.default_rng(0).standard_normal(N_BYTES // 8)
    return Store(tmp_path / "theirs").put(
        ENTRY.kind, ENTRY.key, lambda folder: np.save(folder / "numbers.npy", numbers)
    )


@contextmanager
def serving(kept: Path, behaviour: Behaviour) -> Iterator[Server]:
    with Server(kept, behaviour) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def shelf(home: Home, server: Server, monkeypatch: pytest.MonkeyPatch) -> ServerShelf:
    """Return the shelf of a home on a server whose runs say that the entry is there."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    found = ServerShelf(home)
    place = f"http://127.0.0.1:{server.server_port}{WHERE}"
    found.__dict__["_tracking"] = SimpleNamespace(uri=place)
    run = SimpleNamespace(info=SimpleNamespace(artifact_uri=place))
    monkeypatch.setattr(ServerShelf, "_holding", lambda *_: run)
    monkeypatch.setattr("img2brain.study.shelf._place", lambda _: "")
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_whole_is_taken(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "home")
    with serving(kept, {}) as server:
        shelf(home, server, monkeypatch).take([ENTRY], home.store)
    found = home.store.find(ENTRY.kind, ENTRY.key)
    assert found is not None
    assert contents(found) == contents(kept)


@pytest.mark.parametrize("name", MISBEHAVIOURS)
def test_whatever_else_a_server_hands_out_is_left_and_bounded(
    name: str, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    behaviour, told = MISBEHAVIOURS[name]
    home = Home(tmp_path / "home")
    with serving(kept, behaviour) as server:
        shelf(home, server, monkeypatch).take([ENTRY], home.store)
        assert server.n_sent < 64 << 20, "what is on its way when it is hung up"
    (line,) = [found.getMessage() for found in caplog.records if found.name.startswith("img2brain")]
    assert re.search(told, line), line
    assert len(line.splitlines()) == 1
    assert home.store.find(ENTRY.kind, ENTRY.key) is None
    assert [path for path in home.cache.rglob("*") if path.is_file()] == []


def test_a_store_that_is_no_store_of_objects_is_not_asked(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"name a store of objects\. Got 'ftp'"):
        list(remote("ftp://host/files").chunks("key.json"))


def remote(uri: str) -> Any:
    from img2brain.tracking._received import _Remote

    return _Remote(uri, "http://127.0.0.1:9")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_in_a_folder_of_this_machine_is_not_opened(
    make: Callable[[Path], object], kept: Path, tmp_path: Path
) -> None:
    there = Path(shutil.copytree(kept, tmp_path / "there"))
    make(there / "more.npy")
    (tmp_path / "here").mkdir()
    with pytest.raises(TrackingError, match=r"must hand out plain files\. Got 'more\.npy'"):
        receive(there.as_uri(), "http://127.0.0.1:9", tmp_path / "here", N_BYTES)


def test_a_full_disk_is_told_of_the_disk_not_of_the_server(kept: Path, small_disk: Path) -> None:
    with (small_disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    with pytest.raises(StoreError, match=r"disk/\S+ cannot be written: No space left on device\.") as told:
        receive(kept.as_uri(), "http://127.0.0.1:9", small_disk, N_BYTES)
    assert not isinstance(told.value, TrackingError)


def test_an_entry_has_a_place_of_its_own() -> None:
    assert _place(ENTRY).startswith("layers/")
