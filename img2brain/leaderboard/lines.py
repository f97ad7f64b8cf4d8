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
    names = dict.fromkeys(name for line in lines for name in line)
    return pd.DataFrame(lines).astype({name: "Int64" for name in names if is_count(lines, name)})


def is_count(lines: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Tell counts from scores: a count is a whole number wherever there is one."""
    return all(type(line[name]) is int for line in lines if name in line)
