"""Where something else lies than what is looked for, the message names it and says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from img2brain.datasets import open_dataset
from img2brain.datasets._layouts import check
from img2brain.errors import DataError

MakeFolder = Callable[..., Path]


def _convert(suffix: str, folder: str, keep: int = 0) -> Callable[[Path], object]:
    return lambda root: [path.rename(path.with_suffix(suffix)) for path in sorted((root / folder).iterdir())[keep:]]


def _nest(root: Path) -> None:
    (root / "trainingIMG" / "faces").mkdir()
    for path in (root / "trainingIMG").glob("*.png"):
        path.rename(path.parent / "faces" / path.name)


def _transpose(root: Path) -> None:
    path = root / "trainingfMRI" / "training.npy"
    np.save(path, np.load(path).T)


def _transpose_beside_features(root: Path) -> None:
    (root / "trainingIMG").rename(root / "pictures")
    (root / "trainingFeatures").mkdir()
    np.save(root / "trainingFeatures" / "f.npy", np.ones((6, 2)))
    _transpose(root)


STRAYS: list[tuple[Callable[[Path], object], str]] = [
    (_convert(".tif", "trainingIMG"), r"It holds none\. It holds 6 \.tif files: save them as \.png\.$"),
    (_convert(".WEBP", "testIMG"), r"It holds 3 \.webp files: save them as \.png\.$"),
    (_convert(".bmp", "trainingIMG", keep=4), r"Got shape \(6, 4\) and 4 images\. It holds 2 \.bmp files: save them"),
    (_nest, r"Its folders hold images \('faces'\): move them up, into it\.$"),
    (_convert(".csv", "trainingfMRI"), r"training\.npy' must exist\. It does not\. There is 'training\.csv': load it"),
    (
        _convert(".mat", "trainingfMRI"),
        r"There is 'training\.mat': load it and write it with numpy\.save\(\), as 'trai",
    ),
    (_convert(".h5", "trainingfMRI"), r"There is 'training\.h5'"),
    (_transpose, r"Got shape \(4, 6\) and 6 images\. The responses look transposed: .* Write responses\.T in their"),
    (_transpose_beside_features, r"Got \(6, 2\) and \(4, 6\)\. The responses look transposed"),
]


@pytest.mark.parametrize(("spoil", "match"), STRAYS)
def test_what_lies_there_is_named(make_folder: MakeFolder, spoil: Callable[[Path], object], match: str) -> None:
    root = make_folder()
    spoil(root)
    with pytest.raises(DataError, match=match) as caught:
        open_dataset(root)
    assert "\n" not in str(caught.value)
    assert str(caught.value) in [problem.message for problem in check(root).problems]


def test_the_folder_that_holds_a_dataset_is_told_which_it_is(make_folder: MakeFolder) -> None:
    root = make_folder()
    with pytest.raises(DataError, match=r"recognises .*\. Its folder 'data' is recognised: give that one\."):
        open_dataset(root.parent)


def test_a_folder_of_other_files_is_told_what_it_holds(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}.csv").touch()
    with pytest.raises(DataError, match=r"It holds '0\.csv', .*'4\.csv' and 2 more\. There are 'folder': Images in"):
        open_dataset(tmp_path)


_LINKS = (
    "trainingIMG", "trainingIMG/002.png", "trainingFeatures", "trainingFeatures/f.npy", "trainingfMRI",
    "trainingfMRI/training.npy", "trainingfMRI/training_repeats.npy", "trainingfMRI/training_counts.npy",
    "trainingfMRI/training_groups.npy", "testIMG", "testFeatures", "testfMRI", "testfMRI/test.npy",
    "testfMRI/test_groups.npy", "images.csv", "rois.json", "ncsnr.npy", "noise_ceiling.npy", "dataset.toml",
)  # fmt: skip


@pytest.mark.parametrize("name", _LINKS)
def test_a_link_that_leads_to_nothing_is_not_passed_over(make_folder: MakeFolder, name: str) -> None:
    link = make_folder() / name
    root = link.parents[name.count("/")]
    if link.exists():
        link.rename(root / "moved")
    link.parent.mkdir(exist_ok=True)
    link.symlink_to("../.git/annex/objects/nowhere")
    match = rf"The link '.*{name}' must lead to what is there\. It leads to '.*nowhere', which is not: fetch it"
    with pytest.raises(DataError, match=match) as caught:
        open_dataset(root)
    errors = [problem.message for problem in check(root).problems]
    assert str(caught.value) in errors
    assert len(set(errors)) == len(errors)


def test_a_link_that_leads_somewhere_is_followed(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(training=8)
    for name in ("trainingIMG", "testfMRI", "trainingfMRI/training.npy"):
        target = tmp_path / name.replace("/", "-")
        (root / name).rename(target)
        (root / name).symlink_to(target)
    (root / "a link that is none of a dataset's").symlink_to("nowhere")
    assert check(root).problems == ()
    assert open_dataset(root).n_test == 3


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("training_groups.npy", "trainingfMRI/training_groups.npy is looked for"),
        ("trainingfMRI/groups.npy", "trainingfMRI/training_groups.npy or testfMRI/test_groups.npy is looked for"),
        ("trainingfMRI/test_counts.npy", "testfMRI/test_counts.npy is looked for"),
        ("testfMRI/noise_ceiling.npy", "noise_ceiling.npy is looked for in the folder of the dataset"),
    ],
)
def test_a_file_at_a_wrong_place_is_told(make_folder: MakeFolder, name: str, place: str) -> None:
    root = make_folder(training=8)
    np.save(root / name, np.arange(1, 7))
    np.save(root / "trainingfMRI" / "training_counts.npy", np.ones(8, int))  # where it belongs
    np.save(root / "somebody's own.npy", np.arange(3))
    (problem,) = check(root).problems
    assert problem.severity == "warning"
    assert problem.message == f"{str(root / name)!r} is not read: {place}."
