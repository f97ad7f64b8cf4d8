"""A look at homes, each with one thing that is not as it should be."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from img2brain.cli import main
from img2brain.health import check
from img2brain.home import Home
from img2brain.study.log import open_log
from img2brain.tracking._local import open_to_read
from img2brain.tracking._store import TrackingStore
from tests.test_holders import held

if TYPE_CHECKING:
    from tests.conftest import NewHome

NOBODY = 65534


@pytest.fixture
def home(finished_copy: Path) -> Path:
    """A home that is in order, and knows where it is."""
    open_to_read(Home(finished_copy))
    return finished_copy


def look(folder: Path, *, deep: bool = False, **where: Any) -> list[str]:
    return list(map(str, check(Home.as_it_is(folder, **where), deep).findings))


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return all that is in a folder; SQLite keeps who reads a database in a file beside it."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() and not path.name.endswith("-shm") else b"",
        )
        for path in folder.rglob("*")
    }


def of(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


def cut(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size - 8)


def flip(path: Path) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(content)


def version(folder: Path, found: str) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (found,))


def begin_a_run(folder: Path) -> None:
    store = TrackingStore(Home(folder))
    store.client.create_run(store.experiment("sample"), tags={"img2brain.kind": "trial", "img2brain.worker": "dead"})


def scratch(folder: Path) -> None:
    left = folder / "cache" / "unfinished" / "abc"
    left.mkdir()
    (left / "half.npy").write_bytes(bytes(2_000_000))
    left.with_suffix(".lock").touch()


def half_a_site(folder: Path) -> None:
    (folder / "leaderboards" / ".sample.unfinished").mkdir()


DAMAGES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "an array that is gone": (
        lambda home: of(home, "artifacts/*/artifacts/accuracy.npy").unlink(),
        "must have the file .*accuracy.npy. It is not there",
        "Put it back from a backup",
    ),
    "an array that was cut": (
        lambda home: cut(of(home, "artifacts/*/artifacts/accuracy.npy")),
        "must have a whole file .*accuracy.npy",
        "Put it back from a backup",
    ),
    "a model of which a byte is another": (
        lambda home: flip(of(home, "artifacts/models/*/**/pca.safetensors")),
        "The model sample/1 is damaged. .*pca.safetensors is not the file",
        "Put its folder back from a backup",
    ),
    "a database of an older MLflow": (
        lambda home: version(home, "451aebb31d03"),
        r"must be of MLflow .* tables 451aebb31d03, of an older version",
        "mlflow db upgrade sqlite",
    ),
    "a database of a newer MLflow": (
        lambda home: version(home, "ffffffffffff"),
        r"must be of MLflow .* tables ffffffffffff, of another version, newer as it seems",
        "use that one here as well",
    ),
    "a search log whose last line is cut": (
        lambda home: append(home / "optuna.log", b'{"op_code": 4, "wor'),
        r"Line \d+ of the search log .*optuna.log is damaged or cut",
        "Run the study again",
    ),
    "a search log with a line of nothing": (
        lambda home: append(home / "optuna.log", b"nothing\n"),
        r"Line \d+ of the search log .*optuna.log is damaged or cut",
        "Run the study again",
    ),
    "a torn entry": (
        lambda home: of(home, "cache/layers/*/*/*.npy").unlink(),
        r"1 entry of the cache is damaged, such as .*layers.* \(not as written",
        "home gc --home",
    ),
    "an entry that was cut": (
        lambda home: cut(of(home, "cache/layers/*/*/*.npy")),
        r"1 entry of the cache is damaged, such as .*\.npy is cut",
        "home gc --home",
    ),
    "an entry without its key": (
        lambda home: of(home, "cache/layers/*/*/key.json").unlink(),
        "1 entry of the cache is damaged",
        "home gc --home",
    ),
    "an entry in the place of another": (
        lambda home: (entry := of(home, "cache/layers/*/*")).rename(entry.with_name(entry.name[::-1])),
        "key.json is that of another entry",
        "home gc --home",
    ),
    "a run of a dead worker": (begin_a_run, "1 run is half tracked by workers that are dead", "Run their study again"),
    "scratch of a killed process": (scratch, "left 2.00 MB half written, such as .*abc", "home gc --home"),
    "half a site": (
        half_a_site,
        r"left \d+ bytes half written, such as .*\.sample\.unfinished",
        "Run the same command",
    ),
    "no word of itself": (
        lambda home: (home / "home.json").unlink(),
        "must have the file home.json. It is not there",
        "Any other command makes it again",
    ),
    "a word of itself that cannot be read": (
        lambda home: (home / "home.json").write_text("{"),
        "home.json must say 'format', 'id' and 'path' of the home",
        "Delete it",
    ),
}


def test_a_home_that_is_in_order_has_no_problems(home: Path) -> None:
    before = state(home)
    assert look(home, deep=True) == []
    assert state(home) == before
    told = CliRunner().invoke(main, ["home", "check", "--home", str(home)])
    assert (told.exit_code, told.stdout.splitlines()[-1]) == (0, "no problems")
    facts = json.loads(CliRunner().invoke(main, ["home", "check", "--home", str(home), "--json"]).stdout)
    assert facts["problems"] == []
    assert {"python", "img2brain", "mlflow", "optuna", "torch", "cpu", "threads", "home", "runs"} <= set(facts["facts"])


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_told_with_what_to_do_and_left_as_it_is(damage: str, home: Path) -> None:
    spoil, problem, advice = DAMAGES[damage]
    spoil(home)
    before = state(home)
    result = CliRunner().invoke(main, ["home", "check", "--home", str(home), "--json"])
    assert result.exit_code == 2, result.output
    (found,) = json.loads(result.stdout)["problems"]
    told = f"{found['problem']} {found['advice']}"
    assert re.search(f"{problem}.*{advice}", told), told
    assert state(home) == before


def test_a_byte_of_the_cache_is_told_where_all_are_read(home: Path) -> None:
    flip(of(home, "cache/layers/*/*/*.npy"))
    assert look(home) == []
    (told,) = look(home, deep=True)
    assert "1 entry of the cache is damaged" in told


def test_a_home_that_was_moved_is_told_so(home: Path, tmp_path: Path) -> None:
    moved = home.rename(tmp_path / "moved")
    told = look(moved)
    assert told[0].startswith(f"The home {moved} says that it is at {home}.")
    open_to_read(Home(moved))
    assert look(moved) == []


def test_what_is_at_work_is_no_problem(home: Path) -> None:
    place = Home(home)
    begin_a_run(home)
    half_a_site(home)
    with place.in_use(), open_log(place).attend("dead"), place.store.scratch() as folder:
        (folder / "half.npy").write_bytes(bytes(100))
        assert look(home) == []


def test_a_process_that_stands_still_is_told(home: Path) -> None:
    lock = home / "locks" / "some.lock"
    with held(lock):
        assert look(home) == []
    with held(lock, still=True) as process:
        (told,) = look(home)
    assert told.startswith(f"Process {process.pid} works with the home {home}, and stands still: others wait for it. ")
    assert f"kill -CONT {process.pid}" in told


@contextmanager
def as_nobody() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_a_home_of_another_user_is_told(mode: int, home: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are for one user alone
        Path(name).chmod(0o755)
        there = shutil.copytree(home, Path(name) / "home")
        there.chmod(mode)
        with as_nobody():
            told = look(there)
    assert told[0] == (
        f"{there} must be readable and writable for user {NOBODY}. It is of user 0, with the permissions {mode:o}. "
        f"Let its owner give it: chown -R {NOBODY} {there}"
    )


def test_some_folders_of_another_user_are_told_on_one_line(home: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        there = shutil.copytree(home, Path(name) / "home")
        for path in (there, *there.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        for path in (there / "artifacts").iterdir():
            os.chown(path, 0, 0)
        n_closed = len(list((there / "artifacts").iterdir()))
        with as_nobody():
            told = [line for line in look(there) if "must be readable" in line]
    assert len(told) == 1
    assert f", and {n_closed - 1} more in {there / 'artifacts'}, must be readable and writable" in told[0]
    assert told[0].endswith(f"chown -R {NOBODY} {there / 'artifacts'}")


def test_a_disk_that_is_full_or_cannot_be_written_is_told(new_home: NewHome, small_disk: Path) -> None:
    home = shutil.copytree(new_home(), small_disk / "home", ignore=shutil.ignore_patterns("mlflow.db", "locks"))
    (home / "home.json").unlink()
    Home(home)
    (told,) = look(home)
    free = re.escape(f"The disk of {home} must have room for a study. ") + r"\S+ [kM]B are free, and \d+ files\."
    assert re.match(free, told)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    told = look(home)[0]
    assert told.startswith(f"{home} must be readable and writable for user 0. Its disk is mounted to be read alone.")


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ({"tracking_uri": "http://127.0.0.1:9"}, "The tracking store http://127.0.0.1:9 does not answer"),
        ({"storage": "postgresql://me:abracadabra@127.0.0.1:9/x"}, r"The search log postgresql://me:***@127.0.0.1:9/x"),
    ],
    ids=["runs", "searches"],
)
def test_a_store_that_is_away_is_told(
    where: dict[str, Any], problem: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told = look(home, **where)
    assert told
    assert all(line.startswith(problem) and "abracadabra" not in line for line in told), told
    assert len(told) == 1


def test_a_search_log_in_a_file_is_looked_at_and_not_made(home: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'searches.db'}"
    assert look(home, storage=url) == []
    assert not (tmp_path / "searches.db").exists()
    open_log(Home(home, storage=url))
    assert look(home, storage=url) == []
    (tmp_path / "searches.db").write_bytes(b"not a database" * 100)
    (told,) = look(home, storage=url)
    assert "searches.db does not answer: file is not a database" in told
