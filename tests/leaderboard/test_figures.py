"""What the figures show: the data of their traces, not their looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from img2brain.errors import DataError, StoreError
from img2brain.leaderboard import figures
from img2brain.leaderboard.binning import MOST_BINS, MOST_COLUMNS, bin_edges, size_columns
from img2brain.leaderboard.drawing import write_page
from img2brain.leaderboard.measure import Measure
from img2brain.leaderboard.region_figures import regions
from img2brain.leaderboard.rows import Row
from tests.leaderboard.conftest import against, confirmation_of, region_record, trial_record

R = Measure("Pearson r", "median", "pearson")
EVIL = '<a href="https://example.com">&</a>'
SHOWN = '&lt;a href="https://example.com"&gt;&amp;&lt;/a&gt;'


def _history(scores: list[float], states: list[str]) -> Any:
    trials = pd.DataFrame({"trial": range(len(scores)), "score": scores, "state": states})
    return figures.optimisation_history(trials.sample(frac=1, random_state=0), R)


def _trials(*rows: tuple[str, str, int, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["backbone", "layer", "n_components", "score"]).assign(regressor="ridge")


def test_history_shows_points_best_so_far_and_failures() -> None:
    states = ["COMPLETE", "FAIL", "COMPLETE", "complete", "RUNNING", "PRUNED"]
    points, best, failed = _history([0.2, np.nan, 0.1, 0.3, np.nan, 0.9], states).data
    assert (list(points.x), list(points.y)) == ([0, 2, 3], [0.2, 0.1, 0.3])
    assert list(best.y) == [0.2, 0.2, 0.3]
    assert list(failed.x) == [1, 5]
    assert failed.name == "failed (2)"


@pytest.mark.parametrize("n_trials", [1, 3000])
def test_history_of_few_and_many(n_trials: int) -> None:
    points, best = _history(list(np.linspace(0, 0.5, n_trials)), ["COMPLETE"] * n_trials).data
    assert len(points.x) == n_trials
    assert best.y[-1] == points.y[-1]


def test_history_without_a_score_says_so() -> None:
    figure = _history([np.nan], ["FAIL"])
    assert figure.layout.annotations[0].text == "No trial has a score yet."
    assert figure.layout.yaxis.title.text == "Pearson r, median over voxels"


def test_importances_put_the_largest_on_top() -> None:
    (bars,) = figures.parameter_importances({"alpha": 0.1, "layer": 0.7, EVIL: 0.2}).data
    assert list(bars.y) == ["alpha", SHOWN, "layer"]
    assert list(bars.x) == [0.1, 0.2, 0.7]
    assert figures.parameter_importances({}).layout.annotations[0].text == "Too few trials to tell."


def test_heat_map_keeps_the_best_and_leaves_the_untried_blank() -> None:
    trials = _trials(("a", "f.12", 30, 0.1), ("a", "f.12", 30, 0.3), ("a", "f.9", 100, 0.2), ("a", "f.9", 30, np.nan))
    (panel,) = figures.layer_by_components(trials, R).data
    assert (list(panel.y), list(panel.x)) == (["f.9", "f.12"], ["30", "100"])
    np.testing.assert_array_equal(panel.z, [[np.nan, 0.2], [0.3, np.nan]])


def test_heat_map_has_a_panel_per_backbone_in_the_order_of_the_network() -> None:
    trials = _trials(("b", "conv", 10, 0.1), ("a", "fc", 30, 0.2), ("a", "other", 30, 0.3))
    figure = figures.layer_by_components(trials, R, {"a": ["stem", "fc"]})
    assert [list(panel.y) for panel in figure.data] == [["stem", "fc", "other"], ["conv"]]
    assert [list(panel.x) for panel in figure.data] == [["10", "30"]] * 2
    assert [note.text for note in figure.layout.annotations] == ["ridge", "a", "b"]
    assert np.isnan(figure.data[0].z[0]).all()


def test_heat_map_has_a_panel_per_regressor_with_the_same_layers() -> None:
    trials = _trials(("a", "f.1", 10, 0.1), ("a", "f.2", 10, 0.2), ("a", "f.2", 30, 0.3), ("b", "g", 30, 0.4))
    trials["regressor"] = ["ridge", "ridge", "lasso", "lasso"]
    lasso, ridge, *others = figures.layer_by_components(trials, R).data
    assert list(lasso.y) == list(ridge.y) == ["f.1", "f.2"]
    np.testing.assert_array_equal(lasso.z, [[np.nan, np.nan], [np.nan, 0.3]])
    np.testing.assert_array_equal(ridge.z, [[0.1, np.nan], [0.2, np.nan]])
    assert [float(np.nansum(panel.z)) for panel in others] == [0.4, 0.0]


def test_heat_map_gathers_many_sizes() -> None:
    trials = _trials(*(("a", "f", size, size / 1000) for size in range(1, 301)))
    (panel,) = figures.layer_by_components(trials, R).data
    assert 10 <= len(panel.x) <= MOST_COLUMNS
    assert panel.x[-1].endswith("–300")
    assert list(panel.z[0]) == sorted(panel.z[0])
    assert panel.z[0][-1] == 0.3


def test_size_columns_hold_every_size() -> None:
    sizes = np.random.default_rng(0).integers(1, 1000, 500)
    labels, place = size_columns(sizes)
    for size, column in zip(sizes, place, strict=True):
        low, _, high = labels[column].partition("–")
        assert int(low) <= size <= int(high or low)


def test_heat_map_of_nothing_says_so() -> None:
    assert figures.layer_by_components(_trials(), R).layout.annotations[0].text == "No trials yet."


def test_histogram_counts_every_voxel_once() -> None:
    scores = {"best": np.array([-0.11, 0.3, 0.3, 1.0, np.nan]), EVIL: np.array([0.0])}
    figure = figures.accuracy_histogram(scores, R)
    bars, median, other, _ = figure.data
    assert sum(bars.y) == 4
    assert bars.y[np.argmin(np.abs(np.asarray(bars.x) - 0.31))] == 2
    assert list(median.x) == [0.3, 0.3]
    assert bars.name == "best: median 0.3000, 1 undefined"
    assert other.name == f"{SHOWN}: median 0.0000"
    assert list(bars.x) == list(other.x)
    assert [bars.yaxis, other.yaxis] == ["y", "y2"], "a panel each"
    assert [note.text for note in figure.layout.annotations] == [bars.name, other.name]


def test_histogram_without_a_score_says_so() -> None:
    figure = figures.accuracy_histogram({"none": np.full(3, np.nan, dtype=np.float32)}, R)
    assert figure.data[0].name == "none: no median, 3 undefined"
    assert figure.layout.annotations[-1].text == "No voxel has a score."


def test_bins_start_at_multiples_of_their_width() -> None:
    np.testing.assert_allclose(bin_edges([np.array([-0.03, 0.01])]), [-0.04, -0.02, 0.0, 0.02])


def test_missing_columns_are_named() -> None:
    with pytest.raises(DataError, match=r"must have the columns trial, score, state\. Missing: state"):
        figures.optimisation_history(pd.DataFrame({"trial": [0], "score": [0.1]}), R)


def test_pages_are_whole_and_the_same_each_time(tmp_path: Path) -> None:
    figure = figures.parameter_importances({"layer": 1.0})
    first = write_page(figure, tmp_path / "new" / "a.html")
    second = write_page(figure, tmp_path / "b.html")
    text = first.read_text(encoding="utf-8")
    assert text == second.read_text(encoding="utf-8")
    assert "<title>Parameter importances</title>" in text
    assert 'src="http' not in text


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written: "):
        write_page(figures.parameter_importances({}), tmp_path / "file" / "a.html")


def test_figures_say_what_their_scores_are() -> None:
    measure = Measure("<R2>", "mean", "r2")
    assert _history_of(measure).layout.yaxis.title.text == "&lt;R2&gt;, mean over voxels"
    histogram = figures.accuracy_histogram({"best": np.array([0.0, 0.0, 0.3])}, measure)
    assert histogram.data[0].name == "best: mean 0.1000"
    assert list(histogram.data[1].x) == pytest.approx([0.1, 0.1])
    assert histogram.layout.xaxis.title.text == "&lt;R2&gt; of a voxel"


def _history_of(measure: Measure) -> Any:
    return figures.optimisation_history(pd.DataFrame({"trial": [0], "score": [0.1], "state": ["COMPLETE"]}), measure)


def test_scores_far_below_zero_do_not_make_endless_bins() -> None:
    values = np.array([-1e9, 0.1, 0.5])
    edges = bin_edges([values])
    assert len(edges) <= MOST_BINS + 3
    assert edges[0] <= values.min() <= values.max() < edges[-1]
    bars = figures.accuracy_histogram({"all": values}, R).data[0]
    assert sum(bars.y) == 3


def test_regions_have_a_bar_for_the_model_and_each_control() -> None:
    found = {
        name: region_record(score, controls={"new": against(0.1, 0.2)}) for name, score in (("V1", 0.3), (EVIL, 0.4))
    }
    trial = trial_record()
    row = Row(run_id="0" * 32, trial=trial, confirmation=confirmation_of(trial, region_record(0.35), found))
    model, control = regions(row).data
    assert (list(model.x), list(model.y)) == (["V1", SHOWN], [0.3, 0.4])
    assert list(model.error_y.array) == pytest.approx([0.05, 0.05])
    assert (control.name, list(control.y)) == ("new", [0.1, 0.1])
    assert control.error_y.array is None
