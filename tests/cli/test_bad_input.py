"""Bad input, given to real processes: one line, exit 2, and what was stored before stays as it is."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from img2brain.home import Home
from img2brain.tracking._local import open_to_read

if TYPE_CHECKING:
    from tests.conftest import Finished, Launcher, Process

    StudyFile = Callable[..., Path]

NOBODY = 65534
LAYERS = 'layers = ["features.2", "features.5", "features.12"]'
REGRESSORS = 'regressors = ["linear", "ridge", "lasso", "k_neighbors"]'


@pytest.fixture(scope="module")
def home(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a finished study in it."""
    home = tmp_path_factory.mktemp("stored") / "home"
    shutil.copytree(finished.home, home, ignore=shutil.ignore_patterns("pages", "*.lock", "locks"))
    open_to_read(Home(home))  # at the first look the paths in its database follow it to its place
    return home


def stored(home: Path) -> dict[str, bytes]:
    return {name: (home / name).read_bytes() for name in ("optuna.log", "mlflow.db")}


@pytest.fixture
def refused(img2brain: Launcher, home: Path) -> Iterator[Callable[..., str]]:
    """Run a study that must be refused, and return the line that says why."""
    before = stored(home)

    def run(file: Path, *options: object, at: Path = home) -> str:
        process: Process = img2brain.run("study", "run", file, "--home", at, *options)
        assert process.code == 2, process.stderr
        assert process.stdout == ""
        return process.error

    yield run
    assert stored(home) == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"squeezenet1_1"', '"squeezenet1"', "Unknown backbone 'squeezenet1'. Did you mean 'squeezenet1_1' or "),
        ('"features.2"', '"features.22"', "features.2"),
        ('"random:0"', '"random:x"', "The SEED of weights 'random:SEED' must be an integer"),
        ('"random:0"', '"IMAGENET1K_V7"', "IMAGENET1K_V7"),
        ('"random:0"', '"absent.pth"', "absent.pth"),
        ('"lasso"', '"laso"', "Unknown regressor 'laso'. Did you mean 'lasso' or 'lasso_cv'?"),
        ("trials = 9", "trails = 9", "unknown key 'trails'. Did you mean 'trials' or 'metrics'?"),
        ("trials = 9", "trials = 0", "'trials' must be >= 1. Got 0."),
        ("trials = 9", 'trials = "9"', "'trials' must be a whole number. Got '9'."),
        (LAYERS, f"{LAYERS}\nlayer = 3", "unknown key 'backbones[0].layer'. Did you mean 'layers'?"),
        (LAYERS, 'layers = "features.2"', "'backbones[0].layers' must be a list. Got 'features.2'."),
        (REGRESSORS, 'regressors = [{name = "ridge", alpha = -1.0}]', "The 'alpha' of ridge must be > 0. Got -1.0."),
        (REGRESSORS, 'regressors = [{name = "ridge", alpha = 0}]', "The 'alpha' of ridge must be > 0. Got 0."),
        (REGRESSORS, 'regressors = [{name = "ridge", alpah = 1}]', "Unknown hyperparameter 'alpah' of ridge. "
                                                                   "Did you mean 'alpha'?"),
        ("[3, 8, 16]", "[3, 43]", "'n_components' must be below the number of training rows, 43. Got 43."),
        ("[dataset]", "split = {seed = 0, confirmation = 0.1, validation = 0.99}\n[dataset]",
         "The 'train' part of a split must hold at least 2 rows. Got 1."),
        ('name = "small"', "name = ", "not a TOML file: "),
    ],
)  # fmt: skip
def test_a_bad_study_file(
    refused: Callable[..., str], study_file: StudyFile, tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert message in refused(study_file(tmp_path, (old, new)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--weights", "IMAGENET"), "IMAGENET"),
        (("--weights", "absent.safetensors"), "absent.safetensors"),
        (("--dataset", "nowhere"), "nowhere' must exist. It does not."),
        (("--device", "gpu"), "study 'small': 'device' must be 'auto', 'cpu', 'cuda' or 'cuda:N'. Got 'gpu'."),
        (("--device", "cuda:99"), "The device 'cuda:99' is not there"),
        (("--shuffle", "-1"), "'dataset.shuffle' must be >= 0. Got -1."),
    ],
)
def test_bad_options(
    refused: Callable[..., str], study_file: StudyFile, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    assert message in refused(study_file(tmp_path), *options)


@pytest.mark.parametrize("options", [("--trials", "0"), ("--trials", "many"), ("--home", "/dev/null")])
def test_options_that_click_refuses(
    img2brain: Launcher, home: Path, study_file: StudyFile, tmp_path: Path, options: tuple[str, ...]
) -> None:
    process = img2brain.run("study", "run", study_file(tmp_path), "--home", home, *options)
    assert process.code == 2
    assert "Traceback" not in process.stderr
    assert process.stderr.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize(("name", "message"), [("absent.toml", "no such study file"), (".", "Is a directory")])
def test_what_is_no_study_file(refused: Callable[..., str], tmp_path: Path, name: str, message: str) -> None:
    assert message in refused(tmp_path / name)


@pytest.fixture
def data(recordings: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    shutil.copytree(recordings, folder)
    return folder


def test_responses_that_are_not_finite(
    refused: Callable[..., str], data: Path, study_file: StudyFile, tmp_path: Path
) -> None:
    path = data / "trainingfMRI" / "training.npy"
    responses = np.load(path)
    responses[7, 3] = np.nan
    np.save(path, responses)
    line = refused(study_file(tmp_path, dataset=data))
    assert "Responses must be finite. Got 1 NaN or infinite value at" in line
    assert "training.npy', row 7, voxel 3." in line


def test_an_image_that_does_not_decode(
    refused: Callable[..., str], data: Path, study_file: StudyFile, tmp_path: Path
) -> None:
    picture = sorted((data / "trainingIMG").iterdir())[5]
    picture.write_bytes(picture.read_bytes()[:100])
    assert f"The image '{picture}' must decode as JPEG or PNG." in refused(study_file(tmp_path, dataset=data))


def test_one_image_too_few(refused: Callable[..., str], data: Path, study_file: StudyFile, tmp_path: Path) -> None:
    sorted((data / "trainingIMG").iterdir())[5].unlink()
    line = refused(study_file(tmp_path, dataset=data))
    assert "53" in line
    assert "54" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_home_of_another_user(img2brain: Launcher, study_file: StudyFile, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    file = study_file(tmp_path)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    process = img2brain.start("study", "run", file, "--home", home, user=NOBODY)
    assert process.wait() == 2
    assert process.error == f"Error: The home folder {home} cannot be written: Permission denied."


def test_a_disk_without_room(
    refused: Callable[..., str], finished: Finished, study_file: StudyFile, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        line = refused(study_file(tmp_path), at=disk / "home")
        assert f"The cache {disk / 'home' / 'cache'} cannot be used: the disk is full" in line
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        line = refused(study_file(tmp_path), at=disk / "another")
        assert "cannot be written: No space left on device." in line
        assert not (disk / "another" / "optuna.log").exists()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
