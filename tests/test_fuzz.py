"""Files of others, edited at random: whatever is in them, it is refused on one line or it is taken."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from img2brain.datasets import open_dataset
from img2brain.datasets._layouts import check
from img2brain.errors import Img2BrainError
from img2brain.home import Home
from img2brain.model import EncodingModel
from img2brain.records import TrialRecord
from img2brain.spec import load_study
from img2brain.study.setting import make_ready

if TYPE_CHECKING:
    from tests.conftest import Launcher

FIXTURES = Path(__file__).with_name("fixtures")
ABOUT = 'name = "mine"\nunit = "z"\nsubject = "one"\n'
ROIS = json.dumps({"V1": [0, 1], "V4": [False, False, True]})
STUDY = """name = "fuzzed"
trials = 3
seed = 1
sampler = "tpe"
device = "cpu"
scratch_gb = 5
n_components = [2, 4]
metrics = ["pearson", "r2"]
objective = "pearson"
regressors = ["linear", {name = "ridge", alpha = {low = 1.0, high = 10, log = true}}, {name = "pls"}]
[dataset]
path = "rows"
[split]
seed = 0
confirmation = 0.2
[[backbones]]
name = "given"
weights = "none"
layers = ["f"]
preprocessing = "weights"
"""
DEEP = 50_000
LITERALS = (  # what may stand in place of a value
    "-1", "0", str(2**63 - 1), str(2**64), "9" * 5000, "0x" + "f" * 5000, "1e999", "nan", "-inf", "null", "true",
    "1979-05-27", "[]", "{}", "[1, [2]]", "[1.5]", "[true, 1]", '["f", "f"]', "{low = 2, high = 1}",
)  # fmt: skip
TEXTS = ("", "\\u0000", "\\ud800", "~nosuchuser/rows", "/", "..", "x" * 5000, "mine.py:", "mine.py:X", "a:b:c",
         "random:" + "9" * 5000)  # fmt: skip
HOSTILE = (
    *LITERALS, *(f'"{text}"' for text in TEXTS), "[" * DEEP, "{a=" * DEEP, '{"a":' * DEEP,
    ".".join("a" * 2000) + "=1\n", "[[a]]\n", "[a.b]\n", "\n", "\0", "\'\'\'", "\ufeff", "\u202e",
)  # fmt: skip


def edits(text: str) -> st.SearchStrategy[bytes]:
    """Give a text with some of its values, or any of its bytes, replaced."""
    values = [found.span() for found in re.finditer(r'"[^"]*"|\[[^\]]*\]|\d+(\.\d+)?|true|null', text)]
    places = st.one_of(
        st.sampled_from(values), st.tuples(*[st.integers(0, len(text))] * 2).map(lambda ends: (min(ends), max(ends)))
    )
    pieces = st.one_of(
        st.sampled_from(HOSTILE).map(str.encode), st.binary(max_size=6), st.text(max_size=6).map(str.encode)
    )
    edit = st.tuples(places, pieces)
    return st.lists(edit, min_size=1, max_size=2).map(lambda found: _edited(text.encode(), found))


def _edited(content: bytes, found: list[tuple[tuple[int, int], bytes]]) -> bytes:
    for (start, stop), piece in found:
        content = content[:start] + piece + content[stop:]
    return content


def refused_or_taken(work: Callable[[], object]) -> None:
    try:
        work()
    except Img2BrainError as error:
        told = " ".join(str(error).split())
        assert len(told) < 1000, told
        told.encode()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset of given features, a study file beside it."""
    root, chance = tmp_path_factory.mktemp("fuzz") / "rows", np.random.default_rng(0)
    for name, array in (
        ("trainingFeatures/f.npy", chance.standard_normal((40, 5))),
        ("trainingfMRI/training.npy", chance.standard_normal((40, 3))),
        ("ncsnr.npy", np.ones(3)),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / name, array)
    (root / "dataset.toml").write_text(ABOUT)
    (root / "rois.json").write_text(ROIS)
    return root


def opened(rows: Path) -> None:
    check(rows)
    assert open_dataset(rows).digest


calm = settings(suppress_health_check=list(HealthCheck))


@calm
@given(content=edits(STUDY))
def test_a_study_file(rows: Path, content: bytes) -> None:
    file = rows.parent / "study.toml"
    file.write_bytes(content)
    home = Home(rows.parent / "home")
    refused_or_taken(lambda: make_ready(load_study(file), home))


@calm
@given(content=edits(ABOUT))
def test_what_a_dataset_says_of_itself(rows: Path, content: bytes) -> None:
    (rows / "dataset.toml").write_bytes(content)
    try:
        refused_or_taken(lambda: opened(rows))
    finally:
        (rows / "dataset.toml").write_text(ABOUT)


@calm
@given(content=edits(ROIS))
def test_regions(rows: Path, content: bytes) -> None:
    (rows / "rois.json").write_bytes(content)
    try:
        refused_or_taken(lambda: opened(rows))
    finally:
        (rows / "rois.json").write_text(ROIS)


HEADERS = (b"'|O'", b"(40,999999999999,)", b"(-1, 3)", b"'<f16'", b"'<M8'", b"(" * 40)


@calm
@given(
    name=st.sampled_from(["trainingFeatures/f.npy", "trainingfMRI/training.npy", "ncsnr.npy"]),
    start=st.integers(0, 130),
    piece=st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from(HEADERS)),
    end=st.integers(0, 1200),
)
def test_the_header_of_an_array(rows: Path, name: str, start: int, piece: bytes, end: int) -> None:
    whole = (rows / name).read_bytes()
    (rows / name).write_bytes((whole[:start] + piece + whole[start + len(piece) :])[:end])
    try:
        refused_or_taken(lambda: opened(rows))
    finally:
        (rows / name).write_bytes(whole)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("fuzz") / "model"
    shutil.copytree(FIXTURES / "model-format-2" / "given", folder)
    text = (folder / "model.json").read_text()
    EncodingModel.load(folder)
    return folder, text


@calm
@given(data=st.data())
def test_the_description_of_a_model(model: tuple[Path, str], data: st.DataObject) -> None:
    folder, text = model
    (folder / "model.json").write_bytes(data.draw(edits(text)))
    refused_or_taken(lambda: EncodingModel.load(folder))


RECORD = next((FIXTURES / "records").rglob("trial*.json")).read_text()


@calm
@given(content=edits(RECORD))
def test_a_record(content: bytes) -> None:
    refused_or_taken(lambda: TrialRecord.from_json(content.decode(errors="replace")))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seed = 1", "seed = " + "[" * DEEP),
        ("seed = 1", "seed = " + "9" * 5000),
        ("seed = 1", "seed = 0x" + "f" * 5000),
        ('path = "rows"', 'path = "a\\u0000b"'),
        ('path = "rows"', 'path = "~nosuchuser/rows"'),
        ('path = "rows"', f'path = "{"x" * 5000}"'),
    ],
    ids=["deep", "digits", "hexadecimal", "NUL", "nobody", "long"],
)
def test_the_command_line_says_so_on_one_line(
    img2brain: Launcher, rows: Path, tmp_path: Path, old: str, new: str
) -> None:
    file = tmp_path / "study.toml"
    file.write_text(STUDY.replace(old, new))
    process = img2brain.run("study", "run", file, "--home", tmp_path / "home")
    assert process.code == 2
    assert str(file) in process.error
    assert len(process.error) < 500
