"""A small folder of each layout, through a check and a study, and back as a plain folder of the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from img2brain.cli.data import data
from img2brain.datasets import open_dataset
from img2brain.datasets._images import open_pixels
from img2brain.datasets._layouts import find_layout
from img2brain.registered import load_model
from img2brain.spec import StudySpec, parse
from img2brain.study.runner import run_study
from tests.datasets.miniatures import MINIATURES, Miniature
from tests.datasets.miniatures.base import write_plain

if TYPE_CHECKING:
    from tests.conftest import NewHome

Make = Callable[[Path], Miniature]
EACH = pytest.mark.parametrize("name", MINIATURES)
OTHERS = [name for name in MINIATURES if name != "table"]


@pytest.fixture
def mini(name: str, tmp_path: Path) -> Miniature:
    return MINIATURES[name](tmp_path / "mini")


@EACH
def test_rows_are_those_that_are_expected(name: str, mini: Miniature) -> None:
    assert find_layout(mini.path) == name
    dataset = open_dataset(mini.path, **mini.asked)
    assert (dataset.n_images, dataset.n_test) == (len(mini.pictures), mini.n_test)
    for path, pixels in zip(dataset.images, mini.pictures, strict=True):
        np.testing.assert_array_equal(open_pixels(path), pixels)
    found = dataset._responses(np.arange(dataset.n_images))
    np.testing.assert_allclose(found, mini.responses, rtol=5e-6, atol=2e-6)
    assert {region: voxels.tolist() for region, voxels in dataset.rois.items()} == dict(mini.rois)


@EACH
def test_a_check_finds_no_problem(name: str, mini: Miniature, tmp_path: Path) -> None:
    options = [word for key, value in mini.asked.items() for word in (f"--{key}", str(value))]
    result = CliRunner().invoke(data, ["check", str(mini.path), *options, "--home", str(tmp_path / "none")])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == f"layout: {name}"


@pytest.mark.parametrize("name", ["table", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_predictions_are_those_of_the_same_numbers_in_a_plain_folder(
    name: str, mini: Miniature, tmp_path: Path, new_home: NewHome
) -> None:
    dataset = open_dataset(mini.path, **mini.asked)
    responses = dataset._responses(np.arange(dataset.n_images))
    plain = write_plain(tmp_path / "plain", mini.pictures, responses, mini.n_test)
    pictures = sorted((plain / "trainingIMG").iterdir())
    predicted = [
        predictions({"path": str(path), **asked}, new_home(home), pictures)
        for home, path, asked in (("one", mini.path, mini.asked), ("other", plain, {}))
    ]
    np.testing.assert_array_equal(*predicted)
    assert predicted[0].std(axis=0).min() > 0


def predictions(dataset: dict[str, Any], home: Path, pictures: list[Path]) -> Any:
    """Run a small study, and predict with the model that it registers."""
    asked = {key: str(value) for key, value in dataset.items()}
    table = {
        "name": "mini", "trials": 2, "n_components": [3], "regressors": ["ridge"], "dataset": asked,
        "backbones": [{"name": "pixels", "weights": "random:0"}],
    }  # fmt: skip
    outcome = run_study(parse(StudySpec, table, "the test's study"), home)
    assert outcome.published is not None
    return load_model(f"{outcome.published.registered.name}@champion", home).predict(pictures)
