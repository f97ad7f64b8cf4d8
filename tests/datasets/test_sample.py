from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from img2brain.datasets import _sample as module
from img2brain.datasets._layouts import check
from img2brain.datasets._sample import N_REPEATS, write_sample
from img2brain.datasets._scenes import draw_scene
from img2brain.datasets._voxels import oriented_energy
from img2brain.datasets.folder import FolderDataset
from img2brain.errors import DataError, SpecError


def _load(root: Path, part: str, folder: str = "") -> Any:
    return np.load(root / (folder or f"{part}fMRI") / f"{part}.npy")


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_sample_data_is_a_dataset_without_a_problem(sample: Path) -> None:
    report = check(sample)
    assert report.problems == ()
    assert (report.images, report.test_images, report.voxels) == (180, 20, 60)
    assert (report.unit, report.subject) == ("z", "simulated")
    dataset = FolderDataset.open(sample)
    assert dataset.name == sample.name
    assert dataset.n_test == 20
    assert {name: len(voxels) for name, voxels in dataset.rois.items()} == {"V1": 24, "V4": 18, "IT": 18}
    assert np.concatenate(list(dataset.rois.values())).tolist() == list(range(60))


def test_responses_are_the_mean_of_the_repeats(sample: Path) -> None:
    for part in ("training", "test"):
        repeats = np.load(sample / f"{part}fMRI" / f"{part}_repeats.npy")
        assert repeats.shape[1] == N_REPEATS
        np.testing.assert_allclose(_load(sample, part), repeats.mean(axis=1), atol=1e-6)
        assert _load(sample, part).dtype == np.float32


def test_signals_are_standardised(sample: Path) -> None:
    signals = np.concatenate([_load(sample, "training", "truth"), _load(sample, "test", "truth")])
    np.testing.assert_allclose(signals.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(signals.std(axis=0), 1, atol=1e-5)


def test_the_known_ncsnr_is_recovered_from_the_repeats(sample: Path) -> None:
    known = np.load(sample / "ncsnr.npy")
    assert known.min() >= 0.3
    assert known.max() <= 2.0
    repeats = np.load(sample / "trainingfMRI" / "training_repeats.npy").astype("f8")
    noise = repeats.var(axis=1, ddof=1).mean(axis=0)
    signal = np.maximum(repeats.mean(axis=1).var(axis=0, ddof=1) - noise / N_REPEATS, 0)
    ratio = np.sqrt(signal / noise) / known
    assert abs(np.median(ratio) - 1) < 0.05
    assert np.quantile(np.abs(ratio - 1), 0.9) < 0.3


def test_the_known_ceiling_is_the_correlation_with_the_truth(sample: Path) -> None:
    known = np.load(sample / "ncsnr.npy")
    truth, Y = _load(sample, "training", "truth"), _load(sample, "training")
    r = [np.corrcoef(truth[:, v], Y[:, v])[0, 1] for v in range(truth.shape[1])]
    ceiling = np.sqrt(known**2 / (known**2 + 1 / N_REPEATS))
    assert np.abs(np.array(r) - ceiling).max() < 0.15
    assert np.abs(np.mean(r - ceiling)) < 0.01


def test_v1_follows_oriented_energy_and_not_pixels(sample: Path) -> None:
    dataset = FolderDataset.open(sample)
    greys = [
        np.asarray(Image.open(path).convert("RGB"), dtype=np.float32).mean(axis=2) / 255 for path in dataset.images
    ]
    energies = np.stack([np.sqrt(oriented_energy(grey)).ravel() for grey in greys])
    pixels = np.stack([grey[::4, ::4].ravel() for grey in greys])
    signals = np.concatenate([_load(sample, "training", "truth"), _load(sample, "test", "truth")])[
        :, dataset.rois["V1"]
    ]

    def best(features: Any) -> Any:
        Z = (features - features.mean(axis=0)) / features.std(axis=0)
        return np.abs(Z.T @ signals / len(Z)).max(axis=0)

    assert np.median(best(energies)) > 0.9
    assert np.median(best(pixels)) < 0.5


def test_the_same_numbers_give_the_same_files(tmp_path: Path) -> None:
    first = _files(write_sample(tmp_path / "a", n_images=20, n_voxels=5, seed=7, size=32))
    assert first == _files(write_sample(tmp_path / "b", n_images=20, n_voxels=5, seed=7, size=32))
    other = _files(write_sample(tmp_path / "c", n_images=20, n_voxels=5, seed=8, size=32))
    assert first.keys() == other.keys()
    same = {name for name in first if first[name] == other[name]}
    assert same == {"dataset.toml", "rois.json"}


def test_it_is_called_as_its_folder_is_or_as_it_is_told(tmp_path: Path) -> None:
    assert FolderDataset.open(write_sample(tmp_path / "mine", 20, 1, size=32)).name == "mine"
    assert FolderDataset.open(write_sample(tmp_path / "other", 20, 1, size=32, name="one")).name == "one"


def test_pictures_do_not_depend_on_the_other_numbers(tmp_path: Path) -> None:
    few = _files(write_sample(tmp_path / "a", n_images=20, n_voxels=1, size=32))
    many = _files(write_sample(tmp_path / "b", n_images=30, n_voxels=9, size=32))
    names = [name for name in few if name.endswith(".png")]
    assert len(names) == 20
    assert all(few[name] == many[name] for name in names)


def test_scenes_differ_and_use_the_range(sample: Path) -> None:
    scenes = [draw_scene(0, index, 48) for index in range(30)]
    assert len({scene.pixels.tobytes() for scene in scenes}) == 30
    latents = np.stack([scene.latents for scene in scenes])
    assert np.abs(latents).max() <= 1
    assert (latents.std(axis=0) > 0.3).all()
    pixels = np.stack([scene.pixels for scene in scenes]).astype("f8")
    assert pixels.std() > 30
    assert np.abs(np.diff(pixels, axis=2)).mean() < pixels.std() / 2  # neighbours are alike


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        ({"n_images": 19}, "'images' .* must be >= 20. Got 19"),
        ({"n_voxels": 0}, "'voxels' .* must be >= 1. Got 0"),
        ({"seed": -1}, "'seed' .* Got -1"),
        ({"seed": 2**32}, "'seed'"),
        ({"size": 8}, "'size'"),
    ],
)
def test_bad_numbers_are_refused(tmp_path: Path, numbers: dict[str, int], match: str) -> None:
    with pytest.raises(SpecError, match=match):
        write_sample(tmp_path / "a", **numbers, name=None)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(DataError, match="must be absent or empty"):
        write_sample(tmp_path, n_images=20, n_voxels=1, size=32)
    with pytest.raises(DataError, match="must be absent or empty"):
        write_sample(tmp_path / "mine", n_images=20, n_voxels=1, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_sample(tmp_path / "a", n_images=20, n_voxels=1, size=32)
    assert FolderDataset.open(tmp_path / "a").n_voxels == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(module, "_write_responses", fail)
    with pytest.raises(OSError, match="No space"):
        write_sample(tmp_path / "a", n_images=20, n_voxels=1, size=32)
    assert not list(tmp_path.iterdir())
