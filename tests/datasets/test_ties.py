"""Which rows belong together: equal pictures, equal features, declared groups, and what follows through others."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from img2brain import digest
from img2brain.datasets import _ties
from img2brain.datasets._images import open_pixels
from img2brain.datasets._layouts import check
from img2brain.datasets._ties import Ties
from img2brain.datasets.base import Dataset, shuffled
from img2brain.datasets.folder import FolderDataset
from img2brain.errors import DataError, SpecError
from img2brain.spec import SplitSpec

Array = NDArray[Any]


class Given(Dataset):
    """Rows of features of one's own."""

    def __init__(self, **facts: Any) -> None:
        super().__init__(name="given", n_voxels=2, **facts)

    def read_responses(self, rows: Array) -> Array:
        return np.stack([rows, -rows], axis=1).astype(np.float64)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=40))
def test_sets_are_the_transitive_closure(keys: list[tuple[int, int]]) -> None:
    contents, groups = (list(column) for column in zip(*keys, strict=True))
    sets: list[set[int]] = []
    for row in range(len(keys)):
        met = [found for found in sets if any(contents[row] == contents[i] or groups[row] == groups[i] for i in found)]
        sets = [found for found in sets if found not in met] + [{row}.union(*met)]
    ties = Ties.of(contents, np.array(groups))
    assert ties.sets.tolist() == [min(next(found for found in sets if row in found)) for row in range(len(keys))]
    assert ties.equal.tolist() == [contents.index(content) for content in contents]
    large = [found for found in sets if len(found) > 1]
    assert (ties.n_rows, ties.n_sets) == (sum(map(len, large)), len(large))


def _resaved(picture: Path, folder: Path) -> list[Path]:
    """Save a picture of a PNG file again, in every way that keeps its pixels."""
    image = Image.open(picture)
    image.save(folder / "stored.png", compress_level=0)
    image.save(folder / "small.PNG", optimize=True)
    image.convert("RGBA").save(folder / "opaque.png")
    image.save(folder / "dots.png", dpi=(300, 300))
    shutil.copyfile(picture, folder / "copy.png")
    return sorted(folder.iterdir())


def test_a_picture_is_found_again_whatever_its_file_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
    (tmp_path / "again").mkdir()
    paths = []
    for number, values in enumerate(pixels):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(values).save(paths[-1])
    again = _resaved(paths[0], tmp_path / "again")
    assert len(again) == 5
    dataset = Given(images=[*paths, *again])
    assert dataset.ties.sets.tolist() == [0, 1, *[0] * 5]


