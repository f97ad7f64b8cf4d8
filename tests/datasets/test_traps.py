"""The traps of published datasets, each planted in its miniature: what is handled, and what is refused on one line."""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from img2brain.datasets import open_dataset
from img2brain.datasets._inside import content_of, member, place
from img2brain.datasets._layouts import check
from img2brain.errors import DataError, Img2BrainError
from tests.datasets.miniatures import (
    MINIATURES,
    bold5000,
    brainio,
    laion_fmri,
    mosaic,
    sensorium2022,
    things_fmri,
    tvsd,
)  # fmt: skip


def responses_of(dataset: Any) -> Any:
    return dataset._responses(np.arange(dataset.n_images))


def test_ceilings_of_means_become_those_of_what_is_scored(tmp_path: Path) -> None:
    things = open_dataset(things_fmri.write_things(tmp_path / "things").path)
    share = np.arange(6) / 10
    assert things.ncsnr is not None
    np.testing.assert_allclose(things.ncsnr**2 / (things.ncsnr**2 + 1 / 12), share)
    laion = open_dataset(laion_fmri.write_laion(tmp_path / "laion").path)
    assert laion.ncsnr is not None
    kept = np.delete(np.linspace(0, 0.6, 12), [0, 5])
    np.testing.assert_allclose(laion.ncsnr**2 / (laion.ncsnr**2 + 1 / 12), kept, rtol=1e-5)


