"""The predecessor's published results: the shipped table, and its files where they are here."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain.errors import DataError
from img2brain.home import Home
from img2brain.leaderboard.collect import collect
from img2brain.leaderboard.rows import placed
from img2brain.predecessor.board import import_predecessor, reference_rows
from img2brain.predecessor.entries import CAVEAT, DATASET, ENTRIES
from img2brain.predecessor.layers import LAYERS
from img2brain.predecessor.published import read_published
from tests.test_howto import ROOT, Worked, check_outputs

if TYPE_CHECKING:
    from tests.conftest import Launcher, NewHome


@pytest.fixture
def published(shared: Path) -> Path:
    folder = shared / "seed"
    if not folder.is_dir():
        pytest.skip("the predecessor's published files are not here")
    return folder


def test_the_shipped_table_has_its_caveats_on_every_row() -> None:
    rows = reference_rows()
    assert len(rows) == len(ENTRIES) == 29
    assert all(CAVEAT in row.note and row.trial.network.trained == "untrained" for row in rows)
    best = next(placed(rows))[1]
    assert (best.trial.spec.regressor, best.trial.score) == ("multi_task_lasso", 0.2417)


def test_the_layers_are_those_that_were_published() -> None:
    found = {(entry.backbone, entry.layer) for entry in ENTRIES}
    assert found == {(name, layer) for name, layers in LAYERS.items() for layer in layers}


def test_medians_are_those_of_the_published_voxels(published: Path) -> None:
    for item in read_published(published):
        assert np.median(item.accuracy) == pytest.approx(item.entry.median_r, abs=1e-4)


def test_the_mistaken_entry_is_pointed_out(published: Path) -> None:
    noted = [item for item in read_published(published) if item.note]
    assert [(item.entry.backbone, item.entry.layer) for item in noted] == [("alexnet", "features.2")]
    assert "prints 0.2; the scores of its voxels give 0.1855" in noted[0].note


def test_the_top_four_are_a_tie_by_voxels(published: Path, new_home: NewHome) -> None:
    home = Home(new_home())
    import_predecessor(published, home)
    import_predecessor(published, home)
    ranked = list(placed(collect(home, DATASET)))
    assert len(ranked) == 29
    specs = [(rank, row.trial.spec) for rank, row in ranked]
    regressors = [(rank, spec.regressor) for rank, spec in specs if spec.n_components == 100]
    assert regressors == [
        (1, "multi_task_lasso"), (1, "multi_task_elastic_net"), (1, "ridge"), (1, "linear"),
        (regressors[4][0], "k_neighbors"), (regressors[5][0], "decision_tree"),
    ]  # fmt: skip
    neighbours, tree = (rank or 0 for rank, _ in regressors[4:])
    assert 1 < neighbours < tree
    assert all("ties by voxels alone" in row.note for _, row in ranked)


@pytest.mark.parametrize("name", ["corr_lasso.csv", "corr_ridge.csv"])
def test_a_damaged_file_gives_one_clear_line(published: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "published"
    shutil.copytree(published, folder)
    path = folder / "Evaluation_allmodels" / name
    path.chmod(0o644)
    path.write_text("0.1\nnone\n")
    with pytest.raises(DataError, match=name):
        read_published(folder)
    path.unlink()
    with pytest.raises(DataError, match=name):
        read_published(folder)


@pytest.mark.parametrize("is_file", [True, False])
def test_a_folder_that_is_not_the_predecessors_is_told(tmp_path: Path, img2brain: Launcher, is_file: bool) -> None:
    place = tmp_path / "place"
    if is_file:
        place.touch()
    done = img2brain.run("leaderboard", "import-predecessor", place, "--home", tmp_path / "home")
    assert done.code == 2
    assert done.stderr.count("\n") == 1
    assert "Name the folder of the predecessor that holds 'Feature_eng'" in done.stderr


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory, img2brain: Any) -> Worked:
    """The page on the predecessor, worked through on generated data."""
    top = tmp_path_factory.mktemp("predecessor")
    (top / "experiments").symlink_to(ROOT / "experiments")
    return Worked(top, img2brain).through("../predecessor.md")


@pytest.mark.slow
def test_every_step_has_a_command_that_runs(worked: Worked) -> None:
    check_outputs(worked)
    rows = collect(Home(worked.top / "mlruns"), "img2brain-2023")
    assert {(row.trial.spec.backbone, row.trial.spec.layer) for row in rows} == {
        (name, layer) for name, layers in LAYERS.items() for layer in layers
    }
    predicted = (worked.top / "test_predictions.csv").read_text(encoding="utf-8").splitlines()
    assert len(predicted) == 1 + len(list((worked.top / "img2brain-2023" / "testIMG").iterdir()))
    assert (worked.top / "best.img2brain.zip").stat().st_size > 0


@pytest.mark.slow
def test_its_figures_are_drawn(worked: Worked) -> None:
    pages = {path.parents[2].name: path.read_text(encoding="utf-8") for path in worked.top.rglob("pages/figures.html")}
    of_regressors = max(pages.values(), key=lambda page: page.count("decision_tree"))
    names = ("linear", "ridge_cv", "multi_task_lasso_cv", "multi_task_elastic_net_cv", "k_neighbors", "decision_tree")
    assert all(re.search(rf"#\d+ alexnet[^\"]* {name}[^\"]*: median", of_regressors) for name in names)
    (page,) = (path.read_text(encoding="utf-8") for path in (worked.top / "board" / "rows").iterdir())
    assert [page.count(f"{word} voxel, ") > 0 for word in ("Best", "Worst")] == [True, True]
    assert page.count('<path class="course measured" d="M') == page.count('<path class="course" d="M') == 3
    assert "Activity of voxels over the training images" in (worked.top / "eda.html").read_text(encoding="utf-8")
