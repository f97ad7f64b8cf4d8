"""Arrays of two libraries, and work in blocks."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from img2brain._arrays import (
    _Share,
    beside,
    empty,
    in_blocks,
    is_tensor,
    n_threads,
    namespace,
    to_device,
    to_numpy,
    use_threads,
)
from img2brain.errors import DeviceError


@pytest.mark.parametrize("array", [np.zeros(3), torch.zeros(3, dtype=torch.float64)])
def test_an_array_has_its_own_namespace(array: Any) -> None:
    assert namespace(array) is (torch if is_tensor(array) else np)
    for made in (empty((2, 1), array), beside(np.ones((2, 1), ">i2"), array)):
        assert type(made) is type(array)
        assert to_numpy(made).shape == (2, 1)
    assert to_numpy(empty((1,), array)).dtype == np.float64


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i2", "u1"])
def test_values_stay_what_they_are_from_one_library_to_the_other(dtype: str) -> None:
    values = np.array([1, 2, 250], dtype)
    values.setflags(write=False)
    np.testing.assert_array_equal(to_numpy(beside(values, torch.zeros(1))), values)


def test_a_device_that_is_not_there_is_an_error() -> None:
    assert type(to_device(torch.zeros(2), "cpu")) is np.ndarray
    assert is_tensor(to_device(np.zeros(2), "torch"))
    for name in ("cuda:99", "nowhere"):
        with pytest.raises(DeviceError, match=f"^The device '{name}' must be there for PyTorch. It says: [^\n]*\\.$"):
            to_device(np.zeros(2), name)


@pytest.mark.parametrize("array", [np.zeros(1), torch.zeros(1)])
def test_blocks_cover_everything_once_and_leave_the_threads_as_they_were(array: Any) -> None:
    def threads() -> list[int]:
        return [library["num_threads"] for library in threadpool_info()]

    before, seen = threads(), np.zeros(1000)
    in_blocks(lambda part: np.add(seen[part], 1, out=seen[part]), 1000, 7, array)
    assert (seen == 1).all()
    assert threads() == before


def test_blocks_within_blocks_are_done_one_after_another() -> None:
    seen = np.zeros((40, 40))
    names = []

    def inside(row: int) -> None:
        mine = threading.current_thread().name
        in_blocks(lambda part: names.append(threading.current_thread().name == mine), 40, 3, seen)
        seen[row] += 1

    in_blocks(lambda part: inside(part.start), 40, 1, seen)
    assert (seen == 1).all()
    assert all(names)


def test_an_error_in_a_block_comes_out() -> None:
    def fail(part: slice) -> None:
        raise ValueError(part.start)

    for _ in range(2):
        with pytest.raises(ValueError, match="0"):
            in_blocks(fail, 10, 5, np.zeros(1))


def test_a_process_works_on_as_many_threads_as_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("img2brain._arrays.n_cores", lambda: 6)
    assert n_threads() == 6
    monkeypatch.setattr(_Share, "n_threads", 0)  # and again after the test
    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.setattr("img2brain._arrays.threadpool_limits", told.append)
    use_threads(2)
    assert (n_threads(), told) == (2, [2, 2])
