"""Artifacts that a server hands out: no more is taken of them than they may be, whatever it says or sends."""

from __future__ import annotations

import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import FileIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from img2brain.errors import StoreError, TrackingError
from img2brain.tracking._uri import local_folder

_MOST_FILES = 16
_HEAD = 1 << 12  # bytes of an array's file before its numbers
_SMALL = 1 << 20  # bytes of a file that is no array: keys and digests
_CHUNK = 1 << 16
_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
_STORES = ("s3", "gs", "wasbs", "abfss")  # which tell by themselves how much they hold


def receive(uri: str, tracking_uri: str, folder: Path, n_bytes: int) -> None:
    """Copy the files of a folder of artifacts, arrays and what is said of them.

    Parameters
    ----------
    uri : str
        The folder of artifacts; no folders are in it.
    tracking_uri : str
        The server that named it.
    folder : Path
        Takes the files. What was received is left there where not all of it can be had.
    n_bytes : int
        The most that the numbers of all arrays take. What the server says is held against it first, and then what it
        sends.

    Raises
    ------
    TrackingError
        If there is more than that, or other things than files.
    StoreError
        If the folder cannot be written.
    """
    local = local_folder(uri)
    source = _Remote(uri, tracking_uri) if local is None else _Local(local)
    left = n_bytes
    sizes = source.sizes()
    _require(len(sizes) <= _MOST_FILES, f"at most {_MOST_FILES} files", f"{len(sizes)}")
    for name, size in sizes.items():
        _require(_NAME.fullmatch(name) is not None, "plain files", repr(name[:80]))
        most = left + _HEAD if name.endswith(".npy") else _SMALL
        _require(size <= most, f"at most {most} bytes of {name}", f"{size}")
        n_written = _written(folder / name, source.chunks(name), most)
        left -= n_written if name.endswith(".npy") else 0


def _require(holds: bool, what: str, got: str) -> None:
    if not holds:
        raise TrackingError(f"The server must hand out {what}. Got {got}.")


def _written(path: Path, chunks: Iterator[bytes], most: int) -> int:
    """Write a file as it is received, and return its size."""
    n_bytes = 0
    with _on_disk(path):
        file = path.open("xb", buffering=0)
    with file:
        for chunk in chunks:
            n_bytes += len(chunk)
            _require(n_bytes <= most, f"at most {most} bytes of {path.name}", "more")
            with _on_disk(path):
                _write(file, chunk)
    return n_bytes


def _write(file: FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


@contextmanager
def _on_disk(path: Path) -> Iterator[None]:
    """Say that it is the disk here that fails, not the server."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}.") from error


class _Local:
    """A folder of this machine, where a server keeps artifacts on its disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sizes(self) -> dict[str, int]:
        found = {path.name: path.lstat() for path in self._folder.iterdir()}
        for name, status in found.items():
            _require(stat.S_ISREG(status.st_mode), "plain files", repr(name[:80]))
        return {name: status.st_size for name, status in found.items()}

    def chunks(self, name: str) -> Iterator[bytes]:
        return _chunks_of(self._folder / name)


class _Remote:
    """A folder that MLflow hands on, or of a store that it names."""

    def __init__(self, uri: str, tracking_uri: str) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        self._repository: Any = get_artifact_repository(uri, tracking_uri=tracking_uri)

    def sizes(self) -> dict[str, int]:
        try:
            listed = self._repository.list_artifacts()
            found = [(str(item.path), bool(item.is_dir), int(item.file_size or 0)) for item in listed]
        except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise TrackingError(f"The server must list files. Got {type(error).__name__}.") from error
        for name, is_folder, _ in found:
            _require(not is_folder, "plain files", repr(name[:80]))
        return {name: size for name, _, size in found}

    def chunks(self, name: str) -> Iterator[bytes]:
        from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

        return self._handed_on(name) if isinstance(self._repository, HttpArtifactRepository) else self._stored(name)

    def _handed_on(self, name: str) -> Iterator[bytes]:
        from mlflow.utils.rest_utils import http_request

        where, plain = self._repository._host_creds, {"Accept-Encoding": "identity"}
        with closing(http_request(where, f"/{name}", "GET", stream=True, extra_headers=plain)) as answer:
            _require(answer.status_code == 200, name, f"the status {answer.status_code}")
            packed = answer.headers.get("Content-Encoding", "identity")
            _require(packed == "identity", f"{name} as it is", repr(packed[:80]))
            yield from answer.iter_content(_CHUNK)

    def _stored(self, name: str) -> Iterator[bytes]:
        scheme = urlsplit(self._repository.artifact_uri).scheme
        _require(scheme in _STORES, "files by itself, or name a store of objects", repr(scheme[:80]))
        with tempfile.TemporaryDirectory() as folder:
            yield from _chunks_of(Path(self._repository.download_artifacts(name, folder)))


def _chunks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
