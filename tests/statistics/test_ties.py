"""Tie groups: by images, and by voxels where nothing else is known."""

from __future__ import annotations

import numpy as np

from img2brain.metrics.pearson import Pearson
from img2brain.result import WHOLE
from img2brain.statistics.bootstrap import Bootstrap
from img2brain.statistics.ties import place, place_by_voxels, wins
from tests.statistics.test_bootstrap import simulated

N_DATASETS = 300


def test_rows_without_a_difference_are_tied() -> None:
    tied = 0
    for seed in range(N_DATASETS):
        random = np.random.default_rng(seed)
        Y, P, _ = simulated(random, n_voxels=40)
        bootstrap = Bootstrap(Y, Pearson(), 200)
        rows = [bootstrap.summaries(P + 0.5 * random.standard_normal(P.shape), {}) for _ in range(4)]
        rows.sort(key=lambda row: -row.estimate[0])
        tied += {item.group for item in place(rows, WHOLE)} == {1}
    assert tied / N_DATASETS >= 0.95


def test_rows_that_differ_are_told_apart() -> None:
    random = np.random.default_rng(0)
    Y, P, _ = simulated(random, n_images=300)
    bootstrap = Bootstrap(Y, Pearson(), 500)
    same = P + 0.01 * random.standard_normal(P.shape)
    worse = P + 2 * random.standard_normal(P.shape)
    rows = [bootstrap.summaries(item, {}) for item in (P, same, worse)]
    found = place(rows, WHOLE)
    assert [(item.group, item.rank) for item in found] == [(1, 1), (1, 1), (2, 3)]
    assert found[0].difference is None
    assert found[2].difference is not None
    assert found[2].difference.excludes_zero
    assert found[2].p_value < 0.001 < found[1].p_value


def test_a_chain_of_small_steps_is_no_tie_of_its_ends() -> None:
    random = np.random.default_rng(0)
    Y, P, _ = simulated(random, n_images=200)
    bootstrap, noise = Bootstrap(Y, Pearson(), 500), random.standard_normal(P.shape)
    steps = [bootstrap.summaries(P + level * noise, {}) for level in np.linspace(0, 2, 60)]
    assert len({item.group for item in place(steps, WHOLE)}) > 1


def test_voxels_tell_apart_what_three_quarters_of_them_agree_on() -> None:
    random = np.random.default_rng(0)
    best = random.uniform(0, 0.5, 1000)
    near, far = best - 0.001 * random.standard_normal(1000) - 0.0002, best - 0.1
    assert [item.rank for item in place_by_voxels([best, near, far])] == [1, 1, 3]


def test_an_undefined_score_loses_to_any_other() -> None:
    assert wins(np.array([-50.0, np.nan, 0.3]), np.array([np.nan, np.nan, np.nan])) == 2.5 / 3
