"""Features as files: what is written is what the study computes, and is read back as features of a dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from img2brain.errors import DataError, FeatureError
from img2brain.home import Home
from img2brain.spec import FeatureSpace
from img2brain.study.export import export_features
from img2brain.study.setting import make_ready

if TYPE_CHECKING:
    from tests.conftest import MakeSpec

NETWORK = {"name": "squeezenet1_1", "weights": "random:0", "layers": ["features.5"], "pooling": ["none", "mean"]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def spec(make_spec: MakeSpec) -> Any:
    return make_spec(backbones=[NETWORK], n_components=[3])


def manifest(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def test_reduced_features_are_those_of_the_study(spec: Any, home: Home, tmp_path: Path) -> None:
    folder = export_features(spec, tmp_path / "out", home)
    told = manifest(folder)
    names = {"squeezenet1_1_features.5_3.npy", "squeezenet1_1_features.5_mean_3.npy"}
    assert {path.name for path in (folder / "trainingFeatures").iterdir()} == names
    setting = make_ready(spec, home)
    (bank,), dataset = setting.first.banks.values(), setting.first.dataset
    for item in told["files"]:
        space = FeatureSpace(item["layer"], item["pooling"])
        kept = bank.components(space, setting.first.split.train, 3).coordinates
        np.testing.assert_array_equal(np.load(folder / item["file"]), kept[slice(*item["rows"])])
    assert len(told["files"]) == 2 * (1 + (dataset.n_test > 0))
    assert [row["image"] for row in told["rows"]] == [path.name for path in setting.first.dataset.images]
    assert [row["row"] for row in told["rows"] if row["part"] == "train"] == sorted(setting.first.split.train)


def test_full_features_are_the_same_in_each_kind_of_file(spec: Any, home: Home, tmp_path: Path) -> None:
    folders = {
        kind: export_features(spec, tmp_path / kind, home, kind=kind, full=True) for kind in ("npy", "hdf5", "zarr")
    }
    name = "squeezenet1_1_features.5_mean"
    expected = np.load(folders["npy"] / "trainingFeatures" / f"{name}.npy")
    whole = np.load(folders["npy"] / "trainingFeatures" / "squeezenet1_1_features.5.npy", mmap_mode="r")
    np.testing.assert_allclose(whole.reshape(len(whole), -1, 128).mean(axis=1), expected, rtol=1e-4, atol=1e-5)
    with h5py.File(folders["hdf5"] / "trainingFeatures" / f"{name}.h5") as file:
        np.testing.assert_array_equal(file["features"], expected)
    for stem in (name, "squeezenet1_1_features.5"):
        np.testing.assert_array_equal(
            read_zarr(folders["zarr"] / "trainingFeatures" / f"{stem}.zarr"),
            np.load(folders["npy"] / "trainingFeatures" / f"{stem}.npy"),
        )


def read_zarr(folder: Path) -> Any:
    """Read a matrix by what the second format of Zarr says."""
    about = json.loads((folder / ".zarray").read_text(encoding="utf-8"))
    assert (about["zarr_format"], about["compressor"], about["filters"], about["order"]) == (2, None, None, "C")
    (n_rows, n_columns), chunk = about["shape"], tuple(about["chunks"])
    parts = [np.fromfile(folder / f"{k}.0", about["dtype"]).reshape(chunk) for k in range(-(-n_rows // chunk[0]))]
    assert chunk[1] == n_columns
    return np.concatenate(parts)[:n_rows]


def test_a_folder_that_is_there_is_left_as_it_is(spec: Any, home: Home, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="must be absent or empty"):
        export_features(spec, tmp_path, home)
    with pytest.raises(FeatureError, match="must be one of npy, hdf5, zarr"):
        export_features(spec, tmp_path / "new", home, kind="csv")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_goes_wrong_leaves_nothing(spec: Any, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise FeatureError("no.")

    monkeypatch.setattr("img2brain.study.export._rows", fail)
    with pytest.raises(FeatureError, match="no"):
        export_features(spec, tmp_path / "out", home)
    assert not list(tmp_path.iterdir())
