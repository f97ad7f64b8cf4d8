"""Moments against plain formulas, and what merging and slicing must keep."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from img2brain._arrays import is_tensor
from img2brain.errors import DataError, ShapeError
from img2brain.moments import Moments

Rows = tuple[NDArray[np.float64], NDArray[np.float64]]


@st.composite
def some_rows(draw: st.DrawFn, most: int = 12) -> Rows:
    """Rows of any scale and offset."""
    n, k, v = draw(st.integers(1, most)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale, offset = 10.0 ** draw(st.integers(-6, 6)), draw(st.sampled_from([0.0, -3.0, 1e4]))
    return scale * (rng.standard_normal((n, k)) + offset), scale * (rng.standard_normal((n, v)) + offset)


def same(one: Moments, other: Moments, rtol: float = 1e-9) -> None:
    assert one.n == other.n
    for field in fields(Moments)[1:]:
        a, b = getattr(one, field.name), getattr(other, field.name)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * float(np.abs(b).max()), err_msg=field.name)


def plainly(X: NDArray[Any], Y: NDArray[Any]) -> Moments:
    X, Y = X.astype(np.longdouble), Y.astype(np.longdouble)
    Xc, Yc = X - X.mean(axis=0), Y - Y.mean(axis=0)
    parts = X.mean(axis=0), Y.mean(axis=0), Xc.T @ Xc, Xc.T @ Yc, (Yc**2).sum(axis=0)
    return Moments(len(X), *(part.astype(np.float64) for part in parts))


@given(some_rows(), st.integers(1, 13), st.integers(1, 6))
def test_blocks_change_nothing(rows: Rows, n_rows: int, n_voxels: int) -> None:
    same(Moments.from_rows(*rows, block=(n_rows, n_voxels)), plainly(*rows))


@given(some_rows(), st.data())
def test_merging_equals_all_rows_at_once(rows: Rows, data: st.DataObject) -> None:
    X, Y = rows
    cut = data.draw(st.integers(1, len(X)))
    whole = Moments.from_rows(X, Y)
    if cut == len(X):
        same(whole.merge(Moments.from_rows(X, Y)), Moments.from_rows(np.tile(X, (2, 1)), np.tile(Y, (2, 1))))
    else:
        same(Moments.from_rows(X[:cut], Y[:cut]).merge(Moments.from_rows(X[cut:], Y[cut:])), whole)


@given(some_rows(), st.data())
def test_leading_features_and_ranges_of_voxels(rows: Rows, data: st.DataObject) -> None:
    X, Y = rows
    k = data.draw(st.integers(1, X.shape[1]))
    which = slice(*sorted(data.draw(st.lists(st.integers(0, Y.shape[1]), min_size=2, max_size=2, unique=True))))
    whole = Moments.from_rows(X, Y)
    part = whole.leading(k).voxels(which)
    same(part, Moments.from_rows(X[:, :k], Y[:, which]))
    assert np.shares_memory(part.xy, whole.xy)
    assert (part.n_features, part.n_voxels) == (k, which.stop - which.start)


def test_an_offset_costs_no_precision() -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((3000, 3)), rng.standard_normal((3000, 2))
    near, far = Moments.from_rows(X, Y), Moments.from_rows(X + 1e6, Y - 1e6)
    np.testing.assert_allclose(far.xy, near.xy, atol=1e-6)
    np.testing.assert_allclose(far.yy, near.yy, rtol=1e-9)


def test_a_drift_from_block_to_block_costs_no_precision() -> None:
    rng = np.random.default_rng(0)
    drift = np.repeat([0.0, 1e8], 50)[:, None]
    X, Y = rng.standard_normal((100, 2)) + drift, rng.standard_normal((100, 2)) + drift
    same(Moments.from_rows(X, Y, block=(10, 10)), plainly(X, Y), rtol=1e-14)


@pytest.mark.parametrize("value", [0.1, 1e8 / 3, -7e-30])
def test_a_constant_voxel_is_exactly_constant(value: float) -> None:
    X = np.random.default_rng(0).standard_normal((1000, 3))
    moments = Moments.from_rows(X, np.full((1000, 2), value), block=(64, 1))
    assert moments.yy.tolist() == [0.0, 0.0]
    assert not moments.xy.any()
    assert moments.mean_y.tolist() == [value, value]


@pytest.mark.parametrize("dtype", ["float16", "float32", "int16", "uint8", ">f4"])
def test_a_memory_map_of_any_type_is_read_as_float64(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((50, 3)), (50 + 20 * rng.random((50, 4))).astype(dtype)
    np.save(tmp_path / "Y.npy", Y)
    mapped = np.load(tmp_path / "Y.npy", mmap_mode="r", allow_pickle=False)
    moments = Moments.from_rows(X.astype(np.float32), mapped, block=(16, 3))
    same(moments, plainly(X.astype(np.float32), Y), rtol=1e-6)
    assert {getattr(moments, field.name).dtype for field in fields(Moments)[1:]} == {np.dtype(np.float64)}


@pytest.mark.parametrize("unit", [1e-36, 1e-13, 1.0, 1e13, 1e36])
def test_float32_rows_lose_little(unit: float) -> None:
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((3000, 5)) * [1e-30, 1e-3, 1.0, 1e3, 1e30] + 1e-30).astype(np.float32)
    Y = (unit * (X[:, [2]] + rng.standard_normal((3000, 9)) + 10)).astype(np.float32)
    Y[:, 4] = Y[0, 4]
    found, exact = Moments.from_rows(X, Y), plainly(X, Y)
    norms = np.sqrt(exact.xx.diagonal()[:, None] * exact.yy)
    np.testing.assert_allclose(found.xx, exact.xx, rtol=1e-12, atol=1e-12 * float(np.abs(exact.xx).min()))
    # Products of a block of 1024 rows are added up in float32, in an order that depends on the processor: roundings of
    # 6e-8 add up as a walk at random does, to 1e-7 .. 3e-7 where seen.
    np.testing.assert_allclose(
        found.xy / np.where(norms > 0, norms, 1.0), exact.xy / np.where(norms > 0, norms, 1.0), rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(found.yy, exact.yy, rtol=1e-6)
    np.testing.assert_allclose(found.mean_y, exact.mean_y, rtol=1e-6)
    assert found.yy[4] == 0.0
    assert not found.xy[:, 4].any()


@pytest.mark.parametrize(
    ("X", "Y"),
    [((3, 2), (4, 2)), ((3,), (3, 2)), ((3, 2), (3,)), ((0, 2), (0, 2)), ((3, 0), (3, 2)), ((3, 2), (3, 0))],
)
def test_shapes_that_do_not_fit_are_named(X: tuple[int, ...], Y: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as error:
        Moments.from_rows(np.ones(X), np.ones(Y))
    assert str(X) in str(error.value)
    assert str(Y) in str(error.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
@pytest.mark.parametrize("name", ["X", "Y"])
def test_values_that_are_not_finite_are_refused(bad: float, name: str) -> None:
    arrays = {"X": np.ones((9, 3)), "Y": np.ones((9, 3))}
    arrays[name][4, 2] = bad
    with pytest.raises(DataError, match=rf"^{name} must be finite.*column 2 \(1 in all\)"):
        Moments.from_rows(arrays["X"], arrays["Y"])


@given(some_rows(), st.data())
def test_rows_may_come_in_blocks(rows: Rows, data: st.DataObject) -> None:
    X, Y = rows
    cuts = sorted(data.draw(st.sets(st.integers(1, len(X)), max_size=3)) | {0, len(X)})
    blocks = [(X[i:j], Y[i:j]) for i, j in pairwise(cuts)]
    same(Moments.from_blocks(iter(blocks)), Moments.from_rows(X, Y))


def test_no_block_is_too_few() -> None:
    with pytest.raises(ShapeError, match="at least one block"):
        Moments.from_blocks([])


def test_moments_move_there_and_back(device: str) -> None:
    moments = Moments.from_rows(*np.random.default_rng(0).standard_normal((2, 30, 3)))
    there = moments.to(device)
    assert is_tensor(there.xy)
    assert not is_tensor(there.to("cpu").xy)
    same(there.to("cpu"), moments, rtol=0)
    merged = there.merge(there).leading(2).voxels(np.array([True, False, True]))
    same(merged.to("cpu"), moments.merge(moments).leading(2).voxels(np.array([True, False, True])))


def test_moments_that_differ_in_size_do_not_merge() -> None:
    moments = Moments.from_rows(np.ones((3, 2)), np.ones((3, 4)))
    with pytest.raises(ShapeError, match=r"\(2, 4\) and \(1, 4\)"):
        moments.merge(moments.leading(1))


@pytest.mark.parametrize("k", [0, 3, -1])
def test_leading_needs_features(k: int) -> None:
    with pytest.raises(ShapeError, match="from 1 to 2"):
        Moments.from_rows(np.ones((3, 2)), np.ones((3, 4))).leading(k)
