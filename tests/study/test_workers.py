"""Several workers of one study: what each of them asks, tells and tracks, alive or dead."""

from __future__ import annotations

import contextlib
import json
import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from img2brain import run_study
from img2brain.errors import ResourceError, SpecError, StoreError
from img2brain.home import Home
from img2brain.logs import JsonLines
from img2brain.spec import load_study
from img2brain.study import runner, workers
from img2brain.study.runner import Run, join_study
from img2brain.study.search import Asked, Search, ToldTrial
from img2brain.study.setting import make_ready
from img2brain.tracking._store import TrackingStore
from tests.study.test_search import SAMPLERS, ask, make, tell, work

if TYPE_CHECKING:
    from tests.conftest import NewHome

N_TRIALS = 10


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[ToldTrial]]:
    """What one worker alone tells, by sampler."""
    known = {name: work(make(tmp_path_factory.mktemp(name), name), N_TRIALS) for name in SAMPLERS}
    return known.__getitem__


class Staff:
    """Workers of one study that ask, tell and die as chance has it."""

    def __init__(self, folder: Path, sampler: str, chance: random.Random) -> None:
        self._make, self._chance = partial(make, folder, sampler), chance
        self._asked: dict[Search, list[Asked]] = {}
        self._signs: dict[Search, contextlib.ExitStack] = {}

    def step(self) -> bool:
        """Let one of them do something; return whether there is anything left."""
        if len(self._asked) < 3:
            self._hire()
        worker = self._chance.choice(list(self._asked))
        if self._asked[worker]:
            self._go_on(worker)
        elif (found := worker.ask(N_TRIALS)) is not None:
            self._asked[worker].append(found)
        return worker.n_told(N_TRIALS) < N_TRIALS

    def __enter__(self) -> Staff:
        return self

    def __exit__(self, *exception: object) -> None:
        for signs in self._signs.values():
            signs.close()

    def _hire(self) -> None:
        worker = self._make()
        self._asked[worker], self._signs[worker] = [], contextlib.ExitStack()
        self._signs[worker].enter_context(worker.attend())

    def _go_on(self, worker: Search) -> None:
        if self._chance.random() < 0.2:
            self._signs.pop(worker).close()
            del self._asked[worker]
        else:
            assert tell(worker, self._asked[worker].pop())


