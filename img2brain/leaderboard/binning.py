"""Lay scores out for figures: sizes into columns, layers into rows, voxels into bins."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BIN_WIDTH = 0.02
MOST_BINS = 500
MOST_COLUMNS = 16


def by_value(name: str) -> list[tuple[int, int, str]]:
    """Sort key in which features.9 comes before features.12."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def size_columns(sizes: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
    """Name the columns of the heat map, and give the column of every trial."""
    distinct, place = np.unique(sizes, return_inverse=True)
    if len(distinct) <= MOST_COLUMNS:
        return [str(size) for size in distinct], place
    edges = np.unique(np.geomspace(max(1, distinct[0]), distinct[-1] + 1, MOST_COLUMNS + 1).round().astype(int))
    labels = [f"{low}–{high - 1}" if high - low > 1 else str(low) for low, high in itertools.pairwise(edges)]
    return labels, np.searchsorted(edges, sizes, side="right") - 1


def layer_table(best: pd.Series[float], order: Sequence[str], columns: list[str]) -> pd.DataFrame:
    """Lay out the scores of one backbone, layers down in the order of the network."""
    table = best.unstack("column")
    others = sorted(set(table.index) - set(order), key=by_value)
    return table.reindex(index=[*order, *others], columns=range(len(columns))).set_axis(columns, axis=1)


def bin_edges(values: list[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Give the edges of bins that hold all values, at whole multiples of the width.

    The width is doubled until there are few enough of them: scores that have no lower bound may lie far off.
    """
    low = min((float(each.min()) for each in values if len(each)), default=0.0)
    high = max((float(each.max()) for each in values if len(each)), default=0.0)
    width = BIN_WIDTH
    while (high - low) / width > MOST_BINS:
        width *= 2
    first, last = np.floor(low / width), np.floor(high / width) + 1
    return np.arange(first, last + 1) * width
