from __future__ import annotations

import json
import os
from pathlib import Path

import optuna
import pytest

from img2brain.home import Home
from img2brain.study._journal import open_journal


def open_study(home: Home) -> optuna.Study:
    return optuna.create_study(storage=open_journal(home), study_name="s", load_if_exists=True)


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
