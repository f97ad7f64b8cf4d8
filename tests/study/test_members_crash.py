"""A study of several members that is cut off between them, and one whose search log is lost."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain.errors import TrackingError
from img2brain.home import Home
from img2brain.records import TrialRecord
from img2brain.spec import load_study
from img2brain.study.outcome import StudyOutcome
from img2brain.study.runner import run_study
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import tracked_trials
from img2brain.tracking.tracker import Tracker

if TYPE_CHECKING:
    from tests.conftest import Launcher, NewHome

N_TRIALS, NAMES = 4, ("ada", "bob")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two members with features of their own: no network, no pass."""
    folder, chance = tmp_path_factory.mktemp("members"), np.random.default_rng(3)
    for name, n_images in zip(NAMES, (40, 48), strict=True):
        X = chance.standard_normal((n_images, 5))
        Y = X @ chance.standard_normal((5, 4)) + chance.standard_normal((n_images, 4))
        for place, array in (("trainingFeatures/f.npy", X), ("trainingfMRI/training.npy", Y)):
            (folder / name / place).parent.mkdir(parents=True)
            np.save(folder / name / place, array)
    path = folder / "members.toml"
    tables = "".join(f'[[datasets]]\npath = "{name}"\n' for name in NAMES)
    path.write_text(
        f'name = "members"\ntrials = {N_TRIALS}\nn_components = [2, 4]\nregressors = ["ridge"]\n{tables}'
        '[split]\nconfirmation = 0.3\n[[backbones]]\nname = "given"\nweights = "none"\n',
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module")
def undisturbed(file: Path, tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> StudyOutcome:
    home = Home(tmp_path_factory.mktemp("undisturbed"))
    shutil.copyfile(empty_database, home.database)
    return run_study(load_study(file), home)


def assert_whole(home: Path, outcome: StudyOutcome, expected: StudyOutcome) -> None:
    """As if nothing had happened: each trial once on each member, each model registered once."""
    assert [(trial.parameters, trial.score, trial.members) for trial in outcome.trials] == [
        (trial.parameters, trial.score, trial.members) for trial in expected.trials
    ]
    runs = [run for run in runs_of(home) if run.info.status != "RUNNING"]
    tags = [(run.data.tags["img2brain.member"], run.data.tags["img2brain.trial"]) for run in runs]
    assert Counter(tags) == Counter((name, str(number)) for name in NAMES for number in range(N_TRIALS))
    assert {name: item.registered.version for name, item in outcome.members.items()} == dict.fromkeys(NAMES, "1")
    assert outcome.mean == expected.mean
    confirmed = [item for item in tracked_trials(TrackingStore(Home(home))) if item.confirmation]
    assert sorted(item.record.member for item in confirmed) == list(NAMES)
    assert {part.looks for item in confirmed if item.confirmation for part in item.confirmation.parts.values()} == {1}


def runs_of(home: Path) -> list[Any]:
    store = TrackingStore(Home(home))
    experiments = [item.experiment_id for item in store.client.search_experiments()]
    return list(store.client.search_runs(experiments, "tags.`img2brain.kind` = 'trial'", max_results=1000))


def test_what_one_member_lacks_is_tracked_by_the_next_run(
    file: Path, undisturbed: StudyOutcome, new_home: NewHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_trial = Tracker.log_trial
    failed: set[tuple[str, int]] = set()

    def unsteady(self: Tracker, record: TrialRecord, *others: Any) -> str:
        if (record.member, record.number) in {("bob", 0), ("ada", 2)} - failed:
            failed.add((record.member, record.number))
            raise TrackingError("no answer")
        return log_trial(self, record, *others)

    monkeypatch.setattr(Tracker, "log_trial", unsteady)
    home = new_home()
    for n_tracked in (1, 3):
        with pytest.raises(TrackingError, match="no answer"):
            run_study(load_study(file), home)
        assert len(runs_of(home)) == n_tracked, "the first on one member, and the second on both"
    assert_whole(home, run_study(load_study(file), home), undisturbed)


def drop_run(home: Path, member: str, number: int) -> None:
    (lost,) = (run for run in runs_of(home) if run.data.tags["img2brain.member"] == member
               and run.data.tags["img2brain.trial"] == str(number))  # fmt: skip
    TrackingStore(Home(home)).client.delete_run(lost.info.run_id)


def test_what_was_tracked_before_the_search_log_was_lost_is_not_tracked_twice(
    file: Path, undisturbed: StudyOutcome, new_home: NewHome
) -> None:
    home = new_home()
    run_study(load_study(file), home)
    drop_run(home, "bob", 1)
    (home / "optuna.log").unlink()
    assert_whole(home, run_study(load_study(file), home), undisturbed)


@pytest.mark.slow
def test_a_lost_search_log_is_written_again_from_what_all_members_have(
    file: Path, undisturbed: StudyOutcome, new_home: NewHome, caplog: pytest.LogCaptureFixture
) -> None:
    home = new_home()
    spec = load_study(file).model_copy(update={"trials": 3})
    run_study(spec, home)
    (home / "optuna.log").unlink()
    drop_run(home, "bob", 2)
    outcome = run_study(load_study(file), home)
    assert "2 trials that the search log lacked are back from their records" in caplog.text
    assert [trial.members for trial in outcome.trials] == [trial.members for trial in undisturbed.trials]
    assert [trial.score for trial in outcome.trials] == [trial.score for trial in undisturbed.trials]


@pytest.mark.slow
def test_kills_at_any_moment_lose_and_repeat_nothing(
    img2brain: Launcher, file: Path, undisturbed: StudyOutcome, new_home: NewHome
) -> None:
    home, chance = new_home(), random.Random(1)
    command = ("study", "run", file, "--home", home)
    n_killed = 0
    for _ in range(8):
        process, log = img2brain.start(*command), home / "optuna.log"
        before = log.stat().st_size if log.exists() else 0
        end = time.monotonic() + 120
        while process.poll() is None and not (log.exists() and log.stat().st_size > before):
            assert time.monotonic() < end, process.stderr
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 1.0))
        process.send(signal.SIGKILL)
        n_killed += process.wait() == -signal.SIGKILL
    assert n_killed >= 3
    last = img2brain.run(*command)
    assert last.code == 0, last.stderr
    assert_whole(home, run_study(load_study(file), home), undisturbed)
