"""Ranks, their order, and tables as text and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from img2brain.errors import DataError
from img2brain.leaderboard.table import Row, as_csv, as_text, boards, ranked

MakeRow = Callable[..., Row]
HOSTILE = ['=HYPERLINK("http://e.com")', "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1"]


def _read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_best_first_and_equal_scores_share_a_rank(make_row: MakeRow) -> None:
    scores = [0.1, 0.3, 0.2, 0.3]
    table = ranked(make_row(validation_median_r=r, trial=i) for i, r in enumerate(scores))
    assert table["rank"].tolist() == [1, 1, 3, 4]
    assert table["trial"].tolist() == [1, 3, 2, 0]


def test_without_a_score_there_is_no_rank(make_row: MakeRow) -> None:
    table = ranked([make_row(validation_median_r=math.nan, trial=1), make_row(validation_median_r=-0.5, trial=2)])
    assert table["trial"].tolist() == [2, 1]
    assert table["rank"].isna().tolist() == [False, True]


@given(st.data())
def test_order_of_the_rows_does_not_matter(make_row: MakeRow, data: st.DataObject) -> None:
    scores, alphas = st.sampled_from([0.1, 0.2, math.nan]), st.sampled_from([None, 0.0, 1.0])
    pairs = data.draw(st.lists(st.tuples(scores, alphas), max_size=6))
    rows = [make_row(validation_median_r=r, alpha=alpha, trial=i) for i, (r, alpha) in enumerate(pairs)]
    shuffled = data.draw(st.permutations(rows))
    pd.testing.assert_frame_equal(ranked(rows), ranked(shuffled))


@pytest.mark.parametrize("change", ["dataset_digest", "split_digest"])
def test_other_data_or_another_split_is_never_ranked_together(make_row: MakeRow, change: str) -> None:
    rows = [make_row(), make_row(**{change: "f" * 64}), make_row(trial=1)]
    with pytest.raises(DataError, match=r"must share one dataset and one split\. Got sample .* and sample "):
        ranked(rows)
    assert sorted(len(group) for group in boards(rows)) == [1, 2]


def test_boards_follow_the_names_of_their_datasets(make_row: MakeRow) -> None:
    rows = [make_row(dataset="b", dataset_digest="1"), make_row(dataset="a", dataset_digest="2")]
    assert [group[0].dataset for group in boards(rows)] == ["a", "b"]


def test_no_rows_give_an_empty_table_with_all_columns() -> None:
    table = ranked([])
    assert {"rank", "validation_r", "confirmation_r"} <= set(table.columns)
    assert as_text(table) == "No finished trials."
    assert as_csv(table).startswith("rank,backbone,")


def test_text_is_aligned_and_whole(make_row: MakeRow) -> None:
    layer = "Mixed_6c.branch7x7_2.conv.with.a.very.long.name"
    rows = [
        make_row(validation_median_r=0.123456, alpha=1234567.0, confirmation_median_r=0.1),
        make_row(layer=layer, alpha=None, regressor="linear", trial=1),
    ]
    head, first, second = as_text(ranked(rows)).splitlines()
    assert first.split()[:9] == ["1", "alexnet", "random:0", "untrained", layer, "30", "linear", "-", "0.2500"]
    assert second.split()[7:10] == ["1.23e+06", "0.1235", "0.1000"]
    for name in ("components", "alpha", "validation_r"):
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
    table = ranked([make_row(study="one", trial=1), make_row(study="two", trial=2, parameters={"l1_ratio": 0.5})])
    whole = as_text(table)
    width = max(map(len, whole.splitlines()))
    narrower = as_text(table, width - 1)
    assert as_text(table, width) == whole
    assert "study" in whole
    assert "study" not in narrower
    assert "trial" in narrower
    assert "validation_r" in as_text(table, 10)


def test_terminal_codes_do_not_reach_the_terminal(make_row: MakeRow) -> None:
    text = as_text(ranked([make_row(layer="a\x1b[2J\u202eb\nc")]))
    assert r"a\x1b[2J\u202eb\nc" in text
    assert len(text.splitlines()) == 2


def test_csv_holds_the_numbers_in_full(make_row: MakeRow) -> None:
    score = 0.1 + 0.2
    row = _read(as_csv(ranked([make_row(validation_median_r=score, alpha=None)])))[0]
    assert float(row["validation_r"]) == score
    assert row["alpha"] == row["confirmation_r"] == ""
    assert row["champion"] == "False"


@pytest.mark.parametrize("name", HOSTILE)
def test_csv_holds_no_formula(make_row: MakeRow, name: str) -> None:
    row = _read(as_csv(ranked([make_row(study=name, layer='a,"b"')])))[0]
    assert not row["study"].strip().startswith(("=", "+", "-", "@", "＝"))
    assert row["layer"] == 'a,"b"'
