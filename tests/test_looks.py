"""The chain of looks: what is dropped, changed or moved shows, and nothing is lost or counted twice."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain import looks
from img2brain.errors import RecordError
from img2brain.home import Home
from img2brain.records import LookRecord
from img2brain.study.runner import run_study
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import tracked_trials
from img2brain.tracking.tracker import Tracker
from tests.leaderboard.conftest import confirmation_of, region_record, trial_record

if TYPE_CHECKING:
    from tests.conftest import Finished, Launcher, MakeSpec, NewHome

ARRAYS = {"accuracy": np.zeros(3)}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def a_look(number: int = 0, rows: str = "rows") -> LookRecord:
    return looks.look_at(trial_record(number=number), rows, ARRAYS, np.ones((2, 3)))


def test_a_look_is_counted_among_those_at_its_rows_and_once_alone(home: Home) -> None:
    assert looks.chain_of(home) == []
    counts = [looks.add(home, a_look(number, rows)) for number, rows in enumerate(["one", "one", "other", "one"])]
    assert counts == [1, 2, 1, 3]
    before = home.looks.read_bytes()
    assert looks.add(home, a_look(1, "one")) == 2
    assert home.looks.read_bytes() == before


def test_looks_that_are_known_come_first_and_are_marked(home: Home) -> None:
    earlier = [trial_record(number=number) for number in (7, 8)]
    parts = [
        confirmation_of(trial, region_record(0.3), rows="rows", looks=looks)
        for trial, looks in zip(earlier, (2, 1), strict=True)
    ]
    known = looks.unchained(zip(earlier, parts, strict=True))
    assert looks.add(home, a_look(), known) == 3
    assert [(item.unchained, item.trial) for item in looks.chain_of(home)] == [
        (True, earlier[1].digest),
        (True, earlier[0].digest),
        (False, trial_record().digest),
    ]
    assert looks.add(home, a_look(1), known) == 4


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lines: lines[1:],
        lambda lines: lines[:1] + lines[2:],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [lines[0].replace('"rows": "rows"', '"rows": "othe"'), *lines[1:]],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [*lines[:2], "{", *lines[3:]],
        lambda lines: [*lines[:2], "3", *lines[3:]],
        lambda lines: [lines[0].replace('"when"', '"wh"'), *lines[1:]],
    ],
    ids=["first dropped", "one dropped", "moved", "changed", "doubled", "no JSON", "no table", "another key"],
)
def test_a_chain_that_was_edited_is_refused(home: Home, spoil: Any) -> None:
    for number in range(4):
        looks.add(home, a_look(number))
    lines = home.looks.read_text(encoding="utf-8").splitlines()
    home.looks.write_text("\n".join(spoil(lines)) + "\n", encoding="utf-8")
    with pytest.raises(RecordError, match=r"^The look \d of .*looks\.jsonl"):
        looks.chain_of(home)


def _look_many(folder: Path, first: int) -> None:
    for number in range(first, first + 10):
        looks.add(Home(folder), a_look(number))


@pytest.mark.slow
def test_two_processes_lose_no_look(home: Home) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_look_many, args=(home.folder, first)) for first in (0, 10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    chain = looks.chain_of(home)
    assert {look.trial for look in chain} == {trial_record(number=number).digest for number in range(20)}
    assert sorted(looks.count(chain, look) for look in chain) == list(range(1, 21))


def test_a_publication_is_a_look_that_its_record_counts(finished_copy: Path, make_spec: MakeSpec) -> None:
    (first,) = looks.chain_of(home := Home(finished_copy))
    run_study(make_spec(seed=2, trials=2), home)
    chain = looks.chain_of(home)
    assert chain[0] == first
    confirmed = [item for item in tracked_trials(TrackingStore(home)) if item.confirmation]
    counted = {item.record.digest: item.confirmation.confirmed for item in confirmed if item.confirmation}
    assert [look.trial for look in chain] == sorted(counted, key=lambda trial: counted[trial].looks)  # type: ignore[union-attr]
    assert [looks.count(chain, look) for look in chain] == [1, 2]


def test_a_publication_that_is_cut_off_after_it_looked_is_one_look(
    new_home: NewHome, make_spec: MakeSpec, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(new_home(warm=True))

    def cut_off(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "log_confirmation", cut_off)
        with pytest.raises(KeyboardInterrupt):
            run_study(make_spec(), home)
    before = looks.chain_of(home)
    assert len(before) == 1
    outcome = run_study(make_spec(), home)
    assert looks.chain_of(home) == before
    assert outcome.published is not None
    assert outcome.published.confirmation is not None
    assert outcome.published.confirmation.parts["confirmation"].looks == 1
    assert outcome.published.score == finished.outcome.published.score


@pytest.mark.slow
def test_kills_while_a_look_is_added_leave_a_whole_chain(home: Home, img2brain: Launcher, tmp_path: Path) -> None:
    context, chance = multiprocessing.get_context("spawn"), random.Random(0)
    n_before = 0
    for turn in range(3):
        worker = context.Process(target=_look_many, args=(home.folder, 100 * turn))
        worker.start()
        while worker.is_alive() and len(looks.chain_of(home)) == n_before:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.01))
        worker.kill()
        worker.join()
        assert worker.exitcode in (0, -signal.SIGKILL)
        n_before = len(looks.chain_of(home))
        assert n_before > turn
    assert looks.add(home, a_look(999)) == n_before + 1


def test_a_chain_is_lines_of_json_without_names(home: Home) -> None:
    looks.add(home, a_look())
    (line,) = home.looks.read_text(encoding="utf-8").splitlines()
    assert list(json.loads(line)) == sorted(json.loads(line))
    assert "quick" not in line
    assert looks.to_lines(looks.chain_of(home)) == line + "\n"
