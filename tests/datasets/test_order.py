"""Which row an image belongs to: by name where nobody can doubt it, else as the folder says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from img2brain.cli.data import data
from img2brain.datasets._layouts import check
from img2brain.datasets._order import natural_key, ordered
from img2brain.datasets.folder import FolderDataset
from img2brain.errors import DataError, SpecError
from img2brain.spec import SplitSpec

MakeFolder = Callable[..., Path]


def _named(root: Path, *names: str, part: str = "training") -> Path:
    """Make a folder whose images have these names, as many as there are rows."""
    (root / f"{part}IMG").mkdir(parents=True)
    (root / f"{part}fMRI").mkdir()
    for shade, name in enumerate(names):
        Image.new("RGB", (8, 8), (shade, len(part), 0)).save(root / f"{part}IMG" / name)
    np.save(root / f"{part}fMRI" / f"{part}.npy", np.random.default_rng(0).standard_normal((len(names), 3)))
    return root


def _say(root: Path, order: str) -> None:
    (root / "dataset.toml").write_text(f'order = "{order}"\n')


def _names(root: Path) -> list[str]:
    return [path.name for path in FolderDataset.open(root).images]


PLAIN = [
    ("01.png", "02.png", "10.png"),
    ("a.png", "a-1.png", "a1.png", "ab.png"),  # the full stop of the ending is no part of a number
    ("1.jpg", "1.png", "2.jpg"),
    ("n0144_10.png", "n0144_20.png", "n0145_05.png"),
    ("001.JPG", "002.jpg", "003.PNG"),
    ("x_-10.png", "x_-2.png", "x_3.png"),  # by value, and by name too
    ("2020-01-05.png", "2020-01-06.png", "2021-01-01.png"),
    ("٠١.png", "٠٢.png", "١٠.png"),
    ("x" * 200 + "1.png", "x" * 200 + "2.png"),
]
DOUBTFUL = [
    ("1.png", "2.png", "10.png"),  # natural order; by name 10 comes before 2
    ("img-2.png", "img-10.png"),  # a hyphen, no sign
    ("x_-2.png", "x_-1.png", "x_0.png"),
    ("s1_img10.png", "s2_img9.png", "s10_img1.png"),
    ("a.png", "B.png", "c.png"),
    ("2.png", "٣.png", "١٠.png"),
    ("9" * 100 + ".png", "1" + "0" * 100 + ".png"),
]


@pytest.mark.parametrize("names", PLAIN)
def test_names_that_nobody_can_doubt_need_no_word(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = _named(tmp_path / "data", *names)
    assert _names(root) == sorted(names)
    before = FolderDataset.open(root).digest
    for order in ("name", "natural"):
        _say(root, order)
        assert FolderDataset.open(root).digest == before


@pytest.mark.parametrize("names", DOUBTFUL)
def test_the_order_of_other_names_is_asked_for(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = _named(tmp_path / "data", *names)
    with pytest.raises(DataError, match=r'Write order = "natural" or order = "name" in .*dataset\.toml') as caught:
        FolderDataset.open(root)
    assert "\n" not in str(caught.value)
    assert str(caught.value) in [problem.message for problem in check(root).problems]
    _say(root, "natural")
    assert _names(root) == list(names)
    natural = FolderDataset.open(root).digest
    _say(root, "name")
    assert _names(root) == sorted(names)
    assert FolderDataset.open(root).digest != natural


@pytest.mark.parametrize("names", [("01.png", "1.png"), ("a.png", "A.png"), ("+1.png", "1.png"), ("-0.png", "0.png")])
def test_names_that_natural_order_cannot_tell_apart(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = _named(tmp_path / "data", *names)
    for said in (False, True):
        if said:
            _say(root, "natural")
        with pytest.raises(DataError, match=r"natural order cannot tell .* apart\. Write order = \"name\" in"):
            FolderDataset.open(root)
    _say(root, "name")
    assert _names(root) == sorted(names)


def test_unpadded_numbers_are_refused_or_read_as_padded_ones(tmp_path: Path, new_home: Callable[..., Path]) -> None:
    from img2brain.spec import StudySpec, parse
    from img2brain.study.runner import run_study

    padded = _named(tmp_path / "padded", *(f"{number:02}.png" for number in range(1, 61)))
    unpadded = _named(tmp_path / "unpadded", *(f"{number}.png" for number in range(1, 61)))
    table = {
        "name": "s",
        "trials": 1,
        "n_components": [2],
        "regressors": ["linear"],
        "dataset": {"path": str(unpadded)},
    }
    network = {"name": "alexnet", "weights": "random:0", "layers": ["features.2"]}
    with pytest.raises(DataError, match=r"by name '10\.png' comes before '2\.png'"):
        run_study(parse(StudySpec, {**table, "backbones": [network]}, "the test's study"), new_home())
    _say(unpadded, "natural")
    assert FolderDataset.open(unpadded).digest == FolderDataset.open(padded).digest


def test_another_order_is_refused(tmp_path: Path) -> None:
    root = _named(tmp_path / "data", "1.png")
    _say(root, "number")
    with pytest.raises(SpecError, match=r"'order' must be 'name' or 'natural'"):
        FolderDataset.open(root)


def test_each_part_is_looked_at_and_images_without_rows_need_no_order(tmp_path: Path) -> None:
    root = _named(_named(tmp_path / "data", "1.png", "2.png"), "9.png", "10.png", part="test")
    with pytest.raises(DataError, match=r"testIMG' must be given: by name '10\.png' comes before '9\.png'"):
        FolderDataset.open(root)
    (root / "testfMRI" / "test.npy").unlink()
    assert [path.name for path in FolderDataset.open(root).test_images] == ["10.png", "9.png"]


def test_a_listing_says_which_row_is_which_image(tmp_path: Path) -> None:
    others = [f"{row}.png" for row in range(4, 8)]
    training = ("1.png", "2.png", "3.png", "10.png", *others)
    root = _named(_named(tmp_path / "data", *training), "9.png", "10.png", part="test")
    lines = ["\ufeffrow,note,file", "3,,trainingIMG/3.png", "0,,trainingIMG/10.png", "2,x,trainingIMG/1.png",
             '1,"y,z", 2.png ', ",,", "1,,testIMG/10.png", "0,,9.png",
             *(f"{name[0]},,{name}" for name in others)]  # fmt: skip
    (root / "images.csv").write_text("\r\n".join(lines), encoding="utf-8")
    dataset = FolderDataset.open(root)
    assert [path.name for path in dataset.images] == ["10.png", "2.png", "1.png", "3.png", *others, "9.png", "10.png"]
    assert check(root).problems == ()


@pytest.mark.parametrize("rows", [True, False])
def test_a_listing_says_what_else_is_known_of_images(tmp_path: Path, rows: bool) -> None:
    names = [f"{row}.png" for row in range(8)]
    root = _named(_named(tmp_path / "data", *names), "a.png", "b.png", part="test")
    lines = ["file,session,part" + ",row" * rows]
    lines += [
        f"{name},s{row // 4},{'train' if row < 6 else 'ood'}" + f",{row}" * rows for row, name in enumerate(names)
    ]
    (root / "images.csv").write_text("\n".join([*lines, "a.png,,test" + ",0" * rows, "b.png,,test" + ",1" * rows]))
    dataset = FolderDataset.open(root)
    assert dataset.columns["session"] == (*[("s0",)] * 4, *[("s1",)] * 4, (), ())
    split = dataset.split(SplitSpec(column="part", validation=0.4))
    assert {name: part.tolist() for name, part in split.parts.items()} == {"ood": [6, 7], "test": [8, 9]}
    assert dataset.digest == FolderDataset.open(_without(root)).digest


def _without(root: Path) -> Path:
    (root / "images.csv").unlink()
    return root


LISTING = ["file,row", "trainingIMG/1.png,2", "trainingIMG/2.png,1", "trainingIMG/10.png,0"]
BAD_LISTINGS = [
    ({0: "1.png,0"}, r"must name the columns file,row\. Got '1.png,0'"),
    ({0: "file;row"}, r"must name the columns file,row\. Got 'file;row'"),
    ({1: "trainingIMG/11.png,2"}, r"'trainingIMG/11.png' in line 2 of .* must be an image .* none of this name"),
    ({1: "trainingIMG/../trainingIMG/1.png,2"}, "none of this name"),
    ({1: "/etc/passwd,2"}, "none of this name"),
    ({1: "notes.txt,2"}, "none of this name"),
    ({3: ""}, r"must list every image of .*trainingIMG'\. It lacks '10\.png'"),
    ({2: "", 3: ""}, r"It lacks '10\.png' and 1 more"),
    ({1: "trainingIMG/2.png,2"}, r"must be listed once\. Got 'trainingIMG/2.png' again in line 3"),
    ({1: "trainingIMG/1.png,1"}, r"the rows 0\.\.2, each once\. Got 1\."),
    ({1: "trainingIMG/1.png,3"}, r"the rows 0\.\.2, each once\. Got 3\."),
    ({1: "trainingIMG/1.png,-1"}, "whole number, counted from 0. Got '-1'"),
    ({1: "trainingIMG/1.png,2.0"}, "whole number, counted from 0. Got '2.0'"),
    ({1: "trainingIMG/1.png," + "9" * 5000}, "whole number, counted from 0"),
    ({1: "trainingIMG/1.png"}, "Line 2 of .* must hold a file and a row"),
    ({1: '"trainingIMG/1.png,2'}, "must be a CSV table in UTF-8"),
    ({1: '"' + "x" * 200_000 + '",2'}, "must be a CSV table in UTF-8"),
]


@pytest.mark.parametrize(("changes", "match"), BAD_LISTINGS)
def test_a_bad_listing_is_refused_in_one_line(tmp_path: Path, changes: dict[int, str], match: str) -> None:
    root = _named(tmp_path / "data", "1.png", "2.png", "10.png")
    (root / "notes.txt").touch()
    (root / "images.csv").write_text("\n".join(changes.get(number, line) for number, line in enumerate(LISTING)))
    with pytest.raises(DataError, match=match) as caught:
        FolderDataset.open(root)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 6000


def test_bytes_that_are_no_text_are_no_listing(tmp_path: Path) -> None:
    root = _named(tmp_path / "data", "1.png", "2.png")
    (root / "images.csv").write_bytes(b"file,row\n\xff,0\n")
    with pytest.raises(DataError, match="must be a CSV table in UTF-8"):
        FolderDataset.open(root)


def test_a_name_that_both_folders_have_is_listed_with_its_folder(tmp_path: Path) -> None:
    root = _named(_named(tmp_path / "data", "1.png"), "1.png", part="test")
    (root / "images.csv").write_text("file,row\n1.png,0\n")
    with pytest.raises(DataError, match="Several folders have one; name its folder too"):
        FolderDataset.open(root)


def test_check_prints_the_first_second_and_last_row(tmp_path: Path) -> None:
    root = _named(_named(tmp_path / "data", *(f"{i}.png" for i in range(1, 13))), "a.png", part="test")
    _say(root, "natural")
    lines = CliRunner().invoke(data, ["check", str(root)]).stdout.splitlines()
    assert [line for line in lines if " row " in line] == [
        "training row 0: trainingIMG/1.png",
        "training row 1: trainingIMG/2.png",
        "training row 11: trainingIMG/12.png",
        "test row 0: testIMG/a.png",
    ]


@given(st.lists(st.text("ab01٣-_. ", min_size=1, max_size=6), min_size=1, max_size=8, unique=True))
def test_an_order_that_is_not_refused_is_both(names: list[str]) -> None:
    images = tuple(sorted(Path("data") / f"x{name}.png" for name in names))
    try:
        found = ordered(images, None, Path("data"))
    except DataError:
        return
    assert found == images
    assert [path.name for path in found] == sorted((path.name for path in images), key=natural_key)


@given(st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=20, unique=True))
def test_numbers_come_by_their_value(numbers: list[int]) -> None:
    assert sorted((f"x_{number}.png" for number in numbers), key=natural_key) == [
        f"x_{number}.png" for number in sorted(numbers)
    ]
