from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from img2brain.catalog import LAYOUTS
from img2brain.datasets.base import shuffled
from img2brain.datasets.folder import FolderDataset
from img2brain.errors import DataError, Img2BrainError, ShapeError, SpecError

MakeFolder = Callable[..., Path]


def _responses(dataset: FolderDataset) -> Any:
    return dataset._responses(np.arange(len(dataset.images)))


def test_training_comes_first_then_test(make_folder: MakeFolder) -> None:
    dataset = FolderDataset.open(make_folder(training=6, test=3, voxels=4))
    names = [f"{path.parent.name}/{path.name}" for path in dataset.images]
    assert names == [*(f"trainingIMG/{i:03}.png" for i in range(6)), *(f"testIMG/{i:03}.png" for i in range(3))]
    assert (dataset.n_training, dataset.n_test, dataset.n_voxels) == (6, 3, 4)
    assert dataset.test_images == dataset.images[6:]
    np.testing.assert_array_equal(_responses(dataset), np.arange(36).reshape(9, 4))
    np.testing.assert_array_equal(dataset.read_responses(np.array([7, 0])), [[28, 29, 30, 31], [0, 1, 2, 3]])
    assert dataset.where(7).endswith("test.npy', row 1")


def test_test_images_without_responses_are_no_rows(make_folder: MakeFolder) -> None:
    root = make_folder(training=6, test=3)
    (root / "testfMRI" / "test.npy").unlink()
    dataset = FolderDataset.open(root)
    assert (len(dataset.images), dataset.n_test, len(dataset.test_images)) == (6, 0, 3)


def test_no_test_part_is_needed(make_folder: MakeFolder) -> None:
    dataset = FolderDataset.open(make_folder(test=0))
    assert dataset.test_images == ()
    assert dataset.name == "data"
    assert (dataset.unit, dataset.subject, dataset.rois) == ("a.u.", "", {})
    assert dataset.ncsnr is None
    assert dataset.noise_ceiling is None


@pytest.mark.parametrize(("dtype", "kind"), [("f2", "f4"), (">f4", "f4"), ("u2", "f4"), ("i4", "f8"), ("f8", "f8")])
@pytest.mark.parametrize("test", [0, 2])
def test_responses_come_as_native_floats(make_folder: MakeFolder, dtype: str, kind: str, test: int) -> None:
    Y = _responses(FolderDataset.open(make_folder(dtype=dtype, test=test)))
    assert Y.dtype == np.dtype(kind)
    assert Y[5, 3] == 23


def test_what_stands_beside_the_responses_is_read(make_folder: MakeFolder) -> None:
    root = make_folder(voxels=4)
    (root / "rois.json").write_text(json.dumps({"V1": [2, 0], "V4": [False, True, False, True]}))
    (root / "dataset.toml").write_text('name = "one.b-2"\nunit = "beta"\nsubject = "subj01"\n')
    np.save(root / "ncsnr.npy", np.array([0, 1, 2, np.nan], dtype="f2"))
    np.save(root / "noise_ceiling.npy", np.array([0, 0.5, 1, 0.2], dtype="f4"))
    np.save(root / "trainingfMRI" / "training_repeats.npy", np.full((6, 2, 4), np.nan))
    dataset = FolderDataset.open(root)
    assert {name: voxels.tolist() for name, voxels in dataset.rois.items()} == {"V1": [0, 2], "V4": [1, 3]}
    assert (dataset.name, dataset.unit, dataset.subject) == ("one.b-2", "beta", "subj01")
    assert dataset.ncsnr is not None
    assert dataset.noise_ceiling is not None
    np.testing.assert_array_equal(dataset.ncsnr, np.array([0, 1, 2, np.nan]))
    np.testing.assert_allclose(dataset.noise_ceiling, np.array([0, 0.5, 1, 0.2]), rtol=1e-6)


def test_what_readers_ask_of_the_data_changes_no_digest(make_folder: MakeFolder) -> None:
    root = make_folder()
    before = FolderDataset.open(root)
    (root / "dataset.toml").write_text('[provenance]\nspecies = "macaque"\nlicence = "CC-BY-4.0"\n')
    dataset = FolderDataset.open(root)
    assert (dataset.provenance.species, dataset.provenance.licence, dataset.provenance.url) == (
        "macaque",
        "CC-BY-4.0",
        "",
    )
    assert dataset.digest == before.digest
    assert shuffled(dataset, 0).provenance == dataset.provenance
    (root / "dataset.toml").write_text('[provenance]\nlicense = "CC-BY-4.0"\n')
    with pytest.raises(SpecError, match=r"unknown key 'provenance\.license'\. Did you mean 'licence'"):
        FolderDataset.open(root)


def test_the_folders_name_is_made_safe(make_folder: MakeFolder) -> None:
    assert FolderDataset.open(make_folder(name="._my data: ä")).name == "my-data---"


def _change_image(root: Path) -> None:
    (root / "trainingIMG" / "000.png").write_bytes((root / "testIMG" / "000.png").read_bytes())