@pytest.mark.parametrize("sampler", ["random", "grid"])
@settings(max_examples=4)
@given(seed=st.integers(0, 1000))
def test_any_number_of_workers_give_what_one_gives(
    tmp_path_factory: pytest.TempPathFactory, alone: Any, sampler: str, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("several")
    with Staff(folder, sampler, random.Random(seed)) as staff:
        while staff.step():
            pass
    assert make(folder, sampler).told() == alone(sampler)


def test_a_number_is_its_workers_own_as_long_as_that_lives(tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path)
    with first.attend():
        of_first = ask(first, 0)
        assert ask(second, 1).number == 1
    third = make(tmp_path)
    again = third.ask(2)
    assert again is not None
    assert (again.number, again.params) == (0, of_first.params), "asked again as it was"
    assert not tell(first, of_first), "it was thought dead"
    assert tell(third, again)
    assert [trial.number for trial in third.told()] == [0]


def test_a_number_that_two_trials_have_is_free_when_both_are_cut_off(tmp_path: Path) -> None:
    first, second, third = (make(tmp_path) for _ in range(3))
    with first.attend(), second.attend():
        asked = ask(first, 0)
        twice = second._made(0, *second._draw(0))  # as where a lock was lost with its connection
        assert tell(second, twice)
    assert ask(third, 1).number == 1, "the dead one's is closed, and the number is told"
    assert [trial.number for trial in third.told()] == [0]
    assert not tell(first, asked)


def test_no_two_workers_are_at_one_point(tmp_path: Path) -> None:
    searches = [make(tmp_path, regressors=["linear"]) for _ in range(6)]
    with contextlib.ExitStack() as living:
        for search in searches:
            living.enter_context(search.attend())
        found = [ask(search, number).suggestion.digest for number, search in enumerate(searches)]
    assert len(set(found)) == len(found)


def test_trials_of_a_log_without_numbers_are_numbered_by_their_order(tmp_path: Path) -> None:
    search = make(tmp_path)
    whole = work(search, 3)
    log = tmp_path / "optuna.log"
    log.write_text(log.read_text().replace('"number":', '"nothing":').replace('"worker":', '"nobody":'))
    again = make(tmp_path)
    assert again.told() == whole
    assert again.ask(3) is None
    assert ask(again, 3).number == 3


@pytest.fixture
def place(given_study: Path, new_home: NewHome) -> Home:
    return Home(new_home())


def runs_of(home: Home, status: str = "") -> list[Any]:
    store = TrackingStore(home)
    experiments = [item.experiment_id for item in store.client.search_experiments()]
    found = store.client.search_runs(experiments, "tags.`img2brain.kind` = 'trial'")
    return [run for run in found if not status or run.info.status == status]


def begin_run(run: Run, number: int) -> str:
    """Begin to track a trial, and go no further."""
    tracker = run.members[0].tracker
    tags = {"img2brain.kind": "trial", "img2brain.trial": str(number), "img2brain.worker": tracker._worker}
    return str(tracker._create_run("half", tags).info.run_id)


def test_what_a_living_worker_tracks_is_left_to_it(given_study: Path, place: Home) -> None:
    setting = make_ready(load_study(given_study), place)
    setting.extraction.now()
    living, dead, other = (Run(setting, setting.name) for _ in range(3))
    with living.search.attend():
        kept = begin_run(living, 0)
        begin_run(dead, 1)
        assert other.members[0].tracker.finished() == {}
        assert [run.info.run_id for run in runs_of(place)] == [kept]
    other.members[0].tracker.finished()
    assert runs_of(place) == []
    (parent,) = {run.members[0].tracker.run.info.run_id for run in (living, dead, other)}
    assert parent


def test_a_run_that_was_made_and_not_heard_of_is_dropped(given_study: Path, place: Home) -> None:
    setting = make_ready(load_study(given_study), place)
    setting.extraction.now()
    one, other = (Run(setting, setting.name) for _ in range(2))
    with one.search.attend(), other.search.attend():
        for number, run in enumerate((one, other)):
            begin_run(run, number)
            assert (asked := run.search.ask(number + 1)) is not None
            assert run._trial(asked) is not None
        kept = begin_run(other, 2)
        assert sorted(one.members[0].tracker.finished()) == [0, 1]
        assert {run.info.run_id for run in runs_of(place, "RUNNING")} == {kept}, "another is at work on it"
        assert other.members[0].tracker.finished().keys() == {0, 1}
        assert runs_of(place, "RUNNING") == [], "and no longer"


def test_a_trial_is_tracked_once_where_its_worker_stood_still_and_was_thought_dead(
    given_study: Path, place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = make_ready(load_study(given_study), place)
    setting.extraction.now()
    still, other = (Run(setting, setting.name) for _ in range(2))
    monkeypatch.setattr(still, "surely_alive_s", -1.0)
    tell = still.search.tell

    def stand_still(*told: Any) -> bool:
        counts = tell(*told)
        other.track_missing(other.search.told())
        return counts

    monkeypatch.setattr(still.search, "tell", stand_still)
    assert (asked := still.search.ask(1)) is not None
    assert still._trial(asked) is not None
    (kept,) = runs_of(place)
    assert kept.data.tags["img2brain.worker"] == other.search.worker


def test_a_worker_joins_by_name_and_finishes_once(
    given_study: Path, place: Home, caplog: pytest.LogCaptureFixture
) -> None:
    spec = load_study(given_study)
    begun = join_study(spec, place, finish=False)
    assert begun is None
    assert len(runs_of(place, "FINISHED")) == 3
    outcome = join_study("given", place)
    assert outcome is not None
    assert outcome.published is not None
    assert join_study(outcome.name, place) is None, "it is finished"
    caplog.clear()
    with pytest.MonkeyPatch.context() as patched, caplog.at_level("INFO", "img2brain"):
        patched.setattr(runner, "Run", pytest.fail)  # neither are features computed, nor is anything tracked
        assert join_study(spec, place) is None
        patched.setattr(runner, "make_ready", pytest.fail)
        assert join_study("given", place) is None
    assert caplog.text.count(f"{outcome.name} is finished") == 2
    again = run_study(spec, place)
    assert again.trials == outcome.trials
    assert len(runs_of(place)) == 3


def test_what_is_told_names_its_study_and_trial(
    given_study: Path, place: Home, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "img2brain"):
        caplog.handler.setFormatter(JsonLines())
        outcome = run_study(load_study(given_study), place)
    lines = [json.loads(line) for line in caplog.text.splitlines()]
    of_trials = {line["trial"] for line in lines if line.get("trial") is not None}
    assert of_trials == {trial.number for trial in outcome.trials}
    assert {line["study"] for line in lines if line.get("trial") is not None} == {outcome.name}


def test_a_study_that_is_not_there_or_of_other_data_is_not_joined(
    given_study: Path, place: Home, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=r"No study is stored as 'given'\."):
        join_study("given", place)
    join_study(load_study(given_study), place, finish=False)
    with pytest.raises(SpecError, match=r"No study is stored as 'givne'\. Known: given-"):
        join_study("givne", place)
    search = Run(make_ready(load_study(given_study), place), "given-0000000").search
    search.study.set_user_attr("spec", load_study(given_study).model_dump(mode="json", exclude_unset=True))
    with pytest.raises(SpecError, match="must be named in full where several have a name"):
        join_study("given", place)
    with pytest.raises(SpecError, match=r"must be those that it was begun with\. Here they make the study given-"):
        join_study("given-0000000", place)


@pytest.mark.parametrize("n_workers", [0, -1])
def test_workers_are_counted_from_one(given_study: Path, tmp_path: Path, n_workers: int) -> None:
    with pytest.raises(SpecError, match=r"The number of 'workers' must be >= 1\. Got"):
        run_study(load_study(given_study), tmp_path, workers=n_workers)


def test_a_machine_is_not_asked_for_more_workers_than_it_bears(
    given_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "n_cores", lambda: 2)
    with pytest.raises(SpecError, match=r"The number of 'workers' must be <= 16 on this machine\. Got 17\."):
        run_study(load_study(given_study), tmp_path, workers=17)


def test_no_more_workers_are_started_than_trials_are_left(tmp_path: Path) -> None:
    n_over = iter([0, 1, 2, 3])
    with workers.Crew("s-1", Home(tmp_path), 5, [sys.executable, "-c", "import sys; sys.stdin.read()"]) as crew:
        crew.watch(lambda: next(n_over), 3)
        assert len(crew._workers) == 3
        for worker in crew._workers.values():
            worker.end(at_once=True)


def test_a_worker_that_stands_still_when_all_is_over_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers.Worker, "patience_s", 0.2)
    still = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    n_over = iter([0, 1])
    with workers.Crew("s-1", Home(tmp_path), 1, [sys.executable, "-c", still]) as crew:
        crew.watch(lambda: next(n_over), 1)
    assert crew._workers[1].has_ended
    assert caplog.messages == ["worker 1 does not end: it is killed"]


def test_data_that_are_handed_over_have_one_worker(given_study: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"must have 1 of 'workers'\. Got 2\."):
        run_study(load_study(given_study), tmp_path, dataset=[], workers=2)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Workers that end at once, with a line."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'Error: no luck.' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))


def test_workers_that_end_at_once_are_given_up(failing: None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reason = r"The workers of s-1 ended 7 times in a row .* ended with code 1 and said: no luck\. No trial is lost"
    with pytest.raises(ResourceError, match=reason), workers.Crew("s-1", Home(tmp_path), 2) as crew:
        crew.watch(lambda: 0, 1)
    assert "worker 1 ended with code 1 and said: no luck: it is started again" in caplog.text


def test_no_worker_is_started_again_where_the_disk_is_full(failing: None, small_disk: Path) -> None:
    home = Home(small_disk / "home")
    (small_disk / "filler").write_bytes(bytes(700_000))
    reason = "The home folder .*home cannot be written: No space left on device"
    with pytest.raises(StoreError, match=reason), workers.Crew("s-1", home, 2) as crew:
        crew.watch(lambda: 0, 1)
    assert not list((home.folder / "locks").glob("*.probe"))


def test_workers_share_the_processors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(workers, "n_cores", lambda: 8)
    for n_workers, expected in ((1, "8"), (3, "2"), (20, "1")):
        crew = workers.Crew("s-1", Home(tmp_path), n_workers)
        environment = crew._command.environment
        assert environment["OMP_NUM_THREADS"] == environment["OPENBLAS_NUM_THREADS"] == expected
        assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
        assert crew._command.words[-4:-2] == ["--threads", expected]
