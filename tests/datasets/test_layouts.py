"""Which layout a folder is, and layouts of somebody else."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from img2brain.catalog import LAYOUTS
from img2brain.cli.data import data
from img2brain.datasets import _layouts, open_dataset
from img2brain.datasets._layouts import check, find_layout, layouts
from img2brain.datasets.base import Dataset
from img2brain.datasets.folder import FolderDataset
from img2brain.errors import DataError, SpecError, UnknownComponentError
from img2brain.home import Home
from img2brain.spec import DatasetSpec, parse

MakeFolder = Callable[..., Path]


class _Everything(Dataset):
    """Any folder."""

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return True

    def read_responses(self, rows: Any) -> Any:
        return np.zeros((len(rows), self.n_voxels))


class _Raising(_Everything):
    """Nothing."""

    @classmethod
    def recognises(cls, path: Path) -> bool:
        raise ZeroDivisionError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have layouts beside our own, as if packages with them were installed."""

    def install(**kinds: type[Dataset]) -> None:
        known = {"folder": FolderDataset, **kinds}
        monkeypatch.setattr(_layouts, "_known", lambda: known)
        monkeypatch.setattr(LAYOUTS, "_loaded", {name: (None, kind) for name, kind in kinds.items()})

    return install


def test_the_catalog_holds_layouts_alone() -> None:
    assert {"folder", "table"} <= set(LAYOUTS._own)
    assert all(issubclass(LAYOUTS[name], Dataset) for name in LAYOUTS._own)
    assert list(layouts()) == list(LAYOUTS._own)


