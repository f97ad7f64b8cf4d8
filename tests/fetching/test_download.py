"""Downloads from a server that cuts, lies, changes its mind and leads elsewhere."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from typing import Any

import pytest

from img2brain.errors import DataError, ResourceError
from img2brain.fetching.addresses import require_onward
from img2brain.fetching.archives import RemoteFile
from img2brain.fetching.download import Patience, download, read_json
from tests.fetching.server import Handler, Web, in_turn, saying, serving

CONTENT = bytes(range(256)) * 4000  # 1 MB, in more than one block
PATIENCE = Patience(timeout_s=20.0, pauses_s=(0.0, 0.0))


def file_of(web: Web, content: bytes | None = CONTENT, **told: Any) -> RemoteFile:
    """Describe the file at /file, with its digest where its content is given."""
    known = {} if content is None else {"md5": hashlib.md5(content).hexdigest(), "bytes": len(content)}
    return RemoteFile.model_validate({"name": "file.bin", "url": f"{web.address}/file", **known, **told})


def fetched(web: Web, folder: Path, **told: Any) -> bytes:
    return download(file_of(web, **told), folder, PATIENCE).read_bytes()


@pytest.mark.parametrize("told", [{}, {"content": None}, {"md5": None}, {"bytes": None}], ids=str)
def test_a_file_comes_whole(web: Web, tmp_path: Path, told: dict[str, Any]) -> None:
    web.answers["/file"] = serving(CONTENT)
    assert fetched(web, tmp_path, **told) == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_an_empty_file_is_a_file(web: Web, tmp_path: Path) -> None:
    web.answers["/file"] = serving(b"")
    assert fetched(web, tmp_path, content=b"") == b""


def test_a_cut_connection_is_gone_on_with(web: Web, tmp_path: Path) -> None:
    web.answers["/file"] = serving(CONTENT, cuts=(300_000, 400_000))
    assert fetched(web, tmp_path) == CONTENT
    assert web.ranges("/file") == ["", "bytes=300000-", "bytes=700000-"]


@pytest.mark.parametrize("told", [{}, {"content": None}], ids=["known", "unknown"])
def test_another_call_goes_on(web: Web, tmp_path: Path, told: dict[str, Any]) -> None:
    web.answers["/file"] = serving(CONTENT, cuts=(300_000, 0, 0))
    with pytest.raises(ResourceError, match=r"stopped after 300000 of 1024000 bytes \(.+\)\. The same command goes on"):
        fetched(web, tmp_path, **told)
    assert fetched(web, tmp_path, **told) == CONTENT
    assert web.ranges("/file")[-1] == "bytes=300000-"


def test_what_is_whole_is_not_asked_for_again(web: Web, tmp_path: Path) -> None:
    web.answers["/file"] = serving(CONTENT, cuts=(300_000, 0, 0))
    with pytest.raises(ResourceError):
        fetched(web, tmp_path)
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    n_asked = len(web.asked)
    assert fetched(web, tmp_path) == CONTENT
    assert fetched(web, tmp_path) == CONTENT
    assert len(web.asked) == n_asked


def test_a_server_that_knows_no_ranges_sends_all_again(web: Web, tmp_path: Path) -> None:
    def cut(request: Handler, _: int) -> None:
        request.say(200, {"Content-Length": str(len(CONTENT))}, CONTENT[:300_000])

    web.answers["/file"] = in_turn(cut, saying(200, {}, CONTENT))
    assert fetched(web, tmp_path) == CONTENT


def test_a_file_that_changed_meanwhile_comes_whole(web: Web, tmp_path: Path) -> None:
    after = CONTENT[::-1] + b"longer"
    web.answers["/file"] = in_turn(serving(CONTENT, cuts=(300_000,)), serving(after, '"two"'))
    assert fetched(web, tmp_path, content=None) == after


def test_a_server_that_changes_the_file_and_sends_the_rest_is_not_believed(web: Web, tmp_path: Path) -> None:
    def heedless(request: Handler, earlier: int) -> None:
        del request.headers["If-Range"]
        serving(CONTENT[::-1], '"two"')(request, earlier)

    web.answers["/file"] = in_turn(serving(CONTENT, cuts=(300_000,)), heedless)
    assert fetched(web, tmp_path, content=None) == CONTENT[::-1]


def test_a_rest_that_does_not_fit_is_noticed_by_the_digest(web: Web, tmp_path: Path) -> None:
    web.answers["/file"] = serving(CONTENT, tag="", cuts=(300_000, 0, 0))
    with pytest.raises(ResourceError):
        fetched(web, tmp_path)
    part = tmp_path / "file.bin.part"
    part.write_bytes(b"x" + part.read_bytes()[1:])
    assert fetched(web, tmp_path) == CONTENT
    assert web.ranges("/file")[-2:] == ["bytes=300000-", ""]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 5-1023999/1024000"},
        {"Content-Range": "bytes 300000-1023999/99"},
        {"Content-Range": "nonsense"},
        {},
    ],
    ids=str,
)
def test_another_range_than_the_one_asked_for_is_not_taken(web: Web, tmp_path: Path, headers: dict[str, str]) -> None:
    web.answers["/file"] = in_turn(
        serving(CONTENT, cuts=(300_000,)), saying(206, headers, CONTENT[:724_000]), serving(CONTENT)
    )
    assert fetched(web, tmp_path) == CONTENT


def test_a_range_that_is_not_there_begins_anew(web: Web, tmp_path: Path) -> None:
    web.answers["/file"] = in_turn(serving(CONTENT, cuts=(300_000,)), saying(416), serving(CONTENT))
    assert fetched(web, tmp_path, content=None) == CONTENT


def test_a_digest_that_differs_leaves_nothing(web: Web, tmp_path: Path) -> None:
    web.answers["/file"] = serving(CONTENT)
    with pytest.raises(DataError, match=f"must have the md5 {'0' * 32}. It has .* It is not kept"):
        fetched(web, tmp_path, md5="0" * 32)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", ["999", "1024001", "999999999999"])
def test_a_length_that_is_not_that_of_the_record_is_refused_at_once(web: Web, tmp_path: Path, length: str) -> None:
    web.answers["/file"] = saying(200, {"Content-Length": length}, CONTENT)
    with pytest.raises(DataError, match=f"must have 1024000 bytes. Its server announces {length}"):
        fetched(web, tmp_path)
    assert len(web.asked) == 1


def chunked(content: bytes, end: bytes = b"0\r\n\r\n") -> Any:
    def answer(request: Handler, _: int) -> None:
        parts = (content[at : at + 50_000] for at in range(0, len(content), 50_000))
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        request.say(200, {"Transfer-Encoding": "chunked"}, body + end)

    return answer


def test_no_more_than_the_announced_bytes_are_taken(web: Web, tmp_path: Path) -> None:
    web.answers["/file"] = chunked(CONTENT * 3)
    assert fetched(web, tmp_path) == CONTENT
    with pytest.raises(DataError, match="must have the md5"):
        download(file_of(web, CONTENT[:999], md5="0" * 32), tmp_path / "other", PATIENCE)


def test_a_file_in_chunks_comes_whole_and_a_cut_one_does_not(web: Web, tmp_path: Path) -> None:
    web.answers["/file"] = chunked(CONTENT)
    assert fetched(web, tmp_path, content=None) == CONTENT
    web.answers["/file"] = chunked(CONTENT, end=b"")
    with pytest.raises(ResourceError, match="stopped after"):
        download(file_of(web, None), tmp_path / "other", PATIENCE)


def test_a_file_of_no_length_and_no_digest_is_not_taken(web: Web, tmp_path: Path) -> None:
    def endless(request: Handler, _: int) -> None:
        request.say(200, {"Connection": "close"}, CONTENT)

    web.answers["/file"] = endless
    with pytest.raises(DataError, match="must tell how long the file is"):
        fetched(web, tmp_path, content=None)
    assert fetched(web, tmp_path) == CONTENT


def test_a_packed_answer_is_refused(web: Web, tmp_path: Path) -> None:
    web.answers["/file"] = saying(200, {"Content-Encoding": "gzip"}, CONTENT)
    with pytest.raises(DataError, match="must send the file as it is"):
        fetched(web, tmp_path)


@pytest.mark.parametrize("code", [401, 403, 404, 410, 204, 203])
def test_a_server_that_refuses_is_asked_once(web: Web, tmp_path: Path, code: int) -> None:
    web.answers["/file"] = saying(code)
    with pytest.raises(DataError, match=f"server answers {code}"):
        fetched(web, tmp_path)
    assert len(web.asked) == 1


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(web: Web, tmp_path: Path, code: int) -> None:
    web.answers["/file"] = in_turn(saying(code), saying(code), serving(CONTENT))
    assert fetched(web, tmp_path) == CONTENT
    web.answers["/file"] = saying(code)
    with pytest.raises(ResourceError, match=rf"stopped after 0 of 1024000 bytes \(it answers {code}\)"):
        download(file_of(web), tmp_path / "other", PATIENCE)


def test_a_silent_server_is_not_waited_for_without_end(web: Web, tmp_path: Path) -> None:
    def silent(request: Handler, _: int) -> None:
        request.say(200, {"Content-Length": str(len(CONTENT))}, CONTENT[:5])
        web.closing.wait()

    web.answers["/file"] = silent
    with pytest.raises(ResourceError, match="timed out"):
        download(file_of(web), tmp_path, Patience(timeout_s=0.2, pauses_s=()))


def test_what_is_no_web_is_not_spoken_to(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(ResourceError, match="refused"):
        download(RemoteFile(name="a", url=f"http://127.0.0.1:{port}/"), tmp_path, PATIENCE)
    for url in ("file:///etc/passwd", "ftp://example.org/x", "/etc/passwd", "http://", "http://[x/", "data:,x"):
        with pytest.raises(DataError, match="must be of http or https"):
            download(RemoteFile(name="a", url=url), tmp_path, PATIENCE)


def test_a_server_may_lead_on(web: Web, tmp_path: Path) -> None:
    web.answers["/file"] = saying(302, {"Location": "/there"})
    web.answers["/there"] = serving(CONTENT, cuts=(300_000,))
    assert fetched(web, tmp_path) == CONTENT
    assert web.ranges("/there") == ["", "bytes=300000-"]


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("/file", "loop"),
        ("file:///etc/passwd", "is not allowed"),
        ("ftp://127.0.0.1/x", "must be of http or https"),
    ],
)
def test_a_server_leads_nowhere_else(web: Web, tmp_path: Path, location: str, says: str) -> None:
    web.answers["/file"] = saying(302, {"Location": location})
    with pytest.raises(DataError, match=says):
        fetched(web, tmp_path)
    assert list(tmp_path.iterdir()) == []


NEAR = ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "0.0.0.0", "[::1]", "[fe80::1]"]


@pytest.mark.parametrize("host", [*NEAR, "[::ffff:10.0.0.1]"])
def test_the_public_web_does_not_lead_into_a_private_network(host: str) -> None:
    with pytest.raises(DataError, match="must not lead on to this machine or its network"):
        require_onward("https://8.8.8.8/x", f"https://{host}/x")
    require_onward("http://127.0.0.1/x", f"http://{host}/x")


def test_https_does_not_lead_on_to_http() -> None:
    with pytest.raises(DataError, match="must not lead on to http"):
        require_onward("https://8.8.8.8/x", "http://8.8.8.8/x")
    require_onward("http://8.8.8.8/x", "https://8.8.8.8/x")


def test_proxies_are_those_of_the_system(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web.answers["http://somewhere.invalid/file"] = serving(CONTENT)
    monkeypatch.setenv("http_proxy", web.address)
    assert fetched(web, tmp_path, url="http://somewhere.invalid/file") == CONTENT


def test_a_record_is_small_json(web: Web) -> None:
    web.answers["/record"] = in_turn(saying(200, {}, b'{"a": 1}'), saying(200, {}, b"<html>"), saying(503))
    assert read_json(f"{web.address}/record", PATIENCE) == {"a": 1}
    with pytest.raises(DataError, match="must be JSON"):
        read_json(f"{web.address}/record", PATIENCE)
    with pytest.raises(ResourceError, match="must answer"):
        read_json(f"{web.address}/record", PATIENCE)
