"""Real processes that are killed, interrupted and set against each other."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Finished, Kept, Launcher, NewHome, Process

    Read = Callable[..., Kept]
    StudyFile = Callable[..., Path]

N_KILLS = 10


def wait_until(process: Process, happens: Callable[[], bool], timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not happens() and process.poll() is None:
        assert time.monotonic() < end, process.stderr
        time.sleep(0.005)


def grows(log: Path) -> Callable[[], bool]:
    before = log.stat().st_size if log.exists() else 0
    return lambda: log.exists() and log.stat().st_size > before


def assert_like_the_undisturbed(home: Path, finished: Finished, kept: Read, published: str) -> None:
    found, expected = kept(home), kept(finished.home)
    assert found.told == expected.told
    assert (sorted(found.tracked), found.n_runs) == (list(range(9)), 9)
    assert {status for status, _ in found.tracked.values()} == {"FINISHED"}
    for number, (_, record) in found.tracked.items():
        other = expected.tracked[number][1]
        assert record.spec.parameters == pytest.approx(other.spec.parameters, rel=1e-6)
        assert record.asked == other.asked
        assert record.score == pytest.approx(other.score, abs=1e-6)
    best = finished.outcome.best
    assert f"best trial     #{best.number} {best.spec.label}" in published
    assert f"confirmation   {finished.outcome.published.score:.4f}" in published
    assert "sample version 1: the" in published, "registered once"


def test_kills_at_any_moment_lose_and_repeat_nothing(
    img2brain: Launcher, finished: Finished, new_home: NewHome, study_file: StudyFile, tmp_path: Path, kept: Read
) -> None:
    home, chance = new_home(warm=True), random.Random(0)
    command = ("study", "run", study_file(tmp_path), "--home", home)
    log = home / "optuna.log"
    codes = []
    for kill in range(N_KILLS + 1):
        process = img2brain.start(*command)
        if kill < N_KILLS:
            wait_until(process, grows(log))
            time.sleep(chance.uniform(0, 0.5))
            process.send(signal.SIGKILL)
        codes.append(process.wait())
    assert codes.count(-signal.SIGKILL) >= 5, codes
    assert codes[-1] == 0, process.stderr
    assert_like_the_undisturbed(home, finished, kept, process.stdout)


def test_an_interrupt_ends_in_one_line_and_the_same_command_goes_on(
    img2brain: Launcher, finished: Finished, new_home: NewHome, study_file: StudyFile, tmp_path: Path, kept: Read
) -> None:
    home = new_home(warm=True)
    command = ("study", "run", study_file(tmp_path), "--home", home)
    process = img2brain.start(*command)
    wait_until(process, lambda: "(2 of 9)" in process.stderr)
    process.send(signal.SIGINT)
    assert process.wait() == 130
    assert process.stderr.splitlines()[-1] == "Interrupted. The same command goes on where this one stopped."
    assert "Traceback" not in process.stderr
    assert len(kept(home).told) >= 2  # on a busy machine all are told before the interrupt arrives
    again = img2brain.run(*command)
    assert again.code == 0, again.stderr
    assert_like_the_undisturbed(home, finished, kept, again.stdout)


def test_a_study_at_work_refuses_a_second_process(
    img2brain: Launcher, new_home: NewHome, study_file: StudyFile, tmp_path: Path, kept: Read
) -> None:
    home = new_home(warm=True)
    command = ("study", "run", study_file(tmp_path), "--home", home)
    first = img2brain.start(*command)
    wait_until(first, lambda: "(1 of 9)" in first.stderr)
    first.send(signal.SIGSTOP)
    try:
        second = img2brain.run(*command)
    finally:
        first.send(signal.SIGCONT)
    assert second.code == 2
    assert "Error: The study 'small-" in second.error
    assert "is at work in another process" in second.error
    assert first.wait() == 0, first.stderr
    assert kept(home).n_runs == 9


def entries(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in (home / "cache" / "layers").rglob("*") if path.is_file()}


def test_a_kill_in_the_middle_of_a_pass_leaves_nothing_half(
    img2brain: Launcher, finished: Finished, new_home: NewHome, study_file: StudyFile, tmp_path: Path, kept: Read
) -> None:
    home = new_home()
    command = ("study", "run", study_file(tmp_path), "--home", home)
    unfinished = home / "cache" / "unfinished"
    process = img2brain.start(*command)
    wait_until(process, lambda: (home / "cache" / "networks").is_dir() and any(unfinished.glob("*/")))
    process.send(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert entries(home) == set()
    assert list(unfinished.iterdir()), "what the kill left"
    again = img2brain.run(*command)
    assert again.code == 0, again.stderr
    assert list(unfinished.iterdir()) == []
    assert entries(home) == entries(finished.home)
    assert_like_the_undisturbed(home, finished, kept, again.stdout)


def test_two_studies_at_once_share_one_pass(
    img2brain: Launcher, new_home: NewHome, study_file: StudyFile, tmp_path: Path, kept: Read
) -> None:
    home = new_home()
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files.append(study_file(tmp_path / name, ('name = "small"', f'name = "{name}"'), ("trials = 9", "trials = 3")))
    processes = [img2brain.start("study", "run", file, "--home", home) for file in files]
    assert [process.wait() for process in processes] == [0, 0], [process.stderr for process in processes]
    assert sum("squeezenet1_1: 60 images, 3 layers" in process.stderr for process in processes) == 1
    assert kept(home, "a").told == kept(home, "b").told
    assert (kept(home, "a").n_runs, kept(home, "b").n_runs) == (3, 3)
