"""Pictures are compared by the first process of a study; what is kept of it is trusted no more than it deserves."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain.datasets import _ties
from img2brain.home import Home
from img2brain.spec import StudySpec, parse
from img2brain.store import Store
from img2brain.study.pictures import KIND, VERSION, keeper_of
from img2brain.study.setting import make_ready

if TYPE_CHECKING:
    from tests.conftest import NewHome

KEY, FOUND = {"files": "abc"}, {"a": "1", "b": "1"}


class Found:
    """Counts how often something was found."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self) -> dict[str, str]:
        self.n += 1
        return FOUND


def test_what_was_found_is_read_by_those_that_come_later(tmp_path: Path) -> None:
    find = Found()
    assert [keeper_of(Store(tmp_path))(KEY, find) for _ in range(3)] == [FOUND] * 3
    assert find.n == 1
    assert keeper_of(Store(tmp_path))({"files": "other"}, find) == FOUND
    assert find.n == 2


def test_a_damaged_entry_is_found_anew(tmp_path: Path) -> None:
    find = Found()
    keeper_of(Store(tmp_path))(KEY, find)
    (file,) = tmp_path.glob(f"{KIND}/*/*/pixels.json")
    file.chmod(0o644)
    file.write_text(json.dumps({"a": "1", "b": "2"}), encoding="utf-8")
    assert keeper_of(Store(tmp_path))(KEY, find) == FOUND
    assert find.n == 2


@pytest.mark.parametrize("content", ["[" * 50_000, "{", "[1]", '{"a": 1}', "null", None])
def test_what_holds_no_texts_is_not_used(content: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def write(folder: Path) -> None:
        (folder / ("other.json" if content is None else "pixels.json")).write_text(content or "", encoding="utf-8")

    Store(tmp_path).put(KIND, {**KEY, "version": VERSION}, write)
    find = Found()
    assert keeper_of(Store(tmp_path))(KEY, find) == FOUND
    assert find.n == 1
    assert "cannot be used" in caplog.text


def test_a_study_that_is_opened_again_decodes_no_picture_to_compare_it(
    new_home: NewHome, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    table: dict[str, Any] = {
        "name": "s", "trials": 1, "n_components": [2], "regressors": ["ridge"],
        "dataset": {"sample": {"images": 20, "voxels": 2}}, "backbones": [{"name": "pixels", "weights": "random:0"}],
    }  # fmt: skip
    spec, home = parse(StudySpec, table, "the test's study"), Home(new_home())
    first = make_ready(spec, home).first
    monkeypatch.setattr(_ties, "open_pixels", pytest.fail)
    again = make_ready(spec, Home(home.folder)).first
    np.testing.assert_array_equal(again.dataset.ties.sets, first.dataset.ties.sets)
    assert again.split.digest == first.split.digest
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