def test_a_grey_picture_and_a_decoded_jpeg_are_found_again(tmp_path: Path) -> None:
    grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    grey.save(tmp_path / "a.png")
    grey.convert("RGB").save(tmp_path / "b.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "c.png")
    grey.rotate(90).convert("RGB").save(tmp_path / "d.jpg")
    Image.open(tmp_path / "d.jpg").save(tmp_path / "e.png")
    Image.open(tmp_path / "d.jpg").save(tmp_path / "f.jpeg", quality="keep", progressive=True)
    assert Given(images=sorted(tmp_path.iterdir())).ties.sets.tolist() == [0, 0, 0, 3, 3, 3]


def test_only_pictures_of_one_size_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path, size in zip(paths, (4, 5, 6, 5), strict=True):
        Image.new("RGB", (size, 4)).save(path)
    decoded: list[Path] = []

    def recorded(path: Path, *how: Any) -> Array:
        decoded.append(path)
        return open_pixels(path, *how)

    monkeypatch.setattr(_ties, "open_pixels", recorded)
    assert Given(images=[*paths, paths[0]]).ties.sets.tolist() == [0, 1, 2, 1, 0]
    assert sorted(decoded) == [paths[1], paths[3]]


def test_a_picture_that_does_not_decode_is_left_to_others(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (64, 64)).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    paths = [*sorted(tmp_path.iterdir()), tmp_path / "absent.png"]
    assert Given(images=paths).ties.sets.tolist() == [0, 1, 0, 3]


def test_given_rows_are_tied_where_all_matrices_are_equal() -> None:
    fine, coarse = (
        np.array([[0.0, 1], [-0.0, 1], [0, 1], [1e8, 1], [1e8 + 1e-7, 1]]),
        np.array([[1], [1], [2], [3], [3]]),
    )
    assert Given(features={"fine": fine}).ties.sets.tolist() == [0, 0, 0, 3, 3]
    assert Given(features={"fine": fine, "coarse": coarse}).ties.sets.tolist() == [0, 0, 2, 3, 3]
    large = 2**60 + np.arange(3)[:, None]
    assert not Given(features={"integers": large}).ties


def test_given_rows_are_tied_where_they_are_fitted_as_equal() -> None:
    rows = np.random.default_rng(0).standard_normal((6, 5))
    features = np.concatenate([rows, rows.astype(np.float32), rows * (1 + 1e-12)])
    assert Given(features={"f": features}, n_test=6).ties.sets.tolist() == [*range(6)] * 3
    assert not Given(features={"f": 1e8 + rows[:, :1]}).ties  # in float32 all of them are 1e8


def _pictures(folder: Path, reds: list[int]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(len(reds))]
    for red, path in zip(reds, paths, strict=True):
        Image.new("RGB", (4, 4), (red, 0, 0)).save(path)
    return paths


def test_rows_are_tied_by_their_pictures_and_by_their_given_features(tmp_path: Path) -> None:
    facts: dict[str, Any] = {
        "images": _pictures(tmp_path, [0, 1, 1, 3, 4, 5]),
        "features": {"f": np.arange(6)[:, None]},
    }
    assert Given(**facts).ties.sets.tolist() == [0, 1, 1, 3, 4, 5]
    facts["features"]["f"] = np.array([[0], [0], [2], [3], [3], [5]])
    both = Given(**facts, groups=[0, 1, 2, 3, 4, 4])
    assert both.ties.sets.tolist() == [0, 0, 0, 3, 3, 3]
    assert both.ties.equal.tolist() == [0, 1, 1, 3, 4, 5]


@pytest.mark.parametrize("part", ["training", "test"])
def test_pictures_of_one_part_tie_its_rows(make_folder: Callable[..., Path], part: str) -> None:
    root, first = make_folder(training=6, test=3), 0 if part == "training" else 6
    for name, n_rows in (("training", 6), ("test", 3)):
        (root / f"{name}Features").mkdir(exist_ok=True)
        np.save(root / f"{name}Features" / "f.npy", np.random.default_rng(n_rows).standard_normal((n_rows, 2)))
    shutil.copyfile(root / f"{part}IMG" / "000.png", root / f"{part}IMG" / "002.png")
    shutil.rmtree(root / ("testIMG" if part == "training" else "trainingIMG"))
    dataset, report = FolderDataset.open(root), check(root)
    expected = np.arange(9)
    expected[first + 2] = first
    assert not dataset.images
    assert report.ties is not None
    assert dataset.ties.sets.tolist() == report.ties.sets.tolist() == expected.tolist()


@pytest.mark.parametrize("groups", [[1, 1, 2, 3], ["a", "a", "b", "c"], np.array(["a", "a", "b", "c"], dtype=object)])
def test_declared_groups_are_tied_and_digested(groups: Any) -> None:
    facts = {"features": {"f": np.array([[0], [1], [0], [2]])}}
    plain, grouped = Given(**facts), Given(**facts, groups=groups)
    assert plain.groups is None
    assert grouped.ties.sets.tolist() == [0, 0, 0, 3]
    assert str(grouped.ties) == "3 of 4 rows in 1 set (equal pictures or features, or one group)"
    assert "groups" not in plain.content_digests()
    assert grouped.digest != plain.digest
    assert grouped.digest == Given(**facts, groups=[7, 7, 9, 8]).digest
    assert grouped.digest != Given(**facts, groups=[7, 8, 9, 8]).digest
    assert shuffled(grouped, 1).ties.sets.tolist() == [0, 0, 0, 3]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([1, 2, 3], r"groups of 'given' must have shape \(4,\)"),
        (np.ones(4), "must be integers or texts. Got float64"),
        ([True] * 4, "must be integers or texts. Got bool"),
        (np.array(["a", 1, None, 2], dtype=object), "must be integers or texts. Got object"),
    ],
)
def test_groups_of_another_kind_are_refused(groups: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Given(features={"f": np.arange(4.0)[:, None]}, groups=groups)


def test_groups_of_a_folder_reach_over_both_parts(make_folder: Callable[..., Path]) -> None:
    root = make_folder(training=6, test=3)
    before = FolderDataset.open(root)
    np.save(root / "trainingfMRI" / "training_groups.npy", np.array(["a", "b", "b", "c", "d", "e"]))
    np.save(root / "testfMRI" / "test_groups.npy", np.array(["long name", "a", "f"]))
    dataset = FolderDataset.open(root)
    assert dataset.ties.sets.tolist() == [0, 1, 1, 3, 4, 5, 6, 0, 8]
    assert not before.ties
    assert dataset.digest != before.digest == FolderDataset.open(make_folder(6, 3, name="same")).digest
    assert str(check(root).ties) == "4 of 9 rows in 2 sets (equal pictures or features, or one group)"


@pytest.mark.parametrize(
    ("training", "test", "message"),
    [
        (np.arange(6), None, "test_groups.npy' must both be there, and of one type. Got int64 and none"),
        (None, np.arange(3), "must both be there, and of one type. Got none and int64"),
        (np.arange(6), np.array(["a", "b", "c"]), "of one type. Got int64 and <U1"),
        (np.arange(6), np.arange(3).astype("u8"), "of one type. Got int64 and uint64"),
        (np.arange(5), np.arange(3), r"training_groups.npy' must have shape \(6,\)"),
        (np.arange(6.0), np.arange(3), "training_groups.npy' must be integers or texts. Got float64"),
        (np.array([{}] * 6), np.arange(3), "training_groups.npy' must be a complete .npy"),
        (np.array(list("aabbcc"), "O"), np.arange(3), r"\.npy of integers or texts \(.* written with \.astype\(str\)"),
    ],
)
def test_group_files_that_do_not_fit_are_refused_and_listed(
    make_folder: Callable[..., Path], training: Any, test: Any, message: str
) -> None:
    root = make_folder(training=6, test=3)
    for name, groups in (("training", training), ("test", test)):
        if groups is not None:
            np.save(root / f"{name}fMRI" / f"{name}_groups.npy", groups, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        FolderDataset.open(root)
    report = check(root)
    assert report.ties is None
    assert len([problem for problem in report.problems if problem.severity == "error"]) >= 1


def test_a_check_and_a_study_see_the_same_ties(make_folder: Callable[..., Path]) -> None:
    root = make_folder(training=12, test=3)
    for number in range(1, 9):
        shutil.copyfile(root / "trainingIMG" / "000.png", root / "trainingIMG" / f"{number:03}.png")
    shutil.copyfile(root / "trainingIMG" / "010.png", root / "testIMG" / "001.png")
    report = check(root)
    assert report.ties is not None
    np.testing.assert_array_equal(report.ties.sets, FolderDataset.open(root).ties.sets)
    assert str(report.ties).startswith("11 of 15 rows in 2 sets")
    said = [problem.message for problem in report.problems]
    assert len(said) == 6
    assert said[-1] == "4 more images hold the same picture as another one."


@pytest.mark.parametrize(
    ("groups", "problem"),
    [
        ([1] * 12, "that a split can divide"),
        ([1] * 11 + [2], "that a split can divide"),
        ([1] * 10 + [2, 3], "enough for the default split of a study"),
        ([1] * 10 + [2, 2], "enough for the default split of a study"),
        ([1] * 10 + [2, 2, 3, 3, 4, 4], ""),
    ],
)
def test_a_check_tells_of_ties_that_no_split_or_not_the_default_one_divides(
    make_folder: Callable[..., Path], groups: list[int], problem: str
) -> None:
    root = make_folder(training=len(groups), test=0)
    np.save(root / "trainingfMRI" / "training_groups.npy", groups)
    given = Given(features={"f": np.arange(len(groups))[:, None]}, groups=groups)
    for report in (check(root), given.check()):
        errors = [problem.message for problem in report.problems if problem.severity == "error"]
        assert [problem in message for message in errors] == [True] * bool(problem)


@given(st.lists(st.integers(0, 30), min_size=4, max_size=30), st.integers(0, 4).filter(lambda n_test: n_test != 1))
def test_what_a_check_passes_is_divided_by_the_default_split(groups: list[int], n_test: int) -> None:
    features = np.arange(len(groups) + n_test)[:, None]
    dataset = Given(features={"f": features}, groups=[*groups, *range(100, 100 + n_test)], n_test=n_test)
    with suppress(DataError):
        dataset._require_divisible(dataset.ties)
        dataset.split(SplitSpec())
    with suppress(SpecError):
        dataset.split(SplitSpec())
        dataset._require_divisible(dataset.ties)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=4, max_size=12), st.integers(0, 5))