def _swap_images(root: Path) -> None:
    folder = root / "trainingIMG"
    (folder / "000.png").rename(folder / "x")
    (folder / "001.png").rename(folder / "000.png")
    (folder / "x").rename(folder / "001.png")


def _change_response(root: Path) -> None:
    Y = np.load(root / "testfMRI" / "test.npy")
    Y[0, 0] += 1
    np.save(root / "testfMRI" / "test.npy", Y)


CHANGES: list[Callable[[Path], object]] = [
    _change_image,
    _swap_images,
    _change_response,
    lambda root: (root / "rois.json").write_text('{"V1": [0]}'),
    lambda root: np.save(root / "ncsnr.npy", np.ones(4)),
    lambda root: np.save(root / "noise_ceiling.npy", np.ones(4)),
    lambda root: np.save(root / "trainingfMRI" / "training_repeats.npy", np.ones((6, 2, 4))),
    lambda root: (root / "testfMRI" / "test.npy").unlink(),
]


@pytest.mark.parametrize("change", CHANGES)
def test_the_digest_names_all_that_a_score_depends_on(
    make_folder: MakeFolder, change: Callable[[Path], object]
) -> None:
    root = make_folder()
    before = FolderDataset.open(root).digest
    change(root)
    assert FolderDataset.open(root).digest != before


def test_the_digest_does_not_name_the_folder(make_folder: MakeFolder) -> None:
    here, there = FolderDataset.open(make_folder()), FolderDataset.open(make_folder(name="elsewhere"))
    assert here.digest == there.digest
    assert here.name != there.name


def _everything(root: Path) -> None:
    """Put one of each optional file into a folder of 6 training and 3 test images of 4 voxels."""
    (root / "rois.json").write_text(json.dumps({"V1": [2, 0], "V4": [False, True, False, True]}))
    np.save(root / "ncsnr.npy", np.array([0, 1, 2, np.nan], "f2"))
    np.save(root / "noise_ceiling.npy", np.array([0, 0.5, 1, 0.25], "f4"))
    for part, n in (("training", 6), ("test", 3)):
        np.save(root / f"{part}fMRI" / f"{part}_repeats.npy", np.ones((n, 2, 4), "f4"))
        np.save(root / f"{part}fMRI" / f"{part}_counts.npy", np.full(n, 2, "u1"))
        (root / f"{part}Features").mkdir()
        np.save(root / f"{part}Features" / "a.npy", np.arange(n * 3).reshape(n, 3).astype("f8"))


# Of a folder, and shuffled with seed 3, as studies of commit dd6aca5 know them: a changed digest loses such a study.
KEPT: list[tuple[tuple[str, ...], str, str]] = [
    ((), "715fc72bba7ef877a6ac0b2a1a6d18b4cc5f72d440cc7ba145b0900752637311",
     "6c3233ab74923272abff23483cf5dc98ac90a2042560bc8b89871dfb44650e52"),
    (("testFeatures",), "20ebd1481782ac108c5ad4f812812208d9da2df70a6388f77c51502b4a6a41b0",
     "be615a9b44dcfd45bf56a0e232beeabb32b90ae7b8d2ff58f93523bc6cc3c5b4"),
    (("testIMG",), "cce4ffdfab40771d603f690d93f8d1ed79731e2ae6b348cc55f2c6ed576e45dd",
     "521069f1ab625ad2fdb5d8058f51c93e90d077dd3f6ca4a043dfd185f3f82b65"),
    (("testIMG", "trainingIMG"), "bacc05161618b44c4008f808fa7f4434bc388d4b810faa21e2b20ebacbb21afc",
     "f255fe12ace0534e18a5f03d1b7a21602c53da6ae002c25c726dabd753d8cbb9"),
]  # fmt: skip


@pytest.mark.parametrize(("without", "plain", "with_shuffled_responses"), KEPT)
def test_a_digest_is_what_it_was(
    make_folder: MakeFolder, without: tuple[str, ...], plain: str, with_shuffled_responses: str
) -> None:
    root = make_folder()
    for shade, part in ((10, "training"), (20, "test")):
        for i, path in enumerate(sorted((root / f"{part}IMG").iterdir())):
            path.write_bytes(bytes([shade, i]))  # not what some version of Pillow writes
    _everything(root)
    for name in without:
        shutil.rmtree(root / name)
    dataset = FolderDataset.open(root)
    assert dataset.digest == plain
    assert shuffled(dataset, 3).digest == with_shuffled_responses


def test_a_plain_folders_digest_is_what_it_was(make_folder: MakeFolder) -> None:
    root = make_folder(test=0, dtype="i2")
    for i, path in enumerate(sorted((root / "trainingIMG").iterdir())):
        path.write_bytes(bytes([10, i]))
    digest = FolderDataset.open(root).digest
    assert digest == "7bfd6de67e1f3a6df0f6d98cc13e55c36549576888e19340896815ed3e2675a2"


