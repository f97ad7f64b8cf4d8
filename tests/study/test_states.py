from __future__ import annotations

import json
import math
from collections.abc import Callable
from json import JSONDecoder
from pathlib import Path
from typing import Any

import optuna
import pytest

from img2brain.errors import SpecError
from img2brain.home import Home
from img2brain.study._said import FAILURE, FINISHED, FINISHER, NUMBER, SPEC, WORKER
from img2brain.study.log import open_log
from img2brain.study.signs import at_work
from img2brain.study.states import states, states_of


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def made(home: Home, n_told: int, n_failed: int = 0, n_asked: int = 0) -> optuna.Study:
    """Log a study of ten trials: so many told, of which so many failed, and so many asked and not told."""
    study = optuna.create_study(storage=open_log(home).storage, study_name="s-1", direction="maximize")
    study.set_user_attr(SPEC, {"trials": 10})
    for number in range(n_told + n_asked):
        trial = study.ask()
        trial.set_user_attr(NUMBER, number)
        trial.set_user_attr(WORKER, "mine")
        if number < n_failed:
            trial.set_user_attr(FAILURE, f"FitError: {number % 2}")
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        elif number < n_told:
            study.tell(trial, number / 10)
    return study


def test_a_study_runs_as_long_as_a_worker_lives_and_is_stopped_after_it(home: Home) -> None:
    made(home, n_told=4, n_asked=1)
    with open_log(home).attend("mine"):
        (found,) = states(home)
    assert (found.state, found.n_workers, found.n_trials, found.n_running) == ("running", 1, 4, 1)
    assert (found.n_wanted, found.best) == (10, 0.3)
    assert found.per_hour is not None
    assert found.per_hour > 0
    assert found.ends is not None
    (found,) = states(home)
    assert (found.state, found.n_workers, found.n_running, found.ends) == ("stopped", 0, 0, None)


def test_a_study_runs_as_long_as_a_worker_of_another_home_tracks_and_publishes_it(home: Home) -> None:
    study = made(home, n_told=10)
    study.set_user_attr(FINISHER, "theirs")
    with open_log(home).attend("theirs"):
        (found,) = states(home)
    assert (found.state, found.n_workers, found.ends) == ("running", 1, None)
    study.set_user_attr(FINISHED, 10)
    (found,) = states(home)
    assert (found.state, found.n_workers) == ("finished", 0)


def test_a_study_runs_also_while_its_features_are_computed(home: Home) -> None:
    made(home, n_told=0)
    with at_work(home, "s-1"):
        (found,) = states(home)
    assert (found.state, found.n_workers) == ("running", 0)
    (found,) = states(home)
    assert found.state == "waiting"


def test_a_study_is_listed_before_it_is_stored(home: Home) -> None:
    with at_work(home, "s") as sign, at_work(home, "t-2"):
        assert [(found.study, found.state, found.n_trials) for found in states(home)] == [
            ("s", "running", 0), ("t-2", "running", 0),
        ]  # fmt: skip
        sign.say("s-1")
        assert [state.study for state, _ in states_of(home, "s")] == ["s-1"]
        made(home, n_told=1)
        assert [(found.study, found.n_trials) for found in states(home)] == [("s-1", 1), ("t-2", 0)]
    assert [(found.study, found.state) for found in states(home)] == [("s-1", "stopped")]


def test_what_a_killed_process_said_is_not_believed_and_goes(home: Home) -> None:
    (left,) = (home.lock_folders[0] / "study-abc.lock",)
    left.write_text("s-1")
    assert states(home) == []
    with at_work(home, "t"):
        assert not left.exists()
        assert [found.study for found in states(home)] == ["t"]
    assert not list(home.lock_folders[0].glob("study-*"))


@pytest.mark.parametrize("said", [b"", b"\xff", b"a\nb", "s".encode("utf-16")])
def test_a_sign_that_names_no_study_is_passed_over(said: bytes, home: Home) -> None:
    with at_work(home, "s"):
        (path,) = home.lock_folders[0].glob("study-*.lock")
        path.write_bytes(said)
        assert states(home) == []


def test_failures_are_counted_by_their_reason(home: Home) -> None:
    made(home, n_told=5, n_failed=3)
    (found,) = states(home)
    assert (found.n_failed, found.state) == (3, "stopped")
    assert dict(found.failures) == {"FitError: 0": 2, "FitError: 1": 1}


def test_a_study_waits_fails_or_is_finished(home: Home) -> None:
    study = made(home, n_told=0)
    (found,) = states(home)
    assert (found.state, found.best, found.per_hour) == ("waiting", None, None)
    study.set_user_attr(FINISHED, 1)
    study.tell(study.ask(), 0.5)
    (found,) = states(home)
    assert found.state == "finished"
    assert not math.isnan(found.best or math.nan)


def test_a_study_of_which_all_failed_has_failed(home: Home) -> None:
    made(home, n_told=2, n_failed=2)
    (found,) = states(home)
    assert (found.state, found.best) == ("failed", None)


def test_a_home_without_searches_has_none_and_gets_none(home: Home) -> None:
    assert states(home) == []
    assert not home.search_log.exists()


@pytest.mark.parametrize("look", [states, lambda home: states_of(home, "s")])
def test_who_looks_at_studies_replays_the_log_once(
    home: Home, look: Callable[[Home], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    made(home, n_told=0, n_asked=3)
    replayed: list[Any] = []

    def loads(text: Any, **options: Any) -> Any:
        replayed.append(text)
        return JSONDecoder(**options).decode(text if isinstance(text, str) else text.decode())

    monkeypatch.setattr(json, "loads", loads)
    look(home)
    lines = home.search_log.read_bytes().splitlines(keepends=True)
    assert [text for text in replayed if text in lines] == lines


def test_a_study_that_is_not_there_is_told_with_those_that_are(home: Home) -> None:
    made(home, n_told=0, n_asked=1)
    ((state, trials),) = states_of(home, "s")
    assert (state.study, trials) == ("s-1", [])
    assert states_of(home, "s-1")[0][0] == state
    with pytest.raises(SpecError, match=r"No study is stored as 't'\. .*s-1"):
        states_of(home, "t")
