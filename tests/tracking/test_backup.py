from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from img2brain import digest
from img2brain.cli import main
from img2brain.errors import DataError, Img2BrainError
from img2brain.home import Home
from img2brain.leaderboard.collect import collect
from img2brain.leaderboard.rows import boards
from img2brain.leaderboard.table import as_csv, ranked
from img2brain.tracking.backup import MANIFEST, backup, restore
from tests.study.test_crash import assert_like_the_undisturbed, wait_until

if TYPE_CHECKING:
    from tests.conftest import Finished, Kept, Launcher, NewHome

    Read = Callable[..., Kept]
    StudyFile = Callable[..., Path]


def invoke(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def board(home: Path) -> list[str]:
    """Print the boards of a home, whatever its id."""
    tables = [ranked(group).assign(home="") for group in boards(collect(Home(home)))]
    return [as_csv(table) for table in tables]


def contents(folder: Path) -> dict[str, str]:
    databases = ("mlflow.db", "mlflow.db-wal", "mlflow.db-shm", ".trials.json")  # the last is made of the records
    skipped = ("locks", "cache", "home.json", *databases, "optuna.lock")
    files = (path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0] not in skipped)
    return {path.relative_to(folder).as_posix(): digest.of_file(path) for path in files}


@pytest.mark.parametrize("name", ["backup.zip", "backup"])
def test_a_restored_home_is_the_home(name: str, finished: Finished, tmp_path: Path) -> None:
    said = invoke("home", "backup", tmp_path / name, "--home", finished.home)
    assert (said.exit_code, said.stdout.startswith("backed up ")) == (0, True)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    said = invoke("home", "restore", tmp_path / name, "--home", tmp_path / "again")
    assert said.stdout.startswith("restored ")
    assert {path.name for path in tmp_path.iterdir()} == {name, "again"}
    assert contents(tmp_path / "again") == contents(finished.home)
    assert invoke("home", "check", "--home", tmp_path / "again").stdout.endswith("\nno problems\n")
    assert board(tmp_path / "again") == board(finished.home)
    assert not (tmp_path / "again" / "cache").exists()


@pytest.mark.parametrize("name", ["monday.tar", "monday.tar.gz", "monday.tgz"])
def test_an_archive_of_another_kind_is_refused(name: str, finished: Finished, tmp_path: Path) -> None:
    said = invoke("home", "backup", tmp_path / name, "--home", finished.home)
    assert said.exit_code == 2
    assert said.stderr == f"Error: A backup must be a folder or a file .zip. Got {str(tmp_path / name)!r}.\n"
    assert list(tmp_path.iterdir()) == []


def test_what_shares_its_room_does_so_again(finished: Finished, tmp_path: Path) -> None:
    made = backup(Home(finished.home), tmp_path / "backup", with_cache=True)
    restore(tmp_path / "backup", tmp_path / "again")

    def n_places(home: Path) -> int:
        return len({path.stat().st_ino for path in home.glob("artifacts/*/artifacts/features.npy")})

    assert sum(item.shared for item in made.record.files.values()) > n_places(finished.home)
    assert n_places(tmp_path / "again") == n_places(finished.home)
    names = {path.relative_to(finished.home / "cache") for path in finished.home.glob("cache/*/*/*/*")}
    assert {path.relative_to(tmp_path / "again" / "cache") for path in tmp_path.glob("again/cache/*/*/*/*")} == names


def test_what_is_there_is_never_overwritten(finished: Finished, tmp_path: Path) -> None:
    home = Home(finished.home)
    backup(home, tmp_path / "a.zip")
    kept = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    for place in ("a.zip", "full"):
        assert invoke("home", "backup", tmp_path / place, "--home", home.folder).exit_code == 2
    assert (tmp_path / "a.zip").read_bytes() == kept
    before = contents(finished.home)
    refused = invoke("home", "restore", tmp_path / "a.zip", "--home", finished.home)
    assert refused.stderr == f"Error: The folder '{finished.home}' must be absent or empty. It is not.\n"
    assert contents(finished.home) == before
    with pytest.raises(DataError, match=r"A backup must be outside of its home"):
        backup(home, finished.home / "backup")


def test_a_line_that_is_being_written_is_cut(finished_copy: Path, tmp_path: Path) -> None:
    log = finished_copy / "optuna.log"
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"op_code": 4, "wor')
    backup(Home(finished_copy), tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "again")
    assert (tmp_path / "again" / "optuna.log").read_bytes() == whole


def test_what_is_committed_and_not_yet_in_the_file_is_in_the_backup(finished_copy: Path, tmp_path: Path) -> None:
    database = sqlite3.connect(finished_copy / "mlflow.db")
    database.execute("INSERT INTO experiment_tags VALUES ('mine', 'yes', 1)")
    database.commit()  # into mlflow.db-wal, as this connection stays open
    backup(Home(finished_copy), tmp_path / "backup")
    database.close()
    restore(tmp_path / "backup", tmp_path / "again")
    copy = sqlite3.connect(tmp_path / "again" / "mlflow.db")
    assert copy.execute("SELECT value FROM experiment_tags WHERE key = 'mine'").fetchall() == [("yes",)]
    copy.close()


