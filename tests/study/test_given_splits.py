"""Splits of a study that are given by files and columns: what is recorded of them, and what grouped ones are for."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from img2brain.datasets._sample import write_sample
from img2brain.errors import SpecError
from img2brain.home import Home
from img2brain.spec import SplitSpec, StudySpec, parse
from img2brain.study.setting import Setting, make_ready

SESSIONS = Path(__file__).resolve().parents[2] / "experiments" / "benchmarks" / "_sessions.py"


@pytest.fixture(scope="module")
def simulated() -> Any:
    """Return what the benchmark of splits simulates with."""
    spec = importlib.util.spec_from_file_location("_sessions", SESSIONS)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["_sessions"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["_sessions"]


@pytest.mark.parametrize(
    ("target", "grouped"), [("session", {"folds": "session"}), ("category", {"groups": "category"})]
)
def test_grouped_splits_leave_no_inflation_and_random_ones_do(
    simulated: Any, target: str, grouped: dict[str, Any]
) -> None:
    random, by_group = (
        simulated.inflation(parse(SplitSpec, {"confirmation": 0.0, **asked}, "split"), target, range(25))
        for asked in ({}, grouped)
    )
    assert abs(by_group["by"]) <= by_group["half"] < 0.02
    assert random["by"] - random["half"] > 0.05


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write sample data of 36 training and 4 test images, with sessions, and a file that gives each its part."""
    root = write_sample(tmp_path_factory.mktemp("given") / "recordings", n_images=40, n_voxels=6, seed=1, size=32)
    names = [
        f"{part}IMG/{path.name}" for part in ("training", "test") for path in sorted((root / f"{part}IMG").iterdir())
    ]
    parts = ["train"] * 26 + ["test"] * 6 + ["ood"] * 6 + [""] * 2
    lines = [f"{name},{part}" for name, part in zip(names, parts, strict=True)]
    (root.parent / "split.csv").write_text("\n".join(["image,part", *lines]) + "\n")
    lines = [f"{name},{row % 4}" for row, name in enumerate(names)]
    (root / "images.csv").write_text("\n".join(["file,session", *lines]) + "\n")
    return root


def ready(recordings: Path, home: Path, split: Any) -> Setting:
    table = {
        "name": "given", "trials": 1, "n_components": [3], "regressors": ["ridge"], "split": split,
        "dataset": {"path": str(recordings)}, "backbones": [{"name": "pixels", "weights": "random:0"}],
    }  # fmt: skip
    return make_ready(parse(StudySpec, table, "s.toml", recordings.parent), Home(home))


def test_a_file_is_taken_from_the_folder_of_the_study_and_recorded_by_rows(
    recordings: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    setting = ready(recordings, tmp_path / "home", {"file": "split.csv", "rest": "leave out", "validation": 0.25})
    assert "20 training, 6 validation, 6 test, 6 ood rows" in caplog.text
    assert "left 2 rows out that the split gives no part" in caplog.text
    record = setting.record("given")
    assert record.rows.text == "file split.csv, seed 0"
    assert record.settings is not None
    assert record.settings["split"] == {
        "validation": 0.25, "rows": {"train": "0-25", "test": "26-31", "ood": "32-37"}, "parts": ["test", "ood"],
    }  # fmt: skip
    again = ready(recordings, tmp_path / "home", record.settings["split"])
    assert again.record("given").rows.digest == record.rows.digest
    assert again.name == setting.name
    turned = ready(recordings, tmp_path / "home", {"file": "split.csv", "rest": "leave out", "parts": ["ood", "test"]})
    assert turned.record("given").rows.digest != record.rows.digest


def test_a_column_is_recorded_by_its_name(recordings: Path, tmp_path: Path) -> None:
    setting = ready(recordings, tmp_path / "home", {"folds": "session"})
    record = setting.record("given")
    assert (record.rows.folds, record.rows.n_confirmation) == (4, 4)
    assert record.rows.text == "folds session, seed 0"
    assert record.settings is not None
    assert record.settings["split"] == {"folds": "session"}


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (
            "nsd:shared515",
            "'preset' must be a split that 'recordings' brings. Got 'nsd:shared515'. Its layout brings none.",
        ),
        ({"groups": "sesion"}, "'groups' must be a column of '.*'. Got 'sesion'. Did you mean 'session'?"),
        ({"file": "absent.csv"}, "The file '.*absent.csv' must exist. It does not."),
    ],
)
def test_what_is_not_there_is_refused_before_work_starts(
    recordings: Path, tmp_path: Path, split: Any, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        ready(recordings, tmp_path / "home", split)
