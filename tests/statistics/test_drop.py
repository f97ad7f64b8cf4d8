"""Drops between parts of the confirmation rows: what they are, and how often their interval holds the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from img2brain.metrics.pearson import Pearson
from img2brain.statistics.bootstrap import Bootstrap, Summaries
from img2brain.statistics.drop import drop, drops

N_VOXELS = 15


def scored(chance: np.random.Generator, n_images: int, r: float, shared: float = 0.0) -> Summaries:
    """Score predictions that correlate with the responses by r, on the median over voxels that are `shared` alike."""
    common = chance.standard_normal((n_images, 1))
    Y = np.sqrt(shared) * common + np.sqrt(1 - shared) * chance.standard_normal((n_images, N_VOXELS))
    P = r * Y + np.sqrt(1 - r**2) * chance.standard_normal(Y.shape)
    return Bootstrap(Y, Pearson(), n_resamples=400).summaries(P, {})


def test_a_drop_is_the_difference_of_the_scores_with_the_errors_of_both() -> None:
    chance = np.random.default_rng(0)
    first, other = scored(chance, 60, 0.6), scored(chance, 90, 0.3)
    found = drop(first, other)
    assert found.estimate == pytest.approx(float(first.estimate[0] - other.estimate[0]))
    assert found.low < found.estimate < found.high
    half = (found.high - found.low) / 2
    one, two = ((each.high - each.low) / 2 for each in (first.interval(), other.interval()))
    assert half == pytest.approx(np.hypot(one, two), rel=0.15)
    assert drops({"test": first, "ood": other}, "test") == {"ood": found}


def test_parts_of_one_size_are_drawn_independently_of_each_other() -> None:
    """Parts of as many images meet the same draws: pairing them by number would take one for the other."""
    one = scored(np.random.default_rng(1), 80, 0.5)
    found = drop(one, one)
    assert found.estimate == 0
    half, alone = (found.high - found.low) / 2, one.interval()
    assert half == pytest.approx(np.sqrt(2) * (alone.high - alone.low) / 2, rel=0.15)


def test_of_too_few_images_in_either_part_no_interval_is_known() -> None:
    first, other = (scored(np.random.default_rng(2), n_images, 0.5) for n_images in (50, 3))
    assert np.isnan([drop(first, other).low, drop(other, first).high]).all()
    lone = replace(other, resampled=other.resampled[:1])
    assert np.isnan(drop(first, lone).low)


@pytest.mark.slow
@pytest.mark.parametrize(("n_first", "n_other", "truths"), [(40, 40, (0.6, 0.6)), (100, 40, (0.6, 0.3))])
def test_intervals_hold_the_truth_as_often_as_they_say(n_first: int, n_other: int, truths: tuple[float, float]) -> None:
    chance, n_turns = np.random.default_rng(3), 400
    found = [
        drop(scored(chance, n_first, truths[0], 0.3), scored(chance, n_other, truths[1], 0.3)) for _ in range(n_turns)
    ]
    truth = truths[0] - truths[1]
    covered = np.mean([item.low <= truth <= item.high for item in found])
    print(f"covered {covered:.3f}")  # noqa: T201
    assert 0.92 <= covered <= 0.98
