"""Bundles whose writer knows all of the checks, and the machine that they are run on."""

from __future__ import annotations

import json
import math
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain import digest
from img2brain.errors import DataError
from img2brain.home import Home
from img2brain.leaderboard.bundles import contents
from img2brain.leaderboard.bundles.arithmetic import check_bundle
from img2brain.leaderboard.bundles.closeness import first_apart, is_close
from img2brain.leaderboard.bundles.imported import import_bundle, imported_bundles
from img2brain.leaderboard.bundles.opening import opened
from img2brain.leaderboard.collect import collect
from img2brain.verify import verify_bundle
from tests.leaderboard.bundles.conftest import edit_array, edit_json, forge, published, reseal

if TYPE_CHECKING:
    from tests.conftest import Launcher
    from tests.leaderboard.bundles.conftest import Edit, Lab


def row_of(bundle: Path) -> tuple[Path, str]:
    """A row that was published, and how it is asked for."""
    row = published(bundle)
    trial = json.loads((row / contents.TRIAL).read_text(encoding="utf-8"))
    return row, f"{trial['study']}#{trial['number']}"


def edit_study(bundle: Path, row: Path, edit: Edit) -> None:
    (path,) = [path for path in (bundle / "studies").iterdir() if row.name.startswith(path.stem)]
    edit_json(path, edit)


def test_a_forger_can_make_a_bundle_agree_with_itself(bundle: Path) -> None:
    forge(bundle)
    assert {row.level for row in verify_bundle(bundle).rows} == {"arithmetic"}


@pytest.mark.parametrize("what", ["layout", "regressor", "backbone", "metric"])
def test_no_code_that_a_bundle_names_is_run(bundle: Path, lab: Lab, tmp_path: Path, what: str) -> None:
    row, name = row_of(bundle)
    evil, ran = tmp_path / "evil.py", tmp_path / "ran"
    evil.write_text(f"from pathlib import Path\nPath({str(ran)!r}).touch()\nclass Evil: pass\n", encoding="utf-8")
    code = f"{evil}:Evil"
    if what == "layout":
        edit_study(bundle, row, lambda study: study["settings"]["dataset"].update(layout=code))
    elif what == "metric":
        edit_study(bundle, row, lambda study: study.update(metrics=["pearson", code]))
    else:
        named = {"regressor": code, "backbone": f"{code}:network"}[what]
        edit_json(row / contents.TRIAL, lambda trial: trial["spec"].update({what: named}))
    (reseal if what == "metric" else forge)(bundle)
    levels = []
    with suppress(DataError):
        levels = [item.level for item in verify_bundle(bundle, data={"": lab.data}, rerun=[name]).rows]
    assert not ran.exists()
    assert "rerun" not in levels


@pytest.mark.parametrize(
    "settings",
    [
        {"dataset": {"path": "/etc"}},
        {"dataset": {"images": "/etc"}},
        {"dataset": {"shuffle": "x"}},
        {"dataset": {"shuffle": -1}},
        {"dataset": []},
        {"dataset": {"voxels": "(" * 50_000}},
        {"dataset": {"voxels": "nc > " + "9" * 400}},
        {"dataset": {"responses": "../../../etc/passwd"}},
        {"split": {"confirmation": 0.999}},
        {"split": {"confirmation": "x"}},
        {"split": {"folds": 10**9}},
        {"split": {"file": "/etc/passwd.json"}},
        {"split": {"rows": {"train": "0-999999999999"}}},
        {"split": {"preset": "nsd:shared515"}},
        {"split": {"groups": "session"}},
        {"split": [1]},
        {"n_components": ["a", 3]},
        {"n_components": [-5]},
        {"layers": [1]},
        {"layers": {"a": 1}},
        {"unknown": 1},
    ],
    ids=lambda settings: json.dumps(settings)[:40],
)
def test_settings_of_no_study_are_told_on_one_line(bundle: Path, lab: Lab, settings: dict[str, Any]) -> None:
    row, name = row_of(bundle)
    edit_study(bundle, row, lambda study: study["settings"].update(settings))
    forge(bundle)
    found = verify_bundle(bundle, data={"": lab.data}, rerun=[name])
    (item,) = [item for item in found.rows if item.row == row.name]
    assert item.level in ("arithmetic", "data"), item
    assert all("\n" not in reason and len(reason) < 1000 for reason in item.missing)


@pytest.mark.parametrize("weights", ["/etc/passwd", "../mine.pth", "mine.pth", "/dev/zero", "a\0b"])
def test_weights_are_read_from_no_file_that_was_not_given(bundle: Path, lab: Lab, weights: str) -> None:
    row, name = row_of(bundle)
    edit_json(row / contents.TRIAL, lambda trial: trial["spec"].update(weights=weights))
    forge(bundle)
    (item,) = [i for i in verify_bundle(bundle, data={"": lab.data}, rerun=[name]).rows if i.row == row.name]
    assert item.level != "rerun"
    assert item.missing[0].startswith(("its weights ", "it cannot be repeated here"))


