"""The mean over members: joint resamples, intervals, differences and ties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from img2brain.errors import ShapeError
from img2brain.result import WHOLE
from img2brain.statistics.bootstrap import Summaries
from img2brain.statistics.members import OverMembers, joint_resamples
from img2brain.statistics.ties import place


def scored(
    scores: Sequence[float] | NDArray[np.float64], drawn: Any, kind: Any = "other", n_units: int = 1000
) -> OverMembers:
    """Members with these scores and resamples (n_resamples, n_members)."""
    return OverMembers(
        {
            str(number): Summaries((WHOLE,), np.array([score]), column[:, None], "median", kind, n_units)
            for number, (score, column) in enumerate(zip(scores, np.asarray(drawn).T, strict=True))
        }
    )


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=1, max_size=5))
def test_images_of_one_label_are_drawn_together(units: list[list[int]]) -> None:
    drawn = joint_resamples([np.array(labels) for labels in units], n_resamples=20)
    empty = [counts.sum(axis=1) == len(labels) for counts, labels in zip(drawn, units, strict=True)]
    seen: dict[int, Any] = {}
    for counts, labels, skipped in zip(drawn, units, empty, strict=True):
        assert counts.shape == (20, len(labels))
        assert (counts.sum(axis=1) > 0).all()
        for label, column in zip(labels, counts.T, strict=True):
            first, left_out = seen.setdefault(label, (column, skipped))
            both = ~(skipped | left_out)
            np.testing.assert_array_equal(first[both], column[both])


def test_members_that_share_no_image_are_drawn_apart() -> None:
    one, other = joint_resamples([np.arange(200), np.arange(200, 400)], n_resamples=4000)
    assert one.mean() == pytest.approx(1, abs=0.01)
    means = [(counts * np.linspace(-1, 1, 200)).sum(axis=1) / counts.sum(axis=1) for counts in (one, other)]
    assert abs(np.corrcoef(*means)[0, 1]) < 0.06
    expected = np.linspace(-1, 1, 200).std() / np.sqrt(200)
    assert means[0].std() == pytest.approx(expected, rel=0.05)


def test_the_interval_of_few_members_is_over_images_alone() -> None:
    drawn = np.random.default_rng(0).normal([0.1, 0.9], 0.05, (4000, 2))
    found = scored([0.1, 0.9], drawn).interval()
    assert found.estimate == 0.5
    half = stats.norm.ppf(0.975) * drawn.mean(axis=1).std(ddof=1)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half))


def test_the_interval_of_a_sample_of_members_is_that_of_students_t() -> None:
    """Where no image is shared the resamples have no part in it but by chance."""
    scores = np.array([0.2, 0.25, 0.3, 0.35, 0.4, 0.5])
    drawn = scores + np.random.default_rng(0).normal(0, 0.01, (20_000, 6))
    found = scored(scores, drawn).interval()
    expected = stats.t.interval(0.95, 5, scores.mean(), stats.sem(scores))
    assert (found.low, found.high) == pytest.approx(expected, abs=2e-4)


def test_what_all_members_share_widens_the_interval() -> None:
    scores = np.full(8, 0.4)
    chance = np.random.default_rng(0)
    drawn = scores + chance.normal(0, 0.03, (20_000, 1)) + chance.normal(0, 0.01, (20_000, 8))
    found = scored(scores, drawn).interval()
    half = stats.t.ppf(0.975, 999) * 0.03
    assert (found.low, found.high) == pytest.approx((0.4 - half, 0.4 + half), rel=0.02)


def test_a_correlation_keeps_within_its_bounds() -> None:
    scores = np.array([0.99, 0.97, 0.98, 0.95, 0.999])
    drawn = np.clip(scores + np.random.default_rng(0).normal(0, 0.01, (500, 5)), -1, 1)
    found = scored(scores, drawn, "correlation").interval()
    assert 0.9 < found.low < found.estimate < found.high < 1


def test_models_are_paired_on_each_member() -> None:
    """Members differ by far more than two models do on each of them."""
    chance, n_members = np.random.default_rng(1), 8
    subjects = chance.normal(0.4, 0.2, n_members)
    noise = chance.normal(0, 0.02, (2000, n_members))
    models = [subjects + gain + chance.normal(0, 0.004, n_members) for gain in (0.02, 0.0)]
    better, other = (scored(scores, scores + noise) for scores in models)
    assert (better - other).p_value() < 0.001
    assert not better.interval().low > other.score()
    first, second = place([better, other], WHOLE)
    assert (first.rank, second.rank) == (1, 2)
    tied, _ = place([other, other], WHOLE)
    assert tied.rank == 1
    assert (other - other).p_value() == 1.0


def test_what_is_not_known_is_said() -> None:
    drawn = np.random.default_rng(0).normal(0.4, 0.1, (50, 5))
    few = scored([0.4] * 5, drawn, n_units=3)
    assert np.isnan([few.interval().low, few.interval().high, few.p_value()]).all()
    undefined = scored([0.4, 0.4, np.nan, 0.4, 0.4], np.where(np.arange(5) == 2, np.nan, drawn))
    assert np.isnan([undefined.score(), undefined.interval().low, undefined.p_value()]).all()
    with pytest.raises(ShapeError, match="paired over members must be of the same ones"):
        scored([0.4] * 5, drawn) - scored([0.4] * 4, drawn[:, :4])
    with pytest.raises(ShapeError, match="must be of at least one"):
        OverMembers({})


def test_regions_are_those_that_all_members_have() -> None:
    drawn = np.random.default_rng(0).normal(size=(10, 3))
    one = Summaries((WHOLE, "V1", "V4"), np.array([1.0, 2.0, 3.0]), drawn)
    other = Summaries((WHOLE, "V4", "IT"), np.array([2.0, 5.0, 9.0]), drawn)
    found = OverMembers({"one": one, "other": other})
    assert found.regions == (WHOLE, "V4")
    assert found.score("V4") == 4.0
