"""All tests of properties with examples that they do not have otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[1]
N_SEEDS = 20
PROPERTIES = ("-m", "hypothesis and not slow", "-p", "no:cacheprovider", "--hypothesis-profile=random")


def drawn() -> list[int]:
    """Return the examples that a test of a property has."""
    found: list[int] = []

    @given(st.integers())
    def note(number: int) -> None:
        found.append(number)

    note()
    return found


def test_examples_are_the_same_each_time() -> None:
    first = drawn()
    assert len(set(first)) > 20
    assert drawn() == first


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(N_SEEDS))
def test_properties_hold_for_other_examples(seed: int) -> None:
    words = [sys.executable, "-m", "pytest", *PROPERTIES, f"--hypothesis-seed={seed}"]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
