"""What a command found is JSON that any program reads."""

from __future__ import annotations

import json
import math

import click
from click.testing import CliRunner

from img2brain.cli._shown import Shown, shows


@click.command()
@shows
def found() -> Shown:
    """Find numbers."""
    return Shown({"scores": [0.5, math.nan, math.inf], "n": 2}, ["first", "second"], exit_code=2)


def test_lines_or_json_are_printed_and_the_exit_code_is_the_same() -> None:
    lines, told = (CliRunner().invoke(found, words) for words in ([], ["--json"]))
    assert (lines.stdout, lines.exit_code) == ("first\nsecond\n", 2)
    assert (json.loads(told.stdout, parse_constant=None), told.exit_code) == ({"scores": [0.5, None, None], "n": 2}, 2)