@pytest.fixture(scope="module")
def made(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "backup"
    backup(Home(finished.home), folder)
    return folder


def _edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def _content(folder: Path) -> Path:
    return max(folder.glob("content/*/*"), key=lambda path: path.stat().st_size)


def _flip(folder: Path) -> None:
    content = bytearray(_content(folder).read_bytes())
    content[len(content) // 2] ^= 1
    _content(folder).write_bytes(content)


def _link(folder: Path) -> None:
    path = _content(folder)
    path.unlink()
    path.symlink_to("/etc/passwd")


def _rename(name: str) -> Callable[[Path], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][name] = manifest["files"].pop("home.json")

    return lambda folder: _edit(folder, change)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "another byte": _flip,
    "no content": lambda folder: _content(folder).unlink(),
    "a link": _link,
    "shorter": lambda folder: os.truncate(_content(folder), 10),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "half a manifest": lambda folder: os.truncate(folder / MANIFEST, 100),
    "a name that leads out": _rename("../evil"),
    "a name from the top": _rename("/evil"),
    "a digest that leads out": lambda folder: _edit(
        folder, lambda found: found["files"]["home.json"].update(digest="../../evil")
    ),
    "of a newer version": lambda folder: _edit(folder, lambda found: found.update(format=99)),
    "a folder of others": lambda folder: shutil.rmtree(folder / "content"),
}


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_is_refused_and_leaves_nothing(damage: str, form: str, made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(made, folder)
    DAMAGES[damage](folder)
    path = folder
    if form == "zip":
        if damage == "a link":
            pytest.skip("a link is followed when it is packed")
        path = tmp_path / "damaged.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(folder).as_posix())
    before = sorted(tmp_path.iterdir())
    result = invoke("home", "restore", path, "--home", tmp_path / "home")
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("Error: ")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("content", [b"", b"PK", b"\x00" * 100])
def test_what_is_no_backup_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    assert invoke("home", "restore", tmp_path / "a.zip", "--home", tmp_path / "home").exit_code == 2
    assert invoke("home", "restore", tmp_path / "absent", "--home", tmp_path / "home").exit_code == 2
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.zip"]


def test_a_full_disk_leaves_no_half_backup_and_no_half_home(finished: Finished, small_disk: Path, made: Path) -> None:
    for name in ("a.zip", "folder"):
        with pytest.raises(Img2BrainError, match=r"No space left|needs .* [kMG]B of disk|no room for"):
            backup(Home(finished.home), small_disk / name)
    with pytest.raises(Img2BrainError, match=r"No space left|needs .* [kMG]B of disk|no room for"):
        restore(made, small_disk / "home")
    assert [path.name for path in small_disk.iterdir() if path.name != "lost+found"] == []


@pytest.mark.slow
def test_a_home_is_backed_up_at_any_moment_of_a_study_that_goes_on_where_it_is_restored(
    img2brain: Launcher, finished: Finished, new_home: NewHome, study_file: StudyFile, tmp_path: Path, kept: Read
) -> None:
    home, file = new_home(warm=True), study_file(tmp_path)
    process = img2brain.start("study", "run", file, "--home", home)
    taken: list[Path] = []
    for moment in moments(home):
        wait_until(process, moment)
        if process.poll() is not None:
            break
        taken.append(tmp_path / f"backup-{len(taken)}")
        assert img2brain.run("home", "backup", taken[-1], "--with-cache", "--home", home).code == 0
    assert process.wait() == 0, process.stderr
    assert len(taken) >= 2
    for place in taken:
        again = tmp_path / f"home-{place.name}"
        assert img2brain.run("home", "restore", place, "--home", again).code == 0
        gone_on = img2brain.run("study", "run", file, "--home", again)
        assert gone_on.code == 0, gone_on.stderr
        assert_like_the_undisturbed(again, finished, kept, gone_on.stdout)


def moments(home: Path) -> Iterator[Callable[[], bool]]:
    """Yield four moments of a study's search."""
    log = home / "optuna.log"
    for n_trials in (1, 3, 5, 7):
        yield lambda n=n_trials: log.exists() and log.read_bytes().count(b'"state":') >= n  # type: ignore[misc]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.zip", "a"])
def test_a_kill_leaves_no_half_backup_and_no_half_home(
    name: str, img2brain: Launcher, finished: Finished, tmp_path: Path
) -> None:
    def killed(words: tuple[object, ...], place: Path) -> None:
        """Kill a command at one moment after the other until it ends by itself, and see what it leaves."""
        for step in range(1000):
            process = img2brain.start(*words)
            wait_until(process, lambda n=step: n_written(place) > n)  # type: ignore[misc]
            process.send(signal.SIGKILL)
            if process.wait() == 0:
                return
            assert not place.exists()

    killed(("home", "backup", tmp_path / name, "--home", finished.home), tmp_path / name)
    assert invoke("home", "restore", tmp_path / name, "--home", tmp_path / "first").exit_code == 0
    killed(("home", "restore", tmp_path / name, "--home", tmp_path / "second"), tmp_path / "second")
    assert contents(tmp_path / "second") == contents(finished.home)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == sorted(
        [name, "first", "second"]
    )


def n_written(place: Path) -> int:
    """Count in steps how far a process is beside the place that it writes towards."""
    beside = place.with_name(f".{place.name}.unfinished")
    return sum(len(names) for _, _, names in os.walk(beside)) // 10
