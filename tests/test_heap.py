from __future__ import annotations

import subprocess
import sys

import pytest

from img2brain._heap import keep_freed_memory

pytestmark = pytest.mark.skipif(not keep_freed_memory(), reason="the C library cannot be told to keep memory")

PROGRAM = """
import resource
import sys

import numpy as np

from img2brain._heap import keep_freed_memory

n_bytes, is_kept = int(sys.argv[1]), sys.argv[2] == "kept"
if is_kept:
    keep_freed_memory()
np.ones(n_bytes, np.uint8)  # comes and goes, and others of its size come
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    np.ones(n_bytes, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_cleared(n_bytes: int, how: str) -> int:
    """Count the pages, small or large, that the system made for 40 arrays of this size, one after the other."""
    program = [sys.executable, "-c", PROGRAM, str(n_bytes), how]
    return int(subprocess.run(program, check=True, capture_output=True, text=True).stdout)


def test_arrays_take_the_place_of_others() -> None:
    assert pages_cleared(40 << 20, "kept") < 100
    assert pages_cleared(40 << 20, "as it comes") > 1000


def test_the_largest_arrays_go_back() -> None:
    assert pages_cleared(400 << 20, "kept") > 1000