@pytest.mark.parametrize(
    "edit",
    [
        {"regressor": "pls"},
        {"parameters": {"alpha": -1.0}},
        {"parameters": {"bogus": 1.0}},
        {"parameters": {"alpha": [1.0, 2.0]}},
        {"parameters": {}},
        {"n_components": 10**9},
        {"n_components": 0},
        {"layer": "../f"},
        {"layer": "nothing"},
        {"backbone": "torchvision:nothing"},
        {"backbone": "pixels"},
        {"preprocessing": "nothing"},
        {"regressor": "nothing"},
    ],
    ids=lambda edit: json.dumps(edit)[:40],
)
def test_a_spec_that_cannot_be_repeated_is_told_on_one_line(bundle: Path, lab: Lab, edit: dict[str, Any]) -> None:
    row, name = row_of(bundle)
    edit_json(row / contents.TRIAL, lambda trial: trial["spec"].update(edit))
    forge(bundle)
    (item,) = [i for i in verify_bundle(bundle, data={"": lab.data}, rerun=[name]).rows if i.row == row.name]
    assert item.level != "rerun"
    assert all("\n" not in reason for reason in item.missing)


def test_a_number_without_an_end_is_close_to_no_other() -> None:
    assert is_close(math.inf, math.inf, 1.0)
    assert is_close(math.nan, math.nan, 1.0)
    for stored, found in ((0.9, -math.inf), (0.9, math.nan), (math.inf, 0.9), (math.inf, -math.inf)):
        assert not is_close(stored, found, 1.0)
        assert first_apart(np.array([1.0, stored]), np.array([1.0, found]), 1.0) == (1,)


def test_a_voxel_that_is_far_off_excuses_no_other_number(bundle: Path) -> None:
    """A mean over scores that overflow has no end: any number would be within a tolerance of that size."""
    row, _ = row_of(bundle)
    path = row / "accuracy_r2.npy"
    edit_array(path, lambda scores: np.full_like(scores, -1.5e308))

    def boast(trial: Any) -> None:
        whole = trial["metrics"]["r2"]["whole"]
        whole.update({name: -1.5e308 for name in whole if not name.startswith("n_")})
        whole["mean"] = 0.9
        trial["metrics"]["r2"]["digest"] = digest.of_array(np.load(path))

    edit_json(row / contents.TRIAL, boast)
    reseal(bundle)
    (item,) = [item for item in verify_bundle(bundle).rows if item.row == row.name]
    assert item.difference is not None
    assert (item.difference.what, item.difference.stored) == ("accuracy_r2.npy", "a number out of range")
    assert first_apart(np.array([0.9, -1e12]), np.array([0.1, -1e12]), 1e-6) == (0,)


@pytest.mark.parametrize("name", ["control_*_resampled", "summaries_resampled"])
def test_resamples_that_were_made_up_do_not_pass_a_rerun(bundle: Path, lab: Lab, name: str) -> None:
    row, asked = row_of(bundle)
    for path in (row / "confirmation").glob(f"{name}.npy"):
        edit_array(path, lambda resampled: resampled - 0.2)
    forge(bundle)
    verified = {item.row: item for item in verify_bundle(bundle).rows}
    assert verified[row.name].level == "arithmetic"
    (row / contents.PREDICTIONS).unlink()
    reseal(bundle)
    (item,) = [item for item in verify_bundle(bundle, data={"": lab.data}, rerun=[asked]).rows if item.row == row.name]
    assert item.difference is not None
    assert "resampled" in item.difference.what


def test_a_bundle_that_changes_while_it_is_imported_is_not_kept(bundle: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "elsewhere")
    with opened(bundle) as found:
        checked = check_bundle(found)
    path = row_of(bundle)[0] / "accuracy.npy"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(DataError, match="is not the file that the manifest names"):
        import_bundle(bundle, home, checked=checked)
    assert imported_bundles(home) == []
    assert list(home.imported.iterdir()) == []


def test_what_a_killed_import_left_is_taken_away_by_the_next(lab: Lab, tmp_path: Path) -> None:
    home = Home(tmp_path / "elsewhere")
    (home.imported / ".killed" / "bundle").mkdir(parents=True)
    (home.imported / ".killed" / "bundle" / "half.npy").write_bytes(bytes(100))
    assert imported_bundles(home) == []
    found = import_bundle(lab.bundle, home)
    assert {path.name for path in home.imported.iterdir()} == {found.digest, f"{found.digest}.levels.json"}


def test_two_imports_at_once_and_one_that_is_killed_leave_the_bundle_whole(
    lab: Lab, tmp_path: Path, img2brain: Launcher
) -> None:
    home = Home(tmp_path / "elsewhere")
    words = ("leaderboard", "import", lab.bundle, "--home", home.folder)
    first, second = (img2brain.start(*words) for _ in range(2))
    while first.poll() is None and not home.imported.exists():
        time.sleep(0.001)
    first.send(signal.SIGKILL)
    first.wait()
    assert second.wait() == 0, second.stderr
    (found,) = imported_bundles(home)
    assert set(found.levels.values()) == {"arithmetic"}
    assert {row.verified for row in collect(home)} == {"arithmetic"}


@pytest.mark.parametrize("name", ["n_train", "n_validation", "n_confirmation"])
def test_a_study_that_counts_other_rows_than_its_trials_is_refused(bundle: Path, name: str) -> None:
    row, _ = row_of(bundle)
    edit_study(bundle, row, lambda study: study["rows"].update({name: 999}))
    reseal(bundle)
    refused = verify_bundle(bundle).refused
    assert refused is not None
    assert refused.difference is not None
    assert (refused.difference.what, refused.difference.stored) == (f"study.rows.{name}", "999")
