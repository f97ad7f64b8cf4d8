"""Models over several data sets: what is counted, and that intervals cover what they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from img2brain.errors import ShapeError
from img2brain.statistics.across import standings


def sure(scores: np.ndarray) -> list[np.ndarray]:
    """Resamples without any noise."""
    return [np.tile(row, (40, 1)) for row in scores]


def test_mean_rank_and_win_rate_count_ties_half() -> None:
    scores = np.array([[0.5, 0.3, 0.3], [0.2, 0.4, 0.1]])
    found = standings(scores, sure(scores))
    assert [each.mean.estimate for each in found] == pytest.approx([0.35, 0.35, 0.2])
    assert [each.rank.estimate for each in found] == [1.5, 1.75, 2.75]
    assert [each.win_rate.estimate for each in found] == pytest.approx([0.75, 0.625, 0.125])
    assert all(each.mean.low == each.mean.high for each in found)


@given(arrays(np.float64, (3, 4), elements=st.floats(-1, 1)))
def test_win_rates_add_up_and_estimates_lie_in_their_intervals(scores: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, (3, 60, 4))
    for like_these in (False, True):
        found = standings(scores, list(scores[:, None] + noise), like_these=like_these)
        assert np.mean([each.win_rate.estimate for each in found]) == pytest.approx(0.5)
        assert np.mean([each.rank.estimate for each in found]) == pytest.approx(2.5)
        for each in found:
            for item in (each.mean, each.rank, each.win_rate):
                assert item.low <= item.estimate <= item.high


def test_intervals_cover_the_mean_of_these_data_sets() -> None:
    random = np.random.default_rng(1)
    truth, spread = random.uniform(0.2, 0.6, (4, 2)), 0.05
    covered = []
    for _ in range(300):
        seen = truth + random.normal(0, spread, truth.shape)
        resampled = [row + random.normal(0, spread, (200, 2)) for row in seen]
        found = standings(seen, resampled)[0].mean
        covered.append(found.low <= truth[:, 0].mean() <= found.high)
    assert 0.91 <= np.mean(covered) <= 0.99


def test_data_sets_do_not_share_their_resamples() -> None:
    """Two data sets of as many images drew the same images: their noise must not add up."""
    noise = np.random.default_rng(2).normal(0, 0.1, (2000, 2))
    scores = np.zeros((2, 2))
    found = standings(scores, [noise, noise])[0].mean
    assert found.high == pytest.approx(1.96 * 0.1 / np.sqrt(2), rel=0.1)


def test_data_sets_like_these_are_less_sure() -> None:
    scores = np.array([[0.1, 0.2], [0.5, 0.3], [0.3, 0.6]])
    these, like = (standings(scores, sure(scores) * 1, like_these=each)[0].mean for each in (False, True))
    assert like.high - like.low > these.high - these.low


def test_an_undefined_score_ranks_last() -> None:
    scores = np.array([[0.5, np.nan]])
    first, last = standings(scores, sure(scores))
    assert (first.rank.estimate, last.rank.estimate) == (1, 2)
    assert np.isnan(last.mean.estimate)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ShapeError, match="2 models or more"):
        standings(np.zeros((2, 1)), [np.zeros((5, 1))] * 2)
    with pytest.raises(ShapeError):
        standings(np.zeros((2, 2)), [np.zeros((5, 2))])
