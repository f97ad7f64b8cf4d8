from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from click.testing import CliRunner

from img2brain.cli import main
from img2brain.errors import StoreError
from img2brain.health import check
from img2brain.home import Home
from img2brain.study.log import open_log


def fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def test_a_full_disk_refuses_the_home(small_disk: Path) -> None:
    Home(small_disk / "home")
    fill(small_disk)
    with pytest.raises(StoreError, match="cannot be written: No space left on device"):
        Home(small_disk / "home")


def test_a_file_in_place_of_the_home_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(StoreError, match=r"The home folder .*home cannot be written: "):
        Home(tmp_path / "home")


def test_a_lock_holds_off_others_by_name(tmp_path: Path) -> None:
    home, other = Home(tmp_path), Home(tmp_path)
    with home.only_here("a", "The study 'a'"):
        with other.only_here("b", "The study 'b'"):
            pass
        busy = pytest.raises(StoreError, match="The study 'a' is at work in another process")
        with busy, other.only_here("a", "The study 'a'"):
            pass
    with other.only_here("a", "The study 'a'"):
        pass


def test_a_home_keeps_its_id_and_its_format(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert json.loads((tmp_path / "home" / "home.json").read_text()) == {
        "format": 2, "id": home.id, "path": str(tmp_path / "home"), "also": [], "was": [],
    }  # fmt: skip
    again = Home(str(tmp_path / "home"), "http://localhost:1")
    assert (again.id, again.format, again.tracking_uri) == (home.id, 2, "http://localhost:1")
    assert Home.of(home) is home
    assert Home.of(str(tmp_path / "home")).id == home.id
    assert Home(tmp_path / "another").id != home.id


@pytest.mark.parametrize("sign", ["mlflow.db", "optuna.log"])
def test_a_home_that_says_nothing_of_itself_is_of_the_first_format(tmp_path: Path, sign: str) -> None:
    (tmp_path / sign).touch()
    assert Home(tmp_path).format == 1
    Home(tmp_path).become(format=2)
    assert Home(tmp_path).format == 2


def test_homes_opened_at_once_agree_on_the_id(tmp_path: Path) -> None:
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(Home(tmp_path / "home").id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_a_moved_home_keeps_its_id(tmp_path: Path) -> None:
    before = Home(tmp_path / "a").id
    (tmp_path / "a").rename(tmp_path / "b")
    moved = Home(tmp_path / "b")
    assert (moved.id, moved.own_ids) == (before, (before,))
    assert moved.former_folders == (tmp_path / "a",)
    assert not (tmp_path / "a").exists()


def test_a_copy_gets_an_id_of_its_own_and_owns_the_runs_of_the_old_one_in_its_own_database(tmp_path: Path) -> None:
    original = Home(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    copy = Home(tmp_path / "b")
    assert copy.id not in ("", original.id)
    assert copy.own_ids == (copy.id, original.id)
    assert Home(tmp_path / "b", "http://localhost:1").own_ids == (copy.id,), "on a server they are two"
    assert Home(tmp_path / "b").id == copy.id
    assert (Home(tmp_path / "a").id, Home(tmp_path / "a").own_ids) == (original.id, (original.id,))
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    again = Home(tmp_path / "c")
    assert again.own_ids == (again.id, copy.id, original.id)
    assert len(set(again.own_ids)) == 3


def test_a_home_under_two_names_is_one(tmp_path: Path) -> None:
    home = Home(tmp_path / "a")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert Home(tmp_path / "link").id == home.id
    (tmp_path / "mounted").mkdir()
    mount = ["mount", "--bind", str(tmp_path / "a"), str(tmp_path / "mounted")]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no folder can be mounted here")
    try:
        assert Home(tmp_path / "mounted").own_ids == (home.id,)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "mounted")], check=True)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '{"format": 2}', '{"format": "x", "id": "a", "path": "/"}',
        '{"format": 2, "id": 5, "path": "/"}',
        '{"format": 2, "id": "a", "path": 5}', '{"format": 1e999, "id": "a", "path": "/"}',
        '{"format": 2, "id": "a", "path": "a\\u0000b"}', '{"format": 2, "id": "a", "path": "/", "was": [5]}',
        '{"format": 2, "id": "a", "path": "/", "also": 3}', '{"format": 2, "id": "a", "path": "~nosuchuser/home"}',
    ],
)  # fmt: skip
def test_what_is_not_the_identity_of_a_home_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "home.json").write_text(text)
    with pytest.raises(StoreError, match=r"The file .*home\.json must say 'format', 'id' and 'path' of the home\."):
        Home(tmp_path)