def test_what_a_check_refuses_is_divided_by_no_split(rows: list[tuple[int, int]], seed: int) -> None:
    features, groups = (np.array(column) for column in zip(*rows, strict=True))
    dataset = Given(features={"f": features[:, None]}, groups=groups)
    try:
        dataset.split(SplitSpec(seed=seed, confirmation=0.0, validation=0.5))
    except SpecError:
        return
    dataset._require_sides(dataset.ties)


class _Kept(dict[str, dict[str, str]]):
    """What a keeper keeps, by the digest of its key."""

    def __call__(self, key: Mapping[str, Any], find: Callable[[], Mapping[str, str]]) -> Mapping[str, str]:
        name = digest.of_value(key)
        if name not in self:
            self[name] = dict(find())
        return self[name]


def _all_kinds(folder: Path) -> list[Path]:
    """Pictures that are equal in every way that they can be, and some that do not decode."""
    pixels = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    for number, values in enumerate(pixels):
        Image.fromarray(values).save(folder / f"{number}.png")
    (folder / "again").mkdir()
    _resaved(folder / "0.png", folder / "again")
    Image.new("RGB", (9, 5)).save(folder / "alone.png")
    for name in ("broken.png", "broken too.png"):
        (folder / name).write_bytes((folder / "1.png").read_bytes()[:60])
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_ties_are_the_same_where_pictures_were_compared_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, kept = _all_kinds(tmp_path), _Kept()
    expected = Given(images=paths).ties
    assert expected
    (first := Given(images=paths)).learn_ties(kept)
    monkeypatch.setattr(_ties, "open_pixels", forbid)
    moved = [shutil.copyfile(path, tmp_path / f"moved {number}") for number, path in enumerate(reversed(paths))]
    (again := Given(images=paths)).learn_ties(kept)
    (backwards := Given(images=moved)).learn_ties(kept)
    shuffled(again, 0).learn_ties(kept)
    for found in (first, again, shuffled(again, 0)):
        np.testing.assert_array_equal(found.ties.sets, expected.sets)
    assert _sizes_of(backwards.ties) == _sizes_of(expected)
    assert len(kept) == 1


def _sizes_of(ties: Ties) -> list[int]:
    return sorted(np.unique(ties.sets, return_counts=True)[1].tolist())


@pytest.mark.parametrize("change", ["content", "one more", "presentation"])
def test_pictures_that_changed_are_compared_again(change: str, tmp_path: Path) -> None:
    paths, kept = _all_kinds(tmp_path), _Kept()
    Given(images=paths).learn_ties(kept)
    if change == "content":
        Image.new("RGB", (16, 16)).save(tmp_path / "1.png")
        shutil.copyfile(tmp_path / "1.png", tmp_path / "2.png")
    if change == "one more":
        paths.append(tmp_path / "one more.png")
        Image.open(tmp_path / "alone.png").save(paths[-1], optimize=True, compress_level=0)
    how = {"background": "#ffffff"} if change == "presentation" else {}
    (found := Given(images=paths, **how)).learn_ties(kept)
    np.testing.assert_array_equal(found.ties.sets, Given(images=paths, **how).ties.sets)
    assert len(kept) == 2


def forbid(*_: Any) -> None:
    raise AssertionError("pictures must not be decoded")
