"""What there is to choose from."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from img2brain.backbones import backbone_names
from img2brain.catalog import METRICS, REGRESSORS
from img2brain.cli import main


def run(*words: str) -> str:
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(
    ("command", "names"),
    [("backbones", backbone_names), ("regressors", lambda: REGRESSORS.names), ("metrics", lambda: METRICS.names)],
)
def test_all_are_listed_as_lines_and_as_json(command: str, names: Callable[[], tuple[str, ...]]) -> None:
    known = list(names())  # now: other tests make components of their own known
    assert run(command).splitlines() == known
    assert json.loads(run(command, "--json")) == known


def test_networks_are_found_by_a_pattern() -> None:
    found = run("backbones", "resnet*").split()
    assert "resnet50" in found
    assert all(name.startswith("resnet") for name in found)


def test_a_pattern_that_fits_nothing_is_answered_with_close_matches() -> None:
    result = CliRunner().invoke(main, ["backbones", "resnet5O*"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert (
        result.stderr == "Error: No backbone fits 'resnet5O*'. Did you mean 'resnet50' or 'resnet152' or 'resnet34'?\n"
    )


def test_layers_are_json_too() -> None:
    assert json.loads(run("layers", "alexnet", "--json")) == run("layers", "alexnet").splitlines()


@pytest.mark.parametrize("words", [["backbones"], ["layers", "resnet50"], ["layers", "torchvision:vgg16", "--all"]])
def test_neither_torch_nor_torchvision_is_loaded_to_list(words: list[str]) -> None:
    code = (
        "import sys\nfrom img2brain.cli import main\n"
        f"main({words}, standalone_mode=False)\n"
        "assert not {'torch', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
