from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from img2brain.datasets import base as _base
from img2brain.datasets.base import Dataset, Split, require_finite, shuffled, split_rows
from img2brain.datasets.folder import FolderDataset
from img2brain.errors import DataError
from img2brain.spec import SplitSpec

MakeFolder = Callable[..., Path]


@pytest.fixture
def dataset(make_folder: MakeFolder) -> FolderDataset:
    return FolderDataset.open(make_folder(training=20, test=5))


@pytest.fixture
def split(dataset: FolderDataset) -> Split:
    return dataset.split(SplitSpec())


def _all(dataset: Dataset) -> Any:
    return dataset._responses(np.arange(len(dataset.images)))


def test_development_gives_the_rows_asked_for(dataset: FolderDataset, split: Split) -> None:
    development = dataset.development(split)
    assert development.n_voxels == 4
    np.testing.assert_array_equal(development.rows, split.development)
    Y = development.responses(split.train[::-1])
    np.testing.assert_array_equal(Y, _all(dataset)[split.train[::-1]])
    assert Y.dtype == np.float32
    assert development.responses(split.train[:0]).shape == (0, 4)


def test_blocks_are_the_responses_and_guarded(
    dataset: FolderDataset, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_base, "_BLOCK_ROWS", 3)
    development, rows = dataset.development(split), split.train[::-1]
    parts = list(development.blocks(rows))
    assert {len(part) for part, _ in parts[:-1]} == {3}
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), rows)
    np.testing.assert_array_equal(np.concatenate([Y for _, Y in parts]), development.responses(rows))
    monkeypatch.setattr(_base, "_BLOCK_BYTES", 0)
    assert len(list(development.blocks(rows))) == len(rows)
    with pytest.raises(DataError, match="kept from the search"):
        list(development.blocks(np.r_[rows, split.confirmation]))


def test_confirmation_gives_float64(dataset: FolderDataset, split: Split) -> None:
    Y = dataset.confirmation(split)
    assert Y.dtype == np.float64
    np.testing.assert_array_equal(Y, _all(dataset)[20:])


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
    require_finite(FolderDataset.open(root))
    file = root / "testfMRI" / "test.npy"
    Y = np.load(file)
    Y[1, 2] = Y[2, 0] = bad
    np.save(file, Y)
    with pytest.raises(DataError, match=r"Got 2 .*first at '.*test\.npy', row 1, voxel 2\."):
        require_finite(FolderDataset.open(root))


def test_integers_are_finite(make_folder: MakeFolder) -> None:
    require_finite(FolderDataset.open(make_folder(dtype="i2")))