def test_our_folders_are_recognised(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    dataset = open_dataset(root)
    assert isinstance(dataset, FolderDataset)
    assert dataset.digest == FolderDataset.open(root).digest
    for name in ("testIMG", "testfMRI", "trainingIMG"):
        shutil.rmtree(root / name)
        assert find_layout(root) == "folder"
    with pytest.raises(DataError, match=r"trainingIMG' must exist\. It does not\."):
        open_dataset(root)
    assert not FolderDataset.recognises(tmp_path / "absent")
    assert not FolderDataset.recognises(root / "trainingfMRI" / "training.npy")


def test_a_folder_of_no_layout_is_told_what_each_needs(tmp_path: Path, installed: Callable[..., None]) -> None:
    installed(raising=_Raising)
    with pytest.raises(DataError, match=r"No dataset layout .* 'folder': Images in .* 'raising': Nothing\.$") as caught:
        open_dataset(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"^The dataset folder '.*absent' must exist\. It does not\.$"):
        open_dataset(tmp_path / "absent")


def test_two_layouts_that_recognise_a_folder_are_both_named(
    make_folder: MakeFolder, installed: Callable[..., None]
) -> None:
    installed(everything=_Everything)
    root = make_folder(training=8)
    with pytest.raises(DataError, match=r"recognised by the layouts 'folder' and 'everything'\. Say which one"):
        open_dataset(root)
    assert isinstance(open_dataset(root, "folder"), FolderDataset)
    assert check(root, "folder").problems == ()


def test_a_layout_that_fails_to_look_is_left_out(
    make_folder: MakeFolder, installed: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    installed(raising=_Raising)
    with caplog.at_level(logging.WARNING):
        assert find_layout(make_folder()) == "folder"
    assert "the dataset layout raising fails to look" in caplog.text


def test_an_unknown_layout_is_refused(make_folder: MakeFolder) -> None:
    for use in (open_dataset, check):
        with pytest.raises(UnknownComponentError, match=r"Unknown dataset layout 'foldr'\. Did you mean 'folder'"):
            use(make_folder(name=use.__name__), "foldr")


def test_a_layout_in_a_file_opens_what_is_its_own(table: Path, table_layout: str, recordings: Path) -> None:
    dataset = open_dataset(table, table_layout)
    assert (dataset.name, dataset.n_training, dataset.n_test, dataset.n_voxels) == ("table", 54, 0, 20)
    assert dataset.images[0].name > dataset.images[1].name
    ours = np.load(recordings / "trainingfMRI" / "training.npy")
    np.testing.assert_array_equal(dataset._responses(np.array([53, 0, 0])), ours[[0, -1, -1]])
    with pytest.raises(DataError, match="No dataset layout recognises"):  # what was named before is not asked
        open_dataset(table)


def test_a_study_opens_somebody_elses_layout(table: Path, table_layout: str, tmp_path: Path) -> None:
    from img2brain.study.opening import open_one

    spec = parse(DatasetSpec, {"path": str(table), "layout": table_layout, "shuffle": 3}, "the test's dataset")
    assert spec.layout == "table.py:Table"
    assert open_one(spec, Home(tmp_path / "home")).name == "table-shuffled"


def test_check_looks_at_somebody_elses_layout(table: Path, table_layout: str) -> None:
    report = check(table, table_layout)
    assert report.problems == ()
    assert (report.layout, report.images, report.test_images, report.voxels) == ("table.py:Table", 54, 0, 20)
    assert report.digest == open_dataset(table, table_layout).digest


def test_check_finds_every_problem_of_somebody_elses_layout(table: Path, table_layout: str) -> None:
    pictures = sorted((table / "pictures").iterdir())[::-1]
    pictures[4].write_bytes(pictures[4].read_bytes()[:40])
    pictures[7].write_bytes(pictures[6].read_bytes())
    pictures[9].unlink()
    with np.load(table / "responses.npz") as archive:
        responses = archive["responses"]
    responses[2, 1], responses[:, 3] = np.nan, 1
    np.savez(table / "responses.npz", responses=responses)
    report = check(table, table_layout)
    found = [f"{problem.severity}: {problem.message}" for problem in report.problems]
    for line, parts in zip(
        found,
        (
            ("error: Responses must be finite. Got 1 NaN", "at row 2 of 'table', voxel 1."),
            ("error: The image", f"{pictures[4].name}' must decode"),
            ("error: The image", f"{pictures[9].name}' must decode", "No such file"),
            ("warning: The training responses of 'table' has 1 constant voxel: 3.",),
            (f"{pictures[6].name}' (training row 6) and ", "(training row 7) hold the same picture."),
        ),
        strict=True,
    ):
        assert all(part in line for part in parts), line
    assert report.digest is None


SPOILS: list[tuple[Callable[[Path], object], str]] = [
    (lambda root: (root / "responses.npz").unlink(), "responses.npz"),
    (lambda root: (root / "responses.npz").write_bytes(b""), "The layout 'table.py:Table' cannot open '.*': EOFError"),
    (lambda root: (root / "images.csv").write_text("picture\na.png\n"), "cannot open '.*': KeyError: 'image'"),
    (lambda root: np.savez(root / "responses.npz", responses=np.zeros((9, 20))), "row 9 of 'table'|cannot be read"),
    (lambda root: np.savez(root / "responses.npz", responses=np.zeros((54, 20), bool)), "Got bool"),
    (lambda root: np.savez(root / "responses.npz", responses=np.zeros((54, 20, 2))), r"must have shape \(\d+, 20\)"),
]


@pytest.mark.parametrize(("spoil", "match"), SPOILS)
def test_what_somebody_elses_code_fails_at_is_one_line(
    table: Path, table_layout: str, spoil: Callable[[Path], object], match: str
) -> None:
    from img2brain.datasets.base import require_sound

    spoil(table)
    with pytest.raises((DataError, OSError), match=match) as caught:
        require_sound(open_dataset(table, table_layout))
    assert "\n" not in str(caught.value)
    errors = [problem for problem in check(table, table_layout).problems if problem.severity == "error"]
    assert errors
    assert all("\n" not in problem.message for problem in errors)


def test_the_commands_take_a_layout(table: Path, table_layout: str) -> None:
    result = CliRunner().invoke(data, ["check", str(table), "--layout", table_layout])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[:2] == ["layout: table.py:Table", "images: 54 training, 0 test"]
    result = CliRunner().invoke(data, ["check", str(table)])
    assert result.exit_code == 2
    assert result.stdout.splitlines()[0] == "layout: -"
    assert "No dataset layout recognises" in result.stdout
    result = CliRunner().invoke(data, ["layouts"])
    assert result.stdout.splitlines() == [f"{name}: {needs}" for name, needs in layouts().items()]


def test_a_class_that_hands_no_facts_on_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from img2brain.datasets.base import Dataset\n"
        "class Mine(Dataset):\n"
        "    def __init__(self, path): self.name = 'mine'\n"
        "    def read_responses(self, rows): return rows\n"
        "class NoReading(Dataset):\n"
        "    pass\n"
        "class NoDataset(Dataset):\n"
        "    read_responses = None\n"
        "    @classmethod\n"
        "    def open(cls, path): return 3\n"
    )
    for name, match in (
        ("Mine", "Mine must hand its facts to Dataset.__init__. It does not."),
        ("NoReading", "must define 'read_responses'. It does not."),
        ("NoDataset", "as a Dataset. Got int."),
    ):
        with pytest.raises((DataError, SpecError), match=match):
            open_dataset(tmp_path, f"{file}:{name}")


def test_a_file_of_a_layout_that_is_absent_is_told(table: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="must exist"):
        open_dataset(table, f"{tmp_path / 'absent.py'}:Table")


def test_a_region_without_a_name_is_refused(make_folder: MakeFolder) -> None:
    root = make_folder()
    (root / "rois.json").write_text(json.dumps({"": [0], "V1": [9]}))
    with pytest.raises(DataError, match=r"rois\.json' must give each region a name\. Got ''\."):
        FolderDataset.open(root)
    messages = [problem.message for problem in check(root).problems]
    assert len(messages) == 2
    assert "a name" in messages[0]
    assert "'V1'" in messages[1]
