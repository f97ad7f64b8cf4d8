"""Every number of a record, whatever fields it has."""

from __future__ import annotations

import math

from img2brain.leaderboard.record_numbers import confirmation_texts, statistics_of, summaries_of, texts_of
from img2brain.records import Against, CeilingRecord, Estimate, PartRecord, RegionRecord
from tests.leaderboard.conftest import against, region_record

UNSURE = Against(score=-1.0, difference=Estimate(estimate=1.5))


class _Later(RegionRecord):
    """The record of a later version, which knows more."""

    spread: float | None = None
    tail: Estimate | None = None


LATER = _Later(
    n_voxels=10,
    score=Estimate(estimate=0.5, low=0.4, high=0.6),
    summaries={"pearson": {"median": 0.5, "n_voxels": 10.0}, "r2": {"mean": 0.25}},
    n_significant=4,
    ceiling=CeilingRecord(score=0.8, normalised=0.6, explained=0.36, n_unreliable=3, n_above=1),
    controls={"pixels": against(0.1, 0.2)},
    best_layer=against(0.55, -0.05),
    spread=0.125,
    tail=Estimate(estimate=0.9, low=0.8, high=1.0),
)


def test_a_new_statistic_is_in_every_table() -> None:
    numbers = {item.name: item.value for item in statistics_of(LATER)}
    assert numbers["spread"] == 0.125
    assert (numbers["tail"], numbers["tail_low"], numbers["tail_high"]) == (0.9, 0.8, 1.0)
    assert texts_of(LATER)["spread"] == "0.1250"
    assert texts_of(LATER)["tail"] == "0.900 [0.800, 1.000]"


def test_all_numbers_have_names_of_their_own() -> None:
    found = statistics_of(LATER)
    assert len({item.name for item in found}) == len(found) == 22
    shown = [item.heading for item in found if item.heading]
    assert shown[:4] == ["voxels", "score", "from", "to"]
    assert {"pixels", "noise ceiling", "share of ceiling", "a layer per voxel", "spread"} <= set(shown)
    assert {item.name for item in found if not item.heading} == {
        f"{name}_difference{end}" for name in ("control_pixels", "best_layer") for end in ("", "_low", "_high")
    }, "details are for files alone"


def test_summaries_are_named_by_their_metric() -> None:
    assert summaries_of(LATER) == {"median_r": 0.5, "mean_r2": 0.25}


def test_texts_tell_counts_and_differences() -> None:
    texts = texts_of(LATER)
    assert texts["above chance"] == "4 of 10 voxels"
    assert texts["left out of the ceiling"] == "3 of 10 voxels"
    assert texts["pixels"] == "0.1000, the model +0.200 [+0.100, +0.400]"
    assert "score" not in texts
    assert texts_of(region_record(math.nan)) == {}


def test_a_score_without_an_interval_says_so() -> None:
    part = PartRecord(rows="r", n_images=2, whole=region_record(0.5))
    whole = part.whole.model_copy(update={"score": Estimate(estimate=0.5), "controls": {"shuffled": UNSURE}})
    texts = confirmation_texts(part.model_copy(update={"whole": whole}))
    assert texts[0] == (
        "confirmation",
        "0.5000, no interval (2 images that the search never saw; few images: 2)",
    )
    assert texts[-1] == ("control", "shuffled -1.0000, the model +1.500, no interval")
