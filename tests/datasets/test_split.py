from __future__ import annotations

import random
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from img2brain.datasets._split import Split, split_rows
from img2brain.datasets._ties import Ties
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


def untied_split(spec: SplitSpec, n_training: int) -> list[list[int]]:
    """Split as it was done before rows could be tied: a permutation that is cut."""
    rows = np.random.RandomState(224 if spec.preset else spec.seed).permutation(n_training)
    if spec.preset:
        train, validation = np.split(rows, [round(0.8 * n_training)])
        return [train.tolist(), validation.tolist(), []]
    n_confirmation = round(spec.confirmation * n_training)
    confirmation, development = np.split(rows, [n_confirmation])
    if isinstance(spec.folds, int):
        held_out = np.array_split(development, spec.folds)
        return [
            sorted(part.tolist()) for part in (development, [], confirmation, *held_out) if isinstance(part, np.ndarray)
        ]
    validation, train = np.split(development, [round(spec.validation * (n_training - n_confirmation))])
    return [sorted(part.tolist()) for part in (train, validation, confirmation)]


SEEDS, CONFIRMATIONS = st.integers(0, 2**32 - 1), st.just(0.0) | st.floats(0.15, 0.4)
SPECS = (
    st.just(PRESET)
    | st.builds(SplitSpec, seed=SEEDS, validation=st.floats(0.15, 0.5), confirmation=CONFIRMATIONS)
    | st.builds(SplitSpec, seed=SEEDS, folds=st.integers(2, 6), confirmation=CONFIRMATIONS)
)


@given(n_training=st.integers(20, 300), spec=SPECS)
def test_without_ties_rows_are_cut_from_one_permutation(n_training: int, spec: SplitSpec) -> None:
    alone = Ties.of(range(n_training), np.arange(n_training)[::-1])
    for split in (split_rows(spec, n_training), split_rows(spec, n_training, 0, alone)):
        found = [part.tolist() for part in (split.train, split.validation, split.confirmation, *split.held_out)]
        assert [part for part in found if part] == [part for part in untied_split(spec, n_training) if part]
        assert split.ties is None
        assert split.digest == split_rows(spec, n_training).digest
        for n_runs in (1, 3, 5):
            expected = np.array_split(np.arange(len(split.train)), n_runs)
            for one, other in zip(split.runs(split.train, n_runs), expected, strict=True):
                np.testing.assert_array_equal(one, other)


LABELS = st.integers(1, 200).flatmap(lambda most: st.lists(st.integers(0, most), min_size=20, max_size=120))


@given(contents=LABELS, chance=st.randoms(use_true_random=False), spec=SPECS, n_test=st.integers(0, 8))
def test_no_tied_set_is_on_two_sides(contents: list[int], chance: random.Random, spec: SplitSpec, n_test: int) -> None:
    groups = np.array([chance.randrange(20) if chance.random() < 0.1 else 100 + i for i in range(len(contents))])
    ties = Ties.of(contents, groups)
    split = None
    with suppress(SpecError):  # there are too few sets
        split = split_rows(spec, len(contents) - n_test, n_test, ties)
    event("refused" if split is None else "split")
    if split is None:
        return
    for key in (np.array(contents), groups):
        for fold in split.folds:
            parts = [set(key[rows].tolist()) for rows in (fold.train, fold.validation, split.confirmation)]
            assert len(set.union(*parts)) == sum(map(len, parts))
        for rows in (split.train, split.development):
            for n_runs in (1, 3, 5):
                runs = split.runs(rows, n_runs)
                held = [set(key[rows[places]].tolist()) for places in runs]
                assert len(set.union(*held)) == sum(map(len, held))
                assert sorted(np.concatenate(runs).tolist()) == list(range(len(rows)))
                sizes = np.unique(ties.sets[rows], return_counts=True)[1]
                assert len(runs) == min(n_runs, len(sizes)) or sizes.min() == 1
                assert len(runs) == 1 or min(map(len, runs)) > 1
    together = [split.train, split.validation, split.confirmation, *split.left_out.values()]
    assert sorted(np.concatenate(together).tolist()) == list(range(len(contents)))
    if not n_test and not spec.preset:
        assert not split.left_out


@given(n_sets=st.integers(2, 40), n_folds=st.integers(2, 6), chance=st.randoms(use_true_random=False))
def test_every_fold_gets_a_set_where_there_are_as_many(n_sets: int, n_folds: int, chance: random.Random) -> None:
    sizes = [chance.choice([2, 2, 3, chance.randrange(2, 60)]) for _ in range(n_sets)]
    groups = np.repeat(np.arange(n_sets), sizes)
    spec, ties = SplitSpec(folds=n_folds, confirmation=0.0), Ties.of(range(len(groups)), groups)
    if n_sets < n_folds:
        with pytest.raises(SpecError, match=rf"Each of the 'folds' must hold .*: \d+ at most\. Got {n_folds}\."):
            split_rows(spec, len(groups), 0, ties)
        return
    held_out = [len(rows) for rows in split_rows(spec, len(groups), 0, ties).held_out]
    assert len(held_out) == n_folds
    assert max(held_out) <= max(*sizes, 2 * len(groups) / n_folds)


