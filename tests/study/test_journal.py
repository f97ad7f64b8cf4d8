from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from filelock import FileLock

from img2brain.errors import StoreError
from img2brain.home import Home
from img2brain.study._journal import open_journal


def open_study(home: Home, patience_s: float = 60) -> optuna.Study:
    return optuna.create_study(storage=open_journal(home, patience_s), study_name="s", load_if_exists=True)


def test_a_trial_waits_for_the_disk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    study = open_study(home)
    for n_told in range(3):
        assert len(synced) == n_told
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", 0, 1))
        assert synced[-1] == home.search_log.stat().st_size, "all lines up to the end of the trial"


def test_every_line_is_there_for_another_process_at_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    study, other = open_study(home), open_study(home)
    trial = study.ask()
    x = trial.suggest_float("x", 0, 1)
    assert other.trials[0].params == {"x": x}
    other.ask()
    study.tell(trial, x)
    assert [found.state.name for found in other.trials] == ["COMPLETE", "RUNNING"]
    assert all(json.loads(line) for line in home.search_log.read_text().splitlines())


def not_json(line: bytes) -> bytes:
    return line[:-9] + b"\n"


def zeros(line: bytes) -> bytes:
    return bytes(len(line) - 1) + b"\n"


def no_text(line: bytes) -> bytes:
    return b"\xff\xfe" + line


def a_number(line: bytes) -> bytes:
    return b"5\n"


def another_operation(line: bytes) -> bytes:
    return b'{"op_code": 4}\n'


def two_in_one(line: bytes) -> bytes:
    return line[:-1]


def deep(line: bytes) -> bytes:
    return b"[" * 50_000 + b"\n"


@pytest.mark.parametrize("spoil", [not_json, zeros, no_text, a_number, another_operation, two_in_one, deep])
def test_a_damaged_line_is_set_aside_and_what_stands_before_is_kept(
    tmp_path: Path, spoil: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    def said() -> list[str]:
        return [found.getMessage() for found in caplog.records if found.name.startswith("img2brain")]

    home = Home(tmp_path)
    study = open_study(home)
    for x in (1.0, 2.0, 3.0):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", 0, 9) * 0 + x)
    lines = home.search_log.read_bytes().splitlines(keepends=True)
    second = [place for place, line in enumerate(lines) if b'"op_code":4' in line][1]
    lines[second] = spoil(lines[second])
    home.search_log.write_bytes(damaged := b"".join(lines))
    assert [trial.value for trial in open_study(home).trials] == [1.0]
    (line,) = said()
    assert line.startswith(f"line {second + 1} of the search log {home.search_log} is damaged: the log is kept as")
    assert (tmp_path / "optuna.log.damaged-1").read_bytes() == damaged
    assert [trial.value for trial in open_study(home).trials] == [1.0]
    assert len(said()) == 1, "said once"


@pytest.mark.parametrize("spoil", [not_json, zeros, no_text, a_number, another_operation, two_in_one, deep])
def test_a_line_that_is_damaged_under_a_study_stops_it_on_one_line(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    home = Home(tmp_path)
    study, other = open_study(home), open_study(home)
    n_read = home.search_log.stat().st_size
    other.ask()
    other.ask()
    content = home.search_log.read_bytes()
    line, rest = content[n_read:].split(b"\n", 1)
    home.search_log.write_bytes(content[:n_read] + spoil(line + b"\n") + rest)
    for _ in range(2):  # a line that were passed over would give other trials their ids
        with pytest.raises(StoreError, match=r"The search log .* must stay as it is .* Line 3 is damaged\."):
            len(study.trials)
    assert not open_study(home).trials


def test_a_log_that_is_cut_under_a_study_stops_it_on_one_line(tmp_path: Path) -> None:
    home = Home(tmp_path)
    study = open_study(home)
    study.ask()
    os.truncate(home.search_log, 20)
    with pytest.raises(StoreError, match=r"The search log .* must stay as it is .* Line 2 was cut\."):
        len(study.trials)


def test_a_log_that_is_replaced_under_a_study_is_told(tmp_path: Path) -> None:
    home = Home(tmp_path)
    study = open_study(home)
    shutil.copyfile(home.search_log, tmp_path / "other")
    (tmp_path / "other").replace(home.search_log)
    with pytest.raises(StoreError, match=r"The search log .* must stay while a study is at work\. It was replaced;"):
        study.ask()
    home.search_log.unlink()
    with pytest.raises(
        StoreError, match=r"The search log .*optuna\.log cannot be (read|written): No such file or directory\."
    ):
        study.ask()


def test_a_log_that_another_process_holds_is_told(tmp_path: Path) -> None:
    home = Home(tmp_path)
    study = open_study(home, 0.1)
    held = r"The search log .*optuna\.log is held by another process, .*optuna\.lock was not free for 0\.1 s\."
    with FileLock(home.search_log.with_suffix(".lock")):
        with pytest.raises(StoreError, match=held):
            study.ask()
        with pytest.raises(StoreError, match=held):
            open_study(home, 0.1)
    study.tell(study.ask(), 1.0)
    assert [trial.value for trial in open_study(home).trials] == [1.0]


def test_a_full_disk_leaves_no_half_line(small_disk: Path) -> None:
    home = Home(small_disk / "home")
    study = open_study(home)
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
    with pytest.raises(StoreError, match=r"The search log .*optuna\.log cannot be written: No space left on device\."):
        study.set_user_attr("long", "x" * 100_000)
    (small_disk / "filler").unlink()
    assert home.search_log.read_bytes().endswith(b"\n")
    study.tell(study.ask(), 1.0)
    assert [trial.value for trial in open_study(home).trials] == [1.0]
