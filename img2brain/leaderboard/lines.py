"""Lines of a table, as a table in which counts stay whole numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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


def side_by_side(columns: Mapping[str, Mapping[str, str]], width: int) -> Iterator[str]:
    r"""Lay columns of texts out, as many beside one another as there is room for, and the others below them.

    Parameters
    ----------
    columns : mapping of str to mapping
        By its name, the cells of each by theirs; one that a column lacks is shown as ``-``.
    width : int
        How long a line may be. One column is there however long it is.

    Examples
    --------
    >>> print(*side_by_side({"V1": {"r": "0.5", "p": "0.1"}, "V4": {"r": "0.4"}, "IT": {"r": "0.3"}}, 11), sep="\n")
        V1   V4
    r  0.5  0.4
    p  0.1    -
        IT
    r  0.3
    p    -
    """
    heads = list(dict.fromkeys(head for cells in columns.values() for head in cells))
    texts = [[name, *(cells.get(head, "-") for head in heads)] for name, cells in columns.items()]
    first = ["", *heads]
    while texts:
        shown = [first]
        while texts and (len(shown) == 1 or _room([*shown, texts[0]]) <= width):
            shown.append(texts.pop(0))
        aligned = [_to_width(column, str.ljust if column is first else str.rjust) for column in shown]
        yield from ("  ".join(line) for line in zip(*aligned, strict=True))


def _room(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) for column in columns) + 2 * (len(columns) - 1)


def _to_width(column: Sequence[str], place: Callable[[str, int], str]) -> list[str]:
    width = max(map(len, column))
    return [place(cell, width) for cell in column]


def is_count(lines: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Tell counts from scores: a count is a whole number wherever there is one."""
    return all(type(line[name]) is int for line in lines if name in line)
