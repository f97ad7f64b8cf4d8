"""What there is to choose from."""

from __future__ import annotations

import json

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
    [("backbones", backbone_names()), ("regressors", REGRESSORS.names), ("metrics", METRICS.names)],
)
def test_all_are_listed_as_lines_and_as_json(command: str, names: tuple[str, ...]) -> None:
    assert run(command).splitlines() == list(names)
    assert json.loads(run(command, "--json")) == list(names)


def test_networks_are_found_by_a_pattern() -> None:
    found = run("backbones", "resnet*").split()
    assert "resnet50" in found
    assert all(name.startswith("resnet") for name in found)
    assert run("backbones", "no such network") == ""
