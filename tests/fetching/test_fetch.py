"""Archives: their licence, their records, and what becomes of hostile ones."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from img2brain.cli import main
from img2brain.datasets import open_dataset
from img2brain.errors import DataError, Img2BrainError, ResourceError, SpecError
from img2brain.fetching.archives import ARCHIVES, ELSEWHERE, find_archive
from img2brain.fetching.download import Patience
from img2brain.fetching.fetch import archives, fetch_dataset
from img2brain.fetching.records import told_of
from img2brain.untrusted import Limits
from tests.fetching.server import Handler, Web, saying, serving

Entries = dict[str, bytes]
PATIENCE = Patience(timeout_s=20.0, pauses_s=(0.0,))


def recordings() -> Entries:
    """Return the files of a small plain folder."""
    found = {"trainingfMRI/training.npy": npy(np.arange(12.0).reshape(6, 2))}
    for row in range(6):
        stream = io.BytesIO()
        Image.new("RGB", (8, 8), (row, 0, 0)).save(stream, format="PNG")
        found[f"trainingIMG/{row}.png"] = stream.getvalue()
    return found


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def zipped(entries: Entries, change: Callable[[zipfile.ZipFile], object] = lambda _: None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
        change(archive)
    return stream.getvalue()


@pytest.fixture
def describe(web: Web, tmp_path: Path) -> Callable[..., str]:
    """Serve files, and describe them as an archive in a TOML file."""

    def make(licence: str = "CC0-1.0", **files: bytes) -> str:
        lines = ['name = "mine"', f'licence = "{licence}"', 'citation = "Somebody (2020)"']
        for name, content in files.items():
            path = f"/{name}"
            web.answers.setdefault(path, serving(content))
            lines += ["[[files]]", f'name = "{name.replace("_", ".")}"', f'url = "{web.address}{path}"']
            lines += [f"bytes = {len(content)}", f'md5 = "{hashlib.md5(content).hexdigest()}"']
        (tmp_path / "mine.toml").write_text("\n".join(lines), encoding="utf-8")
        return str(tmp_path / "mine.toml")

    return make


def get(name: str, folder: Path) -> Path:
    return fetch_dataset(name, folder, accept_licence=True, patience=PATIENCE)


def test_an_archive_becomes_a_dataset(describe: Callable[..., str], tmp_path: Path) -> None:
    folder = get(describe(data_zip=zipped(recordings()), notes_txt=b"hello"), tmp_path / "out")
    assert open_dataset(folder).n_training == 6
    assert (folder / "notes.txt").read_bytes() == b"hello"
    assert {path.name for path in tmp_path.iterdir()} == {"mine.toml", "out"}


def test_a_folder_around_everything_is_taken_off_and_entries_of_programs_pass(
    describe: Callable[..., str], tmp_path: Path
) -> None:
    inside = {"mine/": b"", "mine/trainingIMG/": b"", **{f"mine/{name}": held for name, held in recordings().items()}}
    folder = get(describe(data_zip=zipped(inside | {"__MACOSX/mine/._x": b"x"})), tmp_path / "out")
    assert {path.name for path in folder.iterdir()} == {"trainingIMG", "trainingfMRI"}
    assert open_dataset(folder).n_training == 6


def test_a_part_of_a_layout_is_no_wrapper(describe: Callable[..., str], tmp_path: Path) -> None:
    inside = {name: held for name, held in recordings().items() if name.startswith("trainingIMG")}
    folder = get(describe(data_zip=zipped(inside)), tmp_path / "out")
    assert [path.name for path in folder.iterdir()] == ["trainingIMG"]


def link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


def device(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("device")
    info.external_attr = (stat.S_IFCHR | 0o666) << 16
    archive.writestr(info, "")


def folder_of_a_file(archive: zipfile.ZipFile) -> None:
    archive.writestr("trainingfMRI/training.npy/", "")


def encrypted(entries: Entries) -> bytes:
    content = bytearray(zipped(entries))
    for magic, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(magic) + place] |= 1
    return bytes(content)


def damaged(entries: Entries) -> bytes:
    content = bytearray(zipped(entries))
    content[35] ^= 0xFF  # in what was packed of the first file
    return bytes(content)


HOSTILE = {
    "traversal": zipped({"../evil": b"x"}),
    "absolute": zipped({"/tmp/evil": b"x"}),
    "drive": zipped({"C:/evil": b"x"}),
    "folder that leads out": zipped({"a": b"x"}, lambda archive: archive.writestr("../up/", "")),
    "link": zipped({"a": b"x"}, link),
    "device": zipped({"a": b"x"}, device),
    "file and folder": zipped(recordings(), folder_of_a_file),
    "names that differ in case": zipped({"a.png": b"x", "A.PNG": b"y"}),
    "password": encrypted({"a": b"x"}),
    "bomb by ratio": zipped({"a": bytes(5_000_000)}),
    "no archive": b"<html>not here</html>",
    "cut": zipped(recordings())[:-30],
    "damaged": damaged({"a": b"hello, hello"}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_leaves_nothing(kind: str, describe: Callable[..., str], tmp_path: Path) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(DataError) as caught:
        get(describe(data_zip=HOSTILE[kind]), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == before | {"mine.toml"}
    assert not (tmp_path.parent / "evil").exists()


def test_too_many_files_are_refused(describe: Callable[..., str], tmp_path: Path) -> None:
    name, few = describe(data_zip=zipped({str(number): b"" for number in range(4)})), Limits(n_files=3, folders=True)
    with pytest.raises(DataError, match="at most 3 files"):
        fetch_dataset(name, tmp_path / "out", accept_licence=True, patience=PATIENCE, limits=few)


def test_two_archives_do_not_write_one_file(describe: Callable[..., str], tmp_path: Path) -> None:
    one = zipped({"a.txt": b"one"})
    with pytest.raises(DataError, match=r"'a\.txt' of 'b\.zip' is there already"):
        get(describe(a_zip=one, b_zip=one), tmp_path / "out")
    with pytest.raises(DataError, match="is there already"):
        get(describe(c_zip=one, a_txt=b"two"), tmp_path / "out")


def test_the_licence_is_agreed_to_before_anything_is_asked_for(
    web: Web, describe: Callable[..., str], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"must be agreed to before it is fetched: CC0-1\.0\. Say so with --accept"):
        fetch_dataset(describe(data_zip=zipped(recordings())), tmp_path / "out")
    assert web.asked == []


def test_room_is_looked_for_first(
    web: Web, describe: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=50)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ResourceError, match="B of disk"):
        get(describe(data_zip=zipped(recordings())), tmp_path / "out")
    assert web.asked == []


def test_what_is_there_is_not_touched(web: Web, describe: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(DataError, match="must be absent or empty"):
        get(describe(data_zip=zipped(recordings())), tmp_path / "out")
    assert web.asked == []


def test_a_kill_midway_is_gone_on_from(web: Web, describe: Callable[..., str], tmp_path: Path) -> None:
    content = zipped(recordings() | {"noise.bin": np.random.default_rng(0).bytes(1 << 20)})
    half, arrived = len(content) // 2, threading.Event()

    def stall(request: Handler, earlier: int) -> None:
        if earlier:
            serving(content)(request, earlier)
            return
        request.say(200, {"Content-Length": str(len(content)), "ETag": '"one"'}, content[:half])
        arrived.set()
        web.closing.wait()

    web.answers["/data_zip"] = stall
    name = describe(data_zip=content)
    command = [sys.executable, "-m", "img2brain", "data", "fetch", name, str(tmp_path / "out"), "--accept-licence"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        assert arrived.wait(120)
        while not (parts := [path for path in tmp_path.rglob("*.part") if path.stat().st_size]):
            assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    so_far = parts[0].stat().st_size
    assert not (tmp_path / "out").exists()
    assert 0 < so_far <= half
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[0] == f"wrote {tmp_path / 'out'}, of the layout folder"
    assert web.ranges("/data_zip") == ["", f"bytes={so_far}-"]
    assert {path.name for path in tmp_path.iterdir()} == {"mine.toml", "out"}


def zenodo(web: Web, **files: bytes) -> dict[str, Any]:
    found = [
        {"key": name.replace("_", "."), "size": len(content), "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
         "links": {"self": f"{web.address}/{name}"}}
        for name, content in files.items()
    ]  # fmt: skip
    return {"files": found, "metadata": {"license": {"id": "cc-zero"}}}


def figshare(web: Web, **files: bytes) -> dict[str, Any]:
    found = [
        {"name": name.replace("_", "."), "size": len(content), "computed_md5": hashlib.md5(content).hexdigest(),
         "download_url": f"{web.address}/{name}"}
        for name, content in files.items()
    ]  # fmt: skip
    return {"files": found, "license": {"name": "CC BY 4.0"}}


def by_record(web: Web, tmp_path: Path, kind: str, record: Any, licence: str = "") -> str:
    web.answers["/record"] = saying(200, {}, json.dumps(record).encode())
    path = tmp_path / "mine.toml"
    path.write_text(
        f'name = "mine"\nkind = "{kind}"\nrecord = "{web.address}/record"\nlicence = "{licence}"\n', encoding="utf-8"
    )
    return str(path)


@pytest.mark.parametrize(
    ("kind", "make", "licence"), [("zenodo", zenodo, "cc-zero"), ("figshare", figshare, "CC BY 4.0")]
)
def test_a_record_tells_files_digests_and_licence(
    kind: str, make: Callable[..., Any], licence: str, web: Web, tmp_path: Path
) -> None:
    content = zipped(recordings())
    web.answers["/data_zip"] = serving(content)
    name = by_record(web, tmp_path, kind, make(web, data_zip=content))
    told = told_of(find_archive(name), PATIENCE)
    assert (told.licence, [(file.name, file.bytes) for file in told.files]) == (licence, [("data.zip", len(content))])
    with pytest.raises(DataError, match=f"fetched: {licence}"):
        fetch_dataset(name, tmp_path / "out", patience=PATIENCE)
    assert web.ranges("/data_zip") == []
    assert open_dataset(get(name, tmp_path / "out")).n_training == 6


def changed(record: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    return record | {"files": [record["files"][0] | {key: value}]}


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda record: [record],
    "a text": lambda _: "record",
    "no files": lambda record: record | {"files": []},
    "files that are none": lambda record: record | {"files": [3]},
    "no digest": lambda record: {**record, "files": [{"key": "a", "size": 1, "links": {"self": "http://x"}}]},
    "a digest that is none": lambda record: changed(record, "checksum", "md5:../../x"),
    "a name that leads out": lambda record: changed(record, "key", "../x.zip"),
    "a size that is none": lambda record: changed(record, "size", -1),
    "a file of this machine": lambda record: changed(record, "links", {"self": "file:///etc/passwd"}),
    "no licence": lambda record: record | {"metadata": {}},
    "one name twice": lambda record: record | {"files": record["files"] * 2},
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_record_that_is_none_is_refused_on_one_line(kind: str, web: Web, tmp_path: Path) -> None:
    name = by_record(web, tmp_path, "zenodo", WRONG[kind](zenodo(web, data_zip=zipped(recordings()))))
    with pytest.raises(Img2BrainError) as caught:
        get(name, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path for path, _ in web.asked] == ["/record"]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_data_of_owners_say_where_to_ask(name: str, tmp_path: Path) -> None:
    for words in ([name], [name, str(tmp_path / "out"), "--accept-licence"]):
        result = CliRunner().invoke(main, ["data", "fetch", *words])
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert ELSEWHERE[name] in result.stderr


def test_what_there_is_is_listed() -> None:
    result = CliRunner().invoke(main, ["data", "fetch"])
    lines = result.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [*ARCHIVES, *ELSEWHERE]
    assert "CC0-1.0" in lines[0]
    as_json = json.loads(CliRunner().invoke(main, ["data", "fetch", "--json"]).stdout)
    assert as_json == archives()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["img2brain-2022", "x"], "Did you mean 'img2brain-2023'?"),
        (["img2brain-2023"], "must be told the folder"),
        (["img2brain-2023", "x"], "CC0-1.0"),
        (["absent.toml", "x"], "must be a TOML file"),
    ],
)
def test_bad_words_get_one_line(words: Iterable[str], says: str) -> None:
    result = CliRunner().invoke(main, ["data", "fetch", *words])
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


FILE = 'name = "a"\nlicence = "x"\n[[files]]\nurl = "http://x"\nname = '


@pytest.mark.parametrize(
    "text",
    [
        "name = ", 'name = "a"', 'name = "a"\nrecord = "http://x"\nrecords = 3', f'{FILE}"../a"',
        f'{FILE}"a"\nmd5 = "xyz"',
        FILE.replace('licence = "x"\n', "") + '"a"', f'{FILE}"a"\nbytes = -1',
    ],
)  # fmt: skip
def test_a_description_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    with pytest.raises(SpecError):
        find_archive(str(tmp_path / "mine.toml"))


def test_the_layouts_of_archives_are_there() -> None:
    from img2brain.datasets._layouts import layouts

    assert {archive.layout for archive in ARCHIVES.values()} <= set(layouts())
