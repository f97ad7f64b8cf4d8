"""What leads the boards is read by an index: it says what all records say, whatever becomes of it or of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from img2brain.home import Home
from img2brain.leaderboard.collect import collect, leading
from img2brain.leaderboard.networks import best_of_each
from img2brain.leaderboard.rows import boards
from img2brain.records import TrialRecord
from img2brain.tracking._store import TrackingStore
from tests.leaderboard.conftest import confirmation_of, region_record, track, trial_record

if TYPE_CHECKING:
    from img2brain.leaderboard.networks import By
    from tests.conftest import NewHome

N_TRIALS = 24


def tracked(home: Home, numbers: range) -> list[str]:
    """Track trials of which some are equally good, on two boards, one of the worst published."""
    store = TrackingStore(home)
    found = []
    for number in numbers:
        spec = trial_record().spec
        spec = spec.model_copy(update={"layer": f"layer{number % 4}", "regressor": ("ridge", "pls")[number % 2]})
        trial = trial_record(number=number, score=(number * 7 % 5) / 10, spec=spec)
        confirmation = confirmation_of(trial, region_record(0.01)) if number == 5 else None
        found.append(track(store, trial, confirmation))
    return found


@pytest.fixture
def home(new_home: NewHome) -> Home:
    return Home(new_home())


def shown(home: Home, most: int, by: By | None) -> Any:
    found = leading(home, None, most, by)
    return [(_names(rows, most, by), n_trials) for rows, n_trials in found]


def expected(home: Home, most: int, by: By | None) -> Any:
    return [(_names(rows, most, by), len(rows)) for rows in boards(collect(home))]


def _names(rows: Any, most: int, by: By | None) -> Any:
    best = rows[:most] if by is None else best_of_each(rows, by)
    return [row.run_id for row in best], [row.run_id for row in rows if row.confirmed is not None]


@contextmanager
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Count the records of trials that are read."""
    found: list[str] = []
    as_it_is = TrialRecord.from_json.__func__  # type: ignore[attr-defined]

    def counted(cls: type[TrialRecord], text: str, where: str = "") -> TrialRecord:
        found.append(where)
        return as_it_is(cls, text, where)  # type: ignore[no-any-return]

    with monkeypatch.context() as patch:
        patch.setattr(TrialRecord, "from_json", classmethod(counted))
        yield found


def test_what_leads_is_what_all_records_say(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tracked(home, range(N_TRIALS))
    questions: list[tuple[int, By | None]] = [(1, None), (3, None), (100, None), (2, "backbone"), (2, "layer")]
    for most, by in [*questions, (2, "regressor")]:
        assert shown(home, most, by) == expected(home, most, by)

    with read(monkeypatch) as first:
        shown(home, 1, None)
    tracked(home, range(N_TRIALS, 3 * N_TRIALS))
    with read(monkeypatch) as new:
        shown(home, 1, None)
    with read(monkeypatch) as second:
        shown(home, 1, None)
    n_best = [sum(number * 7 % 5 == 4 for number in range(n)) for n in (N_TRIALS, 3 * N_TRIALS)]
    assert len(first) == n_best[0] + 1, "those that share the first place, and the published one"
    assert len(second) == n_best[1] + 1
    assert len(new) == 2 * N_TRIALS + len(second), "each new one, once"

    TrackingStore(home).client.delete_run(runs[2])
    edited = _record_of(home, runs[0])
    edited.write_text(edited.read_text().replace('"median": 0.0', '"median": 0.9'))
    assert shown(home, 1, None) == expected(home, 1, None)
    assert shown(home, 1, None)[0][0][0] == [runs[0]]

    for spoilt in ("", "[1", "[]", '{"format": 0}', json.dumps({"format": 1, "trials": {runs[0]: [1]}})):
        home.index.write_text(spoilt)
        assert shown(home, 2, None) == expected(home, 2, None)
    home.index.unlink()
    home.index.mkdir()  # so that it can be neither read nor written
    assert shown(home, 2, None) == expected(home, 2, None)


def test_a_copy_of_a_home_trusts_no_index_of_other_files(home: Home, tmp_path: Path) -> None:
    runs = tracked(home, range(4))
    shown(home, 1, None)
    copy = Home(shutil.copytree(home.folder, tmp_path / "copy"))
    record = _record_of(copy, runs[0])
    record.write_text(record.read_text().replace('"median": 0.0', '"median": 0.9'))
    assert shown(copy, 1, None)[0][0][0] == [runs[0]]
    assert shown(home, 1, None) == expected(home, 1, None)


def _record_of(home: Home, run_id: str) -> Path:
    (found,) = home.artifacts.glob(f"{run_id}/artifacts/record.json")
    return found
