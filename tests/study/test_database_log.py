"""The search log in PostgreSQL: locks, signs of life, and a database that goes away and comes back."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import optuna
import psycopg
import pytest
from filelock import Timeout
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from img2brain.errors import StoreError
from img2brain.home import Home
from img2brain.study import _postgres_trials
from img2brain.study._database_log import PostgresLog, SqliteLog, _DatabaseLog
from img2brain.study._search_log import SearchLog
from img2brain.study.log import existing_log, open_log
from img2brain.study.search import stored_studies
from img2brain.study.states import states
from tests.postgres import PASSWORD, Proxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres import Postgres

HOLDING = """
import sys
from img2brain.study._database_log import PostgresLog
log = PostgresLog(sys.argv[1], death_s=float(sys.argv[2]))
with log.lock("it"), log.attend("other"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(database: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Another process that holds the lock `it`, and gives signs of life."""
    started: list[subprocess.Popen[str]] = []

    def start(death_s: float = 60) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", HOLDING, database, str(death_s)]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def make_study(log: SearchLog, name: str = "s") -> optuna.Study:
    return optuna.create_study(storage=log.storage, study_name=name, direction="maximize", load_if_exists=True)


def test_a_lock_is_free_as_soon_as_its_process_is_killed(
    database: str, other: Callable[..., subprocess.Popen[str]]
) -> None:
    process, log, got = other(), PostgresLog(database), threading.Event()

    def wait() -> None:
        with log.lock("it"):
            got.set()

    with log.lock("another"):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not got.wait(0.3), "it is held"
        process.send_signal(signal.SIGKILL)
        assert got.wait(60)
        waiting.join()


@pytest.mark.slow
def test_a_worker_lives_as_long_as_it_gives_signs(database: str, other: Callable[..., subprocess.Popen[str]]) -> None:
    process, log = other(death_s=2), PostgresLog(database, death_s=2)
    assert log.living(["other", "nobody"]) == {"other"}
    assert log.living([]) == set()
    time.sleep(2.5)
    assert log.living(["other"]) == {"other"}
    os.kill(process.pid, signal.SIGSTOP)
    until(lambda: log.living(["other"]) == set())
    os.kill(process.pid, signal.SIGCONT)
    until(lambda: log.living(["other"]) == {"other"})
    process.communicate("")
    assert log.living(["other"]) == set(), "who ends says so"


def test_any_number_may_make_the_tables_at_once(database: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        logs = list(pool.map(lambda _: PostgresLog(database), range(8)))
    assert len({make_study(log).study_name for log in logs}) == 1


def test_a_storage_keeps_what_is_told(database: str, postgres: Postgres) -> None:
    study = make_study(PostgresLog(database))
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.set_user_attr("number", 0)
    study.tell(trial, 0.5)
    (kept,) = make_study(PostgresLog(database)).trials
    assert (kept.value, kept.user_attrs, kept.state) == (0.5, {"number": 0}, TrialState.COMPLETE)
    name = database.rpartition("/")[2]
    assert postgres.ask(name, "SELECT count(*) FROM trials") == "1", "as Optuna's own tools read it"


@pytest.fixture
def way(database: str, postgres: Postgres) -> Iterator[Proxy]:
    proxy = Proxy(postgres.port)
    yield proxy
    proxy.close()


@pytest.fixture
def far(database: str, postgres: Postgres, way: Proxy) -> str:
    """The database by a way that can be cut."""
    return postgres.url(database.rpartition("/")[2], port=way.port)


def test_a_cut_connection_is_waited_for(far: str, way: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    log = PostgresLog(far)
    study = make_study(log)
    trial = study.ask()
    way.cut()
    threading.Timer(2, way.mend).start()
    with caplog.at_level("WARNING", "img2brain"):
        study.tell(trial, 1.0)
    assert [trial.value for trial in study.trials] == [1.0]
    said = [record.getMessage() for record in caplog.records if record.name.startswith("img2brain")]
    assert len(said) == 2, "once that it is away, and once that it is back"
    assert PASSWORD not in caplog.text


def test_a_lock_that_was_lost_is_said(far: str, way: Proxy) -> None:
    log = PostgresLog(far)

    def lose() -> None:
        with log.lock("it"):
            way.cut()
            way.mend()

    with pytest.raises(StoreError, match=r"while the lock of 'it' is held\. It was away"):
        lose()
    with log.lock("it"):
        pass


def test_patience_has_an_end(far: str, way: Proxy) -> None:
    log = PostgresLog(far, patience_s=1)
    study = make_study(log)
    way.cut()
    with pytest.raises(StoreError, match=r"postgresql://lab:\*\*\*@127.0.0.1:\d+/test\d+ does not answer: .*goes on"):
        study.ask()
    way.mend()
    assert study.ask().number == 0


def test_news_are_what_may_have_changed(database: str, tmp_path: Path) -> None:
    for log in (PostgresLog(database), SqliteLog(f"sqlite:///{tmp_path}/a {{b}}%20.db")):
        study = make_study(log)
        first, second = study.ask(), study.ask()
        assert [trial.number for trial in log.news(study._study_id, (), 0)] == [0, 1]
        study.tell(first, 1.0)
        third = study.ask()
        news = log.news(study._study_id, {first._trial_id, second._trial_id}, 2)
        found = {(trial.number, trial.state) for trial in news} - {(1, TrialState.RUNNING)}  # as it was before
        assert found == {(0, TrialState.COMPLETE), (2, TrialState.RUNNING)}
        study.tell(third, 1.0)
        assert [trial.number for trial in log.news(study._study_id, {third._trial_id}, 3)] == [2]


def test_sqlite_locks_are_beside_the_file(tmp_path: Path) -> None:
    logs = [SqliteLog(f"sqlite:///{tmp_path}/new/s.db") for _ in range(2)]
    with logs[0].attend("one"):
        assert logs[1].living(["one", "two"]) == {"one"}
    with logs[0].lock("it"), pytest.raises(Timeout):
        logs[1].lock("it").acquire(timeout=0)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"The search log .*s\.db cannot be written: Not a directory"):
        SqliteLog(f"sqlite:///{tmp_path}/file/s.db")
    (tmp_path / "none.db").write_bytes(b"none" * 1000)
    with pytest.raises(StoreError, match=r"The search log .*none\.db does not answer: file is not a database"):
        SqliteLog(f"sqlite:///{tmp_path}/none.db")


def test_any_number_may_write_to_one_file(tmp_path: Path) -> None:
    log = SqliteLog(f"sqlite:///{tmp_path}/s.db")
    study = make_study(log)

    def tell(number: int) -> None:
        trial = study.ask()
        trial.set_user_attr("number", number)
        study.tell(trial, float(number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(tell, range(20)))
    assert sorted(trial.value or 0 for trial in study.trials) == list(range(20))


def test_what_will_not_pass_is_refused_at_once(postgres: Postgres, database: str) -> None:
    name = database.rpartition("/")[2]
    wrong = {
        postgres.url(name, password="guess-work"): "password authentication failed",
        postgres.url(name, password=None): "no password supplied. Name it in PGPASSFILE, or in IMG2BRAIN_STORAGE",
        postgres.url("nowhere"): 'database "nowhere" does not exist',
        "postgresql://[": "invalid|missing|end of string",
        postgres.url(name) + "?nonsense=1": "invalid.*nonsense",
    }
    for url, reason in wrong.items():
        start = time.monotonic()
        with pytest.raises(
            StoreError, match=rf"^The search log postgresql://.* does not answer: .*({reason})"
        ) as caught:
            PostgresLog(url)
        assert time.monotonic() - start < 5, "it waits for 10 s where waiting may help"
        assert "\n" not in str(caught.value)
        assert "guess-work" not in str(caught.value)


OUTCOMES = [0.1, 1e-300, -0.0, math.inf, -math.inf, None]


def tried(number: int) -> optuna.trial.FrozenTrial:
    """A trial as a search makes it, with each kind of parameter."""
    return optuna.create_trial(
        state=TrialState.RUNNING,
        params={"alpha": 0.1 + number, "size": 3, "kind": "b", "none": None},
        distributions={
            "alpha": FloatDistribution(1e-3, 1e6, log=True), "size": IntDistribution(1, 10),
            "kind": CategoricalDistribution(["a", "b"]), "none": CategoricalDistribution([None, 1.5, "x"]),
        },
        user_attrs={"number": number, "worker": "me", "said": {"x": [1, None, "\u0000 é"]}},
    )  # fmt: skip


def test_what_is_made_and_told_is_what_optuna_writes(database: str) -> None:
    log = PostgresLog(database)
    ours, theirs = (make_study(log, name)._study_id for name in ("ours", "theirs"))
    for number, value in enumerate(OUTCOMES):
        state, said = TrialState.PRUNED if value is None else TrialState.COMPLETE, {"spec": {"a": 1}, "number": -number}
        assert log.tell(log.make(ours, tried(number)), said, state, value)
        assert SearchLog.tell(log, SearchLog.make(log, theirs, tried(number)), said, state, value)
    log.make(ours, tried(9))
    SearchLog.make(log, theirs, tried(9))
    one, other, read = (
        _DatabaseLog.news(log, ours, (), 0),
        _DatabaseLog.news(log, theirs, (), 0),
        log.news(ours, (), 0),
    )
    for trials in zip(one, other, read, strict=True):
        first, *others = map(_shown, trials)
        assert others == [first, first]
    assert [trial.datetime_complete for trial in read] == [trial.datetime_complete for trial in one]
    assert [trial.datetime_start for trial in read] == [trial.datetime_start for trial in one]


def _shown(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    return {
        name: value for name, value in sorted(vars(trial).items()) if "datetime" not in name and name != "_trial_id"
    }


def test_a_trial_that_is_over_is_not_told_again(database: str) -> None:
    log = PostgresLog(database)
    trial = log.make(make_study(log)._study_id, tried(0))
    assert log.tell(trial, {"by": "one"}, TrialState.FAIL)
    assert not log.tell(trial, {"by": "other"}, TrialState.COMPLETE, 1.0)
    (kept,) = make_study(log).trials
    assert (kept.state, kept.user_attrs["by"], kept.values) == (TrialState.FAIL, "one", None)


def test_a_trial_that_was_made_and_not_heard_of_is_made_once(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log, make = PostgresLog(database), _postgres_trials.make
    study = make_study(log)._study_id

    def cut(*args: Any) -> int:
        monkeypatch.setattr(_postgres_trials, "make", make)
        make(*args)
        raise psycopg.OperationalError("cut")

    log.make(study, tried(0))
    monkeypatch.setattr(_postgres_trials, "make", cut)
    trial = log.make(study, tried(1))
    assert [item._trial_id for item in log.news(study, (), 1)] == [trial]


def test_a_worker_keeps_few_connections(database: str, postgres: Postgres) -> None:
    log = PostgresLog(database)
    study = make_study(log)._study_id
    with log.attend("me"), log.lock("it"):
        for number in range(4):
            log.tell(log.make(study, tried(number)), {}, TrialState.COMPLETE, 1.0)
    made = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'img2brain' AND datname = current_database()"
    assert int(postgres.ask(database.rpartition("/")[2], made)) <= 2


def test_a_number_is_taken_once_also_without_the_lock(database: str) -> None:
    logs = [PostgresLog(database) for _ in range(4)]
    study = make_study(logs[0])._study_id
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: logs[number % 4].make(study, tried(number)), range(24)))
    assert [trial.number for trial in logs[0].news(study, (), 0)] == list(range(24))


def test_what_only_reads_makes_no_tables(database: str, postgres: Postgres, tmp_path: Path) -> None:
    home = Home(tmp_path / "home", storage=database)
    assert (stored_studies(home), states(home)) == ({}, [])
    name = database.rpartition("/")[2]
    assert postgres.ask(name, "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'") == "0"
    make_study(open_log(home))
    assert set(stored_studies(home)) == {"s"}


def test_tables_of_another_version_are_refused(database: str, postgres: Postgres) -> None:
    PostgresLog(database)
    postgres.ask(database.rpartition("/")[2], "UPDATE alembic_version SET version_num = 'v9.9.9.a'")
    with pytest.raises(StoreError, match=r"must be of version v.*Got v9\.9\.9\.a"):
        PostgresLog(database)


def test_a_tell_that_was_not_heard_of_is_told_once(database: str) -> None:
    log = PostgresLog(database)
    study = make_study(log)
    trial, inner = study.ask(), log.storage._storage  # type: ignore[attr-defined]
    tell: Any = inner.set_trial_state_values

    def cut(*args: Any) -> bool:
        inner.set_trial_state_values = tell
        tell(*args)
        raise optuna.exceptions.StorageInternalError from __import__("psycopg").OperationalError("cut")

    inner.set_trial_state_values = cut
    study.tell(trial, 2.0)
    assert study.trials[0].value == 2.0
    with pytest.raises(Exception, match="Cannot tell a COMPLETE trial"):
        study.tell(trial, 3.0)


def test_what_only_reads_makes_no_database(tmp_path: Path) -> None:
    home = Home(tmp_path / "home", storage=f"sqlite:///{tmp_path / 'absent' / 'searches.db'}")
    assert existing_log(home) is None
    assert stored_studies(home) == {}
    assert not (tmp_path / "absent").exists()
    open_log(home).storage.get_all_studies()
    assert existing_log(home) is not None
