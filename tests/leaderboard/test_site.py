"""The site as files: what its pages say, and that each file is replaced whole."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from img2brain.errors import StoreError
from img2brain.leaderboard.rows import Row
from img2brain.leaderboard.site.axis import Axis
from img2brain.leaderboard.site.build import build
from img2brain.leaderboard.site.digits import bounds_text, digits_of, estimate_text
from img2brain.leaderboard.site.forest import forest
from img2brain.records import Estimate, StudyRecord
from tests.leaderboard.conftest import MakeRow, against, confirmation_of, region_record, trial_record


def _index(rows: list[Row], folder: Path, **options: Any) -> str:
    files = build(rows, folder, **options)
    assert files[0] == folder / "index.html"
    return files[0].read_text(encoding="utf-8")


def _published(score: float, number: int = 0) -> Row:
    trial = trial_record(number=number, score=score + 0.01)
    whole = region_record(score, controls={"pixels": against(0.1, 0.2), "a new one": against(0.125, 0.2)})
    return Row(run_id=f"{number:032x}", trial=trial, confirmation=confirmation_of(trial, whole))


def test_index_says_what_was_scored(make_row: MakeRow, tmp_path: Path) -> None:
    counts = {"n_train": 7086, "n_validation": 1771, "n_confirmation": 984}
    champion = make_row(champion=True, registered="my model v3", confirmed=0.2, rows=counts, dataset={"unit": "beta"})
    page = _index([champion], tmp_path, built="today by hand")
    for text in (
        "7,086 training, 1,771 validation, 984 confirmation",
        "100 voxels (beta)",
        "Pearson r <strong>0.200</strong> [0.150, 0.250]",
        "Pearson r, median over voxels",
    ):
        assert text in page
    assert "Built today by hand." in page
    assert "img2brain model predict &#39;my model&#39;" in page
    assert '<tr class="champion">' in page


def test_each_split_has_a_board_and_one_csv_holds_all(make_row: MakeRow, tmp_path: Path) -> None:
    page = _index([make_row(), make_row(rows={"split": "6" * 64}), make_row(number=1)], tmp_path)
    assert page.count('<table class="trials">') == 2
    lines = (tmp_path / "leaderboard.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in lines] == ["rank", "1", "1", "1"]


def test_same_rows_give_the_same_site(make_row: MakeRow, tmp_path: Path) -> None:
    rows = [make_row(number=i, score=i % 3 / 10, confirmed=i % 3 / 10) for i in range(7)]
    first, second = build(rows, tmp_path / "a"), build(rows[::-1], tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_pages_allow_their_own_script_and_style_alone(make_row: MakeRow, tmp_path: Path) -> None:
    pages = [path for path in build([make_row(confirmed=0.2)], tmp_path) if path.suffix == ".html"]
    for path in pages:
        page = path.read_text(encoding="utf-8")
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
        assert policy is not None
        assert "default-src 'none'; style-src 'self' file:; script-src 'self' file:;" in policy[1]
        assert "unsafe" not in policy[1]
        assert re.search(r"<style|<[^>]* on\w+=|<[^>]* style=|javascript:|(src|href)=.https?:", page) is None, path
        assert re.findall(r"<script(?! src=)", page) == []


def test_a_board_without_published_models_draws_the_best_trials(make_row: MakeRow, tmp_path: Path) -> None:
    page = _index([make_row(number=number, score=number / 100) for number in range(30)], tmp_path)
    assert "No published model: the scores are those of the search." in page
    assert page.count('<circle class="point"') == 20


def test_no_trials_make_a_site_too(tmp_path: Path) -> None:
    assert "No finished trials yet." in _index([], tmp_path)


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    make_row: MakeRow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = _index([make_row()], tmp_path)
    before = sorted(path.name for path in tmp_path.rglob("*"))

    def full(self: Path, *_: object, **__: object) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(StoreError, match=r"cannot be written: No space left on device\.$"):
            build([make_row(layer="new")], tmp_path)
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == old
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_board_follows_the_metric_of_its_study(make_row: MakeRow, tmp_path: Path) -> None:
    metric = {"label": "R2", "summary": "mean"}
    page = _index([make_row(objective="r2", metric=metric, score=-3.5, confirmed=12.25)], tmp_path)
    assert page.count("R2, mean") >= 3
    assert "Pearson" not in page
    assert "12.250" in page


def test_regions_have_a_picture_each_and_a_file_with_all_statistics(tmp_path: Path) -> None:
    trial = trial_record()
    controls = {"a new one": against(0.125, 0.2)}
    regions = {name: region_record(0.3, 50, controls=controls) for name in ("左V1", "右V1", "=1+1")}
    confirmation = confirmation_of(trial, region_record(0.25, controls=controls), regions)
    page = _index([Row(run_id="0" * 32, trial=trial, confirmation=confirmation)], tmp_path)
    assert page.count('<figure class="forest"') == 4
    assert page.count("a new one 0.125") == 4, "what a screen reader says of each picture"
    lines = list(csv.DictReader(io.StringIO((tmp_path / "regions.csv").read_text(encoding="utf-8"))))
    assert [line["region"] for line in lines] == ["左V1", "右V1", "'=1+1"]
    assert {line["control_a new one_score"] for line in lines} == {"0.125"}


def test_counts_are_whole_numbers_in_files(tmp_path: Path) -> None:
    """Also where one region lacks a count, and beside a score that is a whole number by chance."""
    trial = trial_record()
    regions = {"V1": region_record(0.0, 1234, n_significant=7), "V4": region_record(0.25, 50)}
    confirmation = confirmation_of(trial, region_record(0.25, n_significant=40), regions)
    build([Row(run_id="0" * 32, trial=trial, confirmation=confirmation)], tmp_path)
    lines = list(csv.DictReader(io.StringIO((tmp_path / "regions.csv").read_text(encoding="utf-8"))))
    assert [(line["n_voxels"], line["n_significant"]) for line in lines] == [("1234", "7"), ("50", "")]
    assert [line["score"] for line in lines] == ["0.0", "0.25"]


def test_a_long_board_stays_small_and_says_what_it_leaves_out(make_row: MakeRow, tmp_path: Path) -> None:
    rows = [
        make_row(number=number, score=1 / (1 + number), confirmed=0.1 if number == 800 else None)
        for number in range(801)
    ]
    page = _index(rows, tmp_path)
    assert page.count("<tr") == 1 + 200 + 1, "the head, the best, and the one that was published"
    assert "The best 201 of 801 trials stand here; all are in" in page
    assert len((tmp_path / "leaderboard.csv").read_text(encoding="utf-8").splitlines()) == 802


def test_forest_shows_ties_controls_and_the_best_first() -> None:
    found = forest([_published(0.4), _published(0.3, 1)])
    assert found is not None
    assert [line.row.trial.number for line in found.lines] == [0, 1]
    assert [(mark.name, mark.kind) for mark in found.lines[0].marks] == [("pixels", "pixels"), ("a new one", "other")]
    for line in found.lines:
        interval = line.interval
        assert interval.low is not None
        assert interval.at is not None
        assert interval.high is not None
        assert 0 <= interval.low < interval.at < interval.high <= 100
    assert found.kinds == ["pixels", "a new one"]


@given(st.lists(st.floats(-1e12, 1e12), max_size=8), st.booleans())
def test_an_axis_holds_all_values_and_few_ticks(values: list[float], anchored: bool) -> None:
    axis = Axis.around([*values, math.nan, math.inf], anchored=anchored)
    assert axis.low < axis.high
    assert len(axis.ticks) <= 8
    assert all(-1e-6 <= axis.at(value) <= 100 + 1e-6 for value in [*values, *axis.ticks])


@given(st.floats(-1, 1), st.floats(1e-6, 1))
def test_digits_are_worth_a_tenth_of_the_interval(estimate: float, side: float) -> None:
    found = Estimate(estimate=estimate, low=estimate - side, high=estimate + side)
    assert digits_of(found) == 4 or 10.0 ** -digits_of(found) <= side / 10 * (1 + 1e-6)
    assert len(estimate_text(found)) <= 7


def test_what_is_not_known_is_not_written() -> None:
    assert (estimate_text(Estimate(estimate=math.nan)), bounds_text(Estimate(estimate=0.1))) == ("–", "")


def _with_arrays(**changes: Any) -> Row:
    """A published row whose run holds what a publication stores."""
    chance = np.random.default_rng(0)
    measured = chance.standard_normal((12, 6))
    arrays = {
        "accuracy": chance.uniform(-0.2, 0.8, 6),
        "control_pixels_accuracy": np.array([0.1, 0.2, np.nan, 0.1, 0.0, 0.3]),
        "predictions": (measured + chance.standard_normal((12, 6))).astype(np.float32),
        "shown_voxels": np.array([4, 1, 0]),
        "shown_measured": measured[:, [4, 1, 0]],
    } | changes
    files = {f"confirmation/{name}.npy": array for name, array in arrays.items()}
    return replace(_published(0.4, 7), arrays=files.get)


def test_the_page_of_a_row_says_all_that_is_known(make_row: MakeRow, tmp_path: Path) -> None:
    row = replace(_with_arrays(), registered="my model v3", champion=True)
    others = [make_row(number=number, layer=f"features.{number}", score=number / 100) for number in range(4)]
    build([row, *others], tmp_path)
    (path,) = (tmp_path / "rows").iterdir()
    page = path.read_text(encoding="utf-8")
    for text in (
        "img2brain.load_model(&#34;my model/3&#34;)",
        "0.400</b><small>[0.350, 0.450]",
        "optimism +0.010",
        "Best voxel, 4",
        "Median voxel, 1",
        "Worst voxel, 0",
        "1 undefined",
        "the only model on these images",
        row.run_id,
        "d" * 64,
        "confirming",
        "The best validation score of each layer of alexnet",
    ):
        assert text in page, text
    assert page.count('<path class="area') == 2, "the model's, and that of the control whose scores are stored"
    assert page.count('<path class="dots" d="M') == 3
    assert page.count('<path class="course measured" d="M') == page.count('<path class="course" d="M') == 3
    assert f'href="rows/{path.name}"' in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_measured_responses_can_be_left_out(tmp_path: Path) -> None:
    build([_with_arrays()], tmp_path, with_responses=False)
    (path,) = (tmp_path / "rows").iterdir()
    assert "Three voxels" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "changes",
    [
        {"shown_measured": None},
        {"shown_voxels": np.array([4, 1, 99])},
        {"shown_voxels": np.array([-1, 1, 2])},
        {"shown_measured": np.zeros((5, 3))},
        {"predictions": np.zeros((12, 2))},
    ],
)
def test_arrays_that_do_not_fit_together_draw_nothing(changes: dict[str, Any], tmp_path: Path) -> None:
    build([_with_arrays(**changes)], tmp_path)
    (path,) = (tmp_path / "rows").iterdir()
    assert "Three voxels" not in path.read_text(encoding="utf-8")


def test_pages_of_rows_that_are_no_more_are_removed_and_nothing_else(tmp_path: Path) -> None:
    build([_published(0.4), _published(0.3, 1)], tmp_path)
    (tmp_path / "rows" / "mine.html").write_text("kept")
    (tmp_path / "kept.html").write_text("kept")
    before = set((tmp_path / "rows").iterdir())
    index = tmp_path / "api" / "index.json"
    listed = json.loads(index.read_text(encoding="utf-8"))
    listed["pages"] += ["rows/../kept.html", "../kept.html", "/kept.html", 3]
    index.write_text(json.dumps(listed), encoding="utf-8")
    build([_published(0.4)], tmp_path)
    assert len(before - set((tmp_path / "rows").iterdir())) == 1
    assert {path.name for path in tmp_path.rglob("*.html") if path.read_text(encoding="utf-8") == "kept"} == {
        "mine.html",
        "kept.html",
    }
    for text in ("{", "[]", '{"pages": 3}'):
        index.write_text(text, encoding="utf-8")
        build([_published(0.4)], tmp_path)


def test_a_row_of_another_lab_says_whose_it_is(tmp_path: Path) -> None:
    build([replace(_published(0.4), origin="Lab of B", verified="arithmetic", registered="m v1")], tmp_path)
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert ">from Lab of B<" in index
    assert ">verified: arithmetic<" in index
    assert "follows from the scores of the voxels" in index, "what the level means"
    (path,) = (tmp_path / "rows").iterdir()
    page = path.read_text(encoding="utf-8")
    assert "load_model" not in page, "the model is elsewhere"
    assert "ask Lab of B" in page


def test_what_has_to_be_known_of_a_row_stands_on_its_board(make_row: MakeRow, tmp_path: Path) -> None:
    page = _index([make_row(note="scored by others"), make_row(number=1, note="scored by others")], tmp_path)
    assert page.count('<p class="note">scored by others</p>') == 1


def test_layers_stand_in_the_order_of_the_network(make_row: MakeRow, tmp_path: Path) -> None:
    layers = ["stem", "features.9", "classifier"]
    space = {"space": {"layers": {"alexnet": layers}}}
    trial = trial_record()
    study = StudyRecord(
        name="quick", dataset=trial.dataset, rows=trial.rows, code=trial.code, sampler="tpe", seed=0, description=space
    )
    rows = [make_row(number=number, layer=name, study_record=study) for number, name in enumerate(sorted(layers))]
    build([*rows, replace(_published(0.4, 9), study_record=study)], tmp_path)
    (path,) = (tmp_path / "rows").iterdir()
    profile = path.read_text(encoding="utf-8").partition("rows plain dense")[2]
    assert [profile.index(name) for name in [*layers, "features.12"]] == sorted(
        profile.index(name) for name in [*layers, "features.12"]
    ), "one that the study does not list comes last"


def test_a_data_set_has_a_card(make_row: MakeRow, tmp_path: Path) -> None:
    said = {"species": "macaque", "area": "V4", "citation": "Cowley et al. (2023)"}
    row = make_row(dataset={"provenance": said, "unit": "spikes"})
    build([row, make_row(number=1, rows={"split": "6" * 64})], tmp_path)
    (path,) = (tmp_path / "data").iterdir()
    page = path.read_text(encoding="utf-8")
    for text in ("macaque", "V4", "spikes", "Cowley et al. (2023)", 'Licence</dt><dd class="soft">not said'):
        assert text in page
    assert page.count("index.html#board=") == 1 + 2, "the way back, and its two boards"
