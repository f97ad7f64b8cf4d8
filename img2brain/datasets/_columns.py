"""Columns: what is known of each row beside its image and its responses, such as its session or its category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets._tables import is_absent
from img2brain.datasets._ties import Labels, first_of_each
from img2brain.errors import DataError, ShapeError, SpecError, did_you_mean

Column = tuple[
    tuple[str, ...], ...
]  # of each row its values: several where it is a mean over trials, none where absent
_SHOWN = 3


def require_column(label: str, values: Sequence[Any] | NDArray[Any], n_images: int) -> Column:
    """Return a column as texts.

    Parameters
    ----------
    label : str
        What it is called, for messages.
    values : sequence, length n_images
        A text or whole number for each row, or a tuple of them where a row has several.
    n_images : int
        Number of rows.

    Raises
    ------
    DataError
        If a value is neither; if there is not one for each row, a `ShapeError`.
    """
    found = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if len(found) != n_images:
        raise ShapeError(f"{label} must have a value for each of {n_images} rows. Got {len(found)}.")
    return tuple(_texts(label, value) for value in found)


def _texts(label: str, value: Any) -> tuple[str, ...]:
    several = value if isinstance(value, tuple) else (value,)
    wrong = [item for item in several if not isinstance(item, str | int | np.str_ | np.integer)]
    if wrong:
        raise DataError(f"{label} must be texts or whole numbers. Got {type(wrong[0]).__name__}.")
    return tuple(sorted({text for text in map(str, several) if not is_absent(text)}))


def column_named(columns: Mapping[str, Column], name: str, asking: str, whose: str) -> Column:
    """Return a column.

    Raises
    ------
    SpecError
        If there is none of this name, or it tells nothing.
    """
    if name not in columns:
        told = did_you_mean(name, columns) if columns else "It has no columns."
        raise SpecError(f"{asking!r} must be a column of {whose!r}. Got {name!r}. {told}")
    if not any(columns[name]):
        raise SpecError(f"{asking!r} must be a column that tells something of {whose!r}. {name!r} is empty.")
    return columns[name]


def single_values(column: Column, name: str, asking: str) -> list[str]:
    """Return the value of each row, the empty text where there is none.

    Raises
    ------
    SpecError
        If a row has several.
    """
    several = [row for row, values in enumerate(column) if len(values) > 1]
    if several:
        values = ", ".join(map(repr, column[several[0]][:_SHOWN]))
        raise SpecError(
            f"{asking!r} must be a column of one value for each row. {len(several)} rows have several of {name!r}, the "
            f"first {values} (row {several[0]}): they are means over trials."
        )
    return [values[0] if values else "" for values in column]


def linked(column: Column) -> Labels:
    """Label rows so that those that share a value, directly or through others, have the same label.

    Examples
    --------
    >>> linked((("a",), ("a", "b"), ("b",), (), ("c",))).tolist()
    [0, 0, 0, 3, 4]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    number = {value: len(column) + place for place, value in enumerate(dict.fromkeys(chain.from_iterable(column)))}
    edges = np.array([(row, number[value]) for row, values in enumerate(column) for value in values], dtype=np.intp)
    n_nodes = len(column) + len(number)
    graph = coo_array((np.ones(len(edges), bool), edges.reshape(-1, 2).T), shape=(n_nodes, n_nodes))
    return first_of_each(connected_components(graph, directed=False)[1][: len(column)].tolist())
