"""The home's own database, read without MLflow: it answers as MLflow does."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from img2brain.home import Home
from img2brain.leaderboard.collect import collect
from img2brain.tracking import reading
from img2brain.tracking._local import LocalStore, open_to_read
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.names import HOME, KIND, STUDY
from img2brain.tracking.registry import CHAMPION, Registry
from img2brain.tracking.upkeep import holdings

if TYPE_CHECKING:
    from tests.conftest import Finished

QUERIES = (
    f"tags.`{KIND}` = 'trial' and attributes.status = 'FINISHED'",
    f"tags.`{KIND}` = 'trial' and attributes.status = 'FAILED'",
    f"tags.`{KIND}` = 'study'",
    f"tags.`{STUDY}` = 'no such study' and tags.`{KIND}` = 'trial'",
)
SHOWING = "study list, study show small, leaderboard show, model list, model show sample, home show"


@pytest.fixture
def home(finished: Finished, tmp_path: Path) -> Home:
    """A copy of a home in which a study was run, to change at will."""
    return Home(shutil.copytree(finished.home, tmp_path / "home", copy_function=shutil.copy2))


def as_told(store: TrackingStore) -> dict[str, Any]:
    """All that is asked of a store by those who read."""
    client = store.client
    experiments = {item.experiment_id: item.name for item in client.search_experiments()}
    runs = [list(reading.search(store, list(experiments), query)) for query in QUERIES]
    return {
        "experiments": experiments,
        "runs": [[(run.info.run_id, run.info.artifact_uri, run.info.status) for run in found] for found in runs],
        "tags": [[run.data.tags for run in found] for found in runs],
        "one": [client.get_run(run.info.run_id).data.tags for found in runs for run in found],
        "versions": Registry(store).versions(),
        "of a name": [Registry(store).versions(name) for name in ("sample", "no such model")],
        "absent": store.find_run("0" * 32),
    }


def require_the_same(home: Home) -> dict[str, Any]:
    local = open_to_read(home)
    assert isinstance(local, LocalStore)
    found = as_told(local)
    assert found == as_told(TrackingStore(home))
    return found


def test_it_answers_as_mlflow_does(home: Home) -> None:
    TrackingStore(home)  # brings the paths of the copy up to date
    found = require_the_same(home)
    assert [len(runs) for runs in found["runs"]] == [9, 0, 1, 0]
    assert found["versions"][0].aliases == (CHAMPION,)


def test_it_follows_what_is_changed_in_mlflow(home: Home) -> None:
    store = TrackingStore(home)
    client, before = store.client, require_the_same(home)
    ids = [run_id for run_id, *_ in before["runs"][0]]
    for run_id in ids[:2]:
        client.delete_run(run_id)
    client.set_terminated(ids[2], "FAILED")
    client.create_model_version("sample", "file:///nowhere", ids[3], {"a": "1"})
    client.set_registered_model_alias("sample", CHAMPION, "2")
    client.create_registered_model("another")
    client.delete_experiment(client.create_experiment("gone"))
    after = require_the_same(home)
    assert [len(runs) for runs in after["runs"]] == [6, 1, 1, 0]
    assert [item.version for item in after["versions"] if CHAMPION in item.aliases] == ["2"]
    assert holdings(home).n_models == 2
    assert len(collect(home)) == 6
    client.delete_model_version("sample", "2")
    assert [item.version for item in require_the_same(home)["versions"]] == ["1"]


def test_equal_times_are_ordered_as_by_mlflow(home: Home) -> None:
    store = TrackingStore(home)
    experiment = store.experiment("sample")
    for _ in range(8):
        store.client.create_run(experiment, start_time=1, tags={KIND: "study", HOME: home.id})
    require_the_same(home)


def test_a_home_that_tracked_nothing_holds_nothing_and_gets_no_database(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert collect(home) == []
    assert holdings(home).n_runs == 0
    assert not home.database.exists()


@pytest.mark.parametrize("change", ["DROP TABLE tags", "ALTER TABLE runs RENAME COLUMN status TO state"])
def test_mlflow_answers_for_a_database_that_is_not_as_it_should_be(home: Home, change: str) -> None:
    with closing(sqlite3.connect(home.database)) as connection, connection:
        connection.execute(change)
    with pytest.raises(sqlite3.OperationalError):
        LocalStore(home)


def test_mlflow_answers_for_runs_of_the_first_format(home: Home) -> None:
    store = TrackingStore(home)
    store.client.create_run(store.experiment("sample"), tags={KIND: "trial"})
    assert not isinstance(open_to_read(home), LocalStore)


def test_mlflow_answers_for_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "home", tracking_uri=f"sqlite:///{tmp_path}/other.db")
    assert not isinstance(open_to_read(home), LocalStore)


def test_an_unknown_question_is_not_answered_wrongly(home: Home) -> None:
    client = LocalStore(home).client
    for query in ("tags.`a` = 'b' or tags.`a` = 'c'", "attributes.status != 'FAILED'", "metrics.r > 1"):
        with pytest.raises(ValueError, match="A condition must be"):
            client.search_runs(["1"], query)


@pytest.mark.parametrize("command", SHOWING.split(", "))
def test_what_lists_or_shows_does_not_load_the_heavy_libraries(command: str, home: Home) -> None:
    open_to_read(home)
    heavy = "{'mlflow', 'torch', 'torchvision', 'sklearn', 'plotly', 'sqlalchemy', 'scipy.stats'}"
    check = f"assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    words = [*command.split(), "--home", str(home.folder)]
    program = f"import sys; from img2brain.cli import main; main({words}, standalone_mode=False); {check}"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout
