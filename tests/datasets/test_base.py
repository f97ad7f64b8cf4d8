from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import DTypeLike, NDArray

from img2brain.datasets.base import Dataset, Split, require_sound, shuffled, split_rows
from img2brain.datasets.folder import FolderDataset
from img2brain.errors import DataError, Img2BrainError, SpecError
from img2brain.spec import SplitSpec

MakeFolder = Callable[..., Path]


@pytest.fixture
def dataset(make_folder: MakeFolder) -> FolderDataset:
    return FolderDataset.open(make_folder(training=20, test=5))


@pytest.fixture
def split(dataset: FolderDataset) -> Split:
    return dataset.split(SplitSpec())


def _all(dataset: Dataset) -> Any:
    return dataset.read_responses(np.arange(len(dataset.images)))


def test_development_gives_the_rows_asked_for(dataset: FolderDataset, split: Split) -> None:
    development = dataset.development(split)
    assert development.n_voxels == 4
    np.testing.assert_array_equal(development.rows, split.development)
    Y = development.responses(split.train[::-1])
    np.testing.assert_array_equal(Y, _all(dataset)[split.train[::-1]])
    assert Y.dtype == np.float32
    assert development.responses(split.train[:0]).shape == (0, 4)


def test_blocks_are_the_responses_and_guarded(dataset: FolderDataset, split: Split) -> None:
    development, rows = dataset.development(split), split.train[::-1]
    parts = list(development.blocks(rows, block_rows=3))
    assert {len(part) for part, _ in parts[:-1]} == {3}
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), rows)
    np.testing.assert_array_equal(np.concatenate([Y for _, Y in parts]), development.responses(rows))
    assert len(list(development.blocks(rows, block_bytes=0))) == len(rows)
    with pytest.raises(DataError, match="kept from the search"):
        list(development.blocks(np.r_[rows, split.confirmation]))


@pytest.fixture
def repeated(make_folder: MakeFolder) -> FolderDataset:
    """20 training images with 3 repeats, one of them missing for the first, 5 test images without; ceilings."""
    root = make_folder(training=20, test=5)
    repeats = np.repeat(np.load(root / "trainingfMRI" / "training.npy")[:, None], 3, axis=1)
    repeats[0, 2] = np.nan
    np.save(root / "trainingfMRI" / "training_repeats.npy", repeats)
    np.save(root / "ncsnr.npy", np.arange(4.0))
    np.save(root / "noise_ceiling.npy", np.arange(4.0) / 4)
    return FolderDataset.open(root)


def test_development_hands_out_repeats_counts_and_ceilings(repeated: FolderDataset) -> None:
    development = repeated.development(repeated.split(SplitSpec()))
    rows = np.array([7, 0, 7])
    repeats = development.repeats(rows)
    assert repeats is not None
    assert repeats.shape == (3, 3, 4)
    assert repeats.base is None
    np.testing.assert_array_equal(repeats[0, 1], development.responses(rows)[0])
    assert np.isnan(repeats[1, 2]).all()
    counts = development.counts(rows)
    assert counts is not None
    assert counts.tolist() == [3, 2, 3]
    for values, known in ((development.ncsnr, repeated.ncsnr), (development.noise_ceiling, repeated.noise_ceiling)):
        assert values is not None
        np.testing.assert_array_equal(values, known)
        with pytest.raises(ValueError, match="WRITEABLE"):
            values.setflags(write=True)


def test_repeats_are_read_into_the_array_that_is_made_for_them(repeated: FolderDataset) -> None:
    made: list[NDArray[Any]] = []

    def make(shape: tuple[int, ...], kind: DTypeLike) -> NDArray[Any]:
        made.append(np.zeros(shape, kind))
        return made[-1]

    development, rows = repeated.development(repeated.split(SplitSpec())), np.array([7, 0])
    repeats = development.repeats(rows, make)
    assert repeats is made[0]
    np.testing.assert_array_equal(repeats, development.repeats(rows))


def test_development_guards_repeats_and_counts_as_it_does_responses(repeated: FolderDataset) -> None:
    split = repeated.split(SplitSpec(confirmation=0.0))
    development = repeated.development(split)
    for read in (development.responses, development.repeats, development.counts):
        for rows in ([20], [0, 24], [-1], [25]):
            with pytest.raises(DataError, match="kept from the search"):
                read(np.array(rows))
    own = np.setdiff1d(np.arange(20), [3])  # a training row may be kept as well
    kept = repeated.development(Split(own[:10], own[10:], np.array([3])))
    for read in (kept.repeats, kept.counts):
        with pytest.raises(DataError, match="Row 3 must be a development row"):
            read(np.array([3]))


def test_without_repeats_there_are_none(dataset: FolderDataset, split: Split) -> None:
    development = dataset.development(split)
    assert development.repeats(split.train) is None
    assert development.counts(split.train) is None
    assert development.ncsnr is None
    assert development.noise_ceiling is None


class Small(Dataset):
    """Six training and three test rows of features, with two repeats each; `change` is what it does otherwise."""

    def __init__(self, **change: Any) -> None:
        self.values = np.arange(36.0).reshape(9, 4)
        facts: dict[str, Any] = {
            "name": "small",
            "n_voxels": 4,
            "features": {"a": np.arange(9.0)[:, None]},
            "n_test": 3,
        }
        super().__init__(**(facts | change))

    def read_responses(self, rows: Any) -> Any:
        return self.values[rows]

    def read_repeats(self, rows: Any) -> Any:
        return np.repeat(self.values[rows][:, None], 2, axis=1)


def test_a_small_class_is_a_whole_dataset() -> None:
    dataset = Small()
    assert (dataset.n_training, dataset.n_test, dataset.n_images, dataset.n_voxels) == (6, 3, 9, 4)
    assert (dataset.unit, dataset.subject, dataset.source, dataset.rois) == ("a.u.", "", "small", {})
    assert (dataset.images, dataset.test_images, dataset.ncsnr, dataset.noise_ceiling) == ((), (), None, None)
    assert dataset.where(7) == "row 7 of 'small'"
    counts = dataset._counts(np.array([8, 1]))
    assert counts is not None
    assert counts.tolist() == [2, 2]
    assert not Small.recognises(Path())
    report = dataset.check()
    assert ["the default split of a study" in problem.message for problem in report.problems] == [True]
    assert report.digest == Small().digest
    with pytest.raises(TypeError, match="abstract"):
        Dataset(name="none", n_voxels=1)  # type: ignore[abstract]


@pytest.mark.parametrize("row", [0, 8])
def test_the_digest_of_a_small_class_names_every_row(row: int) -> None:
    class InBlocks(Small):
        block_rows = 2

    before = Small().digest
    assert InBlocks().digest == before
    changed = InBlocks()
    changed.values[row, 1] += 1
    changed.__dict__.pop("digest", None)
    assert changed.digest != before


@pytest.mark.parametrize(
    "change",
    [
        {"rois": {"V1": [1]}}, {"ncsnr": np.ones(4)}, {"noise_ceiling": np.ones(4)}, {"n_test": 2},
        {"features": {"a": np.ones((9, 1))}}, {"features": {"b": np.arange(9.0)[:, None]}},
    ],
)  # fmt: skip
def test_the_digest_of_a_small_class_names_its_facts(change: dict[str, Any]) -> None:
    assert Small(**change).digest != Small().digest
    assert Small(**change, unit="other", subject="other", name="other").digest == Small(**change).digest


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"name": "../x"}, r"A dataset: 'name' must start with a letter or digit.*Got '\.\./x'"),
        ({"unit": "a\nb"}, "'unit' must be one line of printable text"),
        ({"n_voxels": 0}, "'n_voxels' of 'small' must be >= 1. Got 0"),
        ({"n_test": 9}, "'n_training' of 'small' must be >= 1. Got 0"),
        ({"n_test": -1}, "'n_test' of 'small' must be >= 0. Got -1"),
        ({"images": ["a.png"]}, "'n_training'"),
        ({"images": ["a.png"], "n_training": 6}, "'images' of 'small' must be 9 or none. Got 1"),
        ({"features": {"a": np.ones((9, 1)), "b": np.ones((8, 1))}}, r"'b' of 'small' must have shape \(9, features\)"),
        ({"features": {"a": np.full((9, 1), np.nan)}}, "The features 'a' of 'small' must be finite numbers"),
        ({"rois": {"": [0]}}, "The rois of 'small' must give each region a name. Got ''"),
        ({"rois": {"V1": [4]}}, "'V1' of 'small' must hold voxels of 0..3. Got 4"),
        ({"rois": {"V1": []}}, "Got none"),
        ({"rois": {"V1": [True, False]}}, "must be a mask of 4 voxels. Got 2"),
        ({"rois": {"V1": [0.5]}}, "must be a list of voxel indices"),
        ({"rois": {"V1": [1, 1]}}, "must hold each voxel once"),
        ({"ncsnr": np.ones(3)}, r"The ncsnr of 'small' must have shape \(4,\).*Got \(3,\)"),
        ({"ncsnr": ["a"] * 4}, "must hold numbers"),
        ({"noise_ceiling": np.full(4, 60)}, "The noise_ceiling of 'small' must be in 0..1 .*Got 60.0 for voxel 0"),
    ],
)
def test_facts_that_do_not_fit_are_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(Img2BrainError, match=match) as caught:
        Small(**change)
    assert "\n" not in str(caught.value)


