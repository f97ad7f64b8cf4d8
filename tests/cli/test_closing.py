"""The last lines of a study."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from img2brain import run_study
from img2brain.cli.study import _closing, _tell
from img2brain.home import Home
from img2brain.leaderboard.record_numbers import confirmation_texts
from img2brain.publish import Publication
from img2brain.records.confirmation import CeilingRecord
from img2brain.spec import load_study
from img2brain.study.outcome import StudyOutcome
from img2brain.study.search import ToldTrial
from img2brain.tracking.registry import Registered
from tests.leaderboard.conftest import against, confirmation_of, region_record, trial_record

if TYPE_CHECKING:
    from tests.conftest import NewHome


@pytest.mark.parametrize(
    ("score", "says"),
    [
        (None, "confirmation   none: no rows were kept from the search"),
        (math.nan, "confirmation   undefined (10 images that the search never saw; few images: 10)"),
        (0.25, "confirmation   0.2500 [0.2000, 0.3000] (10 images that the search never saw; few images: 10)"),
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


@pytest.mark.slow
def test_the_best_trials_are_shown_also_in_a_home_that_shares_the_study_of_another(
    given_study: Path, new_home: NewHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, storage = load_study(given_study), f"sqlite:///{tmp_path}/searches.db"
    first, second = (Home(new_home(name), storage=storage) for name in ("first", "second"))
    told = [run_study(spec, home) for home in (first, second)]
    assert [outcome.home for outcome in told] == [first.id, first.id]
    for outcome, home in zip(told, (first, second), strict=True):
        _tell(outcome, home)
        head, best, *_ = capsys.readouterr().out.splitlines()
        assert head.startswith("rank")
        assert best.split()[0] == "1"


def test_the_score_comes_with_all_that_it_needs(tmp_path: Path) -> None:
    trial = trial_record()
    ceiling = CeilingRecord(score=0.5, normalised=0.5, explained=0.25, n_unreliable=0, n_above=0)
    controls = {"untrained": against(0.2, 0.05), "pixels": against(0.1, 0.15)}
    confirmation = confirmation_of(trial, region_record(0.25, ceiling=ceiling, controls=controls))
    part = confirmation.confirmed
    assert part is not None
    few = part.model_copy(update={"n_images": 19, "ceiling": "ncsnr"})
    lines = confirmation_texts(few)
    assert lines == [
        ("confirmation", "0.2500 [0.2000, 0.3000] (19 images that the search never saw; few images: 19)"),
        ("noise ceiling", "0.5000 (from ncsnr); the model has 0.5000 of it"),
        ("control", "untrained 0.2000, the model +0.050 [+0.025, +0.100]"),
        ("control", "pixels 0.1000, the model +0.150 [+0.075, +0.300]"),
    ]
    assert part.model_copy(update={"n_images": 20}).flags == ()
    assert part.model_copy(update={"n_images": 40, "n_units": 5}).flags == ("few images: 5",)
