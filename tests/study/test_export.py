"""Features as files: what is written is what the study computes, and is read back as features of a dataset."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from img2brain.datasets import open_dataset
from img2brain.errors import DataError, FeatureError
from img2brain.home import Home
from img2brain.spec import FeatureSpace
from img2brain.study.export import KINDS, export_features
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


@pytest.fixture(scope="module")
def folders(spec: Any, home: Home, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All features, in each kind of file."""
    top = tmp_path_factory.mktemp("full")
    return {kind: export_features(spec, top / kind, home, kind=kind, full=True) for kind in KINDS}


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


def test_full_features_are_the_same_in_each_kind_of_file(folders: dict[str, Path]) -> None:
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


def test_each_kind_of_file_is_read_back(folders: dict[str, Path], recordings: Path, tmp_path: Path) -> None:
    found = {}
    for kind, features in folders.items():
        for source in (*recordings.glob("*fMRI"), *features.glob("*Features")):
            shutil.copytree(source, tmp_path / kind / source.name)
        found[kind] = open_dataset(tmp_path / kind)
    assert set(found["npy"].features) == {"squeezenet1_1_features.5", "squeezenet1_1_features.5_mean"}
    for dataset in found.values():
        for name, matrix in found["npy"].features.items():
            np.testing.assert_array_equal(dataset.features[name], matrix)
        assert dataset.digest == found["npy"].digest


def given(recordings: Path, folder: Path) -> tuple[Path, int]:
    """A folder of responses without images, and how many rows there are."""
    shutil.copytree(recordings / "trainingfMRI", folder / "trainingfMRI")
    (folder / "trainingFeatures").mkdir()
    return folder / "trainingFeatures", len(np.load(folder / "trainingfMRI" / "training.npy"))


@pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
def test_other_hdf5_files_are_read_where_one_matrix_is_meant(recordings: Path, tmp_path: Path, suffix: str) -> None:
    folder, n_rows = given(recordings, tmp_path)
    mine = np.random.default_rng(0).standard_normal((n_rows, 3))
    with h5py.File(folder / f"one{suffix}", "w") as file:
        file["group/mine"] = mine
        file["row"] = np.arange(n_rows)
    np.testing.assert_array_equal(open_dataset(tmp_path).features["one"], mine)
    with h5py.File(folder / f"one{suffix}", "a") as file:
        file["another"] = mine
    with pytest.raises(DataError, match=r"or in one that is named 'features'\. It holds another"):
        open_dataset(tmp_path)
    with h5py.File(folder / f"one{suffix}", "a") as file:
        file["features"] = mine + 1
    np.testing.assert_array_equal(open_dataset(tmp_path).features["one"], mine + 1)
    np.save(folder / "one.npy", mine)
    with pytest.raises(DataError, match=r"must have names of their own\. 'one' is of two"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("name", ["cut.h5", "cut.zarr", "link.h5", "code.zarr"])
def test_files_that_are_no_features_are_refused(recordings: Path, tmp_path: Path, name: str) -> None:
    folder, n_rows = given(recordings, tmp_path)
    path = folder / name
    if path.suffix == ".zarr":
        path.mkdir()
        about = {"zarr_format": 2, "shape": [n_rows, 3], "chunks": [n_rows, 3], "dtype": "<f4", "order": "C"}
        filters = [{"id": "pickle"}] if name == "code.zarr" else None
        about |= {"compressor": None, "filters": filters, "fill_value": 0}
        (path / ".zarray").write_text(json.dumps(about))
        (path / "0.0").write_bytes(b"short")
    elif name == "cut.h5":
        path.write_bytes(b"\x89HDF\r\n\x1a\nshort")
    else:
        with h5py.File(path, "w") as file:
            file["features"] = h5py.ExternalLink("elsewhere.h5", "features")
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


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
