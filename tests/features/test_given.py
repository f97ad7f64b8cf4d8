from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from img2brain.datasets import open_dataset
from img2brain.datasets._given import count
from img2brain.datasets._layouts import check
from img2brain.errors import DataError
from img2brain.features.given import GivenFeatures
from img2brain.home import Home
from img2brain.registered import load_model
from img2brain.spec import BackboneSpec, load_study
from img2brain.store import Store
from img2brain.study.runner import run_study
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import run_array, tracked_trials

if TYPE_CHECKING:
    from tests.conftest import NewHome

SPEC = BackboneSpec(name="given", weights="none")
N_IMAGES = 1100
MATRIX = np.random.default_rng(0).standard_normal((N_IMAGES, 400))
ROWS = np.arange(1000)


def features(folder: Path, n_components: int, rows: Any = ROWS) -> GivenFeatures:
    return GivenFeatures(
        BackboneSpec(name="given", weights="none"), {"deep": MATRIX}, Store(folder), rows, n_components
    )


def test_many_images_are_sketched_for_the_rows_and_size_at_hand(tmp_path: Path) -> None:
    def methods() -> list[str]:
        return [path.read_text(encoding="utf-8") for path in (tmp_path / "layers").rglob("method.txt")]

    features(tmp_path, 100).extract()
    assert methods() == ["sketch"]
    small = features(tmp_path, 10)
    small.extract()
    assert small.components("deep", ROWS, 6).coordinates.shape == (N_IMAGES, 6)
    assert methods() == ["sketch"], "a larger sketch serves"
    features(tmp_path, 10, ROWS[:-1]).extract()
    assert methods() == ["sketch", "sketch"], "other rows are another sketch"
    features(tmp_path, 150).extract()
    assert len(methods()) == 3, "a smaller sketch does not serve"


@pytest.mark.parametrize("shape", [(60, 12), (60, 400), (1100, 400)])
@pytest.mark.parametrize("scale", [1e-14, 1.0, 1e13])
@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_an_offset_or_another_unit_changes_no_component(
    tmp_path: Path, shape: tuple[int, int], scale: float, offset: float
) -> None:
    signal = np.round(np.random.default_rng(0).standard_normal(shape) * np.linspace(9, 1, shape[1]), 6)
    rows = np.arange(shape[0] - 10)
    offsets = offset * np.linspace(-1, 1, shape[1])

    def components(name: str, matrix: NDArray[Any]) -> NDArray[Any]:
        found = GivenFeatures(SPEC, {"f": matrix}, Store(tmp_path / name), rows, 5)
        return np.asarray(found.components("f", rows, 5).coordinates, dtype=np.float64)

    plain, moved = components("plain", signal), components("moved", scale * (signal + offsets))
    np.testing.assert_allclose(moved / scale, plain, atol=2e-4 * np.abs(plain).max())


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "i8", "u8", "i2"])
def test_what_float32_holds_is_known_as_it_was(dtype: str) -> None:
    matrix = np.round(100 * np.random.default_rng(0).standard_normal((20, 3)) + 300).clip(0).astype(dtype)
    found = count("These", matrix, np.arange(15))
    assert found.origin is None
    np.testing.assert_array_equal(found.values, matrix.astype(np.float32))


def test_offsets_are_taken_off_in_the_type_that_they_came_in() -> None:
    signal = np.random.default_rng(0).integers(-8, 8, (50, 3))
    for matrix in (signal + 10**15, (signal + 2**26).astype("f8"), (4 * signal + 2**25).astype("f4")):
        found = count("These", matrix, np.arange(40))
        assert found.origin is not None
        unit = 4 if matrix.dtype == np.float32 else 1
        np.testing.assert_allclose(np.diff(found.values, axis=0), unit * np.diff(signal, axis=0), atol=1e-5)
        assert np.abs(found.values).max() < 100


