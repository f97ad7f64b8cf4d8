"""A home that commit dd6aca5 left, in another place: it gives what it gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain.home import Home
from img2brain.leaderboard.collect import collect
from img2brain.leaderboard.rows import Row
from img2brain.registered import load_model
from img2brain.spec import load_study
from img2brain.study.runner import run_study

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.conftest import OldHome

Key = tuple[str, int]


def number(value: float | None) -> float:
    return np.nan if value is None else value


def scores(rows: Iterable[Row]) -> dict[Key, tuple[float, float]]:
    return {
        (row.trial.study, row.trial.number): (
            row.trial.score, row.confirmed.whole.score.estimate if row.confirmed else np.nan
        )
        for row in rows
    }  # fmt: skip


def assert_same_board(home: Path, rows: list[dict[str, Any]]) -> None:
    found = scores(collect(Home(home)))
    expected = {
        (row["study"], row["trial"]): (number(row["validation_median_r"]), number(row["confirmation_median_r"]))
        for row in rows
    }
    assert sorted(found) == sorted(expected)
    for key, values in expected.items():
        assert found[key] == pytest.approx(values, abs=1e-6, nan_ok=True), key


def test_its_board_and_its_model(old_home: OldHome) -> None:
    assert_same_board(old_home.home, old_home.expected["leaderboard"])
    predicted = load_model("recordings@champion", old_home.home).predict(np.array(old_home.expected["features"]))
    np.testing.assert_allclose(predicted, old_home.expected["predictions"], atol=1e-6)


def test_its_unfinished_study_goes_on(old_home: OldHome) -> None:
    resumed = old_home.expected["resumed"]
    outcome = run_study(load_study(old_home.unfinished), old_home.home)
    for trial, expected in zip(outcome.trials, resumed["trials"], strict=True):
        assert (trial.number, trial.spec.layer, trial.spec.regressor) == (
            expected["number"], expected["spec"]["layer"], expected["spec"]["regressor"]
        )  # fmt: skip
        assert trial.score == pytest.approx(expected["median_r"], abs=1e-6)
    assert_same_board(old_home.home, resumed["leaderboard"])
    predicted = load_model("recordings@champion", old_home.home).predict(np.array(old_home.expected["features"]))
    np.testing.assert_allclose(predicted, resumed["predictions"], atol=1e-6)
