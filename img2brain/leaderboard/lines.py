"""Lines of a table, as a table in which counts stay whole numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd


def table_of(lines: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a table, a count a whole number also where some lines lack it.

    Examples
    --------
    >>> table_of([{"voxels": 3, "r": 1.0}, {"r": 0.5}])
       voxels    r
    0       3  1.0
    1    <NA>  0.5
    """
    lines = [encodable(line) for line in lines]
    names = dict.fromkeys(name for line in lines for name in line)
    return pd.DataFrame(lines).astype({name: "Int64" for name in names if is_count(lines, name)})


def encodable(line: Mapping[str, Any]) -> dict[str, Any]:
    r"""Spell out in a line, names and texts, what no file of text can hold: half of a character.

    Examples
    --------
    >>> encodable({"V1\ud800": "\udfff", "n": 1})
    {'V1\\ud800': '\\udfff', 'n': 1}
    """
    return {_whole(name): _whole(value) if isinstance(value, str) else value for name, value in line.items()}


def _whole(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def is_count(lines: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Tell counts from scores: a count is a whole number wherever there is one."""
    return all(type(line[name]) is int for line in lines if name in line)