@pytest.mark.parametrize(
    ("matrix", "match"),
    [
        (1e200 * MATRIX, r"must be within 1e\+15 of their means.*Got .*e\+199|e\+200 in row 0, column"),
        (1e-200 * MATRIX, r"must vary by 1e-15 or more"),
        (np.where(np.arange(N_IMAGES)[:, None] == 1050, 1e300, MATRIX), r"Got 1e\+300 in row 1050, column 0\."),
        (np.arange(N_IMAGES)[:, None] % 7 + 2**60, r"must be whole numbers up to 2\^53"),
        (np.full((N_IMAGES, 2), 1e200), r"Got 1e\+200 in row 0, column 0\."),
    ],
)
def test_what_float32_does_not_hold_is_refused(matrix: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=match) as caught:
        GivenFeatures(SPEC, {"f": matrix}, Store(tmp_path), ROWS, 5)
    assert "\n" not in str(caught.value)


def test_two_matrices_that_float32_cannot_tell_apart_are_two(tmp_path: Path) -> None:
    def digest(matrix: NDArray[Any]) -> str:
        return str(GivenFeatures(SPEC, {"f": matrix}, Store(tmp_path), ROWS, 5).facts["network_digest"])

    one = MATRIX[:, :3] + 1e8
    other = one + 1e-3 * (np.arange(N_IMAGES)[:, None] == 5)
    np.testing.assert_array_equal(one.astype(np.float32), other.astype(np.float32))
    assert digest(one) != digest(other)
    assert digest(one) == digest(one.copy())


def test_offsets_change_no_score_and_the_model_predicts_what_the_trial_did(
    given_study: Path, new_home: NewHome, tmp_path: Path
) -> None:
    shutil.copytree(given_study.parent, tmp_path / "shifted")
    moved = {"trainingFeatures/f.npy": 1e8, "trainingfMRI/training.npy": -3e8}
    for name, offset in moved.items():
        path = tmp_path / "shifted" / "rows" / name
        np.save(path, np.load(path) + offset)
    assert check(tmp_path / "shifted" / "rows").problems == ()
    found: list[Any] = []
    for folder in (given_study.parent, tmp_path / "shifted"):
        home = new_home(folder.name)
        outcome = run_study(load_study(folder / "given.toml"), home)
        assert outcome.published is not None
        model = load_model("rows", home)
        features = np.load(folder / "rows" / "trainingFeatures" / "f.npy")
        (trial,) = (item for item in tracked_trials(TrackingStore(Home(home))) if item.confirmation)
        rows = open_dataset(folder / "rows").split(load_study(folder / "given.toml").split).confirmation
        predicted = run_array(TrackingStore(Home(home)), trial.run_id, "confirmation/predictions.npy")
        assert predicted is not None
        np.testing.assert_allclose(model.predict(features[rows]), predicted, atol=1e-4, rtol=0)
        found.append((outcome, model, model.predict(features).astype(np.float64)))
    (plain, _, predictions), (shifted, model, others) = found
    one, other = ([trial.score for trial in outcome.trials] for outcome in (plain, shifted))
    np.testing.assert_allclose(other, one, atol=1e-6)
    assert shifted.published.score == pytest.approx(plain.published.score, abs=1e-6)
    np.testing.assert_allclose(others + 3e8, predictions, atol=1e-4)
    assert model.dtype == np.float64


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_responses_of_a_unit_that_float32_does_not_hold_are_refused(
    given_study: Path, tmp_path: Path, scale: float
) -> None:
    shutil.copytree(given_study.parent, tmp_path / "scaled")
    path = tmp_path / "scaled" / "rows" / "trainingfMRI" / "training.npy"
    np.save(path, scale * np.load(path))
    (problem,) = check(tmp_path / "scaled" / "rows").problems
    assert "in a unit that float32 holds. Got" in problem.message
    with pytest.raises(DataError, match="in a unit that float32 holds"):
        run_study(load_study(tmp_path / "scaled" / "given.toml"), tmp_path / "home")
