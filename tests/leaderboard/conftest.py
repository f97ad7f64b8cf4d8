"""Rows to rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from img2brain.leaderboard.table import Row

MakeRow = Callable[..., Row]


@pytest.fixture(scope="session")
def make_row() -> MakeRow:
    """A row of a leaderboard, with what the test cares about changed."""
    usual: dict[str, Any] = {
        "dataset": "sample",
        "backbone": "alexnet",
        "weights": "random:0",
        "trained": "untrained",
        "layer": "features.12",
        "n_components": 30,
        "regressor": "ridge",
        "alpha": 1.0,
        "validation_median_r": 0.25,
        "n_voxels": 100,
        "study": "quick",
        "trial": 0,
        "run_id": "0" * 32,
        "dataset_digest": "d" * 64,
        "split_digest": "5" * 64,
    }
    return lambda **changes: Row(**(usual | changes))
