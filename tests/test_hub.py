"""Models on a hub, which is a small server on this machine: what it takes, and what comes back."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain import hub, sealed
from img2brain.errors import Img2BrainError, ModelError
from img2brain.model import EncodingModel
from img2brain.moving import push_model
from img2brain.registered import load_model

if TYPE_CHECKING:
    from tests.conftest import Finished

CARD = '---\nlicense: "mit"\nlibrary_name: "img2brain"\ntags: ["neuroscience"]\n---\n\n# sample\n'


@dataclass
class FakeHub:
    """A hub that keeps what it is sent, and hands it out."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    made: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    found = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), answering(found))
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def answering(found: FakeHub) -> type[BaseHTTPRequestHandler]:
    """Make the class that answers as the hub does, as far as a push and a download ask."""

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/api/repos/create":
                found.made.append(json.loads(content))
                self._send({"url": f"{found.url}/lab/sample"})
            elif self.path.endswith("/preupload/main"):
                names = [item["path"] for item in json.loads(content)["files"]]
                modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
                self._send({"files": modes})
            elif self.path.endswith("/commit/main"):
                for line in map(json.loads, content.splitlines()):
                    if line["key"] == "file":
                        found.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                self._send({"commitUrl": f"{found.url}/lab/sample/commit/1", "commitOid": "1" * 40, "success": True})
            else:
                self._send({"errors": [], "warnings": []})

        def do_HEAD(self) -> None:
            self._file()

        def do_GET(self) -> None:
            self.wfile.write(self._file())

        def _file(self) -> bytes:
            name = (
                self.path.rpartition("/resolve/main/")[2].partition("/resolve/" + "1" * 40 + "/")[0].partition("?")[0]
            )
            content = found.files.get(name)
            self.send_response(404 if content is None else 200)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
            self.send_header("X-Repo-Commit", "1" * 40)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            return content or b""

        def _send(self, answer: dict[str, Any]) -> None:
            text = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Answers


@pytest.fixture(scope="module")
def model(finished: Finished) -> EncodingModel:
    return load_model("sample", finished.home)


@pytest.fixture
def saved(model: EncodingModel, tmp_path: Path) -> Path:
    """The folder of a model with a card."""
    folder = tmp_path / "saved"
    model.save(folder)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    sealed.seal(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_what_a_hub_shows_and_loads(saved: Path, model: EncodingModel, tmp_path: Path) -> None:
    from huggingface_hub.repocard import metadata_load

    target = tmp_path / "hub"
    assert push_model(str(saved), str(target)) == str(target)
    said = metadata_load(target / "README.md")
    assert said is not None
    assert said["library_name"] == "img2brain"
    picture = np.zeros((40, 40, 3), np.uint8)
    np.testing.assert_array_equal(load_model(str(target)).predict(picture), model.predict(picture))
    with pytest.raises(ModelError, match="must be empty or not there"):
        push_model(str(saved), str(target))


def test_what_is_pushed_to_a_repository_is_loaded_from_it(
    fake: FakeHub, saved: Path, model: EncodingModel, tmp_path: Path
) -> None:
    assert hub.upload(saved, "hf://lab/sample", endpoint=fake.url) == f"{fake.url}/lab/sample"
    assert fake.files == contents(saved)
    (made,) = fake.made
    assert (made["name"], made["organization"]) == ("sample", "lab")
    assert made.get("private", made.get("visibility")) in (True, "private")
    fake.files[".gitattributes"] = b"of the hub itself"
    with hub.fetched("hf://lab/sample", endpoint=fake.url, cache=tmp_path / "cache") as folder:
        found = EncodingModel.load(folder)
        assert ".gitattributes" not in {path.name for path in folder.iterdir()}
    picture = np.zeros((40, 40, 3), np.uint8)
    np.testing.assert_array_equal(found.predict(picture), model.predict(picture))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("digests.json", b"[]", "must hold a model"),
        ("digests.json", b'{"../../evil": "x"}', "must be a plain relative name"),
        ("digests.json", b'{"absent.safetensors": "x"}', "404"),
        ("pca.safetensors", (10 << 30).to_bytes(8, "little"), "Got a header of 10737418240"),
        ("regressor.safetensors", b"\x02\0\0\0\0\0\0\0{}", "is not the file that the model was saved with"),
    ],
)
def test_what_comes_from_a_repository_is_checked(
    fake: FakeHub, saved: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    fake.files = contents(saved) | {name: content}
    repository = hub.fetched("hf://lab/sample", endpoint=fake.url, cache=tmp_path / "cache")
    with pytest.raises(Img2BrainError, match=message) as caught, repository as folder:
        EncodingModel.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a b", "a--b", "../x", "datasets/lab/x", "", "x.git"])
def test_a_repository_that_the_hub_does_not_take_is_refused(saved: Path, name: str) -> None:
    with pytest.raises(ModelError, match="must be as the hub takes it") as caught:
        push_model(str(saved), f"hf://{name}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("# no front matter", "no license and no library_name and no tags"),
        ("---\nlicense: [\n---\n", "The card README.md must be as the hub takes it"),
        (CARD.replace("tags:", "model-index: 3\ntags:"), "The card README.md must be as the hub takes it"),
        (None, r"must have a card, README\.md"),
    ],
)
def test_a_card_that_the_hub_does_not_take_is_refused(
    saved: Path, tmp_path: Path, card: str | None, message: str
) -> None:
    (saved / "README.md").unlink()
    if card is not None:
        (saved / "README.md").write_text(card)
    sealed.seal(saved)
    with pytest.raises(ModelError, match=message):
        push_model(str(saved), str(tmp_path / "hub"))
    assert not (tmp_path / "hub").exists()


def test_without_the_library_one_line_says_how_to_get_it(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("img2brain.hub.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install img2brain\[hub\]"):
        push_model(str(saved), "hf://lab/sample")
