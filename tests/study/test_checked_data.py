"""What ``data check`` passes, a study finishes; what it calls an error, a study refuses before it starts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from img2brain.datasets._layouts import check
from img2brain.errors import DataError, SpecError
from img2brain.home import Home
from img2brain.spec import StudySpec, parse
from img2brain.study.runner import run_study
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import tracked_trials

NewHome = Callable[..., Path]
Change = Callable[[Path], object]

N, N_TEST = 40, 8
_chance = np.random.default_rng(5)
X = _chance.standard_normal((N + N_TEST, 5))
Y = X @ _chance.standard_normal((5, 4)) + _chance.standard_normal((N + N_TEST, 4))


def make(root: Path) -> Path:
    """Make a folder of features and responses without a problem, with regions and a test part."""
    for part, rows in (("training", slice(N)), ("test", slice(N, None))):
        (root / f"{part}Features").mkdir(parents=True)
        (root / f"{part}fMRI").mkdir()
        np.save(root / f"{part}Features" / "f.npy", X[rows])
        np.save(root / f"{part}fMRI" / f"{part}.npy", Y[rows])
    (root / "rois.json").write_text('{"V4": [0, 1], "V1": [2, 3]}')
    return root


def study(root: Path) -> StudySpec:
    """Ask for two trials on a folder."""
    table = {
        "name": "odd", "trials": 2, "n_components": [2], "regressors": ["ridge"], "dataset": {"path": str(root)},
        "backbones": [{"name": "given", "weights": "none"}],
    }  # fmt: skip
    return parse(StudySpec, table, "the test's study")


def save(name: str, array: Any) -> Change:
    return lambda root: np.save(root / name, array)


def training(change: Callable[[Any], Any]) -> Change:
    return save("trainingfMRI/training.npy", change(Y[:N]))


def held_out(change: Callable[[Any], Any]) -> Change:
    return save("testfMRI/test.npy", change(Y[N:]))


def regions(*names: str) -> Change:
    return lambda root: (root / "rois.json").write_text(json.dumps({name: [0, 1, 3] for name in names}))


def about(**facts: str) -> Change:
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in facts.items()]
    return lambda root: (root / "dataset.toml").write_text("".join(lines))


def rows(n: int) -> Change:
    def cut(root: Path) -> None:
        for file, array in (("trainingfMRI/training.npy", Y), ("trainingFeatures/f.npy", X)):
            np.save(root / file, array[:n])

    return cut


def without_test_part(root: Path) -> None:
    for kind in ("fMRI", "Features"):
        shutil.rmtree(root / f"test{kind}")


FINE: dict[str, Change] = {
    "strange regions": regions("Default", "../x", "..", ".", "a/b", "low", "median", "nan", "V1", "v1", "左V1", "右V1",
                               "<script>", "=1+1", "x" * 200, "é" * 200, "🧠" * 200, "é" * 199 + "è"),
    "strange texts": about(name="0-" + "x" * 98, unit="z" * 200, subject="<b>ä</b>"),
    "Fortran order": training(np.asfortranarray),
    "another byte order": training(lambda y: y.astype(">f4")),
    "half precision": training(lambda y: y.astype("f2")),
    "whole numbers": training(lambda y: (y * 10).astype("i8")),
    "one voxel": lambda root: [training(lambda y: y[:, :1])(root), held_out(lambda y: y[:, :1])(root),
                               (root / "rois.json").write_text('{"V1": [true]}')],
    "regions that overlap": lambda root: (root / "rois.json").write_text('{"V1": [0, 1, 2, 3], "V2": [1]}'),
    "no regions": lambda root: (root / "rois.json").write_text("{}"),
    "three test rows": lambda root: [held_out(lambda y: y[:3])(root), save("testFeatures/f.npy", X[N:][:3])(root)],
    "no test part": without_test_part,
    "repeats": save("trainingfMRI/training_repeats.npy", Y[:N, None] + np.array([-0.1, 0.1])[:, None]),
    "no ceiling": save("noise_ceiling.npy", np.full(4, np.nan)),
    "a ceiling of zero": save("noise_ceiling.npy", np.zeros(4)),
    "features of a strange name": lambda root: [(root / f"{part}Features" / "f.npy").rename(
        root / f"{part}Features" / "a é:=,;.npy") for part in ("training", "test")],
}  # fmt: skip

REFUSED: dict[str, tuple[Change, str]] = {
    "all": (regions("all"), "must not call a region 'all'"),
    "5,000 letters": (regions("a" * 5000), r"at most 200 printable characters.*Got 'a{40}', 5000"),
    "a line end": (regions("V1\n"), "printable"),
    "a terminal code": (regions("\x1b[2J"), "printable"),
    "half a character": (regions("\ud800"), "half of one"),
    "a turned text": (regions("\u202eV1"), "printable"),
    "a blank end": (regions("V1 "), "blank at an end"),
    "blank": (regions(" "), "blank at an end"),
    "no name": (regions(""), "give each region a name"),
    "twice": (lambda root: (root / "rois.json").write_text('{"V1": [0], "V2": [2], "V1": [1]}'),
              r"must name each region once\. Got 'V1' twice"),
    "Default": (about(name="Default"), r"'name': 'Default' is MLflow's own\. Write another one"),
    "a long name": (about(name="a" * 5000), r"'name' must have at most 100 characters\. Got 'a{100}\.\.\.'"),
    "a path": (about(name="../x"), "'name' must start with a letter or digit"),
    "an empty name": (about(name=""), "'name' must start with a letter or digit"),
    "zeros": (training(np.zeros_like), "training.npy' must hold responses that differ between images"),
    "one value": (training(np.ones_like), "training.npy' must hold responses that differ between images"),
    "one row differs": (training(lambda y: np.where(np.arange(N)[:, None] == [7, 7, 30, 0], y, 1.0)),
                        r"training.npy' must hold responses that differ .* one value alone, but for one row\. Nothing"),
    "zeros kept back": (held_out(np.zeros_like), r"test.npy' must hold responses that differ .* Remove them, and"),
    "one row for all": (held_out(lambda y: y * 0 + y[:1]), "test.npy' must hold responses that differ"),
    "one test row": (lambda root: [held_out(lambda y: y[:1])(root), save("testFeatures/f.npy", X[:1])(root)],
                     "at least 2 test images with responses, or none. Got 1"),
    "three rows": (rows(3), "at least 4 training images: .* Got 3"),
    "infinite repeats": (save("trainingfMRI/training_repeats.npy", np.full((N, 2, 4), np.inf)), "must be finite"),
    "infinite test repeats": (save("testfMRI/test_repeats.npy", np.full((N_TEST, 2, 4), np.inf)), "must be finite"),
    "nothing to predict from": (lambda root: [path.rename(f"{path}.txt") for path in root.glob("*Features/*")],
                                "must have images, or features in their place"),
    "bool": (training(lambda y: y > 0), "Got bool"),
    "complex": (training(lambda y: y + 0j), "Got complex128"),
    "objects": (training(lambda y: y.astype(object)), "must be a complete .npy of numbers"),
    "texts": (training(lambda y: y.astype(str)), "Got <U"),
    "a third axis": (training(lambda y: y[..., None]), r"must have shape \(images, voxels\)"),
}  # fmt: skip


def finishes(root: Path, home: Path) -> None:
    """Check a folder, and run a study on it to its end."""
    assert check(root).problems == ()
    outcome = run_study(study(root), home)
    assert len(outcome.trials) == 2
    assert outcome.published is not None
    assert outcome.published.confirmation is not None
    assert np.isfinite(outcome.published.score)


def test_a_study_finishes_on_strange_names_and_numbers(tmp_path: Path, new_home: NewHome) -> None:
    root = make(tmp_path / "data")
    for oddity in ("strange regions", "strange texts", "another byte order", "features of a strange name", "repeats"):
        FINE[oddity](root)
    home = new_home()
    finishes(root, home)
    (trial, *_) = (item for item in tracked_trials(TrackingStore(Home(home))) if item.confirmation)
    assert trial.confirmation is not None
    assert trial.confirmation.confirmed is not None
    named = list(json.loads((root / "rois.json").read_text()))
    assert named != sorted(named)
    assert [name for name in trial.record.metrics["pearson"].regions if name] == named  # one order everywhere
    assert list(trial.confirmation.confirmed.regions) == named


@pytest.mark.slow
@pytest.mark.parametrize("oddity", FINE)
def test_a_study_finishes_on_what_check_passes(tmp_path: Path, new_home: NewHome, oddity: str) -> None:
    root = make(tmp_path / "data")
    FINE[oddity](root)
    finishes(root, new_home())


@pytest.mark.parametrize("oddity", REFUSED)
def test_a_study_refuses_what_check_calls_an_error(tmp_path: Path, new_home: NewHome, oddity: str) -> None:
    root = make(tmp_path / "data")
    change, match = REFUSED[oddity]
    change(root)
    errors = [problem.message for problem in check(root).problems if problem.severity == "error"]
    with pytest.raises((DataError, SpecError), match=match) as caught:
        run_study(study(root), new_home())
    assert str(caught.value) in errors
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_repeats_that_are_all_missing_are_told(tmp_path: Path) -> None:
    root = make(tmp_path / "data")
    np.save(root / "trainingfMRI" / "training_repeats.npy", np.full((N, 2, 4), np.nan))
    (problem,) = check(root).problems
    assert "must hold two repeats or more of at least 3 images" in problem.message


@pytest.mark.parametrize("part", ["training", "test"])
def test_features_that_do_not_vary_are_told(tmp_path: Path, part: str) -> None:
    root = make(tmp_path / "data")
    np.save(root / f"{part}Features" / "f.npy", np.ones((N if part == "training" else N_TEST, 5)))
    messages = [problem.message for problem in check(root).problems]  # of equal rows it also says that they are tied
    assert f"The features 'f' of 'data' do not vary over the {part} images." in messages
