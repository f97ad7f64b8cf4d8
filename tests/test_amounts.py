"""Amounts in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img2brain.amounts import counted, size_text

_BYTES = {"byte": 1, "bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


@given(st.integers(0, 10**15))
def test_a_size_is_told_in_the_unit_in_which_it_is_at_least_one(n_bytes: int) -> None:
    value, unit = size_text(n_bytes).split()
    assert float(value) * _BYTES[unit] == pytest.approx(n_bytes, rel=0.0051)
    assert n_bytes == 0 or float(value) >= 1
    assert float(value) <= 1000


@pytest.mark.parametrize(("number", "told"), [(0, "0 layers"), (1, "1 layer"), (2, "2 layers"), (1000, "1000 layers")])
def test_only_one_is_singular(number: int, told: str) -> None:
    assert counted(number, "layer") == told