def test_training_and_test_trials_are_normalised_together(tmp_path: Path) -> None:
    mini = things_fmri.write_things(tmp_path / "things")
    single = open_dataset(mini.path, normalise="session", repeats="single")
    found = responses_of(single)
    sessions = np.array([int(single.where(row).partition("column ")[2].partition(" ")[0]) // 13 for row in range(26)])
    for session in (0, 1):
        np.testing.assert_allclose(found[sessions == session].mean(axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(found[sessions == session].std(axis=0), 1, atol=1e-9)


def test_each_animal_has_its_own_order_of_regions(tmp_path: Path) -> None:
    path = tvsd.write_tvsd(tmp_path / "tvsd").path
    found = {name: open_dataset(path, subject=name).rois["IT"][[0, -1]].tolist() for name in ("monkeyF", "monkeyN")}
    assert found == {"monkeyF": [512, 831], "monkeyN": [768, 1023]}
    animal = open_dataset(path / "monkeyN", images=path / "THINGS")
    assert animal.read_repeats(np.array([20, 23])).shape == (2, 3, 1024)  # type: ignore[union-attr]
    assert animal.read_counts(np.array([0, 20])).tolist() == [1, 3]  # type: ignore[union-attr]


def test_zeroed_responses_are_no_responses(tmp_path: Path) -> None:
    mini = sensorium2022.write_sensorium(tmp_path / "mouse")
    dataset = open_dataset(mini.path)
    assert dataset.preparation["withheld"] == "the responses of final_test are all 0 and left out"
    assert (dataset.n_test, len(dataset.test_images)) == (4, 7)
    tiers = np.load(mini.path / "meta" / "trials" / "tiers.npy")
    for trial in np.flatnonzero(tiers == "test"):
        np.save(mini.path / "data" / "responses" / f"{trial}.npy", np.zeros(5, np.float32))
    assert (open_dataset(mini.path).n_test, len(open_dataset(mini.path).test_images)) == (0, 7)


def test_a_misnamed_region_is_renamed_for_the_subject_that_has_it(tmp_path: Path) -> None:
    path = bold5000.write_bold5000(tmp_path / "bold").path
    assert {"LHLOC", "RHEarlyVis"} == set(open_dataset(path).rois)
    for file in path.glob("CSI2*"):
        file.rename(file.with_name(file.name.replace("CSI2", "CSI1")))
    assert {"LHLO", "RHEarlyVis"} == set(open_dataset(path).rois)


def test_repeats_may_be_found_without_their_list(tmp_path: Path) -> None:
    path = bold5000.write_bold5000(tmp_path / "bold").path
    (path / "BOLD5000_Stimuli" / "repeated_stimuli_113_list.txt").unlink()
    assert open_dataset(path).n_test == 0  # in two sessions none is shown four times


@pytest.mark.parametrize("order", [("presentation", "neuroid", "time_bin"), ("time_bin", "presentation", "neuroid")])
def test_dimensions_may_come_in_any_order(order: tuple[str, ...], tmp_path: Path) -> None:
    one, other = brainio.write_brainio(tmp_path / "one"), brainio.write_brainio(tmp_path / "other", order)
    np.testing.assert_array_equal(*(responses_of(open_dataset(mini.path)) for mini in (one, other)))
    assert open_dataset(one.path, subject="Chabo").n_voxels == 2
    with pytest.raises(DataError, match=r"no animal 'Chab'\. Did you mean 'Chabo'"):
        open_dataset(one.path, subject="Chab")


def test_a_set_without_repeats_has_no_ceiling(tmp_path: Path) -> None:
    path = mosaic.write_mosaic(tmp_path / "mosaic").path
    had, nsd = (open_dataset(path, subject=name) for name in ("sub-02_HAD", "sub-01_NSD"))
    assert (had.n_test, had.noise_ceiling, had.read_repeats(np.arange(3))) == (0, None, None)
    assert nsd.noise_ceiling is not None
    np.testing.assert_allclose(nsd.noise_ceiling, np.delete(np.linspace(0, 0.7, 8), [1, 6]))
    assert nsd.preparation["NaN voxels of any trial"] == "2 of 8 are left out"


def test_a_pickle_in_a_frame_is_left_alone(tmp_path: Path) -> None:
    path = things_fmri.write_things(tmp_path / "things").path
    with h5py.File(path / "betas_csv" / "sub-01_ResponseData.h5", "r+") as file:
        for name in ("axis0", "block0_items"):
            file[f"ResponseData/{name}"][0] = np.frombuffer(b"cos\nsystem\n(S'false'\ntR.", np.uint8)
    assert open_dataset(path).n_voxels == 6


def first(root: Path, pattern: str) -> Path:
    return sorted(root.rglob(pattern))[0]


SPOILS: list[tuple[str, Callable[[Path], Any], str]] = [
    ("things_fmri", lambda root: first(root, "*VoxelM*").write_text("voxel_id,V1\n7,1\n"), "have none: 3"),
    ("things_fmri", lambda root: first(root, "thing0_00s.png").unlink(), "1 of 22 images must be there"),
    ("things_fmri", lambda root: first(root, "*.h5").write_bytes(b"no"), "must be HDF5"),
    ("tvsd", lambda root: first(root, "things_imgs.mat").write_bytes(b""), "must be HDF5"),
    ("tvsd", lambda root: first(root, "thing3_01b.png").unlink(), "1 of 24 images must be there"),
    ("sensorium2022", lambda root: np.save(first(root, "tiers.npy"), np.array(["a"] * 99)), "must be among 'train'"),
    ("sensorium2022", lambda root: np.save(root / "data/responses/3.npy", np.ones(2)), "must have 5 neurons. Got 2"),
    ("bold5000", lambda root: first(root, "CSI2*.txt").write_text("a.png\n"), "must have a line for each trial"),
    ("bold5000", lambda root: first(root, "picture05.png").unlink(), r"1 of 27 images must be in .*'picture05\.png'"),
    (
        "brainio",
        lambda root: first(root, "*hvm*.csv").write_text("image_id,filename\nid-00,a.png\n"),
        "19 are not in it",
    ),
    ("brainio", lambda root: first(root, "*.zip").write_bytes(b"no"), "must be a zip archive"),
    ("brainio", lambda root: first(root, "*.nc").write_bytes(b"CDF\1"), "must be HDF5"),
    ("mosaic", lambda root: first(root, "still-3.png").unlink(), r"1 of 22 have none: 'still-3\.png'"),
    ("laion_fmri", lambda root: first(root, "*ses-02*.tsv").write_text("label\na\n"), "a volume for each line"),
    ("laion_fmri", lambda root: first(root, "*ses-01*.nii.gz").write_bytes(b"no"), "must be NIfTI or MGH"),
    ("laion_fmri", lambda root: first(root, "*.nii").unlink(), "It holds 0 and 1"),
    ("nsd", lambda root: first(root, "valid_session03.nii.gz").unlink(), "must exist"),
    ("nsd", lambda root: first(root, "nsd_expdesign.mat").write_bytes(b"no"), "must be the design of NSD"),
    ("algonauts2023", lambda root: np.save(first(root, "rh_tr*.npy"), np.ones((3, 4))), "a row for each of 20 images"),
]


@pytest.mark.parametrize(("name", "spoil", "match"), SPOILS)
def test_what_does_not_fit_is_said_on_one_line(
    name: str, spoil: Callable[[Path], Any], match: str, tmp_path: Path
) -> None:
    mini = MINIATURES[name](tmp_path / "mini")
    spoil(mini.path)
    with pytest.raises(Img2BrainError, match=match) as caught:
        responses_of(open_dataset(mini.path, **mini.asked))
    assert "\n" not in str(caught.value)
    (problem, *_) = check(mini.path, **mini.asked).problems
    assert problem.severity == "error"
    assert "\n" not in problem.message


@pytest.mark.parametrize(("name", "library", "extra"), [("tvsd", "h5py", "hdf5"), ("bold5000", "nibabel", "nifti")])
def test_a_library_that_is_not_there_is_named(
    name: str, library: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini, real = MINIATURES[name](tmp_path / "mini"), importlib.import_module

    def absent(asked: str, *rest: Any) -> Any:
        if asked == library:
            raise ImportError(asked)
        return real(asked, *rest)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(DataError, match=rf"needs the package '{library}'.*'img2brain\[{extra}\]'"):
        open_dataset(mini.path, **mini.asked)


def test_pictures_inside_of_files_stay_inside(tmp_path: Path) -> None:
    archive, array = tmp_path / "stimuli.zip", tmp_path / "bricks.h5"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../cat.png", b"bytes")
    with h5py.File(array, "w") as file:
        file["imgBrick"] = np.zeros((2, 4, 4, 3), np.uint8)
    assert content_of(member(archive, "../cat.png")) == b"bytes"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["bricks.h5", "stimuli.zip"]
    for path, match in (
        (member(archive, "dog.png"), "must be a member"),
        (place(array, "imgBrick", 2), "must be one of 2 pictures"),
        (place(array, "other", 0), "must exist"),
        (place(archive, "imgBrick", 0), "must be a member"),
    ):
        with pytest.raises(DataError, match=match):
            content_of(path)


def test_the_preparation_is_plain_data(tmp_path: Path) -> None:
    for name, make in MINIATURES.items():
        mini = make(tmp_path / name)
        found = dict(open_dataset(mini.path, **mini.asked).preparation)
        assert json.loads(json.dumps(found)) == found
