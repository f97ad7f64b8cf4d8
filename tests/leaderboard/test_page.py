"""The static page as a file: what it says, and that it is replaced whole."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from pathlib import Path

import pytest

from img2brain.errors import StoreError
from img2brain.leaderboard.page import build
from img2brain.leaderboard.published import region_summary
from img2brain.leaderboard.rows import Row
from tests.leaderboard.conftest import MakeRow, against, confirmation_of, region_record, trial_record


def _page(rows: list[Row], folder: Path, **options: str) -> str:
    files = build(rows, folder, **options)
    assert [file.name for file in files] == ["leaderboard.csv", "index.html"]
    return files[1].read_text(encoding="utf-8")


def test_page_says_what_was_scored(make_row: MakeRow, tmp_path: Path) -> None:
    counts = {"n_train": 7086, "n_validation": 1771, "n_confirmation": 984}
    champion = make_row(champion=True, registered="my model v3", confirmed=0.2, rows=counts, dataset={"unit": "beta"})
    page = _page([champion], tmp_path, built="today by hand")
    for text in (
        "7,086 training, 1,771 validation, 984 confirmation",
        "100 voxels (beta)",
        "my model v3",
        "0.2000",
        "Pearson r, median",
    ):
        assert text in page
    assert "Built today by hand." in page
    assert "img2brain model predict &#39;my model&#39;" in page
    assert '<tr class="champion">' in page


def test_each_split_has_a_table_and_one_csv_holds_all(make_row: MakeRow, tmp_path: Path) -> None:
    page = _page([make_row(), make_row(rows={"split": "6" * 64}), make_row(number=1)], tmp_path)
    assert page.count("<table>") == 2
    lines = (tmp_path / "leaderboard.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in lines] == ["rank", "1", "1", "1"]


def test_same_rows_give_the_same_page(make_row: MakeRow, tmp_path: Path) -> None:
    rows = [make_row(number=i, score=i % 3 / 10) for i in range(7)]
    assert _page(rows, tmp_path / "a") == _page(rows[::-1], tmp_path / "b")


def test_policy_names_the_style_and_the_script_that_are_there(make_row: MakeRow, tmp_path: Path) -> None:
    page = _page([make_row()], tmp_path)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    for name in ("style", "script"):
        inline = re.search(f"<{name}>(.*?)</{name}>", page, re.DOTALL)
        assert inline is not None
        content = base64.b64encode(hashlib.sha256(inline[1].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{content}'" in policy[1]


def test_hostile_names_are_escaped_everywhere(make_row: MakeRow, tmp_path: Path) -> None:
    evil = "\"'><script>alert(1)</script>\x1b\u202e$style"
    texts = ("backbone", "weights", "trained", "layer", "regressor", "study", "run_id", "preprocessing")
    where = {"dataset": {"name": evil, "unit": evil, "digest": evil}, "rows": {"split": evil}}
    rest = {"registered": f"{evil} v1", "champion": True, "parameters": {evil: 1.0}, "metric": {"label": evil}}
    page = _page([make_row(**dict.fromkeys(texts, evil), **where, **rest)], tmp_path)
    assert page.count("<script") == 1
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert page.count("&lt;script&gt;alert(1)") >= len(texts) + 3 + len(rest)


@pytest.mark.parametrize(("score", "width"), [(0.25, "83.33"), (-0.2, "0"), (float("nan"), None)])
def test_bars_run_from_zero_to_the_best(make_row: MakeRow, tmp_path: Path, score: float, width: str | None) -> None:
    page = _page([make_row(score=score)], tmp_path)
    assert re.findall(r'<rect width="([^"]*)"', page) == ([width] if width else [])


def test_no_trials_make_a_page_too(tmp_path: Path) -> None:
    assert "No finished trials yet." in _page([], tmp_path)


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    make_row: MakeRow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = _page([make_row()], tmp_path)

    def full(self: Path, *_: object, **__: object) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(StoreError, match=r"cannot be written: No space left on device\.$"):
            build([make_row(layer="new")], tmp_path)
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "leaderboard.csv"]


def test_a_page_follows_the_metric_of_its_study(make_row: MakeRow, tmp_path: Path) -> None:
    metric = {"label": "R2", "summary": "mean"}
    page = _page([make_row(objective="r2", metric=metric, score=-3.5, confirmed=12.25)], tmp_path)
    assert page.count("R2, mean") >= 3
    assert "Pearson" not in page
    assert "bars from 0 to 12.3" in page


def test_published_models_show_every_statistic_by_region(tmp_path: Path) -> None:
    trial = trial_record()
    controls = {"a new one": against(0.125, 0.2)}
    regions = {name: region_record(0.3, 50, controls=controls) for name in ("左V1", "右V1", "=1+1")}
    confirmation = confirmation_of(trial, region_record(0.25, controls=controls), regions)
    files = build([Row(run_id="0" * 32, trial=trial, confirmation=confirmation)], tmp_path)
    page, table = (file.read_text(encoding="utf-8") for file in files[1:])
    assert page.count("a new one") == 2 + 1 + 3, "the heads of two tables, and the cells of a model and three regions"
    lines = list(csv.DictReader(io.StringIO(table)))
    assert [line["region"] for line in lines] == ["左V1", "右V1", "'=1+1"]
    assert {line["control_a new one_score"] for line in lines} == {"0.125"}


def test_counts_are_whole_numbers_in_tables_files_and_pages(tmp_path: Path) -> None:
    """Also where one region lacks a count, and beside a score that is a whole number by chance."""
    trial = trial_record()
    regions = {"V1": region_record(0.0, 1234, n_significant=7), "V4": region_record(0.25, 50)}
    confirmation = confirmation_of(trial, region_record(0.25, n_significant=40), regions)
    row = Row(run_id="0" * 32, trial=trial, confirmation=confirmation)
    page, table = (file.read_text(encoding="utf-8") for file in build([row], tmp_path)[1:])
    lines = list(csv.DictReader(io.StringIO(table)))
    assert [(line["n_voxels"], line["n_significant"]) for line in lines] == [("1234", "7"), ("50", "")]
    assert [line["score"] for line in lines] == ["0.0", "0.25"]
    assert all(f">{text}</td>" in page for text in ("1,234", "7", "50", "0.0000", "–"))
    shown = region_summary([row]).to_string()
    assert " 1234 " in shown
    assert "7.0" not in shown
