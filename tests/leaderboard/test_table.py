"""Ranks, their order, and tables as text and CSV."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from img2brain.errors import DataError
from img2brain.leaderboard.rows import boards
from img2brain.leaderboard.table import as_csv, as_text, ranked
from img2brain.records import MetricRecord, PluginRecord
from tests.leaderboard.conftest import MakeRow, against, region_record

HOSTILE = ['=HYPERLINK("http://e.com")', "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1"]


def _read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_best_first_and_equal_scores_share_a_rank(make_row: MakeRow) -> None:
    scores = [0.1, 0.3, 0.2, 0.3]
    table = ranked(make_row(score=r, number=i) for i, r in enumerate(scores))
    assert table["rank"].tolist() == [1, 1, 3, 4]
    assert table["trial"].tolist() == [1, 3, 2, 0]


def test_without_a_score_there_is_no_rank(make_row: MakeRow) -> None:
    table = ranked([make_row(score=math.nan, number=1), make_row(score=-0.5, number=2)])
    assert table["trial"].tolist() == [2, 1]
    assert table["rank"].isna().tolist() == [False, True]


@given(st.data())
def test_order_of_the_rows_does_not_matter(make_row: MakeRow, data: st.DataObject) -> None:
    scores, alphas = st.sampled_from([0.1, 0.2, math.nan]), st.sampled_from([None, 0.0, 1.0])
    pairs = data.draw(st.lists(st.tuples(scores, alphas), max_size=6))
    rows = [make_row(score=r, alpha=alpha, number=i) for i, (r, alpha) in enumerate(pairs)]
    shuffled = data.draw(st.permutations(rows))
    pd.testing.assert_frame_equal(ranked(rows), ranked(shuffled))


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": {"digest": "f" * 64}},
        {"rows": {"split": "f" * 64}},
        {"objective": "r2"},
        {"metric": {"summary": "mean"}},
        {"plugins": (PluginRecord(kind="metric", name="pearson", digest="edited"),)},
    ],
)
def test_other_data_rows_or_metrics_are_never_ranked_together(make_row: MakeRow, change: dict[str, Any]) -> None:
    rows = [make_row(), make_row(**change), make_row(number=1)]
    with pytest.raises(DataError, match=r"must share one dataset, one split and one objective\. Got sample "):
        ranked(rows)
    assert sorted(len(group) for group in boards(rows)) == [1, 2]


def test_boards_follow_the_names_of_their_datasets(make_row: MakeRow) -> None:
    rows = [make_row(dataset={"name": name, "digest": digest}) for name, digest in (("b", "1"), ("a", "2"))]
    assert [group[0].trial.dataset.name for group in boards(rows)] == ["a", "b"]


def test_no_rows_give_an_empty_table_with_all_columns() -> None:
    table = ranked([])
    assert {"rank", "validation", "confirmation"} <= set(table.columns)
    assert as_text(table) == "No finished trials."
    assert as_csv(table).startswith("rank,backbone,")


def test_text_is_aligned_and_whole(make_row: MakeRow) -> None:
    layer = "Mixed_6c.branch7x7_2.conv.with.a.very.long.name"
    rows = [
        make_row(score=0.123456, alpha=1234567.0, confirmed=0.1),
        make_row(layer=layer, alpha=None, regressor="linear", number=1),
    ]
    head, first, second = as_text(ranked(rows)).splitlines()
    assert first.split()[:9] == ["1", "alexnet", "random:0", "untrained", layer, "30", "linear", "-", "0.2500"]
    assert second.split()[7:10] == ["1.23e+06", "0.1235", "0.1000"]
    for name in ("components", "alpha", "validation"):
        end = head.index(name) + len(name)
        assert all(line[end - 1] != " " and line[end : end + 1] in {"", " "} for line in (first, second))


def test_extra_columns_are_there_when_they_tell_something(make_row: MakeRow) -> None:
    plain = as_text(ranked([make_row(), make_row()]))
    rich = as_text(
        ranked([make_row(parameters={"l1_ratio": 0.5}), make_row(champion=True, registered="m v3", n_undefined=2)])
    )
    assert "parameters" not in plain
    assert "undefined" not in plain.splitlines()[0]
    assert "l1_ratio=0.5" in rich
    assert "m v3 (champion)" in rich


def test_extra_columns_make_room(make_row: MakeRow) -> None:
    table = ranked([make_row(study="one", number=1), make_row(study="two", number=2, parameters={"l1_ratio": 0.5})])
    whole = as_text(table)
    width = max(map(len, whole.splitlines()))
    narrower = as_text(table, width - 1)
    assert as_text(table, width) == whole
    assert "study" in whole
    assert "study" not in narrower
    assert "trial" in narrower
    assert "validation" in as_text(table, 10)


def test_terminal_codes_do_not_reach_the_terminal(make_row: MakeRow) -> None:
    text = as_text(ranked([make_row(layer="a\x1b[2J\u202eb\nc")]))
    assert r"a\x1b[2J\u202eb\nc" in text
    assert len(text.splitlines()) == 2


def test_csv_holds_the_numbers_in_full(make_row: MakeRow) -> None:
    score = 0.1 + 0.2
    row = _read(as_csv(ranked([make_row(score=score, alpha=None)])))[0]
    assert float(row["validation"]) == score
    assert row["alpha"] == row["confirmation"] == ""
    assert row["champion"] == "False"


@pytest.mark.parametrize("name", HOSTILE)
def test_csv_holds_no_formula(make_row: MakeRow, name: str) -> None:
    row = _read(as_csv(ranked([make_row(study=name, layer='a,"b"')])))[0]
    assert not row["study"].strip().startswith(("=", "+", "-", "@", "＝"))
    assert row["layer"] == 'a,"b"'


def test_a_board_says_its_metric(make_row: MakeRow) -> None:
    row = make_row(objective="r2", metric={"label": "R2", "summary": "mean"}, confirmed=0.5)
    assert row.board.endswith("; R2, mean over voxels)")
    assert (
        _read(as_csv(ranked([row])))[0] | {"objective": "r2", "summary": "mean", "confirmation": "0.5"}
        == _read(as_csv(ranked([row])))[0]
    )


def test_every_statistic_and_control_has_a_column(make_row: MakeRow) -> None:
    whole = region_record(0.3, n_significant=7, controls={"a new one": against(0.1, 0.2)})
    row = _read(as_csv(ranked([make_row(confirmed=whole), make_row(number=1)])))[0]
    assert row["n_significant"] == "7"
    found = [row[f"control_a new one_{name}"] for name in ("score", "difference", "difference_low", "difference_high")]
    assert found == ["0.1", "0.2", "0.1", "0.4"]
    assert (row["confirmation_low"], row["confirmation_high"]) == ("0.25", "0.35")


def test_other_metrics_have_columns_of_their_own(make_row: MakeRow) -> None:
    others = {"r2": MetricRecord(label="R2", summary="mean", whole={"mean": 0.125, "median": 0.5})}
    row = _read(as_csv(ranked([make_row(score=0.25, others=others)])))[0]
    assert (row["validation"], row["validation_r2"]) == ("0.25", "0.125")


def test_studies_of_one_name_are_told_apart_by_their_homes(make_row: MakeRow) -> None:
    homes = ("a" * 32, "b" * 32)
    rows = [make_row(home=home, has_namesake=True, run_id=home) for home in homes]
    text = as_text(ranked(rows))
    assert all(home[:8] in text for home in homes)
    assert [row["home"] for row in _read(as_csv(ranked(rows)))] == list(homes)
    assert {row.name for row in rows} == {"quick #0 of home aaaaaaaa", "quick #0 of home bbbbbbbb"}
    assert "home" not in as_text(ranked([make_row(home=homes[0]), make_row(home=homes[1], study="other")]))
