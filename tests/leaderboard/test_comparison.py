"""What the page of comparisons reads, and models that are matched across data sets."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from img2brain.leaderboard.compare import Subject, compare
from img2brain.leaderboard.published import with_places
from img2brain.leaderboard.rows import Row
from img2brain.leaderboard.site.across import acrosses_of
from img2brain.leaderboard.site.board import Board, board_of
from img2brain.leaderboard.site.comparison import MOST_VOXELS, comparison_script
from img2brain.statistics.bootstrap import Summaries
from tests.leaderboard.conftest import confirmation_of, region_record, trial_record

OTHER = {"name": "other", "digest": "e" * 64}


def published(number: int, score: float, n_voxels: int = 100, **changes: Any) -> Row:
    """A row that was published, with resamples of two regions and scores of its voxels."""
    trial = trial_record(number=number, score=score, **changes)
    chance = np.random.default_rng(number)
    summaries = Summaries(("", "V1"), np.array([score, score / 2]), score + 0.02 * chance.standard_normal((300, 2)))
    accuracy = chance.uniform(-0.5, 0.9, n_voxels)
    accuracy[3] = np.nan
    confirmation = confirmation_of(trial, region_record(score, n_voxels), {"V1": region_record(score / 2, 40)})
    arrays = {"confirmation/accuracy.npy": accuracy}
    return Row(run_id=f"{number:032x}", trial=trial, confirmation=confirmation, summaries=summaries, arrays=arrays.get)


def board(rows: list[Row]) -> Board:
    return board_of(with_places(rows))


def told(*boards: Board) -> list[dict[str, Any]]:
    script = comparison_script(boards)
    assert script.startswith("globalThis.leaderboard = ")
    found: list[dict[str, Any]] = json.loads(script.removeprefix("globalThis.leaderboard = ").rstrip(";\n"))
    return found


def test_differences_are_those_of_the_command_line() -> None:
    rows = [published(number, score) for number, score in enumerate((0.4, 0.35, 0.2))]
    (group,) = told(board(rows))
    assert [row["scores"][0] for row in group["rows"]] == [[0.4, 0.35, 0.45], [0.35, 0.3, 0.4], [0.2, 0.15, 0.25]]
    pairs = [(0, 1), (0, 2), (1, 2)]
    for (i, j), (regions, p) in zip(pairs, group["pairs"], strict=True):
        subjects = [
            Subject(
                "", "sample", "confirming", "confirmation", rows[k].measure,
                np.asarray(rows[k].arrays("confirmation/accuracy.npy")), {"V1": np.arange(40)}, None, rows[k].summaries,
            )
            for k in (i, j)
        ]  # fmt: skip
        expected = compare(*subjects).table
        np.testing.assert_allclose([found[1:] for found in regions], expected[["low", "high"]], rtol=1e-4)
        assert 0 <= p <= 1


def test_voxels_are_kept_within_their_rounding() -> None:
    (group,) = told(board([published(0, 0.4), published(1, 0.3)]))
    found = np.frombuffer(base64.b64decode(group["rows"][0]["voxels"]), "<i2")
    expected = np.random.default_rng(0)
    expected.standard_normal((300, 2))
    accuracy = expected.uniform(-0.5, 0.9, 100)
    assert found[3] == -32768, "undefined"
    known = np.arange(100) != 3
    np.testing.assert_allclose(found[known] * group["rows"][0]["scale"], accuracy[known], atol=2e-5)


def test_many_voxels_are_thinned_and_counted() -> None:
    (group,) = told(board([published(0, 0.4, 10_001), published(1, 0.3, 10_001)]))
    assert group["voxels"] == [MOST_VOXELS, 10_001]
    assert len(base64.b64decode(group["rows"][1]["voxels"])) == 2 * MOST_VOXELS


def test_rows_without_arrays_have_their_scores_alone() -> None:
    (group,) = told(board([replace(published(k, 0.3), summaries=None, arrays=lambda _: None) for k in range(2)]))
    assert group["pairs"] == [[[None, None], None]]
    assert [row["voxels"] for row in group["rows"]] == ["", ""]
    assert told(board_of([Row(run_id="a", trial=trial_record())])) == []


def test_rows_that_met_other_resamples_are_neither_paired_nor_tied() -> None:
    def drawn(row: Row, draws: str) -> Row:
        assert row.summaries is not None
        return replace(row, summaries=replace(row.summaries, draws=draws))

    scores = (0.4, 0.39, 0.38, 0.37)
    rows = [drawn(published(k, score), "ab"[k % 2]) for k, score in enumerate(scores)]
    (group,) = told(board(rows))
    known = [p is not None for _, p in group["pairs"]]
    assert known == [False, True, False, False, True, False], "0 with 2, 1 with 3"
    for found in board(rows).forests:
        lines = found.banded
        assert [line.row.trial.number for line, _, _ in lines] == [0, 1, 2, 3]
        assert [line.rank for line, _, _ in lines] == ["1", "1", "1", "1"]
        assert all(begins for _, begins, _ in lines), "what stands between is of the other set"
        assert len(found.best) == 2


def two_sets(**changes: Any) -> list[Board]:
    first = [published(0, 0.4), published(1, 0.3, weights_digest="v" * 64), published(2, 0.35, layer="features.5")]
    second = [published(3, 0.5, dataset=OTHER, **changes), published(4, 0.6, dataset=OTHER, weights_digest="v" * 64)]
    return [board(first), board(second)]


def test_models_are_matched_by_network_and_weights() -> None:
    (across,) = acrosses_of(two_sets())
    assert [[row.trial.number for row in rows] for rows in across.rows] == [[0, 1], [3, 4]]
    assert [line.row.trial.number for line in across.lines] == [0, 1]
    assert [line.rank for line in across.lines] == ["1.5", "1.5"]
    assert [line.mean.text for line in across.lines] == ["0.450", "0.450"]
    assert across.id == "across-pearson-median"


@pytest.mark.parametrize("changes", [{"preprocessing": "resize224"}, {"backbone": "resnet18"}, {"weights_digest": "x"}])
def test_other_networks_are_other_models(changes: dict[str, Any]) -> None:
    assert acrosses_of(two_sets(**changes)) == [], "a single model is in common"


def test_two_splits_of_a_data_set_are_one_data_set() -> None:
    first, second = two_sets()
    again = board([published(5, 0.1, rows={"split": "6" * 64}), published(6, 0.2, rows={"split": "6" * 64})])
    assert acrosses_of([first, again]) == []
    (across,) = acrosses_of([first, again, second])
    assert [each.dataset.name for each in across.boards] == ["sample", "other"]


def test_other_metrics_stand_apart() -> None:
    first, _ = two_sets()
    metric = {"label": "R2", "summary": "mean"}
    rows = [
        published(k, 0.1, objective="r2", metric=metric, dataset=OTHER, weights_digest=w * 64)
        for k, w in ((7, "w"), (8, "v"))
    ]
    assert acrosses_of([first, board(rows)]) == []
