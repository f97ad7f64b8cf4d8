from __future__ import annotations

import json
import os
import shutil
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
    with pytest.raises(StoreError, match=r"The cache .*cache cannot be used: cut off\."):
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


def a_folder(entry: Path) -> None:
    (entry / "text").unlink()
    (entry / "text").mkdir()


def an_empty_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.touch()


def a_file_above(entry: Path) -> None:
    shutil.rmtree(entry.parents[1])
    entry.parents[1].touch()


def a_link_to_nowhere(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.symlink_to("nowhere")


def a_link_to_itself(entry: Path) -> None:
    (entry / "text").unlink()
    (entry / "text").symlink_to("text")


def a_link_elsewhere(entry: Path) -> None:
    (entry / "text").unlink()
    (entry / "text").symlink_to(__file__)


def a_link_to_a_file_without_an_end(entry: Path) -> None:
    (entry / "text").unlink()
    (entry / "text").symlink_to("/dev/zero")


def digests_without_an_end(entry: Path) -> None:
    (entry / "digests.json").unlink()
    (entry / "digests.json").symlink_to("/dev/zero")


def a_pipe(entry: Path) -> None:
    (entry / "text").unlink()
    os.mkfifo(entry / "text")


def deep_digests(entry: Path) -> None:
    rewrite(entry / "digests.json", b"[" * 50_000)


def nul_bytes(entry: Path) -> None:
    rewrite(entry / "digests.json", bytes(100))


@pytest.mark.parametrize(
    "damage",
    [
        a_folder, an_empty_file, a_file_above, a_link_to_nowhere, a_link_to_itself, a_link_elsewhere,
        a_link_to_a_file_without_an_end, digests_without_an_end, a_pipe, deep_digests, nul_bytes,
    ],
)  # fmt: skip
@pytest.mark.parametrize("reads", [Store.read_or_compute, Store.get_or_compute, Store.put])
def test_whatever_lies_in_the_place_of_an_entry_is_said_and_mended(
    store: Store,
    damage: Callable[[Path], None],
    reads: Callable[[Store, str, object, Write], object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    entry = store.put("kind", KEY, writing("text", b"sound"))
    assert store.find("kind", KEY)
    damage(entry)
    reads(store, "kind", KEY, writing("text", b"sound"))
    assert (store.read("kind", KEY) or {})["text"] == b"sound"
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("the cache entry kind/")
    assert list((store.folder / "unfinished").iterdir()) == []


def test_a_flip_that_leaves_no_trace_in_the_times_is_found_when_it_is_read(store: Store) -> None:
    entry = store.put("kind", KEY, writing("text", b"sound"))
    assert store.find("kind", KEY)
    before = (entry / "text").stat()
    flip(entry / "text")
    os.utime(entry / "text", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.read("kind", KEY) is None
    assert (store.read_or_compute("kind", KEY, writing("text", b"sound")))["text"] == b"sound"


def test_a_cache_that_is_deleted_is_made_again(store: Store) -> None:
    def write(folder: Path) -> None:
        if deletions:
            shutil.rmtree(deletions.pop())
        (folder / "text").write_bytes(b"sound")

    deletions = [store.folder]
    store.put("kind", KEY, write)
    assert not deletions, "deleted in the middle of writing"
    assert (store.read("kind", KEY) or {})["text"] == b"sound"
    shutil.rmtree(store.folder)
    assert store.read_or_compute("kind", KEY, write)["text"] == b"sound"
    with store.scratch() as folder:
        shutil.rmtree(store.folder)
    shutil.rmtree(store.folder, ignore_errors=True)
    with store.lock("kind", KEY):
        assert not folder.exists()


def test_an_entry_that_goes_each_time_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "read", lambda kind, key: None)
    with pytest.raises(StoreError, match=r"must stay while they are read\. They were removed\."):
        store.read_or_compute("kind", KEY, writing("text", b"sound"))


FORBIDDEN = textwrap.dedent("""
    import os, sys
    from pathlib import Path
    from img2brain.errors import StoreError
    from img2brain.store import Store

    os.setgid(65534); os.setuid(65534)
    store = Store(Path(sys.argv[1]))
    entry = store.put("kind", {"a": 1}, lambda folder: (folder / "text").write_text("sound"))
    for path, mode in ((entry / "text", 0), (entry, 0), (entry.parent, 0), (entry.parents[1], 0), (entry, 0o400)):
        path.chmod(mode)
        found = store.read_or_compute("kind", {"a": 1}, lambda folder: (folder / "text").write_text("sound"))
        assert found["text"] == b"sound"
        assert not list((store.folder / "unfinished").iterdir())
    os.chmod(store.folder / "unfinished", 0o500)
    try:
        store.put("kind", {"a": 2}, lambda folder: None)
    except StoreError as error:
        assert "Permission denied" in str(error) and sys.argv[1] in str(error), error
    else:
        raise AssertionError("nobody can write there")
""")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_permissions_that_were_taken_are_damage(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    ended = subprocess.run(
        [sys.executable, "-c", FORBIDDEN, str(folder / "cache")], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


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
    (entry / "key.json").unlink()
    os.mkfifo(entry / "key.json")
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
    with pytest.raises(StoreError, match=r"A mountain needs 1000000.0 TB of disk\. .* [kMGT]B free."):
        store.require_free(10**18, "A mountain")


def test_a_disk_that_fills_up_leaves_nothing_half(small_disk: Path) -> None:
    store = Store(small_disk / "cache")
    kept = store.put("kind", {"a": 0}, writing("text", b"kept"))
    with pytest.raises(StoreError, match=r"The cache .*cache cannot be used: No space left on device\."):
        store.put("kind", {"a": 1}, writing("large", bytes(2 << 20)))
    assert store.find("kind", {"a": 1}) is None
    assert (kept / "text").read_text() == "kept"
    store.put("kind", {"a": 1}, writing("small", bytes(10)))
