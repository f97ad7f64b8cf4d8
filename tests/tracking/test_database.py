from __future__ import annotations

import random
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from img2brain.errors import TrackingError
from img2brain.home import Home
from img2brain.tracking import _database
from img2brain.tracking._database import connected, database_uri, read, tell_sizes
from img2brain.tracking._store import TrackingStore

if TYPE_CHECKING:
    from tests.conftest import Launcher, NewHome, Process

N_KILLS = 4
HALVES = {
    "an empty file": "",
    "no tables": "CREATE TABLE one (a INTEGER); DROP TABLE one",
    "the first tables": "CREATE TABLE experiments (experiment_id INTEGER); CREATE TABLE runs (run_uuid TEXT)",
}
SPOILT = {
    "no version": "DROP TABLE alembic_version",
    "an earlier version": "UPDATE alembic_version SET version_num = '451aebb31d03'",
    "a table too few": "DROP TABLE tags",
}
NAMES = ("plain", "100%", "a%20b", "what?", "a#b", "ä 日本", "a;b&c=d", "a+b:c@d", "a'b\"c\\d")


def spoil(database: Path, script: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(script)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> None:
    """Let a database be copied in place of MLflow's making it, which takes seconds."""
    monkeypatch.setattr(_database, "_initialise", lambda path, _: shutil.copyfile(empty_database, path))


def is_whole(home: Home) -> bool:
    store = TrackingStore(home)
    store.client.create_run(store.experiment("here"))
    return len(store.client.search_experiments()) == 2


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("script", HALVES.values(), ids=HALVES)
def test_half_a_database_is_made_again(tmp_path: Path, script: str, caplog: pytest.LogCaptureFixture) -> None:
    home = Home(tmp_path)
    home.database.touch()
    spoil(home.database, script)
    assert is_whole(home)
    assert caplog.messages == [f"the database {home.database} was left half made and holds no run: it is made again"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("script", SPOILT.values(), ids=SPOILT)
def test_a_database_without_runs_that_lacks_something_is_made_again(
    new_home: NewHome, script: str, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(new_home())
    spoil(home.database, script)
    assert is_whole(home)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("script", [SPOILT["no version"], SPOILT["a table too few"]])
def test_a_database_with_runs_that_lacks_something_is_left_as_it_is(new_home: NewHome, script: str) -> None:
    home = Home(new_home())
    assert is_whole(home)
    spoil(home.database, f"{script}; PRAGMA wal_checkpoint(TRUNCATE)")
    before = home.database.read_bytes()
    with pytest.raises(TrackingError, match=r"The database .*mlflow\.db is not whole: it lacks the .*It holds runs"):
        TrackingStore(home)
    assert home.database.read_bytes() == before


OTHERS = {
    "older": ("451aebb31d03", r"tables 451aebb31d03, of an older version\. .* bring it up to date: mlflow db upgrade "),
    "newer": ("ffffffffffff", r"tables ffffffffffff, of another version, newer as it seems: use that one here as well"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_database_of_another_mlflow_is_refused_on_one_line_and_left_as_it_is(new_home: NewHome, other: str) -> None:
    version, told = OTHERS[other]
    home = Home(new_home())
    assert is_whole(home)
    spoil(home.database, f"UPDATE alembic_version SET version_num = '{version}'; PRAGMA wal_checkpoint(TRUNCATE)")
    before = home.database.read_bytes()
    with pytest.raises(TrackingError, match=rf"^The database .* must be of MLflow \d.*{told}") as caught:
        TrackingStore(home)
    assert "\n" not in str(caught.value)
    assert home.database.read_bytes() == before


@pytest.mark.usefixtures("quick")
def test_a_database_of_a_newer_mlflow_is_left_as_it_is_though_it_holds_no_run(new_home: NewHome) -> None:
    home = Home(new_home())
    spoil(home.database, "UPDATE alembic_version SET version_num = 'ffffffffffff'; PRAGMA wal_checkpoint(TRUNCATE)")
    before = home.database.read_bytes()
    with pytest.raises(TrackingError, match="newer as it seems"):
        TrackingStore(home)
    assert home.database.read_bytes() == before


def downgrade(database: Path) -> None:
    """Undo the last step that MLflow made, as if the MLflow of before had made the tables."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config

    config = _get_alembic_config(database_uri(database))
    command.downgrade(config, "-1")


@pytest.mark.slow
def test_an_older_database_is_brought_up_to_date_as_the_refusal_says(new_home: NewHome) -> None:
    home = Home(new_home())
    assert is_whole(home)
    downgrade(home.database)
    with pytest.raises(TrackingError, match="of an older version") as caught:
        TrackingStore(home)
    words = shlex.split(str(caught.value).partition("up to date: ")[2])
    assert words[:3] == ["mlflow", "db", "upgrade"]
    subprocess.run([sys.executable, "-m", *words], check=True, capture_output=True)
    (run,) = TrackingStore(home).client.search_runs(["1"])
    assert run.info.status == "RUNNING"


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.database.write_bytes(b"not a database" * 100)
    with pytest.raises(TrackingError, match=r"mlflow\.db does not answer: file is not a database"):
        TrackingStore(home)
    assert home.database.read_bytes() == b"not a database" * 100


def made_of(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("mlflow.db*")}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("step", ["_initialise", "_settle"])
def test_what_is_cut_off_leaves_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    whole: Callable[..., None] = getattr(_database, step)

    def cut_off(*args: Path) -> None:
        whole(*args)
        raise KeyboardInterrupt

    home = Home(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(_database, step, cut_off)
        with pytest.raises(KeyboardInterrupt):
            TrackingStore(home)
    assert made_of(tmp_path) == set()
    assert is_whole(home)


def test_a_full_disk_leaves_no_database(small_disk: Path) -> None:
    home = Home(small_disk / "home")
    (small_disk / "filler").write_bytes(bytes(700_000))
    with pytest.raises(TrackingError, match=r"mlflow\.db does not answer: .*full"):
        TrackingStore(home)
    assert made_of(home.folder) == set()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert is_whole(home)


def wait_until(process: Process, happens: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not happens() and process.poll() is None:
        assert time.monotonic() < end, process.stderr
        time.sleep(0.005)


@pytest.mark.slow
def test_a_kill_while_the_database_is_made_costs_nothing(
    img2brain: Launcher, given_study: Path, tmp_path: Path
) -> None:
    home, chance = tmp_path / "home", random.Random(0)
    command = ("study", "run", given_study, "--home", home)
    for kill in range(N_KILLS + 1):
        process = img2brain.start(*command)
        wait_until(process, lambda: made_of(home) != set())
        time.sleep(chance.uniform(0, 1))
        process.send(signal.SIGKILL if kill < N_KILLS else signal.SIGINT)
        assert process.wait() in (-signal.SIGKILL, 130), process.stderr
        if (home / "mlflow.db").exists():
            with connected(home / "mlflow.db") as connection:
                assert _database._lacks(connection) == "", "it is whole where it is there"
            shutil.rmtree(home)
    assert process.stderr.splitlines()[-1].startswith("Interrupted.")
    again = img2brain.run(*command)
    assert again.code == 0, again.stderr
    assert "half made" not in again.stderr
    assert not list(home.glob("*unfinished*"))


def test_processes_that_make_the_database_at_once_make_one(
    img2brain: Launcher, given_study: Path, tmp_path: Path
) -> None:
    text = given_study.read_text().replace('path = "rows"', f'path = "{given_study.parent / "rows"}"')
    for name in "abc":
        (tmp_path / f"{name}.toml").write_text(text.replace('name = "given"\n', f'name = "{name}"\n', 1))
    started = [img2brain.start("study", "run", tmp_path / f"{name}.toml", "--home", tmp_path / "h") for name in "abc"]
    assert [process.wait() for process in started] == [0, 0, 0], [process.stderr for process in started]
    client = TrackingStore(Home(tmp_path / "h")).client
    found = client.search_runs([client.get_experiment_by_name("rows").experiment_id], "tags.`img2brain.kind` = 'trial'")
    assert len(found) == 9


@pytest.mark.parametrize(
    "name", ["plain", "100%", "a%20b", "what?", "a#b", "ä 日本", "a;b&c=d", "a+b:c@d", "a'b\"c\\d"]
)
def test_any_path_is_the_path(tmp_path: Path, empty_database: Path, name: str) -> None:
    home = Home(tmp_path / name)
    shutil.copyfile(empty_database, home.database)
    store = TrackingStore(home)
    run = store.client.create_run(store.experiment("here"))
    with store.artifacts(run) as folder:
        assert folder.is_relative_to(home.artifacts)
        (folder / "note.txt").write_text("ours")
    assert store.text(run, "note.txt") == "ours"
    assert [item.path for item in store.client.list_artifacts(run.info.run_id)] == ["note.txt"], "as MLflow reads it"
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing is made beside it"
    with connected(home.database) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (1,)
    assert database_uri(home.database).startswith("sqlite+pysqlite:////")


_SORTED = """
    EXPLAIN QUERY PLAN SELECT DISTINCT runs.run_uuid,
    CASE WHEN (scores.is_nan = 1) THEN 1 WHEN (scores.value IS NULL) THEN 2 ELSE 0 END AS clause_1, scores.value
    FROM runs LEFT OUTER JOIN (
        SELECT latest_metrics.key AS key, latest_metrics.value AS value, latest_metrics.is_nan AS is_nan,
        latest_metrics.run_uuid AS run_uuid FROM latest_metrics WHERE latest_metrics.key = 'pearson/median'
    ) AS scores ON runs.run_uuid = scores.run_uuid
    WHERE runs.experiment_id IN (1) AND runs.lifecycle_stage IN ('active')
    ORDER BY clause_1, scores.value DESC, runs.start_time DESC, runs.run_uuid LIMIT 100 OFFSET 0
"""  # as MLflow's page asks for the best runs first


def test_the_best_runs_are_found_without_a_scan_of_scores_for_each_run(finished_copy: Path, tmp_path: Path) -> None:
    database = finished_copy / "mlflow.db"
    with connected(database) as connection:
        told = dict(connection.execute("SELECT tbl, count(*) FROM sqlite_stat1 GROUP BY tbl"))
        assert told.keys() >= {"runs", "latest_metrics"}, "a study that ends tells the sizes"
        connection.executescript("""
            CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
            SELECT printf('%032d', i) AS run FROM n;
            INSERT INTO runs (run_uuid, experiment_id, lifecycle_stage, status)
            SELECT run, 1, 'active', 'FINISHED' FROM n;
            INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid)
            SELECT 'pearson/median', random(), 0, 0, 0, run FROM n;
        """)
    tell_sizes(database)
    with connected(database) as connection:
        steps = [line[3] for line in connection.execute(_SORTED)]
    assert not [step for step in steps if step.startswith("SCAN") and "LEFT-JOIN" in step], steps
    tell_sizes(tmp_path / "absent.db")
    assert not (tmp_path / "absent.db").exists()


@contextmanager
def in_use(database: Path) -> Iterator[sqlite3.Connection]:
    """Make a database with a write-ahead log, and hand out a connection of somebody at work on it."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE one (a INTEGER)")
        yield connection


def count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM one").fetchone()[0])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_database_that_nobody_uses_is_read_and_left_alone(tmp_path: Path) -> None:
    with in_use(path := tmp_path / "a%20b?.db") as worker:
        worker.execute("INSERT INTO one VALUES (1)")
    before = path.stat().st_mtime_ns
    assert read(path, count) == 1
    assert (names(tmp_path), path.stat().st_mtime_ns) == ([path.name], before)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        read(path, lambda connection: connection.execute("DELETE FROM one"))


def test_a_database_in_use_is_read_with_all_that_was_written(tmp_path: Path) -> None:
    with in_use(path := tmp_path / "a.db") as worker:
        worker.execute("INSERT INTO one VALUES (1)")
        before = names(tmp_path)
        assert read(path, count) == 1
        worker.execute("INSERT INTO one VALUES (2)")
        assert read(path, count) == 2
        assert names(tmp_path) == before == ["a.db", "a.db-shm", "a.db-wal"]
    assert names(tmp_path) == ["a.db"]


@pytest.mark.parametrize("left", [("-wal",), ("-wal", "-shm")], ids=["the log", "the log and its index"])
def test_what_a_killed_worker_left_beside_a_database_is_read_and_left(tmp_path: Path, left: tuple[str, ...]) -> None:
    (tmp_path / "there").mkdir()
    with in_use(path := tmp_path / "a.db") as worker:
        worker.execute("INSERT INTO one VALUES (1)")
        for ending in ("", *left):
            shutil.copyfile(f"{path}{ending}", tmp_path / "there" / f"a.db{ending}")
    before = {item.name: item.read_bytes() for item in (tmp_path / "there").iterdir() if item.suffix != ".db-shm"}
    assert read(tmp_path / "there" / "a.db", count) == 1
    after = {item.name: item.read_bytes() for item in (tmp_path / "there").iterdir() if item.suffix != ".db-shm"}
    assert after == before
    assert names(tmp_path / "there") == sorted(f"a.db{ending}" for ending in ("", *left))


@pytest.mark.parametrize("goes", [True, False], ids=["goes again", "stays"])
def test_a_database_that_somebody_begins_to_use_meanwhile_is_looked_at_again(tmp_path: Path, goes: bool) -> None:
    with in_use(path := tmp_path / "a.db"):
        pass
    workers: list[sqlite3.Connection] = []

    def look(connection: sqlite3.Connection) -> int:
        found = count(connection)
        if not workers:
            workers.append(sqlite3.connect(path, isolation_level=None))
            workers[0].execute("INSERT INTO one VALUES (1)")
            if goes:
                workers[0].close()
        return found

    assert read(path, look) == 1
    workers[0].close()