MASKED = np.ma.array(np.full(9, -999.0), mask=np.arange(9) == 3)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"features": {"a": [[1.0, 2.0], [3.0]] * 5}}, "The features 'a' of 'small' must be an array.*Got list"),
        ({"features": {"a": torch.ones(9, 1, requires_grad=True)}}, "The features 'a' .*Got Tensor: Can't call numpy"),
        ({"features": {"a": torch.ones(9, 1).bfloat16()}}, "The features 'a' .*Got Tensor: Got unsupported"),
        ({"features": {"a": 1.0}}, "The 'n_training' of 'small' must be >= 1"),
        ({"features": {"a": MASKED[:, None]}}, "The features 'a' of 'small' must be finite numbers"),
        ({"groups": [[1], [2, 3]] * 5}, "The groups of 'small' must be an array"),
        ({"groups": MASKED.astype(int)}, "The groups of 'small' must not be masked"),
        ({"ncsnr": [[1], [2, 3]]}, "The ncsnr of 'small' must be an array"),
        ({"rois": {"V1": np.ma.array([1, 2], mask=[True, False])}}, "The region 'V1' of 'small' must not be masked"),
    ],
)
def test_what_is_no_array_or_masked_is_refused_on_one_line(change: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        Small(**change)
    assert "\n" not in str(caught.value)


def test_ceilings_that_are_masked_are_not_known() -> None:
    dataset = Small(ncsnr=np.abs(MASKED[2:6]), noise_ceiling=np.ma.array([0.5] * 4, mask=[True, False, False, False]))
    assert np.isnan(np.array([dataset.ncsnr, dataset.noise_ceiling])).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]


def test_masked_responses_and_repeats_are_missing() -> None:
    dataset = Small()
    dataset.values = np.ma.array(dataset.values, mask=np.arange(36).reshape(9, 4) == 6)
    with pytest.raises(DataError, match=r"must be finite\. Got 1 NaN .*row 1 of 'small', voxel 2"):
        require_sound(dataset)
    repeats = dataset._repeats(np.arange(9))
    assert repeats is not None
    assert np.argwhere(np.isnan(repeats)).tolist() == [[1, 0, 2], [1, 1, 2]]


@pytest.mark.parametrize("largest", [2**53 + 1, -(2**53) - 1])
def test_integers_that_would_be_rounded_are_refused(make_folder: MakeFolder, largest: int) -> None:
    dataset, root = Small(), make_folder()
    dataset.values = np.where(np.arange(36).reshape(9, 4) == 6, largest, 0)
    file = root / "trainingfMRI" / "training.npy"
    np.save(file, np.where(np.arange(24).reshape(6, 4) == 6, largest, np.arange(24).reshape(6, 4)))
    for found in (dataset, FolderDataset.open(root)):
        with pytest.raises(DataError, match=r"must be whole numbers up to 2\^53.* Got 9007199254740993"):
            require_sound(found)
    assert "2^53" in FolderDataset.check_folder(root).problems[0].message


def test_regions_come_sorted_from_indices_or_a_mask() -> None:
    rois = Small(rois={"V1": [2, 0], "V4": [False, True, False, True]}).rois
    assert {name: voxels.tolist() for name, voxels in rois.items()} == {"V1": [0, 2], "V4": [1, 3]}


@pytest.mark.parametrize(
    ("method", "returned", "match"),
    [
        ("read_responses", np.zeros((2, 5)), r"The responses of 'small' must have shape \(2, 4\)\. Got \(2, 5\)"),
        ("read_responses", np.zeros((2, 4), complex), "must be floats .* Got complex128"),
        ("read_responses", None, r"must have shape \(2, 4\)\. Got \(\)"),
        ("read_repeats", np.zeros((2, 4)), r"The repeats of 'small' must have shape \(2, any, 4\)\. Got \(2, 4\)"),
        ("read_counts", np.zeros(2), "The counts of 'small' must be 2 whole numbers >= 0"),
        ("read_counts", np.array([1, -1]), "whole numbers >= 0"),
        ("read_counts", np.ones(3, int), "whole numbers >= 0"),
    ],
)
def test_what_is_read_must_fit(method: str, returned: Any, match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Small, method, lambda dataset, rows: returned)
    development = Small().development(Split(np.arange(4), np.array([4, 5]), np.array([8])))
    with pytest.raises(DataError, match=match):
        getattr(development, method.removeprefix("read_"))(np.array([0, 5]))


def test_integers_become_floats_and_a_view_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = np.ones((9, 4), dtype="i2")
    monkeypatch.setattr(Small, "read_responses", lambda dataset, rows: kept[: len(rows)])
    Y = Small()._responses(np.arange(3))
    assert Y.dtype == np.float32
    kept = np.ones((9, 4))
    Y = Small()._responses(np.arange(3))
    Y[:] = 5
    assert (kept == 1).all()


