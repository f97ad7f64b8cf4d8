"""The layout of the Algonauts challenge: its pickled names, its rows from 1, its submissions."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.lib import format as npy

from img2brain.cli.algonauts import algonauts
from img2brain.datasets import open_dataset
from img2brain.datasets._restricted import read_names
from img2brain.errors import DataError, ShapeError, SpecError
from img2brain.home import Home
from img2brain.leaderboard.collect import collect
from img2brain.registered import load_model
from img2brain.spec import StudySpec, parse
from img2brain.study.outcome import StudyOutcome
from img2brain.study.runner import run_study
from img2brain.submission import write_algonauts
from tests.datasets.miniatures.algonauts2023 import write_algonauts as write_miniature

if TYPE_CHECKING:
    from tests.conftest import NewHome


CEILING = np.array([0.5, 0.0, 0.3, 1.0, 0.2, np.nan, 0.9])


@pytest.fixture
def challenge(tmp_path: Path) -> Path:
    return write_miniature(tmp_path / "challenge").path


class _Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made-by-a-pickle",)


@pytest.mark.parametrize(
    "held", [_Hostile(), {0: _Hostile()}, [1, 2], {"V1": 1}, {1: 2}, {1: ["V1"]}, {1: np.array([1])}, Path("x"), "V1"]
)
def test_pickles_that_are_no_names_are_refused_and_not_run(
    held: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, wrapped in enumerate((held, _as_array(held))):
        path = tmp_path / f"mapping_{number}.npy"
        with path.open("wb") as stream:
            npy.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
            pickle.dump(wrapped, stream)
        with pytest.raises(DataError, match="must hold a dictionary of numbers and names"):
            read_names(path)
    assert not Path("made-by-a-pickle").exists()


def _as_array(held: Any) -> Any:
    array = np.empty((), dtype=object)
    array[()] = held
    return array


@pytest.mark.parametrize("cut", [0, 5, 40, 120, 150])
def test_names_that_are_cut_off_are_refused(cut: int, tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", {0: "Unknown", 1: "V1v"}, allow_pickle=True)  # type: ignore[arg-type]
    assert read_names(tmp_path / "m.npy") == {0: "Unknown", 1: "V1v"}
    (tmp_path / "m.npy").write_bytes((tmp_path / "m.npy").read_bytes()[:cut])
    with pytest.raises(DataError, match="no more"):
        read_names(tmp_path / "m.npy")


def test_a_subject_has_to_be_chosen_and_may_be_given_itself(challenge: Path) -> None:
    with pytest.raises(DataError, match=r'2 subjects .* subject = "subj01"'):
        open_dataset(challenge)
    one = open_dataset(challenge / "subj06")
    assert (one.name, one.n_voxels, len(one.test_images)) == ("algonauts2023-subj06", 7, 4)
    assert one.digest == open_dataset(challenge, subject="subj06").digest
    with pytest.raises(DataError, match="nothing tells the session"):
        open_dataset(challenge, subject="subj06", normalise="session")


def test_rows_are_those_of_the_names(challenge: Path) -> None:
    images = challenge / "subj01" / "training_split" / "training_images"
    (first,) = images.glob("train-0001_*")
    first.unlink()
    with pytest.raises(DataError, match=r"must count from 1 to 19\. Row 1 is missing"):
        open_dataset(challenge, subject="subj01")
    (images / "cat.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"must be named train-ROW.*'cat\.png'"):
        open_dataset(challenge, subject="subj01")


def test_regions_of_a_repack_are_found(challenge: Path) -> None:
    regions = dict(open_dataset(challenge, subject="subj01").rois)
    root = challenge / "subj01"
    (root / "roi_masks").rename(root / "training_split" / "training_rois")
    again = open_dataset(challenge, subject="subj01").rois
    assert {name: voxels.tolist() for name, voxels in again.items()} == {
        name: voxels.tolist() for name, voxels in regions.items()
    }
    np.save(root / "training_split" / "training_rois" / "lh.streams_challenge_space.npy", np.full(5, 9))
    with pytest.raises(DataError, match=r"must hold numbers of its mapping\. Got 9"):
        open_dataset(challenge, subject="subj01")


def test_the_arrays_of_a_submission_are_those_of_the_challenge(challenge: Path, tmp_path: Path) -> None:
    class Model:
        def __init__(self, n_voxels: int) -> None:
            self.n_voxels = n_voxels

        def predict(self, images: list[Path]) -> Any:
            self.images = images
            return np.arange(len(images) * self.n_voxels, dtype=np.float64).reshape(len(images), -1)

    model = Model(9)
    left, right = write_algonauts(model, challenge, tmp_path / "out", "subj01")
    assert [file.relative_to(tmp_path).as_posix() for file in (left, right)] == [
        "out/subj01/lh_pred_test.npy", "out/subj01/rh_pred_test.npy",
    ]  # fmt: skip
    assert [path.name[:9] for path in model.images] == ["test-0001", "test-0002", "test-0003", "test-0004"]
    arrays = [np.load(file) for file in (left, right)]
    assert [(array.shape, array.dtype) for array in arrays] == [((4, 5), np.float32), ((4, 4), np.float32)]
    np.testing.assert_array_equal(np.concatenate(arrays, axis=1), model.predict(model.images))
    with pytest.raises(ShapeError, match=r"the 5 \+ 4 vertices of 'subj01', all of them\. It predicts 3"):
        write_algonauts(Model(3), challenge, tmp_path / "out", "subj01")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> tuple[Path, Path, StudyOutcome]:
    """A study of one trial whose objective is the score of the challenge; its data, home and outcome."""
    folder = tmp_path_factory.mktemp("scored")
    data, home = write_miniature(folder / "challenge").path, Home(folder / "home").folder
    shutil.copyfile(empty_database, home / "mlflow.db")
    np.save(data / "subj06" / "noise_ceiling.npy", CEILING)
    return data, home, run_study(parse(StudySpec, _table(data), "the test's study"), home)


def _table(data: Path) -> dict[str, Any]:
    return {
        "name": "challenge", "trials": 1, "n_components": [3], "regressors": ["ridge"],
        "metrics": ["noise_normalised_r2", "pearson"], "objective": "noise_normalised_r2",
        "dataset": {"path": str(data), "subject": "subj06"},
        "backbones": [{"name": "pixels", "weights": "random:0"}],
    }  # fmt: skip


@pytest.mark.slow
def test_the_score_of_the_challenge_is_an_objective(scored: tuple[Path, Path, StudyOutcome]) -> None:
    _, home, outcome = scored
    (row,) = (row for row in collect(Home(home)) if row.confirmed)
    assert (row.trial.objective, row.trial.metrics["noise_normalised_r2"].summary) == ("noise_normalised_r2", "mean")
    for found, score in ((row.arrays, row.trial.score), (_confirmed(row), row.confirmed_score)):
        own, r = (np.asarray(found(name)) for name in ("accuracy.npy", "accuracy_pearson.npy"))
        with np.errstate(divide="ignore"):
            expected = 100 * np.minimum(np.maximum(r, 0) ** 2 / CEILING, 1)
        known = CEILING > 0
        np.testing.assert_allclose(own[known], expected[known], rtol=1e-5)
        assert np.isnan(own[~known]).all()
        assert score == pytest.approx(expected[known].mean(), rel=1e-5)
    assert outcome.best is not None
    assert outcome.best.score == pytest.approx(row.trial.score)


def _confirmed(row: Any) -> Any:
    return lambda name: row.arrays(f"confirmation/{name}")


def test_the_score_of_the_challenge_needs_a_ceiling(challenge: Path, new_home: NewHome) -> None:
    with pytest.raises(SpecError, match=r"'noise_normalised_r2' needs a noise ceiling of the validation rows: [^\n]*$"):
        run_study(parse(StudySpec, _table(challenge), "the test's study"), new_home())


@pytest.mark.slow
def test_the_command_submits_what_a_registered_model_predicts(
    scored: tuple[Path, Path, StudyOutcome], tmp_path: Path
) -> None:
    data, home, _ = scored
    words = ["submit", "algonauts2023-subj06@champion", str(data), "--subject", "subj06", "--home", str(home)]
    result = CliRunner().invoke(algonauts, [*words, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    files = [Path(line) for line in result.stdout.splitlines()]
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        "out/subj06/lh_pred_test.npy", "out/subj06/rh_pred_test.npy",
    ]  # fmt: skip
    left, right = map(np.load, files)
    assert [(part.dtype, part.shape) for part in (left, right)] == [(np.float32, (4, 4)), (np.float32, (4, 3))]
    model = load_model("algonauts2023-subj06@champion", home)
    images = sorted((data / "subj06" / "test_split" / "test_images").iterdir())
    np.testing.assert_array_equal(np.concatenate([left, right], axis=1), model.predict(images))
