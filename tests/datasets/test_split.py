from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from img2brain.datasets._split import Split, split_rows
from img2brain.errors import SpecError
from img2brain.spec import SplitSpec, parse

PRESET = SplitSpec(preset="img2brain-2023")


def _rows(*rows: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.array(rows, dtype=np.intp)


def test_the_preset_gives_the_predecessors_rows_in_its_order() -> None:
    split = split_rows(PRESET, 8857)
    state = np.random.get_state()
    np.random.seed(224)
    expected = np.arange(8857)
    np.random.shuffle(expected)
    np.random.set_state(state)
    np.testing.assert_array_equal(split.train, expected[:7086])
    np.testing.assert_array_equal(split.validation, expected[7086:])
    assert len(split.validation) == 1771
    assert len(split.confirmation) == 0


@given(
    n_training=st.integers(20, 300),
    n_test=st.sampled_from([0, 2, 40]),
    seed=st.integers(0, 2**32 - 1),
    validation=st.floats(0.15, 0.7),
    confirmation=st.just(0.0) | st.floats(0.15, 0.5),
)
def test_every_row_is_in_one_part(
    n_training: int, n_test: int, seed: int, validation: float, confirmation: float
) -> None:
    spec = SplitSpec(seed=seed, validation=validation, confirmation=confirmation)
    split = split_rows(spec, n_training, n_test)
    together = np.concatenate([split.train, split.validation, split.confirmation])
    np.testing.assert_array_equal(np.sort(together), np.arange(n_training + n_test))
    np.testing.assert_array_equal(split.development, np.sort(np.concatenate([split.train, split.validation])))
    n_confirmation = n_test or round(confirmation * n_training)
    assert len(split.confirmation) == n_confirmation
    assert len(split.validation) == round(validation * (n_training + n_test - n_confirmation))


@pytest.mark.parametrize("spec", [PRESET, SplitSpec(confirmation=0.0), SplitSpec(confirmation=0.5)])
def test_test_responses_confirm_and_nothing_else_does(spec: SplitSpec) -> None:
    split = split_rows(spec, 50, 10)
    assert split.confirmation.tolist() == list(range(50, 60))
    assert len(split.development) == 50


def test_the_seed_decides() -> None:
    first, again, other = (split_rows(SplitSpec(seed=seed), 100) for seed in (1, 1, 2))
    assert first.digest == again.digest != other.digest


def test_the_order_of_rows_is_in_the_digest() -> None:
    one = Split(_rows(0, 1), _rows(2, 3), _rows())
    assert one.digest != Split(_rows(1, 0), _rows(2, 3), _rows()).digest
    assert one.digest != Split(_rows(2, 3), _rows(0, 1), _rows()).digest


@pytest.mark.parametrize(
    ("spec", "n_training", "n_test", "part"),
    [
        (SplitSpec(validation=0.9, confirmation=0), 10, 0, "train"),
        (SplitSpec(validation=0.1, confirmation=0), 10, 0, "validation"),
        (SplitSpec(confirmation=0.1), 10, 0, "confirmation"),
        (SplitSpec(confirmation=0), 100, 1, "confirmation"),
        (PRESET, 4, 0, "validation"),
    ],
)
def test_a_part_with_too_few_rows_is_refused(spec: SplitSpec, n_training: int, n_test: int, part: str) -> None:
    with pytest.raises(SpecError, match=f"The '{part}' part .* at least 2 rows. Got 1"):
        split_rows(spec, n_training, n_test)


def test_a_row_in_two_parts_is_refused() -> None:
    with pytest.raises(SpecError, match="Got row 1 twice"):
        Split(_rows(0, 1), _rows(2, 3), _rows(1))


def test_folds_take_turns() -> None:
    split = split_rows(SplitSpec(seed=1, folds=3, confirmation=0.1), 40)
    assert len(split.confirmation) == 4
    assert not len(split.validation)
    assert [len(fold.validation) for fold in split.folds] == [12, 12, 12]
    for fold in split.folds:
        assert sorted([*fold.train, *fold.validation]) == split.development.tolist()
    assert split.digest != split_rows(SplitSpec(seed=1, folds=4, confirmation=0.1), 40).digest


def test_folds_leave_no_place_for_a_validation_part() -> None:
    with pytest.raises(SpecError, match="leave out 'validation'"):
        parse(SplitSpec, {"folds": 3, "validation": 0.2}, "split")
    with pytest.raises(SpecError, match=r"'folds' must hold at least 2 rows: 5 at most\. Got 9"):
        split_rows(SplitSpec(folds=9, confirmation=0.0), 10)
