"""Homes in which files are lost, cut, edited or foreign: said on one line, and all else is still there."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from img2brain.errors import RecordError, TrackingError
from img2brain.home import Home
from img2brain.leaderboard.collect import collect
from img2brain.leaderboard.site.build import build
from img2brain.study.runner import run_study
from img2brain.tracking._local import open_to_read
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import read_study
from img2brain.tracking.upkeep import problems

if TYPE_CHECKING:
    from tests.conftest import Finished, Launcher, NewHome


def remove(database: Path) -> None:
    database.unlink()


def empty(database: Path) -> None:
    database.write_bytes(b"")


@pytest.mark.parametrize("lose", [remove, empty])
@pytest.mark.parametrize("opened", [TrackingStore, open_to_read])
def test_no_new_database_is_made_beside_artifacts(
    finished_copy: Path, lose: Callable[[Path], None], opened: Callable[[Home], object]
) -> None:
    home = Home(finished_copy)
    for path in finished_copy.glob("mlflow.db-*"):
        path.unlink()
    lose(home.database)
    before = sorted(path.name for path in finished_copy.glob("mlflow.db*"))
    with pytest.raises(
        TrackingError, match=r"mlflow\.db holds no run, though .* holds the artifacts of \d+\. Put a copy"
    ):
        opened(home)
    assert sorted(path.name for path in finished_copy.glob("mlflow.db*")) == before


def test_a_lost_database_is_tracked_anew_where_the_artifacts_are_moved_away(
    finished: Finished, finished_copy: Path
) -> None:
    (finished_copy / "mlflow.db").unlink()
    (finished_copy / "artifacts").rename(finished_copy / "artifacts-before")
    outcome = run_study(finished.spec, finished_copy)
    assert outcome.trials == finished.outcome.trials
    assert len(collect(Home(finished_copy))) == 9


def test_damaged_bytes_in_the_database_are_told_on_one_line(
    img2brain: Launcher, finished_copy: Path, study_file: Callable[..., Path], tmp_path: Path
) -> None:
    database = finished_copy / "mlflow.db"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with database.open("rb+") as stream:
        for page in range(1, database.stat().st_size // 4096):
            stream.seek(4096 * page)
            stream.write(b"\xa5" * 64)
    before = database.read_bytes()
    for words in (("leaderboard", "show"), ("study", "run", study_file(tmp_path)), ("home", "check")):
        process = img2brain.run(*words, "--home", finished_copy)
        assert process.code == 2, process.stderr
        said = process.stderr or process.stdout
        assert "Traceback" not in said
        assert "mlflow.db" in said or "damaged" in said
    assert database.read_bytes() == before


def test_a_cut_array_is_found(finished_copy: Path) -> None:
    home = Home(finished_copy)
    assert open_to_read(home).uri
    assert problems(home) == []
    path = next((finished_copy / "artifacts").rglob("accuracy.npy"))
    os.truncate(path, path.stat().st_size - 8)
    ((line, _),) = problems(home)
    assert f"must have a whole file {path}. Got: " in line


def test_foreign_and_edited_runs_are_left_out_of_the_board(
    finished_copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(finished_copy)
    store = TrackingStore(home)
    experiment = store.client.get_experiment_by_name("sample").experiment_id
    for tags in ({"img2brain.kind": "trial"}, {"img2brain.kind": "trial", "img2brain.home": "x"}):
        run = store.client.create_run(experiment, tags=tags)
        store.client.set_terminated(run.info.run_id)
    for path in (finished_copy / "artifacts").rglob("confirmation/*estimate.npy"):
        os.truncate(path, 40)
    rows = collect(home)
    assert len(rows) == 8, "the trial that was confirmed is left out too"
    assert sum("is left out: " in line for line in caplog.messages) == 3


def test_a_published_row_whose_array_is_damaged_is_left_out_of_the_site(
    finished_copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (finished_copy / "artifacts").rglob("confirmation/accuracy.npy"):
        os.truncate(path, 40)
    rows = collect(Home(finished_copy), whole=True)
    assert len(rows) == 8
    assert build(rows, tmp_path / "site")
    assert sum("is left out: " in line for line in caplog.messages) == 1


def test_a_study_whose_record_is_not_written_yet_is_no_traceback(finished_copy: Path) -> None:
    store = TrackingStore(Home(finished_copy))
    experiment = store.client.get_experiment_by_name("sample").experiment_id
    tags = {"img2brain.kind": "study", "img2brain.home": "x", "img2brain.study": "s-1"}
    run = store.client.create_run(experiment, tags=tags)
    with pytest.raises(RecordError, match=rf"The run {run.info.run_id} must be one of img2brain\. Got IndexError"):
        read_study(store, run)


def test_what_mlflow_raises_is_not_logged_with_its_stack_too(
    new_home: NewHome, capfd: pytest.CaptureFixture[str]
) -> None:
    home = Home(new_home())
    store = TrackingStore(home)
    with contextlib.closing(sqlite3.connect(home.database)) as connection, connection:
        connection.execute("DROP TABLE experiments")
    with pytest.raises(TrackingError, match="no such table: experiments"):
        store.experiment("another")
    assert capfd.readouterr().err == ""