@pytest.mark.parametrize(("absent", "match"), [("testIMG", "The images of"), ("testFeatures", "The features 'a' of")])
def test_what_only_some_rows_have_serves_no_row(make_folder: MakeFolder, absent: str, match: str) -> None:
    root = make_folder()
    _everything(root)
    whole = FolderDataset.open(root)
    assert (len(whole.images), [len(matrix) for matrix in whole.features.values()]) == (9, [9])
    shutil.rmtree(root / absent)
    dataset = FolderDataset.open(root)
    assert (len(dataset.images), len(dataset.features)) == ((0, 1) if absent == "testIMG" else (9, 0))
    messages = [problem.message for problem in FolderDataset.check_folder(root).problems]
    assert any(match in message and "must be there for all rows" in message for message in messages)


def _write(name: str, text: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text(text)


def _save(name: str, array: Any) -> Callable[[Path], object]:
    return lambda root: np.save(root / name, array)


BAD: list[tuple[Callable[[Path], object], type[Img2BrainError], str]] = [
    (
        _save("trainingfMRI/training.npy", np.ones((5, 4))),
        ShapeError,
        r"training\.npy' .*IMG'\. Got shape \(5, 4\) and 6",
    ),
    (_save("testfMRI/test.npy", np.ones((4, 4))), ShapeError, r"test\.npy' .*testIMG'\. Got shape \(4, 4\) and 3"),
    (_save("testfMRI/test.npy", np.ones((3, 5))), ShapeError, r"same voxels\. Got \(6, 4\) and \(3, 5\)"),
    (_save("trainingfMRI/training.npy", np.ones((6, 4), bool)), DataError, "Got bool"),
    (_save("testfMRI/test_repeats.npy", np.ones((3, 2, 5))), ShapeError, r"test_repeats.*\(3, 2, 5\) and \(3, 4\)"),
    (_save("testfMRI/test_repeats.npy", np.ones((3, 4))), ShapeError, r"\(images, repeats, voxels\)"),
    (_save("ncsnr.npy", np.ones(5)), ShapeError, r"\(4,\).* Got \(5,\)"),
    (_save("ncsnr.npy", np.array([1.0, 1, -1, 1])), DataError, "Got -1.0 for voxel 2"),
    (_save("ncsnr.npy", np.array([1.0, 1, 1, np.inf])), DataError, "Got inf for voxel 3"),
    (_save("noise_ceiling.npy", np.full(4, 60.0)), DataError, "explained variance.* Got 60.0"),
    (_write("rois.json", "{"), DataError, "JSON"),
    (_write("rois.json", "[1]"), DataError, "Got list"),
    (_write("rois.json", "[" * 100_000), DataError, "JSON"),
    (_write("rois.json", '{"V1": [4]}'), DataError, r"'V1' .*0..3. Got 4"),
    (_write("rois.json", '{"V1": [-1]}'), DataError, "Got -1"),
    (_write("rois.json", '{"V1": [0, 1, 1, 0]}'), DataError, "each voxel once"),
    (_write("rois.json", '{"V1": [true, false]}'), ShapeError, "mask of 4 voxels. Got 2"),
    (_write("rois.json", '{"V1": [false, false, false, false]}'), DataError, "Got none"),
    (_write("rois.json", '{"V1": []}'), DataError, "'V1'"),
    (_write("rois.json", '{"V1": [0.5]}'), DataError, "'V1'"),
    (_write("rois.json", '{"V1": "all"}'), DataError, "'V1'"),
    (_write("dataset.toml", "units = 'a'"), SpecError, "'units'.*Did you mean 'unit'"),
    (_write("dataset.toml", "unit = 3"), SpecError, "unit.*Got 3"),
    (_write("dataset.toml", "name = '../x'"), SpecError, "name.*Got '../x'"),
    (_write("dataset.toml", 'unit = "\\u001b[31m"'), SpecError, "unit"),
    (_write("dataset.toml", "unit ="), SpecError, "TOML"),
    (lambda root: (root / "dataset.toml").write_bytes(b"\xff"), SpecError, "TOML"),
    (lambda root: (root / "trainingfMRI" / "training.npy").unlink(), DataError, "training.npy' must exist"),
    (lambda root: (root / "trainingIMG").rename(root / "x"), DataError, "trainingIMG' must exist"),
    (lambda root: (root / "testIMG").rename(root / "x"), ShapeError, "testIMG'.* and 0 images"),
]


@pytest.mark.parametrize(("spoil", "error", "match"), BAD)
def test_a_bad_folder_is_refused_in_one_line(
    make_folder: MakeFolder, spoil: Callable[[Path], object], error: type[Img2BrainError], match: str
) -> None:
    root = make_folder()
    spoil(root)
    with pytest.raises(error, match=match) as caught:
        FolderDataset.open(root)
    assert "\n" not in str(caught.value)


def test_an_absent_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must exist"):
        FolderDataset.open(tmp_path / "absent")


def test_the_catalog_knows_the_layout() -> None:
    assert LAYOUTS["folder"] is FolderDataset
