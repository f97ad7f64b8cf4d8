"""The last lines of a study."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from img2brain.cli.study import _closing
from img2brain.home import Home
from img2brain.publish import Publication
from img2brain.study.outcome import StudyOutcome
from img2brain.study.search import ToldTrial
from img2brain.tracking.registry import Registered
from tests.leaderboard.conftest import confirmation_of, region_record, trial_record


@pytest.mark.parametrize(
    ("score", "says"),
    [
        (None, "confirmation   none: no rows were kept from the search"),
        (math.nan, "confirmation   undefined (rows that the search never saw)"),
        (0.25, "confirmation   0.2500 (rows that the search never saw)"),
    ],
)
def test_no_rows_were_kept_only_where_none_were(score: float | None, says: str, tmp_path: Path) -> None:
    trial = trial_record()
    confirmation = None if score is None else confirmation_of(trial, region_record(score))
    version: Any = Registered("sample", "1", (), "run", {})
    published = Publication(version, is_champion=True, confirmation=confirmation, reason="the first champion")
    told = ToldTrial(0, trial.spec, {}, 0.25, "")
    outcome = StudyOutcome("small", [told], told, published, (), 0.0, "Pearson r")
    assert says in _closing(outcome, Home(tmp_path)).splitlines()