def test_confirmation_gives_float64(dataset: FolderDataset, split: Split) -> None:
    Y = dataset.confirmation(split)
    assert Y.dtype == np.float64
    np.testing.assert_array_equal(Y, _all(dataset)[20:])


def test_confirmation_reads_one_part_or_all(dataset: FolderDataset, split: Split) -> None:
    rows = split.confirmation
    named = Split(split.train, split.validation, rows, parts={"near": rows[:2], "far": rows[2:]})
    whole = dataset.confirmation(named)
    np.testing.assert_array_equal(np.concatenate([dataset.confirmation(named, part) for part in named.parts]), whole)
    np.testing.assert_array_equal(dataset.confirmation(split), whole)
    with pytest.raises(SpecError, match="no confirmation part 'far-off'"):
        dataset.confirmation(named, "far-off")


@pytest.mark.parametrize("rows", [[20], [0, 24], [-1], [-5], [25], [0.0], [[0]], [True] * 25])
def test_development_refuses_every_other_row(dataset: FolderDataset, split: Split, rows: list[Any]) -> None:
    with pytest.raises(DataError):
        dataset.development(split).responses(np.array(rows))


def test_the_guard_cannot_be_widened(dataset: FolderDataset, split: Split) -> None:
    development = dataset.development(split)
    kept = split.confirmation
    with pytest.raises(ValueError, match="read-only"):
        development.rows[0] = kept[0]
    with pytest.raises(ValueError, match="WRITEABLE"):
        development.rows.setflags(write=True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        development.rows = kept  # type: ignore[misc]
    with pytest.raises(DataError, match="kept from the search"):
        dataclasses.replace(development, rows=kept).responses(kept)
    split.development[:2] = kept[:2]
    with pytest.raises(DataError, match="kept from the search"):
        development.responses(kept[:2])


def test_rows_that_change_while_they_are_read_are_no_way_around(dataset: FolderDataset, split: Split) -> None:
    kept = int(split.confirmation[0])

    class Sly(np.ndarray):
        def tolist(self) -> Any:
            return [0]

        def astype(self, *args: Any, **kwargs: Any) -> Any:
            return np.array([kept])

    with pytest.raises(DataError, match="kept from the search"):
        dataset.development(split).responses(np.array([kept]).view(Sly))


def test_responses_are_new_numbers_without_a_way_to_the_file(dataset: FolderDataset, split: Split) -> None:
    Y = dataset.development(split).responses(split.train)
    assert type(Y) is np.ndarray
    assert Y.base is None
    Y[:] = -1
    assert (_all(dataset) >= 0).all()


def test_a_split_of_another_dataset_is_refused(dataset: FolderDataset) -> None:
    with pytest.raises(DataError, match=r"must lie in 0..24"):
        dataset.development(split_rows(SplitSpec(), 100))


def test_shuffled_permutes_rows_within_training_and_within_test(dataset: FolderDataset) -> None:
    control = shuffled(dataset, seed=3)
    Y, permuted = _all(dataset), _all(control)
    for part in (slice(0, 20), slice(20, 25)):
        assert not np.array_equal(permuted[part], Y[part])
        np.testing.assert_array_equal(np.sort(permuted[part], axis=0), Y[part])
    assert control.name == "data-shuffled"
    assert control.images == dataset.images
    assert (control.n_training, control.n_test, control.n_voxels) == (20, 5, 4)
    digests = {dataset.digest, control.digest, shuffled(dataset, seed=4).digest}
    assert len(digests) == 3
    assert control.digest == shuffled(dataset, seed=3).digest


def test_shuffled_guards_its_rows_and_says_where_they_are(dataset: FolderDataset, split: Split) -> None:
    control = shuffled(dataset, seed=3)
    with pytest.raises(DataError, match="kept from the search"):
        control.development(split).responses(split.confirmation)
    row = int(np.flatnonzero((_all(control) == _all(dataset)[22]).all(axis=1))[0])
    assert control.where(row) == dataset.where(22)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_responses_that_are_not_finite_are_refused(make_folder: MakeFolder, bad: float) -> None:
    root = make_folder()
    require_sound(FolderDataset.open(root))
    file = root / "testfMRI" / "test.npy"
    Y = np.load(file)
    Y[1, 2] = Y[2, 0] = bad
    np.save(file, Y)
    with pytest.raises(DataError, match=r"Got 2 .*first at '.*test\.npy', row 1, voxel 2\."):
        require_sound(FolderDataset.open(root))


def test_integers_are_finite(make_folder: MakeFolder) -> None:
    require_sound(FolderDataset.open(make_folder(dtype="i2")))
