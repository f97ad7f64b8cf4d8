"""A small folder of each layout, through a check and a study, and back as a plain folder of the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from img2brain.cli.data import data
from img2brain.datasets import open_dataset, subjects
from img2brain.datasets._images import open_pixels
from img2brain.datasets._layouts import find_layout
from img2brain.datasets.base import Dataset
from img2brain.registered import load_model
from img2brain.spec import StudySpec, parse
from img2brain.study.runner import run_study
from tests.datasets.miniatures import MINIATURES, Miniature
from tests.datasets.miniatures.base import World, write_plain

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


@pytest.mark.slow
@EACH
def test_two_subjects_have_the_numbers_of_two_plain_folders(
    name: str, mini: Miniature, tmp_path: Path, new_home: NewHome
) -> None:
    """Those of one folder; or, where it has one subject alone, this one and a folder of other data."""
    asked = {key: value for key, value in mini.asked.items() if key != "subject"}
    names = subjects(mini.path) if len(subjects(mini.path)) > 1 else (None,)
    opened = [open_dataset(mini.path, **asked, subject=subject) for subject in names]
    plain = [as_plain(dataset, tmp_path / f"plain-{number}") for number, dataset in enumerate(opened)]
    one = [{"path": str(mini.path), **asked, **({"subjects": "all"} if len(names) > 1 else {})}]
    other = [{"path": str(path)} for path in plain]
    if len(names) == 1:
        more = World(16, 3, seed=5)
        write_plain(tmp_path / "more", more.pictures, more.trials(range(16)), 0)
        one, other = ([*tables, {"path": str(tmp_path / "more")}] for tables in (one, other))
    pictures = sorted((plain[0] / "trainingIMG").iterdir())
    found = [of_members({"datasets": tables}, new_home(home), pictures)
             for home, tables in (("one", one), ("other", other))]  # fmt: skip
    assert len(found[0]) == len(found[1]) == 2
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.std(axis=0).min() > 0


def as_plain(dataset: Dataset, folder: Path) -> Path:
    """Write the rows of a dataset as a plain folder."""
    pictures = [open_pixels(path) for path in dataset.images]
    return write_plain(folder, pictures, dataset._responses(np.arange(dataset.n_images)), dataset.n_test)


def of_members(data: dict[str, Any], home: Path, pictures: list[Path]) -> list[Any]:
    """Run a small study of two members, and predict with the model that it registers of each."""
    table = {
        "name": "mini", "trials": 2, "n_components": [3], "regressors": ["ridge"], **data,
        "split": {"validation": 0.3, "confirmation": 0.2},
        "backbones": [{"name": "pixels", "weights": "random:0"}],
    }  # fmt: skip
    outcome = run_study(parse(StudySpec, table, "the test's study"), home)
    names = [item.registered.name for item in outcome.members.values()]
    return [load_model(f"{name}@champion", home).predict(pictures) for name in names]
