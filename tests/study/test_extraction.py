"""Features of networks are computed beside trials of those that are there already, where cores allow."""

from __future__ import annotations

import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch

from img2brain.catalog import LIBRARIES
from img2brain.errors import FeatureError, StoreError
from img2brain.features import extract
from img2brain.features.extract import cores_allow
from img2brain.features.features import Features
from img2brain.features.network import NetworkFeatures
from img2brain.progress import Stopped, stoppable, track
from img2brain.study.extraction import Extraction, NotYet
from img2brain.study.runner import run_study
from img2brain.study.search import Search

if TYPE_CHECKING:
    from img2brain.spec import StudySpec
    from img2brain.study.outcome import StudyOutcome
    from tests.conftest import MakeSpec, NewHome

LIMIT_S = 60.0


class Fake:
    """Features that are computed when the test lets them."""

    def __init__(self, error: Exception | None = None) -> None:
        self.spec = type("Spec", (), {"name": "fake"})
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.error, self.given_up = error, ""

    def extract(self) -> None:
        self.begun.set()
        for _ in track(range(10**6), 10**6, "fake"):
            if self.may_end.wait(0.01):
                break
        if self.error is not None:
            raise self.error

    def give_up(self, error: FeatureError) -> None:
        self.given_up = str(error)


def of(*fakes: Fake) -> Extraction:
    return Extraction([[cast("Features", item)] for item in fakes])


def test_what_is_waited_for_is_the_next() -> None:
    first, second, third = (Fake() for _ in range(3))
    third.may_end.set()
    work = of(first, second, third)
    work.require(2)  # nothing is computed beside what asks yet
    with work.beside():
        assert first.begun.wait(LIMIT_S)
        with pytest.raises(NotYet) as met:
            work.require(2)
        waiting = threading.Thread(target=work.wait, args=(met.value.network,))
        waiting.start()
        while work._waiting[0] != 2:
            time.sleep(0.01)
        first.may_end.set()
        waiting.join(LIMIT_S)
        assert not waiting.is_alive()
        work.require(0)
        work.require(2)
        with pytest.raises(NotYet):
            work.require(1)
    work.require(1)


def test_what_nobody_needs_any_more_is_stopped_between_two_batches() -> None:
    first, second = Fake(), Fake()
    with (work := of(first, second)).beside():
        assert first.begun.wait(LIMIT_S)
        thread = work._thread
    assert not thread.is_alive()
    assert not second.begun.is_set()


def test_what_stops_one_is_told_to_who_waits() -> None:
    first, second = Fake(StoreError("The disk is full.")), Fake()
    first.may_end.set()
    with (work := of(first, second)).beside(), pytest.raises(StoreError, match="The disk is full"):
        work.wait(1)


def test_a_network_of_several_that_fails_is_given_up() -> None:
    first, second = Fake(FeatureError("It is too deep.")), Fake()
    for item in (first, second):
        item.may_end.set()
    with (work := of(first, second)).beside():
        work.wait(0)
        work.wait(1)
    assert first.given_up == "It is too deep."
    with pytest.raises(FeatureError, match="too deep"):
        of(first).now()


def test_work_that_is_tracked_stops_where_it_is_told_to() -> None:
    stop = threading.Event()
    with stoppable(stop):
        items = track(range(3), 3, "counting")
        assert next(items) == 0
        stop.set()
        with pytest.raises(Stopped):
            next(items)
    assert list(track(range(3), 3, "counting")) == [0, 1, 2]


def test_a_pass_goes_on_beside_trials_where_there_are_cores_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    for n_cores, allowed in ((2, False), (16, True)):
        monkeypatch.setattr(extract, "n_threads", lambda n=n_cores: n)
        assert cores_allow(torch.device("cpu")) is allowed
        assert cores_allow(torch.device("cuda"))


NETWORKS = """
    from torch import nn

    def one():
        return nn.Sequential(nn.Conv2d(3, 4, 32, stride=32), nn.ReLU(), nn.Flatten())

    def two():
        return nn.Sequential(nn.Conv2d(3, 6, 32, stride=32), nn.ReLU(), nn.Flatten())

    def three():
        return nn.Sequential(nn.Conv2d(3, 8, 32, stride=32), nn.ReLU(), nn.Flatten())
"""


@pytest.fixture
def study_of_three(tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch) -> StudySpec:
    monkeypatch.setattr(LIBRARIES, "_loaded", dict(LIBRARIES._loaded))
    (tmp_path / "mine.py").write_text(textwrap.dedent(NETWORKS), encoding="utf-8")
    names = [{"name": f"{tmp_path / 'mine.py'}:{name}", "weights": "random:0"} for name in ("one", "two", "three")]
    return make_spec(trials=10, sampler="random", backbones=names, n_components=[3], regressors=["linear"])


def found(outcome: StudyOutcome) -> list[Any]:
    return [(trial.number, trial.spec.digest, trial.score) for trial in outcome.trials]


def test_trials_run_while_other_networks_pass_and_find_the_same(
    study_of_three: StudySpec, new_home: NewHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = run_study(study_of_three, new_home())
    assert alone.trials[0].spec.backbone != "mine.py:three"
    monkeypatch.setattr("img2brain.study.setting.cores_allow", lambda _: True)
    told, begin, tell = threading.Event(), NetworkFeatures.extract, Search.tell
    passed: list[str] = []

    def held(features: NetworkFeatures) -> None:
        if features.spec.name.endswith("mine.py:three"):
            assert told.wait(LIMIT_S), "no trial ran while this network had not passed"
        passed.append(features.spec.name)
        begin(features)

    def noted(*words: Any) -> bool:
        told.set()
        return bool(tell(*words))

    monkeypatch.setattr(NetworkFeatures, "extract", held)
    monkeypatch.setattr(Search, "tell", noted)
    beside = run_study(study_of_three, new_home("other"))
    assert found(beside) == found(alone)
    assert sorted(set(passed)) == sorted(passed)
    assert beside.features_s > 0


@pytest.mark.slow
def test_a_full_disk_beside_trials_stops_the_study_which_goes_on_afterwards(
    study_of_three: StudySpec, new_home: NewHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, home = run_study(study_of_three, new_home()), new_home("other")
    begin = NetworkFeatures.extract
    first = alone.trials[0].spec.backbone

    def full(features: NetworkFeatures) -> None:
        if not features.spec.name.endswith(first):
            raise StoreError("The disk is full.")
        begin(features)

    with monkeypatch.context() as patch:
        patch.setattr("img2brain.study.setting.cores_allow", lambda _: True)
        patch.setattr(NetworkFeatures, "extract", full)
        with pytest.raises(StoreError, match="The disk is full"):
            run_study(study_of_three, home)
    assert found(run_study(study_of_three, home)) == found(alone)