@pytest.mark.parametrize("seed", range(8))
def test_shares_are_met_where_sets_allow_it(seed: int) -> None:
    ties = Ties.of(np.repeat(np.arange(40), 3).tolist())
    split = split_rows(SplitSpec(seed=seed, confirmation=0.2), 120, 0, ties)
    assert [len(split.confirmation), len(split.validation), len(split.train)] == [24, 18, 78]
    four = split_rows(SplitSpec(seed=seed, confirmation=0.1), 120, 0, Ties.of(range(120), np.repeat(np.arange(4), 30)))
    assert [len(four.confirmation), len(four.validation), len(four.train)] == [30, 30, 60]


def test_large_sets_confirm_as_often_as_small_ones() -> None:
    groups = np.concatenate([np.arange(100), np.repeat(np.arange(100, 110), 10)])
    ties = Ties.of(range(200), groups)
    splits = [split_rows(SplitSpec(seed=seed, confirmation=0.2), 200, 0, ties) for seed in range(200)]
    large = np.mean([len(np.unique(groups[split.confirmation][groups[split.confirmation] >= 100])) for split in splits])
    assert large == pytest.approx(2, abs=0.3)


def test_what_is_tied_to_other_sides_that_are_given_is_left_out_and_counted() -> None:
    contents = [*range(100), 3, 3, 4, 100, 101]
    split = split_rows(SplitSpec(), 100, 5, Ties.of(contents))
    assert split.left_out["confirmation"].tolist() == [100, 101, 102]
    assert split.confirmation.tolist() == [103, 104]
    plain = split_rows(PRESET, 50)
    contents = list(range(50))
    contents[plain.validation[2]] = contents[plain.train[7]]
    preset = split_rows(PRESET, 50, 0, Ties.of(contents))
    assert preset.left_out["validation"].tolist() == [plain.validation[2]]
    np.testing.assert_array_equal(preset.train, plain.train)
    np.testing.assert_array_equal(preset.validation, np.delete(plain.validation, 2))
    assert preset.digest != plain.digest


@pytest.mark.parametrize(
    ("spec", "n_training", "contents", "message"),
    [
        (
            SplitSpec(),
            60,
            [0] * 60,
            r"The 'train' part .* at least 2 rows that are not equal\. Got 0\. There are tied ",
        ),
        (SplitSpec(), 60, [0] * 50 + [1] * 10, r"'train' part .* Got 0\. There are tied 60 of 60 rows in 2 sets"),
        (
            SplitSpec(confirmation=0.05),
            60,
            [*range(20)] * 3,
            r"'confirmation' part .* Got 1\. .* 60 of 60 rows in 20 sets",
        ),
        (
            SplitSpec(),
            20,
            [*range(20)] * 2,
            r"'confirmation' .* Got 0; 20 are left out, tied to rows that are trained on",
        ),
    ],
)
def test_too_few_sets_are_refused(spec: SplitSpec, n_training: int, contents: list[int], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        split_rows(spec, n_training, len(contents) - n_training, Ties.of(contents))


def test_a_split_that_cuts_a_set_is_refused() -> None:
    with pytest.raises(SpecError, match="must keep tied rows on one side"):
        Split(_rows(0, 1), _rows(2, 3), _rows(), ties=Ties.of([0, 1, 1, 2]))


def test_confirmation_parts_have_names_and_an_order() -> None:
    unnamed = Split(_rows(0, 1), _rows(2, 3), _rows(4, 5, 6, 7))
    named = Split(
        unnamed.train, unnamed.validation, unnamed.confirmation, parts={"test": _rows(4, 5), "ood": _rows(6, 7)}
    )
    assert list(unnamed.parts) == ["confirmation"]
    assert unnamed.confirming("confirmation").tolist() == unnamed.confirming().tolist() == [4, 5, 6, 7]
    assert [(name, rows.tolist()) for name, rows in named.parts.items()] == [("test", [4, 5]), ("ood", [6, 7])]
    assert named.confirming("ood").tolist() == [6, 7]
    with pytest.raises(SpecError, match=r"There is no confirmation part 'odd'\. Did you mean 'ood'\?"):
        named.confirming("odd")


def test_names_of_parts_are_in_the_digest_and_no_names_are_not() -> None:
    rows = _rows(0, 1), _rows(2, 3), _rows(4, 5)
    unnamed = "3aa7d192"  # what stored studies know these rows by
    assert Split(*rows).digest == Split(*rows, parts={"confirmation": rows[2]}).digest
    assert Split(*rows).digest.startswith(unnamed)
    assert not Split(*rows, parts={"test": rows[2]}).digest.startswith(unnamed)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": [4, 5]}, "must not be called 'train'"),
        ({"Validation": [4, 5]}, "must not be called 'Validation'"),
        ({"../x": [4, 5]}, "letters, digits"),
        ({"test": [4], "TEST": [5]}, "differ by more than case. Got 'test' and 'TEST'"),
        ({"test": [5], "ood": [4]}, "one after another"),
        ({"test": [4]}, "one after another"),
    ],
)
def test_parts_without_a_name_of_their_own_are_refused(parts: dict[str, list[int]], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Split(_rows(0, 1), _rows(2, 3), _rows(4, 5), parts={name: _rows(*rows) for name, rows in parts.items()})
