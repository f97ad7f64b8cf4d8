"""What somebody else wrote into a search log: it is read as it was written, or refused on one line."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from optuna.study import StudyDirection

from img2brain.errors import Img2BrainError, SpecError, StoreError
from img2brain.home import Home
from img2brain.study.log import open_log
from img2brain.study.search import stored_spec, stored_studies, stored_trials
from img2brain.study.states import states, states_of
from tests.study.test_search import TABLE, make, work

ODD: list[Any] = [None, True, -1, 1.5, float("inf"), "", "x", [], ["x"], {}, {"a": 1}, 10**30]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """A search log of two trials, line by line."""
    folder = tmp_path_factory.mktemp("log")
    search = make(folder)
    for name, value in (("spec", TABLE), ("finished", 2)):
        search.study.set_user_attr(name, value)
    work(search, 2)
    return [json.loads(line) for line in (folder / "optuna.log").read_text().splitlines()]


def read_all(home: Home) -> None:
    """Read a search log in every way."""
    for read in (states, stored_studies, stored_trials):
        read(home)
    states_of(home, "s")
    stored_spec(home, "s")


def changed(home: Home, lines: list[dict[str, Any]], name: str, value: Any) -> Home:
    """Say something else wherever a log says something under a name."""
    table = next(key for line in lines for key in ("user_attr", "user_attrs") if name in line.get(key, ()))
    written = [line | {table: line[table] | {name: value}} if name in line.get(table, ()) else line for line in lines]
    home.search_log.write_text("".join(json.dumps(line) + "\n" for line in written))
    return home


@pytest.mark.parametrize("name", ["study", "home", "spec", "finished", "number", "worker", "point"])
def test_what_is_said_is_of_the_type_that_is_written_or_refused(
    lines: list[dict[str, Any]], tmp_path: Path, name: str
) -> None:
    home, refused = Home(tmp_path), []
    for value in ODD:
        try:
            read_all(changed(home, lines, name, value))
        except Img2BrainError as error:
            refused.append((value, error))
    of_type = {"study": dict, "spec": dict, "finished": int, "number": int}.get(name, str)
    others = [value for value in ODD if type(value) is not of_type or value == -1]
    stored = [(value, error) for value, error in refused if isinstance(error, StoreError)]
    assert [value for value, _ in stored if value in others] == others
    assert all(str(error).count("\n") == 0 and name in str(error) for value, error in stored if value in others)
    rest = [error for value, error in refused if value not in others]
    assert all(isinstance(error, StoreError | SpecError) for error in rest), "a spec of other keys, a spec of no trial"


def test_how_many_trials_there_will_be_is_a_number_or_not_said(lines: list[dict[str, Any]], tmp_path: Path) -> None:
    for trials in ODD:
        (state,) = states(changed(Home(tmp_path), lines, "spec", TABLE | {"trials": trials}))
        assert state.n_wanted == (trials if trials == 10**30 else None)
    (state,) = states(changed(Home(tmp_path), lines, "spec", TABLE | {"trials": 1}))
    assert (state.n_trials, state.n_wanted) == (2, 2), "a run that asks for fewer takes none away"


@pytest.mark.parametrize("text", ["garbage", "", '{"a": ', "nan"])
def test_what_is_no_json_in_a_database_is_told_on_one_line(tmp_path: Path, text: str) -> None:
    storage = f"sqlite:///{tmp_path}/s.db"
    home = Home(tmp_path / "home", storage=storage)
    log = open_log(home)
    study = log.storage.create_new_study([StudyDirection.MAXIMIZE], "s-1")
    log.storage.set_study_user_attr(study, "study", {})
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection, connection:
        connection.execute("UPDATE study_user_attributes SET value_json = ?", [text])
    with pytest.raises(StoreError, match=r"s\.db must be as it was written\. Something in it cannot be read as JSON"):
        read_all(home)
