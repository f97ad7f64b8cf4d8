from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from img2brain.home import Home
from img2brain.spec import StudySpec, TrialSpec, parse
from img2brain.study.search import Asked, Search, ToldTrial, stored_studies, stored_trials
from img2brain.study.space import Candidate, Space, find_domains

TABLE: dict[str, Any] = {
    "name": "s",
    "dataset": {"path": "d"},
    "backbones": [{"name": "alexnet", "weights": "random:0"}],
    "n_components": [3, 8, 16, 30],
    "regressors": ["linear", "ridge", "lasso"],
    "trials": 1,
}
SAMPLERS = ("tpe", "random", "grid")
N_TRIALS = 16


def make(folder: Path, sampler: str = "tpe", seed: int = 0, name: str = "s", **changes: Any) -> Search:
    spec = parse(StudySpec, TABLE | changes, "s.toml")
    networks = {item: Candidate("random:0", "digest", ("a", "b", "c", "d")) for item in spec.backbones}
    space = Space(spec, find_domains(spec), networks)
    return Search(Home(folder), name, space, sampler, seed, {"seed": seed})


def score(spec: TrialSpec) -> float:
    """A landscape with one best point: layer c, 16 components, alpha 10."""
    alpha: Any = spec.parameters.get("alpha", 0.01)
    return -abs("abcd".index(spec.layer) - 2) - abs(spec.n_components - 16) / 10 - abs(math.log10(alpha) - 1)


def ask(search: Search, number: int) -> Asked:
    """Ask for the next trial, which has this number."""
    asked = search.ask(number + 1)
    assert asked is not None
    assert asked.number == number
    return asked


def tell(search: Search, asked: Asked) -> bool:
    return search.tell(asked, asked.suggestion.spec, score(asked.suggestion.spec))


def work(search: Search, stop: int, start: int | None = None) -> list[ToldTrial]:
    for number in range(len(search.told()) if start is None else start, stop):
        tell(search, ask(search, number))
    return search.told()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_gives_the_same_search(tmp_path: Path, sampler: str) -> None:
    first, second = (work(make(tmp_path / name, sampler), N_TRIALS) for name in "ab")
    assert first == second
    assert [trial.number for trial in first] == list(range(N_TRIALS))


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_another_seed_gives_another_search(tmp_path: Path, sampler: str) -> None:
    first, second = (work(make(tmp_path / str(seed), sampler, seed), 4) for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_cut_off_anywhere_goes_on_as_if_it_had_not_been(tmp_path: Path, sampler: str) -> None:
    whole = work(make(tmp_path / "whole", sampler), N_TRIALS)
    for stop in (1, 5, 13, N_TRIALS):
        search = make(tmp_path / "cut", sampler)
        work(search, stop)
        ask(search, stop) if stop < N_TRIALS else None  # asked, never told
    assert make(tmp_path / "cut", sampler).told() == whole


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_point_of_a_small_space_is_tried_twice(tmp_path: Path, sampler: str) -> None:
    told = work(make(tmp_path, sampler, regressors=["linear"]), 12)
    assert len({trial.spec.digest for trial in told}) == 12, "of 4 layers and 4 sizes"


def test_a_grid_knows_its_size(tmp_path: Path) -> None:
    assert make(tmp_path, "grid").n_cells == 4 * 4 * (1 + 5 + 5)
    assert make(tmp_path, "tpe").n_cells == 0


def test_tpe_finds_more_than_chance(tmp_path: Path) -> None:
    best = {sampler: max(t.score for t in work(make(tmp_path / sampler, sampler), 40)) for sampler in SAMPLERS[:2]}
    assert best["tpe"] >= best["random"]
    assert best["tpe"] > -0.5


def test_a_failed_trial_keeps_its_reason_and_its_number(tmp_path: Path) -> None:
    search = make(tmp_path)
    asked = ask(search, 0)
    assert search.tell(asked, asked.suggestion.spec, "FitError: too few rows.")
    told = work(search, 3)
    assert [(item.number, item.succeeded) for item in told] == [(0, False), (1, True), (2, True)]
    assert told[0].failure == "FitError: too few rows."
    assert math.isnan(told[0].score)
    assert told[0].spec == asked.suggestion.spec


def test_importances_need_trials(tmp_path: Path) -> None:
    search = make(tmp_path)
    assert search.importances() == {}
    work(search, 12)
    assert set(search.importances()) <= {"depth", "size", "regressor"}, "what all trials share"
    assert sum(search.importances().values()) == pytest.approx(1)


def test_stored_studies_are_found_by_name(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert stored_studies(home) == {}
    assert stored_trials(home) == {}
    told = {name: work(make(tmp_path, seed=seed, name=name), 2) for seed, name in enumerate(("a", "b"))}
    assert stored_trials(home) == told
    assert stored_studies(home) == {"a": {"seed": 0}, "b": {"seed": 1}}


def cut_within_the_last_line(log: Path) -> None:
    log.write_bytes(log.read_bytes()[:-7])


def add_half_a_line(log: Path) -> None:
    log.write_bytes(log.read_bytes() + b'{"op_code": 6, "trial_')


@pytest.mark.parametrize("tear", [cut_within_the_last_line, add_half_a_line])
def test_a_torn_last_line_is_cut(
    tmp_path: Path, tear: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    whole = work(make(tmp_path / "whole"), 6)
    work(make(tmp_path / "torn"), 4)
    tear(tmp_path / "torn" / "optuna.log")
    assert work(make(tmp_path / "torn"), 6) == whole
    assert "the unfinished last line" in caplog.text
    assert (tmp_path / "torn" / "optuna.log").read_bytes().endswith(b"\n")


def test_a_spoilt_log_is_set_aside_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    work(make(tmp_path), 2)
    log = tmp_path / "optuna.log"
    log.write_bytes(b"not a log\n" + log.read_bytes())
    before = log.read_bytes()
    make(tmp_path)
    assert "line 1 of the search log" in caplog.text
    assert log.with_name("optuna.log.damaged-1").read_bytes() == before


def n_calls(action: Callable[[], object]) -> int:
    """Count the functions that are called: what an action costs, whatever else the machine is at."""
    found = 0

    def count(_: Any, event: str, __: Any) -> None:
        nonlocal found
        found += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return found


def test_to_ask_and_tell_costs_the_same_however_many_trials_there_are(tmp_path: Path) -> None:
    def one(search: Search) -> int:
        def next_one() -> None:
            asked = search.ask(1000)
            assert asked is not None
            tell(search, asked)

        return min(n_calls(next_one) for _ in range(3))

    log = make(tmp_path, "random", regressors=["ridge"])
    work(log, 280)
    random, tpe = one(log), one(make(tmp_path, "tpe", regressors=["ridge"]))
    work(log, 600)
    assert one(log) < 1.2 * random
    assert one(make(tmp_path, "tpe", regressors=["ridge"])) < 1.2 * tpe
