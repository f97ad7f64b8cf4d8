from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.lib.format import open_memmap

from img2brain.datasets import _responses as module
from img2brain.datasets._responses import Scan, float_type, open_array
from img2brain.errors import DataError, ShapeError

AXES = ("images", "voxels")
NO_LONG_DOUBLE = pytest.mark.skipif(np.dtype("g").itemsize == 8, reason="long doubles are doubles here")


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">i2", "u1", "i8", "u8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_are_memory_mapped(tmp_path: Path, dtype: str, order: Any) -> None:
    values = np.arange(6).reshape(2, 3).astype(dtype, order=order)
    np.save(tmp_path / "a.npy", values)
    array = open_array(tmp_path / "a.npy", AXES)
    assert isinstance(array, np.memmap)
    assert not array.flags.writeable
    np.testing.assert_array_equal(array, values)
    assert float_type(array).isnative


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.ones((2, 3), bool), "Got bool"),
        (np.ones((2, 3), complex), "Got complex128"),
        (np.full((2, 3), "a"), "Got <U1"),
        pytest.param(np.ones((2, 3), np.longdouble), "Got float", marks=NO_LONG_DOUBLE),
        (np.zeros((2, 3), [("a", "f4")]), "Got .*'a'"),
        (np.zeros((2, 3), "M8[s]"), "Got datetime64"),
    ],
)
def test_other_dtypes_are_refused(tmp_path: Path, values: Any, match: str) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(DataError, match=match):
        open_array(tmp_path / "a.npy", AXES)


class _Trap:
    def __reduce__(self) -> Any:
        return pytest.fail, ("a file of others was unpickled",)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[_Trap()]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="Python objects"):
        open_array(tmp_path / "a.npy", AXES)


@pytest.mark.parametrize("shape", [(6,), (1, 2, 3), (), (0, 3), (3, 0)])
def test_other_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with pytest.raises(DataError, match=r"a\.npy"):
        open_array(tmp_path / "a.npy", AXES)


def test_the_shape_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(6))
    with pytest.raises(ShapeError, match=r"must have shape \(images, voxels\)\. Got \(6,\)\."):
        open_array(tmp_path / "a.npy", AXES)


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "whole.npy", np.zeros((50, 30)))
    whole = (tmp_path / "whole.npy").read_bytes()
    np.savez(tmp_path / "zip.npz", a=np.zeros(3))
    zipped = (tmp_path / "zip.npz").read_bytes()
    negative = whole.replace(b"(50, 30), ", b"(-1, 30), ")
    endless = whole.replace(b"(50, 30), }" + 38 * b" ", b"(4611686018427387904, 4611686018427387904)}" + 6 * b" ")
    unclosed = whole.replace(b"(50, 30), }", b"(50, 30),  ")
    assert len(endless) == len(whole)
    assert endless != whole
    for content in (b"", b"text", whole[:-8], whole[:40], zipped, negative, endless, unclosed, b"\x80\x04\x95\x00"):
        path = tmp_path / "a.npy"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npy") as caught:
            open_array(path, AXES)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="must exist"):
        open_array(tmp_path / "absent.npy", AXES)


@given(
    values=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.sampled_from([0.0, 1.0, 2.0, np.nan, np.inf]),
    ),
    block=st.integers(1, 300),
)
def test_a_scan_in_blocks_finds_what_a_look_at_the_whole_finds(values: Any, block: int) -> None:
    scan = Scan(lambda start, stop: values[start:stop], values.shape, block_bytes=block)
    bad = ~np.isfinite(values)
    assert scan.n_bad == bad.sum()
    assert scan.first_bad == (tuple(np.argwhere(bad)[0]) if bad.any() else None)
    constant = [v for v in range(values.shape[1]) if (values[:, v] == values[0, v]).all()]
    assert scan.constant.tolist() == constant


def test_a_folder_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"' must be a \.npy file\. It is a folder\."):
        open_array(tmp_path, AXES)


def test_a_header_that_python_fails_to_parse_once_is_parsed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3)))
    parsed, failures = open_memmap, [SystemError("AST constructor recursion depth mismatch")]

    def fails_once(*args: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return parsed(*args, **options)

    monkeypatch.setattr(module, "open_memmap", fails_once)
    assert open_array(tmp_path / "a.npy", ("images", "voxels")).shape == (2, 3)
