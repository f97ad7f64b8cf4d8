"""From what is tracked to rows: registered models, ties, homes, and trials that are found by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain.errors import SpecError
from img2brain.home import Home
from img2brain.leaderboard.collect import collect
from img2brain.leaderboard.published import confirmed_rows, heading, summary_table
from img2brain.leaderboard.rows import Row, boards
from img2brain.leaderboard.subjects import find_subjects, find_trial
from img2brain.statistics.bootstrap import Summaries
from img2brain.tracking._store import TrackingStore
from tests.leaderboard.conftest import confirmation_of, region_record, track, trial_record

if TYPE_CHECKING:
    from tests.conftest import NewHome

OTHERS = "f" * 32  # the id of another home


@pytest.fixture
def home(new_home: NewHome) -> Home:
    return Home(new_home())


@pytest.fixture
def store(home: Home) -> TrackingStore:
    return TrackingStore(home)


def resamples(score: float, spread: float, regions: tuple[str, ...] = ("",), seed: int = 0) -> dict[str, Any]:
    """Arrays of resamples as they are stored."""
    random = np.random.default_rng(seed)
    drawn = score + spread * random.standard_normal((400, len(regions)))
    arrays = Summaries(regions, np.full(len(regions), score), drawn).to_arrays()
    return {f"confirmation/summaries_{name}": array for name, array in arrays.items()}


def publish(store: TrackingStore, number: int, score: float, **found: Any) -> str:
    """Track a trial that was confirmed, with resamples of its own noise."""
    trial = trial_record(number=number, score=score + 0.01)
    arrays = resamples(score, 0.01, seed=number, **found)
    return track(store, trial, confirmation_of(trial, region_record(score)), arrays)


def test_a_row_reads_its_arrays_and_its_study(home: Home, store: TrackingStore) -> None:
    publish(store, 0, 0.3)
    (row,) = collect(home)
    assert row.study_record is None  # these runs have no parent
    resampled = row.arrays("confirmation/summaries_resampled.npy")
    assert resampled is not None
    assert resampled.shape == (400, 1)
    assert row.arrays("confirmation/predictions.npy") is None
    assert Row(run_id="", trial=row.trial).arrays("accuracy.npy") is None


def test_published_models_that_cannot_be_told_apart_share_a_rank(home: Home, store: TrackingStore) -> None:
    for number, score in enumerate((0.30, 0.301, 0.20)):
        publish(store, number, score)
    rows = confirmed_rows(collect(home))
    assert [(row.trial.number, row.place and row.place.rank) for row in rows] == [(1, 1), (0, 1), (2, 3)]
    assert "Holm" in heading(rows)
    table = summary_table(rows)
    assert table["rank"].tolist() == ["1", "1", "3"]
    assert table["below the row above by"].tolist()[0] == ""
    assert "p = " in table["below the row above by"].tolist()[2]


def test_models_are_placed_whatever_regions_their_datasets_have(home: Home, store: TrackingStore) -> None:
    publish(store, 0, 0.3, regions=("", "V1"))
    publish(store, 1, 0.2, regions=("", "V4", "IT"))
    assert [row.place and row.place.rank for row in confirmed_rows(collect(home))] == [1, 2]


def test_a_confirmation_without_resamples_has_no_place(home: Home, store: TrackingStore) -> None:
    trial = trial_record()
    track(store, trial, confirmation_of(trial, region_record(0.3)))
    (row,) = collect(home)
    assert (row.confirmed_score, row.place, row.summaries) == (0.3, None, None)


def test_resamples_of_the_first_format_have_all_voxels_first(home: Home, store: TrackingStore) -> None:
    old = {
        "regions": np.array(["V1", "all"]),
        "estimate": np.array([0.1, 0.3]),
        "resampled": np.array([[0.1, 0.3]] * 5),
    }
    trial = trial_record()
    arrays = {f"confirmation/medians_{name}": array for name, array in old.items()}
    track(store, trial, confirmation_of(trial, region_record(0.3)), arrays)
    (row,) = collect(home)
    assert row.summaries is not None
    assert row.summaries.regions == ("", "V1")
    assert row.summaries.estimate.tolist() == [0.3, 0.1]
    assert row.summaries.resampled[0].tolist() == [0.3, 0.1]


def test_studies_of_several_homes_are_both_on_the_board_and_told_apart(home: Home, store: TrackingStore) -> None:
    for made_by in ("", home.id, OTHERS):
        track(store, trial_record(study="small-1", number=len(made_by), home=made_by))
    track(store, trial_record(study="alone-1"))
    (board,) = boards(collect(home))
    homes = {row.trial.home: row.home for row in board if row.study == "small-1"}
    assert homes == {"": home.id, home.id: home.id, OTHERS: OTHERS}, "what is in its own database is the home's own"
    assert {row.name for row in board} == {
        f"small-1 #0 of home {home.id[:8]}",
        f"small-1 #32 of home {home.id[:8]}",
        "small-1 #32 of home ffffffff",
        "alone-1 #0",
    }


def test_boards_of_two_metrics_stand_apart(home: Home, store: TrackingStore) -> None:
    track(store, trial_record())
    track(store, trial_record(number=1, objective="r2", metric={"label": "R2", "summary": "mean"}, score=0.1))
    assert [[row.measure.over_voxels for row in board] for board in boards(collect(home))] == [
        ["Pearson r, median over voxels"],
        ["R2, mean over voxels"],
    ]


def test_a_trial_of_this_home_comes_before_those_of_others(home: Home, store: TrackingStore) -> None:
    theirs = track(store, trial_record(study="small-1", home=OTHERS))
    assert find_trial("small#0", home).run_id == theirs
    own = track(store, trial_record(study="small-1", home=home.id))
    assert find_trial("small#0", home).run_id == find_trial("small-1#0", home).run_id == own


def test_a_trial_that_may_be_several_is_refused_with_all(home: Home, store: TrackingStore) -> None:
    runs = [track(store, trial_record(study="small-1", home=made_by * 32)) for made_by in "ef"]
    with pytest.raises(SpecError, match=r"The trial 'small#0' must be one\. Name its run: ") as told:
        find_trial("small#0", home)
    for run, name in zip(runs, ("eeeeeeee", "ffffffff"), strict=True):
        assert f"{run} of small-1 (home {name})" in str(told.value)
        assert find_trial(run, home).run_id == run


def test_two_studies_of_one_short_name_are_refused_with_both(home: Home, store: TrackingStore) -> None:
    runs = {study: track(store, trial_record(study=study, home=home.id)) for study in ("small-1", "small-2")}
    with pytest.raises(SpecError, match=r"of small-1 .* or .* of small-2 "):
        find_trial("small#0", home)
    assert find_trial("small-2#0", home).run_id == runs["small-2"]


def test_a_trial_that_is_not_there_is_told(home: Home, store: TrackingStore) -> None:
    track(store, trial_record(study="small-1"))
    for reference, told in {
        "small#7": r"No trial 7 of a study .small. is tracked\. Its numbers go to 0\.",
        "smal#0": r"No trial 0 of a study .smal. is tracked\. .*small-1",
        "0" * 32: "No trial is tracked for",
    }.items():
        with pytest.raises(SpecError, match=told):
            find_trial(reference, home)


def test_subjects_are_scored_by_the_objective_of_their_study(home: Home, store: TrackingStore) -> None:
    metric = {"label": "R2", "summary": "mean", "file": "accuracy_r2.npy"}
    for number in range(2):
        trial = trial_record(number=number, objective="r2", metric=metric)
        track(store, trial, arrays={"accuracy_r2": np.array([0.1, number])})
    one, other = find_subjects("quick#0", "quick#1", home)
    assert one.measure.over_voxels == "R2, mean over voxels"
    assert (one.accuracy.tolist(), other.accuracy.tolist()) == ([0.1, 0.0], [0.1, 1.0])


def test_a_record_that_is_damaged_is_told_with_its_run(
    home: Home, store: TrackingStore, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = track(store, trial_record())
    path = next(Path(home.artifacts).rglob("record.json"))
    path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")
    assert collect(home) == []
    assert f"the run {run_id} is left out: " in caplog.text


def test_the_champion_is_what_the_registry_says(home: Home, store: TrackingStore) -> None:
    runs = [publish(store, number, 0.3) for number in range(2)]
    client = store.client
    client.create_registered_model("sample")
    for run_id in runs:
        source = client.get_run(run_id).info.artifact_uri
        client.create_model_version("sample", source, run_id=run_id, tags={"img2brain.run": run_id})
    client.set_registered_model_alias("sample", "champion", "2")
    rows: dict[str, Row] = {row.run_id: row for row in collect(home)}
    assert [(rows[run].registered, rows[run].champion) for run in runs] == [("sample v1", False), ("sample v2", True)]
    assert find_trial("sample@champion", home).run_id == runs[1]
