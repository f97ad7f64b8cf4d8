"""Arrays that are mapped to files, and what of them stays in memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from img2brain._mapped import Make, release, scratch_array
from img2brain.confirm import confirmation_rows
from img2brain.datasets._development import gathered
from img2brain.errors import RecordError
from img2brain.home import Home
from img2brain.store import Store
from img2brain.study.setting import make_ready
from img2brain.tracking._store import _read_array

if TYPE_CHECKING:
    from tests.conftest import Finished

MIB = 2**20

_GIVEN = """
import resource, sys
from pathlib import Path
import numpy as np
from img2brain.datasets.folder import FolderDataset
from img2brain.features.given import GivenFeatures
from img2brain.spec import BackboneSpec
from img2brain.store import Store

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

folder = Path(sys.argv[1])
rows = np.arange(10_000)
before = peak()
dataset = FolderDataset.open(folder)
dataset.digest, dataset.ties
given = GivenFeatures(BackboneSpec(name="given", weights="given"), dataset.features, Store(folder / "cache"), rows, 5)
given.extract()
print(peak() - before)
"""


def test_a_small_array_is_in_memory_and_a_large_one_in_a_file_that_has_no_name(tmp_path: Path) -> None:
    small = scratch_array(tmp_path, (10, 10), np.float32)
    large = scratch_array(tmp_path, (1000, 10), np.float64, large_bytes=1000)
    assert type(small) is np.ndarray
    assert isinstance(large, np.memmap)
    assert not list(tmp_path.iterdir())
    large[5] = 7
    release(large)
    assert large[5].tolist() == [7] * 10
    assert not large[6:].any()


def test_a_disk_without_room_for_an_array_says_so_before_a_value_is_written(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        scratch_array(small_disk, (1 << 10, 1 << 12), np.float32, large_bytes=0)


def test_a_store_has_room_for_large_arrays(tmp_path: Path) -> None:
    assert Store(tmp_path).array((2, 3), np.float32).shape == (2, 3)


@pytest.mark.slow
def test_given_features_are_held_by_blocks_and_never_whole(tmp_path: Path) -> None:
    """Features of 1.2 GB are opened, looked at, digested and reduced by a process that takes a part of that."""
    n_images, n_features = 12_000, 25_000
    for part in ("trainingFeatures", "trainingfMRI"):
        (tmp_path / part).mkdir()
    random = np.random.default_rng(0)
    features = np.lib.format.open_memmap(
        tmp_path / "trainingFeatures" / "wide.npy", "w+", np.float32, (n_images, n_features)
    )
    for row in features:
        row[:] = random.standard_normal(n_features, np.float32)
    features.flush()
    np.save(tmp_path / "trainingfMRI" / "training.npy", random.standard_normal((n_images, 3)))
    command = [sys.executable, "-c", _GIVEN, str(tmp_path)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(found.stdout) < 0.9 * features.nbytes / MIB


@pytest.mark.parametrize("large_bytes", [0, 1 << 30])
def test_an_artifact_is_the_same_where_it_is_mapped_and_a_cut_one_is_refused(large_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / "predictions.npy"
    np.save(path, np.arange(2000.0).reshape(20, 100))
    found = _read_array(path, large_bytes)
    assert isinstance(found, np.memmap) == (large_bytes == 0)
    assert found[:, 7].tolist() == list(range(7, 2000, 100))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RecordError, match="must be a complete"):
        _read_array(path, large_bytes)


def _in_files(folder: Path) -> Make:
    return partial(scratch_array, folder, large_bytes=0)


def _blocks_of(values: NDArray[Any], widths: tuple[int, ...] = ()) -> Callable[[NDArray[np.intp]], Any]:
    """Read rows of values as a layout does; of repeats no more at a time than the rows that are asked for have."""

    def read(rows: NDArray[np.intp]) -> Any:
        found = values[rows]
        return found[:, : max(widths[row] for row in rows)] if widths else found

    return read


def test_what_is_gathered_in_blocks_is_what_was_read_whole(tmp_path: Path) -> None:
    responses = np.random.default_rng(0).standard_normal((10, 20)).astype(np.float32)
    rows = np.array([3, 1, 9, 4, 0, 7])
    found = gathered(_blocks_of(responses), rows, 20, _in_files(tmp_path), block_rows=2)
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, responses[rows])
    assert gathered(_blocks_of(responses), rows, 20, np.zeros, np.float64, 2).dtype == np.float64


def test_repeats_of_blocks_that_differ_are_those_of_the_whole(tmp_path: Path) -> None:
    widths = (1, 1, 2, 2, 3, 1)
    repeats = np.full((6, 3, 20), np.nan, np.float32)
    for row, width in enumerate(widths):
        repeats[row, :width] = row
    rows = np.arange(6)
    found = gathered(_blocks_of(repeats, widths), rows, 20, _in_files(tmp_path), block_rows=2)
    np.testing.assert_array_equal(found, repeats)
    assert gathered(lambda _: None, rows, 20, _in_files(tmp_path)) is None


def test_what_is_said_of_a_model_does_not_depend_on_where_its_arrays_are(finished: Finished, tmp_path: Path) -> None:
    setting = make_ready(finished.spec.model_copy(update={"metrics": ("spearman", "pearson")}), Home(finished.home))
    member, make = setting.first, _in_files(tmp_path)
    best = finished.outcome.best
    assert best is not None
    here, there = (member.evaluator(1, each).evaluate(best.spec) for each in (np.zeros, make))
    np.testing.assert_array_equal(here.metrics["spearman"].accuracy, there.metrics["spearman"].accuracy)
    publishers = [member.publisher(None, each) for each in (np.zeros, make)]
    _, predictions = publishers[0].refit(best.spec, member.bank(best.spec))
    of_each = [
        confirmation_rows(member.dataset, member.split, member.metrics, None, each).report(predictions)
        for each in (np.zeros, make)
    ]
    for name, part in of_each[0].items():
        for key, array in part.arrays.items():
            np.testing.assert_array_equal(array, of_each[1][name].arrays[key], err_msg=key)
