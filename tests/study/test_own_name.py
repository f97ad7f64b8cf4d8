"""One name, one data set: two must not meet under one registered name."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from img2brain.cli.data import data
from img2brain.errors import DataError
from img2brain.study.runner import run_study
from tests.study.test_checked_data import about, make, study

NewHome = Callable[..., Path]


def _correct(root: Path) -> None:
    responses = np.load(root / "trainingfMRI" / "training.npy")
    responses[0, 0] += 1
    np.save(root / "trainingfMRI" / "training.npy", responses)


def test_another_data_set_needs_another_name(
    tmp_path: Path, new_home: NewHome, caplog: pytest.LogCaptureFixture
) -> None:
    home, first, second = new_home(), make(tmp_path / "one" / "data"), make(tmp_path / "two" / "data")
    run_study(study(first), home)
    run_study(study(second), home)  # a copy: the same data, wherever they lie
    _correct(second)
    with pytest.raises(DataError, match=r'write name = "data-2", or the like, in its dataset\.toml\.$') as caught:
        run_study(study(second), home)
    assert "('data', 48 images and 4 voxels)" in str(caught.value)
    assert "starting the new study" not in caplog.text  # what is refused is not announced
    checked = CliRunner().invoke(data, ["check", str(second), "--home", str(home)])
    assert checked.exit_code == 2
    assert f"error: {caught.value}" in checked.stdout.splitlines()
    about(name="data-2")(second)
    assert CliRunner().invoke(data, ["check", str(second), "--home", str(home)]).exit_code == 0

    caplog.clear()
    shutil.copytree(second / "trainingfMRI", first / "trainingfMRI", dirs_exist_ok=True)  # corrected in its place
    with caplog.at_level(logging.WARNING):
        outcome = run_study(study(first), home)
    assert "data holds other data than before ('data', 48 images and 4 voxels)" in caplog.text
    assert outcome.published is not None
    assert outcome.published.registered.name == "data"


def test_a_check_makes_no_home(tmp_path: Path) -> None:
    root, home = make(tmp_path / "data"), tmp_path / "home"
    assert CliRunner().invoke(data, ["check", str(root), "--home", str(home)]).exit_code == 0
    assert not home.exists()
