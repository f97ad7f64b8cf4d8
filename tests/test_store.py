from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from img2brain import digest
from img2brain.errors import StoreError
from img2brain.store import Store, Write

KEY = {"image": "abc", "size": 3}


def writing(name: str, content: bytes) -> Write:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return write


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def entries(store: Store) -> list[Path]:
    return [path for path in store.folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_an_entry_is_computed_once_and_read_only(store: Store) -> None:
    entry = store.get_or_compute("kind", KEY, writing("text", b"first"))
    again = store.get_or_compute("kind", KEY, lambda folder: pytest.fail("computed twice"))
    assert again == entry == store.find("kind", KEY)
    assert (entry / "text").read_text() == "first"
    assert json.loads((entry / "key.json").read_text()) == KEY
    assert {path.stat().st_mode & 0o777 for path in entry.iterdir()} == {0o444}


@pytest.mark.parametrize("other", [{"image": "abc", "size": 4}, {"image": "abc"}, {"image": "abc", "size": "3"}])
def test_another_key_is_another_entry(store: Store, other: dict[str, object]) -> None:
    store.put("kind", KEY, lambda folder: None)
    assert store.find("kind", other) is None
    assert store.find("another kind", KEY) is None


def test_the_order_of_keys_does_not_matter(store: Store) -> None:
    entry = store.put("kind", KEY, lambda folder: None)
    assert store.find("kind", dict(reversed(KEY.items()))) == entry


def test_a_failing_computation_leaves_nothing(store: Store) -> None:
    def fail(folder: Path) -> None:
        (folder / "text").write_text("half")
        raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        store.get_or_compute("kind", KEY, fail)
    assert store.find("kind", KEY) is None
    assert entries(store) == []


def test_an_entry_comes_into_its_place_by_one_rename(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError("cut off")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="cut off"):
        store.put("kind", KEY, writing("text", b"whole"))
    assert store.find("kind", KEY) is None
    assert entries(store) == []


def test_a_second_writer_of_the_same_entry_changes_nothing(store: Store) -> None:
    entry = store.put("kind", KEY, writing("text", b"first"))
    assert store.put("kind", KEY, writing("text", b"second")) == entry
    assert (entry / "text").read_text() == "first"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    rewrite(path, bytes(content))


def truncate(path: Path) -> None:
    rewrite(path, path.read_bytes()[:-1])


def rewrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
@pytest.mark.parametrize("name", ["numbers", "text", "key.json", "digests.json"])
def test_damage_is_said_and_mended(
    store: Store, name: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    def write(folder: Path) -> None:
        (folder / "numbers").write_bytes(bytes(100))
        (folder / "text").write_text("sound")

    entry = store.get_or_compute("kind", KEY, write)
    sound = {path.name: path.read_bytes() for path in entry.iterdir()}
    damage(entry / name)
    for found in (store, Store(store.folder)):
        assert found.get_or_compute("kind", KEY, write) == entry
        assert {path.name: path.read_bytes() for path in entry.iterdir()} == sound
    (line,) = caplog.messages
    assert line.startswith("the cache entry kind/")
    assert name in line or name == "digests.json"
    assert list((store.folder / "unfinished").iterdir()) == []


def test_a_file_that_was_added_is_damage(store: Store) -> None:
    entry = store.put("kind", KEY, writing("text", b"first"))
    (entry / "more").touch()
    assert store.find("kind", KEY) is None


def test_a_damaged_entry_does_not_keep_a_sound_one_out(store: Store) -> None:
    entry = store.put("kind", KEY, writing("text", b"first"))
    flip(entry / "text")
    assert store.put("kind", KEY, writing("text", b"second")) == entry
    assert (entry / "text").read_bytes() == b"second"


def test_a_sound_entry_is_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("kind", KEY, writing("text", b"first"))
    assert store.find("kind", KEY)
    monkeypatch.setattr(digest, "of_file", lambda path: pytest.fail("read again"))
    assert store.find("kind", KEY)


def test_keys_that_cannot_be_read_are_passed_over(store: Store) -> None:
    entry = store.put("kind", KEY, writing("text", b"first"))
    store.put("kind", {"a": 1}, writing("text", b"first"))
    rewrite(entry / "key.json", b"{")
    assert list(store.keys("kind")) == [{"a": 1}]


PROGRAM = textwrap.dedent("""
    import os, signal, sys, time
    from pathlib import Path
    from img2brain.store import Store

    def write(folder):
        (folder / "first").write_text("1")
        with open(sys.argv[2], "a") as log:
            log.write("computed\\n")
        if sys.argv[3] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.3)
        (folder / "second").write_text("2")

    Store(Path(sys.argv[1])).get_or_compute("kind", {"a": 1}, write)
""")


def start(store: Store, log: Path, what: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(store.folder), str(log), what])


def test_processes_at_once_compute_once(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [start(store, log, "work") for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert log.read_text() == "computed\n"


def test_a_kill_leaves_nothing_half_and_the_next_process_completes(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert start(store, log, "die").wait() == -9
    assert store.find("kind", {"a": 1}) is None
    assert [path.name for path in entries(store)] == ["first"]
    assert start(store, log, "work").wait() == 0
    entry = store.find("kind", {"a": 1})
    assert entry is not None
    assert sorted(path.name for path in entry.iterdir()) == ["digests.json", "first", "key.json", "second"]
    assert list((store.folder / "unfinished").iterdir()) == []


def test_what_is_at_work_is_not_swept(store: Store) -> None:
    with store.scratch() as folder:
        (folder / "half").write_text("half")
        Store(store.folder)
        assert (folder / "half").exists()
    assert not folder.exists()


def test_room_is_asked_for_before_work(store: Store) -> None:
    store.require_free(1, "A trifle")
    with pytest.raises(StoreError, match=r"A mountain needs 1000000000.00 GB of disk\. .* GB free."):
        store.require_free(10**18, "A mountain")


def test_a_disk_that_fills_up_leaves_nothing_half(small_disk: Path) -> None:
    store = Store(small_disk / "cache")
    kept = store.put("kind", {"a": 0}, writing("text", b"kept"))
    with pytest.raises(OSError, match="No space left"):
        store.put("kind", {"a": 1}, writing("large", bytes(2 << 20)))
    assert store.find("kind", {"a": 1}) is None
    assert (kept / "text").read_text() == "kept"
    store.put("kind", {"a": 1}, writing("small", bytes(10)))
