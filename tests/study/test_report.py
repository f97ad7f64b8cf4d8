"""What a study shows of its trials."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from img2brain.study.report import _drawn


def told(*regressors: str) -> Any:
    """Return trials with these regressors, the best first."""
    return [
        SimpleNamespace(number=number, score=1 - number / 10, spec=SimpleNamespace(regressor=name))
        for number, name in enumerate(regressors)
    ]


@pytest.mark.parametrize(
    ("regressors", "drawn"),
    [
        (["a"] * 7, [0, 1, 2, 3, 4]),
        (["a", "a", "b", "b", "b", "b", "c"], [0, 1, 2, 3, 6]),
        (["a", "a", "b", "c", "d", "e", "f"], [0, 2, 3, 4, 5, 6]),
        (["a"], [0]),
    ],
)
def test_histograms_are_of_the_best_trial_of_each_regressor_and_of_other_good_ones(
    regressors: list[str], drawn: list[int]
) -> None:
    assert [trial.number for trial in _drawn(told(*regressors))] == drawn
