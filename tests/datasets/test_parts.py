"""Splits that are given, by a file, a column, a layout or numbers of rows, and what is cut from them."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from img2brain.datasets._parts import as_numbers
from img2brain.datasets._split import Split
from img2brain.datasets.base import Dataset
from img2brain.errors import SpecError
from img2brain.spec import SplitSpec, parse
from tests.datasets.miniatures.base import write_picture


class Lab(Dataset):
    """Rows with ids and columns, and a feature that differs."""

    def __init__(self, ids: Sequence[str], n_test: int = 0, equal: Sequence[int] | None = None, **facts: Any) -> None:
        matrix = np.array(range(len(ids)) if equal is None else equal, dtype=float)[:, None]
        super().__init__(name="lab", n_voxels=1, n_test=n_test, features={"x": matrix}, stimuli=ids, **facts)

    def read_responses(self, rows: Any) -> Any:
        return np.asarray(rows, dtype=float)[:, None]


IDS = [f"s{number:02}" for number in range(20)]
PARTS = ["train"] * 10 + ["validation"] * 4 + ["test"] * 3 + ["ood"] * 3


def told(split: Split) -> dict[str, list[int]]:
    parts = {"train": split.train, "validation": split.validation, **split.parts}
    return {name: rows.tolist() for name, rows in parts.items()}


def write(path: Path, parts: Mapping[str, str], head: str = "stimulus_id,part") -> Path:
    """Write a split as any of the files that are read."""
    if path.suffix == ".json":
        path.write_text(json.dumps(parts))
    else:
        lines = [head, *(f"{name},{part}" for name, part in parts.items())]
        path.write_text("\n".join(lines).replace(",", "\t" if path.suffix == ".tsv" else ","))
    return path


EXPECTED = {"train": [*range(10)], "validation": [*range(10, 14)], "test": [14, 15, 16], "ood": [17, 18, 19]}


@pytest.mark.parametrize("name", ["split.json", "split.csv", "split.tsv"])
def test_a_file_gives_the_part_of_each_row(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / name, dict(zip(IDS, PARTS, strict=True)))
    split = Lab(IDS).split(SplitSpec(file=file))
    assert told(split) == EXPECTED
    assert split.confirmation.tolist() == [*range(14, 20)]


def test_json_may_list_the_names_of_each_part(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text(json.dumps({part: [IDS[row] for row in rows] for part, rows in EXPECTED.items()}))
    assert told(Lab(IDS).split(SplitSpec(file=file))) == EXPECTED


def test_a_column_and_numbers_of_rows_give_the_same(tmp_path: Path) -> None:
    file = write(tmp_path / "s.csv", dict(zip(IDS, PARTS, strict=True)))
    lab = Lab(IDS, columns={"set": PARTS})
    by_file = SplitSpec(file=file, folds=None, seed=3)
    rows = lab.portable(by_file)
    assert rows.rows == {"train": "0-9", "validation": "10-13", "test": "14-16", "ood": "17-19"}
    assert rows.parts == ("test", "ood")
    found = [lab.split(spec).digest for spec in (by_file, SplitSpec(column="set"), rows)]
    assert len(set(found)) == 1
    assert lab.portable(SplitSpec(column="set")) == SplitSpec(column="set")


def test_the_first_part_is_the_one_that_is_named_first(tmp_path: Path) -> None:
    lab = Lab(IDS, columns={"set": PARTS})
    assert list(lab.split(SplitSpec(column="set")).parts) == ["test", "ood"]
    turned = lab.split(SplitSpec(column="set", parts=("ood", "test")))
    assert list(turned.parts) == ["ood", "test"]
    assert turned.confirmation.tolist() == [17, 18, 19, 14, 15, 16]
    for parts in (("ood",), ("ood", "tset")):
        with pytest.raises(
            SpecError, match="must name the confirmation parts of the column 'set' of 'lab': 'test', 'ood'"
        ):
            lab.split(SplitSpec(column="set", parts=parts))


@pytest.mark.parametrize("name", ["s.json", "s.csv"])
def test_the_order_of_parts_is_that_of_the_file_whatever_rows_come_first(tmp_path: Path, name: str) -> None:
    """Subjects see images in orders of their own: of what stood first in the rows each would rank by another part."""
    parts = dict(zip(IDS, [*PARTS[:14], *["near"] * 3, *["far"] * 3], strict=True))
    file = write(tmp_path / name, parts)
    for ids in (IDS, IDS[::-1]):
        assert list(Lab(ids).split(SplitSpec(file=file)).parts) == ["near", "far"]


def test_parts_of_a_file_have_one_order_for_all_subjects(tmp_path: Path) -> None:
    listed = [f"{name},{part}" for name, part in zip(IDS, [*PARTS[:14], *["near"] * 3, *["far"] * 3], strict=True)]
    lines = [f"{who},{line}" for who, lines in (("a", listed), ("b", listed[::-1])) for line in lines]
    file = tmp_path / "s.csv"
    file.write_text("\n".join(["subject,stimulus_id,part", *lines]))
    for who in "ab":
        assert list(Lab(IDS, subject=who).split(SplitSpec(file=file)).parts) == ["near", "far"]


def test_the_part_called_test_ranks_where_nobody_names_an_order(tmp_path: Path) -> None:
    lab = Lab(IDS[::-1], columns={"set": PARTS[::-1]})
    assert list(lab.split(SplitSpec(column="set")).parts) == ["test", "ood"]
    assert list(lab.split(SplitSpec(column="set", parts=("ood", "test"))).parts) == ["ood", "test"]


def test_validation_and_folds_are_cut_from_train_where_there_is_no_such_part() -> None:
    cut = Lab(IDS, columns={"set": ["train"] * 14 + ["test"] * 6})
    split = cut.split(SplitSpec(column="set", validation=0.5))
    assert len(split.validation) == 7
    assert sorted([*split.train, *split.validation]) == [*range(14)]
    folds = cut.split(SplitSpec(column="set", folds=2))
    assert [len(rows) for rows in folds.held_out] == [7, 7]
    fixed = Lab(IDS, columns={"set": PARTS})
    for spec, wrong in (
        (SplitSpec(column="set", folds=2), "folds"),
        (SplitSpec(column="set", validation=0.2), "validation"),
    ):
        with pytest.raises(
            SpecError, match=f"'{wrong}' must be left out: the column 'set' of 'lab' has a validation part"
        ):
            fixed.split(spec)


def test_confirmation_is_cut_where_it_is_asked_for_and_none_is_given() -> None:
    lab = Lab(IDS, columns={"set": ["train"] * 14 + ["validation"] * 6})
    assert not len(lab.split(SplitSpec(column="set")).confirmation)
    split = lab.split(SplitSpec(column="set", confirmation=0.3))
    assert list(split.parts) == ["confirmation"]
    assert set(split.confirmation.tolist()) < set(range(14))
    assert len(split.confirmation) == 4
    assert split.validation.tolist() == [*range(14, 20)]
    with pytest.raises(SpecError, match="'confirmation' must be left out"):
        Lab(IDS, columns={"set": PARTS}).split(SplitSpec(column="set", confirmation=0.3))


BAD_FILES = [
    ({**dict(zip(IDS, PARTS, strict=True)), "a": "train", "b": "x", "c": "x", "d": "x"},
     r"Each name in '.*' must be an image file or a stimulus id of 'lab'\. 4 are none: 'a', 'b', 'c' and 1 more\."),
    (dict(zip(IDS[:16], PARTS[:16], strict=True)),
     r"Each row of 'lab' must be given a part by '.*'\. 4 of 20 are not: 's16', 's17', 's18' and 1 more\. Add them, or "
     r'write rest = "train" or rest = "leave out"\.'),
    (dict.fromkeys(IDS, "test"), r"There must be rows of the part 'train' in '.*'\. There are none\."),
    (dict.fromkeys(IDS, "trian"), r"A part must be .* 'train' or 'test' in '.*'.* Got 'trian'\. Did you mean "
                                  r"'train'\?"),
    (dict(zip(IDS, [*PARTS[:19], "a b"], strict=True)), r"called by at most 64 letters, .*\. Got 'a b'"),
    (dict(zip(IDS, [*PARTS[:19], "far"], strict=True)), r"The 'far' part of a split must hold at least 2 rows\. Got 1"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "message"), BAD_FILES)
@pytest.mark.parametrize("name", ["s.json", "s.csv"])
def test_what_a_file_says_wrongly_is_told_on_one_line(
    tmp_path: Path, parts: dict[str, str], message: str, name: str
) -> None:
    file = write(tmp_path / name, parts)
    with pytest.raises(SpecError, match=message) as caught:
        Lab(IDS).split(SplitSpec(file=file))
    assert "\n" not in str(caught.value)


BAD_TEXTS = [
    ("s.json", '{"s00": "train", "s00": "train"}', r"listed once in '.*'\. 1 are listed again: 's00'"),
    ("s.json", '{"s00": "train", "s01": "x", "s00": "test"}', r"of one part\. 1 are of two: 's00 \(train, test\)'"),
    ("s.csv", "stimulus_id,part\ns00,train\ns00,train", r"listed once in '.*'\. 1 are listed again: 's00'"),
    ("s.csv", "stimulus_id,part\ns00,train\ns00,test", r"of one part\. 1 are of two: 's00 \(train, test\)'"),
    ("s.json", "[1, 2]", r"must hold an object, from names to parts or from parts to lists of names"),
    ("s.json", '{"train": {"s00": 1}}', r"must give 'train' a part, or as a part a list of names"),
    ("s.json", '{"train": [["s00"]]}', r"must give 'train' a part, or as a part a list of names"),
    ("s.json", "{", r"must be JSON\. Got: "),
    ("s.json", '{"a":' * 5000, r"must be JSON\. Got: lists and tables must be nested at most 100 deep"),
    ("s.csv", "stimulus_id,set\ns00,train", r"must have a column 'part'"),
    ("s.csv", "name,part\ns00,train", r"must have a column 'image'"),
    ("s.txt", "s00 train", r"must be given by a file \.csv, \.tsv or \.json"),
    ("absent.json", None, r"The file '.*absent.json' must exist"),
    ("absent.csv", None, r"The file '.*absent.csv' must exist"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "message"), BAD_TEXTS)
def test_what_is_no_split_is_told_on_one_line(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(SpecError, match=message) as caught:
        Lab(IDS).split(SplitSpec(file=tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["s.json", "s.csv"])
def test_what_is_no_file_or_too_large_is_not_read(tmp_path: Path, name: str) -> None:
    lab = Lab(["a", "b"])
    os.mkfifo(tmp_path / name)
    with pytest.raises(SpecError, match=r"must exist\. It does not"):
        lab.split(SplitSpec(file=tmp_path / name))
    (tmp_path / name).unlink()
    (tmp_path / name).touch()
    os.truncate(tmp_path / name, 1 << 30)
    with pytest.raises(SpecError, match="at most 256 MiB"):
        lab.split(SplitSpec(file=tmp_path / name))


def test_rows_that_are_not_named_are_trained_on_or_left_out_where_that_is_said(tmp_path: Path) -> None:
    file = write(tmp_path / "s.csv", dict(zip(IDS[8:], PARTS[8:], strict=True)))
    train = Lab(IDS).split(SplitSpec(file=file, rest="train"))
    assert told(train) == EXPECTED
    left = Lab(IDS).split(SplitSpec(file=file, rest="leave out"))
    assert told(left) == {**EXPECTED, "train": [8, 9]}


def test_lines_of_other_subjects_are_left_alone(tmp_path: Path) -> None:
    lines = [f"{name},{part},s1" for name, part in zip(IDS, PARTS, strict=True)]
    (tmp_path / "s.csv").write_text("\n".join(["stimulus_id,part,subject", "other,train,s2", *lines]))
    assert told(Lab(IDS, subject="s1").split(SplitSpec(file=tmp_path / "s.csv"))) == EXPECTED


def test_rows_of_one_stimulus_in_two_parts_are_refused() -> None:
    ids = [*IDS[:19], "s00"]
    with pytest.raises(
        SpecError, match=r"Each stimulus in the column 'set' of 'lab' must be of one part\. 1 are of two: 's00'"
    ):
        Lab(ids, columns={"set": PARTS}).split(SplitSpec(column="set"))


def test_rows_that_are_equal_under_other_names_are_left_out_and_counted() -> None:
    equal = [*range(10), 0, 11, 12, 13, 1, 15, 16, 11, 18, 19]
    split = Lab(IDS, equal=equal, columns={"set": PARTS}).split(SplitSpec(column="set"))
    assert told(split) == {"train": [*range(10)], "validation": [11, 12, 13], "test": [15, 16], "ood": [18, 19]}
    assert {name: rows.tolist() for name, rows in split.left_out.items()} == {
        "validation": [10],
        "test": [14],
        "ood": [17],
    }


class Shown(Dataset):
    """Pictures in two folders, a name among them twice."""

    def __init__(self, root: Path) -> None:
        random = np.random.default_rng(0)
        names = ["a/one.png", "a/two.png", "a/six.png", "b/one.png", "b/three.v2.png", "b/four.png"]
        files = [write_picture(root / name, random.integers(0, 256, (4, 4, 3), dtype=np.uint8)) for name in names]
        super().__init__(name="shown", n_voxels=1, images=files)

    def read_responses(self, rows: Any) -> Any:
        return np.asarray(rows, dtype=float)[:, None]


def test_an_image_is_named_by_its_file_and_as_many_folders_as_it_takes(tmp_path: Path) -> None:
    names = ["a/one.png", "two", "six.png", "b\\one.png", "three.v2", "./b/four.png"]
    file = write(
        tmp_path / "s.csv", dict(zip(names, ["train"] * 2 + ["test"] * 2 + ["train"] * 2, strict=True)), "image,part"
    )
    split = Shown(tmp_path).split(SplitSpec(file=file, validation=0.5))
    assert split.parts["test"].tolist() == [2, 3]
    file.write_text("image,part\none.png,train\n")
    with pytest.raises(
        SpecError, match=r"'one.png' must be that of one image of 'shown'\. 2 have it: name its folder too"
    ):
        Shown(tmp_path).split(SplitSpec(file=file))


def test_columns_that_are_not_there_or_tell_nothing_are_refused() -> None:
    lab = Lab(IDS, columns={"session": ["1"] * 20, "blank": [""] * 20, "runs": [("1", "2")] * 20})
    for key in ("column", "groups", "stratify", "folds"):
        with pytest.raises(
            SpecError, match=rf"'{key}' must be a column of 'lab'\. Got 'sesion'\. Did you mean 'session'\?"
        ):
            lab.split(parse(SplitSpec, {key: "sesion"}, "split"))
        with pytest.raises(SpecError, match=r"tells something of 'lab'\. 'blank' is empty"):
            lab.split(parse(SplitSpec, {key: "blank"}, "split"))
    with pytest.raises(
        SpecError,
        match=r"'column' must be a column of one value.*20 rows have several of 'runs', the first '1', '2' \(row 0\)",
    ):
        lab.split(SplitSpec(column="runs"))
    with pytest.raises(SpecError, match=r"'groups' must be a column of 'bare'\. Got 'session'\. It has no columns"):
        Bare().split(SplitSpec(groups="session"))


class Bare(Dataset):
    """Rows of which nothing else is known."""

    def __init__(self) -> None:
        super().__init__(name="bare", n_voxels=1, features={"x": np.arange(9.0)[:, None]})

    def read_responses(self, rows: Any) -> Any:
        return np.asarray(rows, dtype=float)[:, None]


def test_each_value_of_a_column_validates_once() -> None:
    sessions = [row % 4 for row in range(16)]
    lab = Lab(IDS, n_test=4, columns={"session": [*sessions, 0, 1, 2, 3]})
    split = lab.split(SplitSpec(folds="session"))
    assert [rows.tolist() for rows in split.held_out] == [[*range(first, 16, 4)] for first in range(4)]
    assert split.confirmation.tolist() == [16, 17, 18, 19]
    assert not split.left_out
    assert len(split.runs(split.folds[0].train, 3)) == 3
    with pytest.raises(SpecError, match=r"The values of 'session' that take turns .* at least 2 .* Got 0"):
        Lab(IDS, columns={"session": [("1", "2")] * 20}).split(SplitSpec(folds="session"))
    with pytest.raises(SpecError, match=r"must have a value of 'session'.* 2 have none, the first: row 3"):
        Lab(IDS, columns={"session": ["1"] * 3 + [""] * 2 + ["2"] * 15}).split(SplitSpec(folds="session"))


def test_sessions_that_share_rows_validate_together() -> None:
    sessions: list[Any] = [("1", "2"), *["1"] * 5, *["2"] * 4, *["3"] * 10]
    split = Lab(IDS, columns={"session": sessions}).split(SplitSpec(folds="session", confirmation=0.0))
    assert [rows.tolist() for rows in split.held_out] == [[*range(10)], [*range(10, 20)]]


def test_test_rows_of_a_group_that_is_trained_on_are_left_out() -> None:
    lab = Lab(IDS, n_test=4, columns={"session": [row % 4 for row in range(16)] + ["1", "1", "9", "9"]})
    split = lab.split(SplitSpec(groups="session"))
    assert split.confirmation.tolist() == [18, 19]
    assert split.left_out["confirmation"].tolist() == [16, 17]


def test_a_layouts_split_is_asked_for_by_its_name() -> None:
    lab = Lab(IDS, splits={"lab:paper": lambda: [*PARTS[:19], ""], "lab:other": lambda: PARTS})
    split = lab.split(SplitSpec(preset="lab:other"))
    assert told(split) == EXPECTED
    with pytest.raises(
        SpecError,
        match=r"'preset' must be a split that 'lab' brings\. Got 'nsd:x'\. It brings 'lab:paper', 'lab:other'",
    ):
        lab.split(SplitSpec(preset="nsd:x"))
    with pytest.raises(SpecError, match=r"Got 'nsd:x'\. Its layout brings none"):
        Bare().split(SplitSpec(preset="nsd:x"))
    with pytest.raises(SpecError, match=r"The 'test' part|Each row|The 'ood' part"):
        Lab(IDS, splits={"lab:thin": lambda: [*PARTS[:18], "", ""]}).split(SplitSpec(preset="lab:thin"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"train": "0-9999999999"}, r"'train' of 'rows' must be rows 0\.\.19.*Got '0-9999999999'"),
        ({"train": "0-19 0-19"}, "'train' of 'rows' must hold each row once"),
        ({"train": "0-9", "test": "9-12"}, r"'rows' must hold each row once\. Got row 9 twice"),
        ({"train": "5-3"}, "Got '5-3'"),
        ({"train": "x"}, "Got 'x'"),
        ({"train": ""}, "There must be rows of the part 'train'"),
        ({"train": "0-9", "../x": "10-12"}, "letters, digits"),
    ],
)
def test_numbers_of_rows_of_others_are_not_trusted(rows: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Lab(IDS).split(SplitSpec(rows=rows))


@given(st.sets(st.integers(0, 60)))
def test_numbers_of_rows_come_back(rows: set[int]) -> None:
    lab = Lab([str(row) for row in range(63)])
    wanted = np.array(sorted(rows), dtype=np.intp)
    text = as_numbers(wanted)
    split = lab.split(SplitSpec(rows={"train": text or "62", "validation": "61-62"})) if len(rows) > 1 else None
    if split is not None:
        assert split.train.tolist() == wanted.tolist()


def tried(lab: Lab, extra: dict[str, Any], given_by: str, rest: Any, parts: dict[str, str]) -> Split | None:
    """Split, where that is not refused on one line."""
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder) / "s.json", parts)
        by = {"column": {"column": "part", "rest": rest}, "file": {"file": file, "rest": rest}, "none": {}}[given_by]
        try:
            return lab.split(parse(SplitSpec, {**extra, **by}, "split"))
        except SpecError as error:
            lines = str(error).splitlines()
    assert len(lines) == 1
    return None


N_ROWS, VALUES = 80, [str(value) for value in range(30)]


@given(
    seed=st.integers(0, 2**32 - 1), n_test=st.sampled_from([0, 12]), n_ids=st.sampled_from([30, 300, 3000]),
    n_equal=st.sampled_from([100, 1000, 9999]), is_one_part=st.integers(0, 9).map(bool),
    extra=st.sampled_from([{}, {"groups": "group"}, {"stratify": "kind"}, {"groups": "group", "stratify": "kind"},
                           {"folds": "group"}, {"folds": 2, "stratify": "kind"}, {"folds": 3, "groups": "group"},
                           {"confirmation": 0.3}]),
    given_by=st.sampled_from(["column", "file", "none"]), rest=st.sampled_from(["train", "leave out", None]),
)  # fmt: skip
def test_whatever_is_asked_parts_share_no_row_no_group_and_no_stimulus(
    seed: int, n_test: int, n_ids: int, n_equal: int, is_one_part: bool,
    extra: dict[str, Any], given_by: str, rest: Any,
) -> None:  # fmt: skip
    chance = Random(seed)
    ids = [chance.randrange(n_ids) for _ in range(N_ROWS)]
    equal = [chance.randrange(n_equal) for _ in range(N_ROWS)]
    validation = [] if "folds" in extra else ["val"]
    of_id = [
        chance.choice(["train", "Training", "test", "ood", *validation, *([""] if rest else [])]) for _ in range(n_ids)
    ]
    parts = [of_id[item] for item in ids]
    if not is_one_part:
        chance.shuffle(parts)
    if given_by == "file":  # which has one part for each stimulus
        of_last = dict(zip(ids, parts, strict=True))
        parts = [of_last[item] for item in ids]
    groups, kinds = ([chance.choice(["", *VALUES]) for _ in range(N_ROWS)] for _ in range(2))
    lab = Lab([str(item) for item in ids], n_test, equal, columns={"part": parts, "group": groups, "kind": kinds})
    split = tried(lab, extra, given_by, rest, dict(zip(map(str, ids), parts, strict=True)))
    event(f"{given_by}: {'refused' if split is None else 'split'}")
    if split is None:
        return
    whole = np.concatenate([split.train, split.validation, *split.parts.values(), *split.left_out.values()])
    assert len(np.unique(whole)) == len(whole)
    sides = [*(split.held_out or (split.train,)), split.validation, split.confirmation]
    told_of: list[list[Any]] = [ids, equal, groups] if extra.get("groups") else [ids, equal]
    for what in told_of:
        found = [{what[row] for row in rows} - {""} for rows in sides]
        assert sum(map(len, found)) == len(set().union(*found))
    if extra.get("folds") == "group":
        found = [{groups[row] for row in rows} for rows in split.held_out]
        assert sum(map(len, found)) == len(set().union(*found))
    if given_by != "none":
        for name, rows in split.parts.items():
            assert name == "confirmation" or all(parts[row] == name for row in rows)


@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=8), seed=st.integers(0, 99),
    validation=st.sampled_from([0.2, 0.25, 0.5]), folds=st.sampled_from([None, 2, 5]),
)  # fmt: skip
def test_each_category_has_like_shares_in_every_part(
    counts: list[int], seed: int, validation: float, folds: int | None
) -> None:
    kinds = [f"k{kind}" for kind, count in enumerate(counts) for _ in range(count)]
    lab = Lab([str(row) for row in range(len(kinds))], columns={"category": kinds})
    table: dict[str, Any] = {"seed": seed, "stratify": "category", "confirmation": 0.2}
    spec = SplitSpec(**table, folds=folds) if folds else SplitSpec(**table, validation=validation)
    try:
        split = lab.split(spec)
    except SpecError:  # too few rows
        return
    whole = Counter(kinds)
    confirming = Counter(kinds[row] for row in split.confirmation)
    for kind, count in whole.items():
        assert abs(confirming[kind] - count * len(split.confirmation) / len(kinds)) < 1
    left = whole - confirming
    scored = split.held_out or (split.validation,)
    for rows in scored:
        of_part, n_left = Counter(kinds[row] for row in rows), len(kinds) - len(split.confirmation)
        for kind, count in left.items():
            assert abs(of_part[kind] - count * len(rows) / n_left) < (2 if folds else 1)


def test_categories_are_shared_out_where_groups_hold_them_all() -> None:
    kinds, groups = [row % 3 for row in range(120)], [row // 12 for row in range(120)]
    lab = Lab([str(row) for row in range(120)], columns={"category": kinds, "session": groups})
    split = lab.split(SplitSpec(groups="session", stratify="category", validation=0.25, confirmation=0.2))
    for rows in (split.train, split.validation, split.confirmation):
        assert len({*Counter(kinds[row] for row in rows).values()}) == 1
    assert [len(split.train), len(split.validation), len(split.confirmation)] == [72, 24, 24]
