from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from img2brain.cli.data import data
from img2brain.datasets.folder import FolderDataset
from img2brain.errors import SpecError

SMALL = ["--images", "20", "--voxels", "5", "--seed", "3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli") / "data"
    result = CliRunner().invoke(data, ["sample", str(root), *SMALL])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"wrote 20 images and 5 voxels to {root}\n"
    return root


def test_check_prints_what_the_folder_holds(folder: Path) -> None:
    images = FolderDataset.open(folder).images
    training, test = (images[0], images[1], images[17]), images[18:]
    result = CliRunner().invoke(data, ["check", str(folder)])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "layout: folder",
        "images: 18 training, 2 test",
        "voxels: 5",
        "unit: z",
        "subject: simulated",
        f"digest: {FolderDataset.open(folder).digest}",
        *(f"training row {row}: trainingIMG/{image.name}" for row, image in zip((0, 1, 17), training, strict=True)),
        *(f"test row {row}: testIMG/{image.name}" for row, image in enumerate(test)),
        "no problems",
    ]


def test_a_check_is_told_to_programs(folder: Path, tmp_path: Path) -> None:
    told = json.loads(CliRunner().invoke(data, ["check", str(folder), "--json"]).stdout)
    assert (told["layout"], told["images"], told["test_images"], told["voxels"]) == ("folder", 18, 2, 5)
    assert told["digest"] == FolderDataset.open(folder).digest
    assert (told["problems"], told["tied"], len(told["rows"])) == ([], None, 5)
    result = CliRunner().invoke(data, ["check", str(tmp_path), "--json"])
    assert result.exit_code == 2
    assert {problem["severity"] for problem in json.loads(result.stdout)["problems"]} == {"error"}


def test_layouts_are_told_to_programs() -> None:
    told = json.loads(CliRunner().invoke(data, ["layouts", "--json"]).stdout)
    lines = CliRunner().invoke(data, ["layouts"]).stdout.splitlines()
    assert [f"{name}: {needs}" for name, needs in told.items()] == lines


def test_check_prints_one_line_a_problem_and_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / "trainingIMG").mkdir()
    result = CliRunner().invoke(data, ["check", str(tmp_path)])
    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    assert lines[:6] == [
        "layout: folder",
        "images: 0 training, 0 test",
        "voxels: 0",
        "unit: a.u.",
        "subject: -",
        "digest: -",
    ]
    assert [line.split(":")[0] for line in lines[6:]] == ["error", "error"]


def test_a_warning_also_exits_with_2(tmp_path: Path) -> None:
    CliRunner().invoke(data, ["sample", str(tmp_path / "a"), *SMALL])
    (tmp_path / "a" / "testIMG" / "notes.txt").touch()
    result = CliRunner().invoke(data, ["check", str(tmp_path / "a")])
    assert result.exit_code == 2
    assert "warning: " in result.stdout
    assert "notes.txt" in result.stdout


def test_bad_numbers_raise_an_error_of_the_tree(tmp_path: Path) -> None:
    result = CliRunner().invoke(data, ["sample", str(tmp_path / "a"), "--images", "5"])
    assert isinstance(result.exception, SpecError)


@pytest.mark.parametrize("arguments", [["check"], ["sample"], ["check", __file__], ["sample", "x", "--images", "many"]])
def test_bad_usage_exits_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(data, arguments).exit_code == 2


@pytest.mark.parametrize("command", ["check", "sample"])
def test_help_shows_an_example(command: str) -> None:
    assert f"img2brain data {command} " in CliRunner().invoke(data, [command, "--help"]).output


def test_the_command_group_imports_nothing_heavy() -> None:
    code = "import sys, img2brain.cli.data; print(sorted({'numpy', 'PIL', 'scipy', 'torch'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
