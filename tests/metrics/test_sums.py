"""Sums: those of parts add up to those of the whole, and those of moments are those of rows."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from img2brain.catalog import METRICS
from img2brain.metrics.base import FromSums, NeedsCeiling, Sums
from img2brain.moments import Moments
from img2brain.sums import is_constant

F64 = NDArray[np.float64]
NAMES = ("mean_y", "mean_p", "yy", "pp", "yp")


def by_sums() -> list[Any]:
    """Those of our metrics that follow from sums, told a ceiling where they ask for one."""
    found = (METRICS[name] for name in METRICS.names)
    bound = (item.with_ceiling(np.full(3, 0.5)) if isinstance(item, NeedsCeiling) else item for item in found)
    return [item for item in bound if isinstance(item, FromSums)]


def assert_near(one: Sums, other: Sums, tolerance: float = 1e-8) -> None:
    assert one.n == other.n
    for name in NAMES:
        scale = 1 + np.abs(getattr(one, name)).max()
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=tolerance * scale, err_msg=name)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.floats(-1e3, 1e3))
def test_parts_add_up_to_the_whole(seed: int, sizes: list[int], offset: float) -> None:
    rng = np.random.default_rng(seed)
    Y, P = rng.standard_normal((2, sum(sizes), 3))
    Y, P = Y + offset, 3 * P - offset
    edges = np.cumsum(sizes)[:-1]
    parts = [Sums.from_rows(*part) for part in zip(np.split(Y, edges), np.split(P, edges), strict=True)]
    together, whole = reduce(Sums.merge, parts), Sums.from_rows(Y, P)
    assert_near(together, whole)
    if sum(sizes) < 3:
        return
    for metric in by_sums():
        expected = metric.from_rows(Y, P)
        np.testing.assert_allclose(metric.from_sums(together), expected, rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 20), st.integers(1, 6), st.floats(-10, 10))
def test_moments_give_the_sums_of_rows(seed: int, n: int, k: int, intercept: float) -> None:
    rng = np.random.default_rng(seed)
    X, Y, coef = rng.standard_normal((n, k)) + 2, rng.standard_normal((n, 3)), rng.standard_normal((k, 3))
    P = X @ coef + intercept
    found = Sums.from_moments(coef, np.full(3, intercept), Moments.from_rows(X, Y))
    assert_near(found, Sums.from_rows(Y, P))
    for metric in by_sums():
        np.testing.assert_allclose(metric.from_sums(found), metric.from_rows(Y, P), rtol=1e-6, atol=1e-6)


def test_sums_are_those_of_their_definition() -> None:
    rng = np.random.default_rng(0)
    Y, P = rng.standard_normal((2, 30, 1200)) + 4
    found = Sums.from_rows(Y.astype(np.float32), P)
    y, p = Y.astype(np.float32) - found.mean_y, P - P.mean(axis=0)
    for name, expected in zip(NAMES, (Y.mean(axis=0), P.mean(axis=0), y * y, p * p, y * p), strict=True):
        total = expected if expected.ndim == 1 else expected.sum(axis=0)
        np.testing.assert_allclose(getattr(found, name), total, rtol=1e-5, atol=1e-5, err_msg=name)
    part = found.voxels(slice(1000, 1100))
    np.testing.assert_array_equal(part.yp, found.yp[1000:1100])
    assert part.n == 30


@pytest.mark.parametrize("constant", [0.1, 0.0, -1e6])
def test_a_constant_stays_constant_however_it_is_split(constant: float) -> None:
    Y = np.c_[np.full(9, constant), np.arange(9.0)]
    parts = [Sums.from_rows(Y[rows], Y[rows]) for rows in (slice(0, 2), slice(2, 9))]
    for found in (Sums.from_rows(Y, Y), parts[0].merge(parts[1])):
        assert found.yy[0] == found.pp[0] == 0.0 < found.yy[1]
    assert is_constant(Y).tolist() == [True, False]
    assert is_constant(np.c_[np.r_[np.nan, np.arange(8.0)], np.arange(9.0)]).tolist() == [True, False]
