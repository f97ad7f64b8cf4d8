"""A search log that is lost, whole or in part, is written again from the records of the runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from img2brain.errors import ResourceError
from img2brain.features.network import NetworkFeatures
from img2brain.home import Home
from img2brain.leaderboard.collect import collect
from img2brain.spec import load_study, with_overrides
from img2brain.study.runner import run_study
from img2brain.study.search import Search, stored_trials
from img2brain.tracking.tracker import Tracker

if TYPE_CHECKING:
    from tests.conftest import Finished, MakeSpec, NewHome


def lose_all(log: Path) -> None:
    log.unlink()


def lose_the_end(log: Path) -> None:
    """Cut the log where the fifth trial had just been told."""
    lines = log.read_bytes().splitlines(keepends=True)
    ends = [place for place, line in enumerate(lines) if b'"state":1' in line.replace(b" ", b"")]
    log.write_bytes(b"".join(lines[: ends[4] + 1]))


def damage_the_middle(log: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    lines[len(lines) // 2] = bytes(50) + b"\n"
    log.write_bytes(b"".join(lines))


@pytest.mark.parametrize("lose", [lose_all, lose_the_end, damage_the_middle])
def test_a_study_goes_on_exactly_without_its_search_log(
    finished: Finished,
    new_home: NewHome,
    make_spec: MakeSpec,
    tmp_path: Path,
    lose: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    undisturbed = run_study(make_spec(trials=12), new_home("undisturbed", warm=True))
    home = tmp_path / "lost"
    shutil.copytree(finished.home, home, ignore=shutil.ignore_patterns("*.lock", "locks"))
    lose(home / "optuna.log")
    outcome = run_study(make_spec(trials=12), home)
    assert "that the search log lacked are back from their records" in caplog.text
    assert outcome.trials == undisturbed.trials
    assert stored_trials(Home(home)) == {outcome.name: outcome.trials}
    assert outcome.trials[:9] == finished.outcome.trials


def test_a_home_that_lost_its_name_is_the_same_home(given_study: Path, new_home: NewHome) -> None:
    home = new_home()
    spec = load_study(given_study)
    before = len(run_study(spec, home).trials)
    first = Home(home).id
    (home / "home.json").unlink()
    outcome = run_study(with_overrides(spec, trials=before + 2), home)
    assert Home(home).id == first
    assert [row.trial.number for row in sorted(collect(Home(home)), key=lambda row: row.trial.number)] == list(
        range(len(outcome.trials))
    ), "no trial is tracked twice"


def test_failed_trials_come_back_with_their_reasons(
    finished: Finished, new_home: NewHome, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    from img2brain.errors import FitError
    from img2brain.evaluate import Evaluator
    from img2brain.result import TrialResult
    from img2brain.spec import TrialSpec

    evaluate = Evaluator.evaluate

    def unsteady(self: Evaluator, spec: TrialSpec) -> TrialResult:
        if spec.layer == "features.5":
            raise FitError("no fit at this layer.")
        return evaluate(self, spec)

    monkeypatch.setattr(Evaluator, "evaluate", unsteady)
    home = new_home(warm=True)
    before = run_study(make_spec(), home).trials
    assert {trial.failure for trial in before} == {"", "FitError: no fit at this layer."}
    (home / "optuna.log").unlink()
    after = run_study(make_spec(), home).trials
    assert [(t.number, t.spec, t.parameters, t.failure) for t in after] == [
        (t.number, t.spec, t.parameters, t.failure) for t in before
    ]
    assert [t.score for t in after if t.succeeded] == [t.score for t in before if t.succeeded]


def lose_the_cache(home: Path) -> None:
    shutil.rmtree(home / "cache")


def cut_all(home: Path) -> None:
    for path in (home / "cache").rglob("*.npy"):
        path.chmod(0o644)
        os.truncate(path, path.stat().st_size // 2)


def put_a_file_in_its_place(home: Path) -> None:
    for kind in ("layers", "components"):
        shutil.rmtree(home / "cache" / kind)
    (home / "cache" / "layers").touch()


@pytest.mark.parametrize(
    ("lose", "before"),
    [
        (lose_the_cache, (Search, "tell")),
        (lose_the_cache, (Tracker, "_create_run")),
        (cut_all, (NetworkFeatures, "export")),
        (put_a_file_in_its_place, (Search, "tell")),
    ],
)
def test_a_cache_that_is_lost_under_a_study_is_computed_anew(
    finished: Finished,
    new_home: NewHome,
    make_spec: MakeSpec,
    monkeypatch: pytest.MonkeyPatch,
    before: tuple[type, str],
    lose: Callable[[Path], None],
) -> None:
    home, whole = new_home(warm=True), getattr(*before)
    ahead = iter([lose])

    def losing(*args: object, **options: object) -> object:
        if first := next(ahead, None):
            first(home)
        return whole(*args, **options)

    monkeypatch.setattr(*before, losing)
    outcome = run_study(make_spec(trials=4), home)
    assert next(ahead, None) is None, "lost"
    assert [trial.failure for trial in outcome.trials] == [""] * 4
    for found, expected in zip(outcome.trials, finished.outcome.trials, strict=False):
        assert (found.number, found.parameters) == (expected.number, expected.parameters)
        assert found.score == pytest.approx(expected.score, abs=1e-6)


def test_images_that_go_with_the_cache_are_no_trial_that_fails(
    recordings: Path, new_home: NewHome, make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, tell = new_home(warm=True), Search.tell
    shutil.copytree(recordings, data := tmp_path / "data")
    picture = sorted((data / "trainingIMG").iterdir())[3]

    def losing(*args: Any) -> None:
        tell(*args)
        lose_the_cache(home)
        picture.rename(tmp_path / picture.name)

    told_of = rf"features of squeezenet1_1 are not in the cache, .*{picture.name}"
    with monkeypatch.context() as patch:
        patch.setattr(Search, "tell", losing)
        with pytest.raises(ResourceError, match=told_of):
            run_study(make_spec(data, trials=4), home)
    (told,) = stored_trials(Home(home)).values()
    assert [trial.failure for trial in told] == [""]
    (tmp_path / picture.name).rename(picture)
    assert [trial.failure for trial in run_study(make_spec(data, trials=4), home).trials] == [""] * 4
