"""Comparisons of trials, models and boards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from img2brain.errors import DataError, SpecError
from img2brain.home import Home
from img2brain.leaderboard.compare import BY_IMAGES, BY_VOXELS, Subject, as_text, compare, compare_boards
from img2brain.leaderboard.measure import Measure
from img2brain.leaderboard.region_figures import board_difference, comparison
from img2brain.leaderboard.site.build import build
from img2brain.leaderboard.subjects import find_subjects, find_trial
from img2brain.metrics.pearson import Pearson, pearson
from img2brain.result import WHOLE
from img2brain.statistics.bootstrap import Bootstrap
from tests.leaderboard.conftest import MakeRow
from tests.statistics.test_bootstrap import simulated

if TYPE_CHECKING:
    from tests.conftest import Finished, Launcher

R = Measure("Pearson r", "median", "pearson")
REGIONS = {"V1": np.arange(50), "IT": np.arange(50, 120)}


def subjects(*, worse: float) -> tuple[Subject, Subject]:
    random = np.random.default_rng(0)
    Y, P, _ = simulated(random, 200)
    bootstrap = Bootstrap(Y, Pearson(), 200)
    found = []
    for label, predictions in (("one", P), ("other", P + worse * random.standard_normal(P.shape))):
        found.append(
            Subject(
                label=label,
                dataset="data",
                rows="rows",
                part="confirmation",
                measure=R,
                accuracy=pearson(Y, predictions),
                regions=REGIONS,
                predictions=predictions,
                summaries=bootstrap.summaries(predictions, {WHOLE: np.arange(150), **REGIONS}),
            )
        )
    return found[0], found[1]


def test_a_difference_has_an_interval_in_every_region() -> None:
    found = compare(*subjects(worse=1.0))
    assert found.rule == BY_IMAGES
    assert found.table["region"].tolist() == ["all", "V1", "IT"]
    assert (found.table["low"] > 0).all()
    assert found.n_first is not None
    assert found.n_second is not None
    assert found.n_first > 50 > 3 > found.n_second
    assert "A is better in" in as_text(found)
    traces = comparison(found).data
    assert len(traces) == len(REGIONS) + 2
    assert {trace.type for trace in traces} == {"scatter"}, "no need of WebGL"


def test_scores_of_voxels_alone_give_no_interval() -> None:
    one, other = (replace(item, predictions=None, summaries=None) for item in subjects(worse=1.0))
    found = compare(one, other)
    assert found.rule == BY_VOXELS
    assert found.table["low"].isna().all()
    assert found.n_first is None


def test_so_few_images_that_their_resamples_tell_nothing_give_no_interval() -> None:
    first, second = subjects(worse=1.0)
    assert first.summaries is not None
    few = replace(first, summaries=replace(first.summaries, n_units=3))
    alike = replace(second, summaries=few.summaries)
    found = compare(few, alike)
    assert found.table["low"].isna().all()
    assert "no interval" in found.rule


def test_regions_that_hold_other_voxels_are_not_paired() -> None:
    one, other = subjects(worse=1.0)
    moved = replace(other, regions={"V1": REGIONS["V1"], "IT": np.arange(60, 120)})
    table = compare(one, moved).table.set_index("region")
    assert table["low"].isna().to_dict() == {"all": False, "V1": False, "IT": True}


def test_scores_on_other_rows_do_not_compare() -> None:
    one, other = subjects(worse=0.0)
    with pytest.raises(DataError, match="on the same rows only"):
        compare(one, replace(other, rows="other rows"))


def test_scores_by_other_metrics_do_not_compare() -> None:
    one, other = subjects(worse=0.0)
    r2 = replace(other, measure=Measure("R2", "mean", "r2"))
    with pytest.raises(DataError, match="by the same metric only"):
        compare(one, r2)
    found = compare(replace(one, measure=r2.measure), r2)
    assert found.n_first is None, "Williams' test is one of correlations"
    assert found.table["A"].iloc[0] == pytest.approx(one.accuracy.mean())
    assert "R2, mean over voxels" in as_text(found)


def test_trials_and_models_are_found_by_their_names(finished: Finished) -> None:
    home = Home(finished.home)
    best = finished.outcome.best
    by_number, by_model = find_trial(f"small#{best.number}", home), find_trial("sample@champion", home)
    assert by_number.run_id == by_model.run_id == find_trial(by_model.run_id, home).run_id
    first, second = find_subjects("small#0", "sample/1", home)
    assert first.part == second.part == "validation"
    assert compare(first, second).table["region"].tolist()[0] == "all"
    with pytest.raises(SpecError, match=r"No trial 99 of a study .small. is tracked\. Its numbers go to 8\."):
        find_trial("small#99", home)


def test_boards_compare_by_the_pipelines_that_both_tried(finished: Finished) -> None:
    board = finished.home / "leaderboards" / "sample"
    table = compare_boards(board, board / "leaderboard.csv")
    assert (table["difference"] == 0).all()
    assert len(board_difference(table).data) == 2
    with pytest.raises(DataError, match=r"must be a leaderboard\.csv"):
        compare_boards(board, board / "index.html")


def test_boards_of_the_first_format_compare_with_those_of_now(tmp_path: Path, make_row: MakeRow) -> None:
    (tmp_path / "old.csv").write_text(
        "backbone,weights,layer,components,regressor,preprocessing,validation_r,dataset\n"
        "alexnet,random:0,features.12,30,ridge,weights,0.5,before\n"
    )
    rows = [make_row(score=0.25), make_row(score=0.125, objective="r2", metric={"label": "R2"})]
    build(rows, tmp_path / "new")
    table = compare_boards(tmp_path / "old.csv", tmp_path / "new")
    assert table["difference"].tolist() == [0.25]
    assert table["objective"].tolist() == ["pearson"]


def test_a_board_that_is_not_there_is_named(finished: Finished, img2brain: Launcher, tmp_path: Path) -> None:
    board = finished.home / "leaderboards" / "sample"
    done = img2brain.run("compare", board, tmp_path / "absent", "--home", finished.home)
    assert done.code == 2
    assert done.stderr.startswith(f"Error: The board '{tmp_path / 'absent'}' is not there")


def test_the_command_prints_and_draws(finished: Finished, img2brain: Launcher, tmp_path: Path) -> None:
    page = tmp_path / "difference.html"
    done = img2brain.run("compare", "small#0", "sample@champion", "--out", page, "--home", finished.home)
    assert done.code == 0, done.stderr
    assert "A higher in" in done.stdout
    assert page.stat().st_size > 10_000
    board = finished.home / "leaderboards" / "sample"
    assert img2brain.run("compare", board, board).code == 0
    told = json.loads(img2brain.run("compare", "small#0", "sample@champion", "--json", "--home", finished.home).stdout)
    assert told["regions"][0]["region"] == "all"
    assert told["regions"][0].keys() >= {"A", "B", "A - B", "low", "high"}
    assert img2brain.run("compare", "small#0", "nothing", "--home", finished.home).code == 2