def test_a_home_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    said = json.dumps({"format": 99, "id": "a", "path": str(tmp_path)})
    (tmp_path / "home.json").write_text(said)
    with pytest.raises(StoreError, match=r"The home .* must be of format 2 or lower\. Got 99, of a newer"):
        Home(tmp_path)
    assert (tmp_path / "home.json").read_text() == said


def test_reading_makes_no_home(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("no home")
    with pytest.raises(StoreError, match=r"There is no home at .*: no study was run there\. Name another with "):
        Home.existing(tmp_path)
    served = Home.existing(tmp_path, "http://localhost:1")
    with pytest.raises(StoreError, match="There is no home at "):
        _ = served.id
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    made = Home(tmp_path)
    assert Home.existing(tmp_path).id == made.id


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def circle(path: Path) -> None:
    path.symlink_to(path)


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


NO_FILES: dict[str, Callable[[Path], object]] = {
    "a pipe": pipe,
    "a folder": Path.mkdir,
    "a device": device,
    "a link to nowhere": nowhere,
    "a link in a circle": circle,
    "a socket": bound,
}
READING = (
    "study list", "study show s", "study plan {study}", "home show", "home check", "home backup {place}", "home gc",
    "compare s#0 s#1", "leaderboard show", "leaderboard build {place}", "model list", "study run {study}",
    "study worker {study}",
)  # fmt: skip


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("name", ["home.json", "mlflow.db", "optuna.log", "looks.jsonl", ".trials.json", "searches.db"])
def test_what_is_no_file_in_place_of_one_is_refused_on_one_line(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = f"sqlite:///{tmp_path / 'home' / 'searches.db'}" if name == "searches.db" else None
    place = Home(tmp_path / "home").folder / name
    place.unlink(missing_ok=True)
    NO_FILES[kind](Path("home") / name if kind == "a socket" else place)
    for make in (Home, Home.existing):
        with pytest.raises(StoreError, match=rf"^{place} must be a plain file\. It is {kind}: move it away\.$"):
            make(tmp_path / "home", storage=storage)
    (told,) = check(Home.as_it_is(tmp_path / "home", storage=storage)).findings
    assert told.problem == f"{place} must be a plain file. It is {kind}."
    assert os.path.lexists(place)


@pytest.mark.parametrize("words", READING)
def test_each_command_refuses_a_pipe_in_place_of_the_search_log(words: str, given_study: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home").folder
    pipe(home / "optuna.log")
    given = words.format(study=given_study, place=tmp_path / "out").split()
    result = CliRunner().invoke(main, [*given, "--home", str(home)])
    assert result.exit_code == 2, result.output
    assert f"{home / 'optuna.log'} must be a plain file. It is a pipe" in result.output
    assert "Traceback" not in result.output


def test_on_a_full_disk_a_home_is_read_and_freed(small_disk: Path) -> None:
    home = Home(small_disk / "home")
    home.store.put("layers", {"layer": 1}, lambda folder: np.save(folder / "a.npy", np.zeros(999)))
    optuna.create_study(storage=open_log(home).storage, study_name="given-1")
    fill(small_disk)

    def told(*words: str) -> str:
        result = CliRunner().invoke(main, [*words, "--home", str(home.folder)])
        assert result.exit_code == 0, result.output
        return str(result.stdout)

    assert told("study", "list").startswith("given-1: ")
    with pytest.raises(StoreError, match="cannot be written: No space left on device"):
        Home(home.folder)
    assert "freed" in told("home", "gc")
    assert list((home.cache / "layers").glob("*/*")) == []
    assert Home(home.folder).id == Home.existing(home.folder).id == home.id
