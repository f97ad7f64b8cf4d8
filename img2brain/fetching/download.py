"""Downloading one file: it goes on where it stopped, and is what its digest says or is not there."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from img2brain import plain
from img2brain.errors import DataError, ResourceError
from img2brain.fetching.addresses import require_address, require_onward
from img2brain.fetching.archives import RemoteFile
from img2brain.progress import track_bytes

log = logging.getLogger(__name__)

_BLOCK = 1 << 18
_PROGRESS = 1 << 20  # bytes that an attempt must bring, not to count as one that failed
_ATTEMPTS = 5
_LARGEST_RECORD = 1 << 24
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # states of a server that pass
_HEADERS = {"User-Agent": "img2brain", "Accept-Encoding": "identity"}
_RANGE_NOT_THERE = 416


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Attributes
    ----------
    timeout_s : float
        How long it may be silent.
    pauses_s : tuple of float
        How long is waited after each attempt that brought next to nothing; there is one attempt more.
    """

    timeout_s: float = 60.0
    pauses_s: tuple[float, ...] = (1.0, 4.0, 15.0, 60.0)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to where it may lead."""

    def __init__(self, origin: str) -> None:
        self._origin = origin

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        require_onward(self._origin, newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def read_json(url: str, patience: Patience) -> Any:
    """Read a small JSON document from the web.

    Raises
    ------
    DataError
        If it is none, or larger than 16 MB.
    ResourceError
        If nothing answers.
    """
    try:
        with closing(_open(url, {}, patience)) as answer:
            content = answer.read(_LARGEST_RECORD + 1)
    except _Passing as error:
        raise ResourceError(f"{url} must answer. It does not: {error}.") from error
    if len(content) > _LARGEST_RECORD:
        raise DataError(f"{url} must be a record of at most {_LARGEST_RECORD >> 20} MB. It is larger.")
    try:
        return plain.of_json(content, any_text=True)
    except (ValueError, UnicodeError) as error:
        raise DataError(f"{url} must be JSON. Got: {str(error)[:100]}.") from error


def download(file: RemoteFile, folder: Path, patience: Patience) -> Path:
    """Download a file into a folder, from where an earlier call stopped.

    Parameters
    ----------
    file : RemoteFile
        What and where.
    folder : Path
        Holds ``NAME.part`` and ``NAME.json`` until the file is whole.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DataError
        If the server refuses it, or what it sends is not what the digest says.
    ResourceError
        If the server stops again and again; the same call goes on.
    """
    target = folder / file.name
    if not target.is_file():
        _Download(file, target, patience).run()
    return target


class _Passing(Exception):  # noqa: N818 - it is no error of ours, and is never seen outside
    """Something about the network or the server that may pass."""


class _Download:
    def __init__(self, file: RemoteFile, target: Path, patience: Patience) -> None:
        require_address(file.url)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._target, self._patience = file, target, patience
        self._part = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.json")
        kept = self._kept()
        self._length, self._validator = file.bytes, ""
        if kept is None:
            self._begin_anew()
        else:
            self._length, self._validator = kept
        if self._length is not None and self._n_bytes > self._length:
            self._begin_anew()

    def run(self) -> None:
        """Bring all bytes, check them, and give the file its name."""
        was_resumed = self._n_bytes > 0
        self._bring()
        if (told := self._wrong_digest()) and was_resumed:
            log.info("%s: %s It is downloaded anew.", self._file.name, told)
            self._begin_anew()
            self._bring()
            told = self._wrong_digest()
        if told:
            self._begin_anew()
            raise DataError(f"The file {self._file.name!r} of {self._file.url} {told} It is not kept.")
        self._part.replace(self._target)
        self._note.unlink(missing_ok=True)

    @property
    def _n_bytes(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _bring(self) -> None:
        """Ask for what is missing until it is there, or the server brings next to nothing again and again."""
        pauses = iter(self._patience.pauses_s)
        while not self._is_whole():
            before = self._n_bytes
            try:
                self._attempt()
                reason = "the connection ended"
            except _Passing as error:
                reason = str(error)
            if self._is_whole():
                return
            if self._n_bytes - before >= _PROGRESS:
                pauses = iter(self._patience.pauses_s)
            elif (pause := next(pauses, None)) is None:
                raise ResourceError(self._stopped(reason))
            else:
                time.sleep(pause)

    def _is_whole(self) -> bool:
        return self._length is not None and self._n_bytes == self._length and self._part.exists()

    def _stopped(self, reason: str) -> str:
        of = "" if self._length is None else f" of {self._length}"
        return (
            f"The download of {self._file.url} stopped after {self._n_bytes}{of} bytes ({reason}). The same command "
            "goes on."
        )

    def _attempt(self) -> None:
        """Ask once, from where the last attempt stopped."""
        start = self._n_bytes
        headers = {"Range": f"bytes={start}-"} if start else {}
        if start and self._validator:
            headers["If-Range"] = self._validator
        try:
            with closing(_open(self._file.url, headers, self._patience)) as answer:
                if start and not self._goes_on(answer, start):
                    self._begin_anew()
                    if answer.status == http.client.PARTIAL_CONTENT:
                        return  # another range than the one that was asked for: all of it is asked for next
                if not self._n_bytes and answer.status != http.client.OK:
                    raise DataError(f"{self._file.url} must be a file. Its server answers {answer.status}.")
                self._take(answer)
        except _NoSuchRangeError:
            self._begin_anew()

    def _goes_on(self, answer: Any, start: int) -> bool:
        """Tell whether an answer is the rest of the file that was begun."""
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        same = "" in (self._validator, _validator(answer)) or self._validator == _validator(answer)
        fits = found is not None and int(found[1]) == start and found[2] in ("*", str(self._length or found[2]))
        return answer.status == http.client.PARTIAL_CONTENT and same and fits

    def _take(self, answer: Any) -> None:
        """Write what an answer holds, up to the length of the file."""
        start = self._n_bytes
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise DataError(f"The server of {self._file.url} must send the file as it is. It packs it.")
        self._agree_on_length(answer, start)
        self._keep_note(_validator(answer))
        with self._part.open("ab") as stream:
            for block in track_bytes(
                self._blocks(answer, start), self._length, f"downloading {self._file.name}", start
            ):
                stream.write(block)

    def _agree_on_length(self, answer: Any, start: int) -> None:
        told = answer.headers.get("Content-Length", "")
        if told.isascii() and told.isdigit():
            length = start + int(told)
            if self._length is not None and length != self._length:
                raise DataError(
                    f"The file {self._file.name!r} of {self._file.url} must have {self._length} bytes. Its server "
                    f"announces {length}."
                )
            self._length = length
        elif self._length is None and not (answer.chunked or self._file.sha256 or self._file.md5):
            raise DataError(f"The server of {self._file.url} must tell how long the file is. It does not.")

    def _blocks(self, answer: Any, start: int) -> Iterator[bytes]:
        """Yield what comes, no more than the length; where none is known, to the end of the answer."""
        left = None if self._length is None else self._length - start
        while left is None or left > 0:
            try:
                block = answer.read(_BLOCK if left is None else min(_BLOCK, left))
            except _NETWORK as error:
                raise _Passing(_said(error)) from error
            if not block:
                if left is None:
                    self._length = start
                return
            left = None if left is None else left - len(block)
            start += len(block)
            yield block

    def _begin_anew(self) -> None:
        self._part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self._length, self._validator = self._file.bytes, ""

    def _kept(self) -> tuple[int | None, str] | None:
        """Return the length and version of the file that was begun; None where none is, or it is of another file."""
        try:
            note = plain.of_json(self._note.read_text(encoding="utf-8"))
            length, validator = note["length"], note["validator"]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        is_sound = isinstance(validator, str) and (length is None or (type(length) is int and length >= 0))
        return (length, validator) if is_sound else None

    def _keep_note(self, validator: str) -> None:
        self._validator = validator
        note = {"url": self._file.url, "length": self._length, "validator": validator}
        self._note.write_text(json.dumps(note) + "\n", encoding="utf-8")

    def _wrong_digest(self) -> str:
        """Say how the file differs from its digest; nothing where it does not, or none is known."""
        for kind in ("sha256", "md5"):
            if (wanted := getattr(self._file, kind)) is not None:
                found = _digest(self._part, kind)
                return "" if found == wanted else f"must have the {kind} {wanted}. It has {found}."
        return ""


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


class _NoSuchRangeError(Exception):
    """The server has no bytes from there on."""


_NETWORK = (OSError, http.client.HTTPException)


def _open(url: str, headers: dict[str, str], patience: Patience) -> Any:
    """Ask for an address, with the proxies that the system names."""
    require_address(url)
    opener = urllib.request.build_opener(_Redirects(url))
    try:
        return opener.open(urllib.request.Request(url, headers=_HEADERS | headers), timeout=patience.timeout_s)
    except DataError:  # of an address that the server leads on to
        raise
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == _RANGE_NOT_THERE and "Range" in headers:
            raise _NoSuchRangeError from error
        if error.code in _PASSING:
            raise _Passing(f"it answers {error.code}") from error
        raise DataError(f"{url} must be there. Its server answers {error.code}: {_said(error)}.") from error
    except urllib.error.URLError as error:
        raise _Passing(_said(error.reason)) from error
    except _NETWORK as error:
        raise _Passing(_said(error)) from error
    except ValueError as error:
        raise DataError(f"{url} cannot be asked for: {_said(error)}.") from error


def _validator(answer: Any) -> str:
    """Return what names the version of a file: a strong ETag, or when it was changed; empty where neither is told."""
    tag = str(answer.headers.get("ETag", ""))
    return tag if tag.startswith('"') else str(answer.headers.get("Last-Modified", ""))


def _said(error: object) -> str:
    return " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
