"""What tables say of voxels, a line for each: regions of interest, ncsnr and noise ceilings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets._split import Rows
from img2brain.datasets._tables import Table, is_absent
from img2brain.errors import DataError, ShapeError

NAMED = ("region", "roi", "area")  # columns that hold names of regions
_CEILINGS = ("noise_ceiling", "nc")
_NUMBERS = ("voxel", "voxel_id", "vertex", "channel", "neuron", "voxel_x", "voxel_y", "voxel_z", "subject_id")
_MOST_CEILING = 0.999
_YES, _NO = ("1", "1.0", "true"), ("0", "0.0", "false", "")


@dataclass(frozen=True)
class OfVoxels:
    """What is said of voxels."""

    rois: dict[str, Rows] = field(default_factory=dict)
    ncsnr: NDArray[np.float64] | None = None
    noise_ceiling: NDArray[np.float64] | None = None


def read_voxels(table: Table, n_voxels: int) -> OfVoxels:
    """Read a table with a line for each voxel.

    Parameters
    ----------
    table : Table
        Columns of 0 and 1 are regions; ``region`` (or roi, area) holds the name of one, or nothing; ``ncsnr``, and
        ``noise_ceiling`` or ``nc`` as a share 0..1, are numbers; all else is left alone.
    n_voxels : int
        How many voxels there are.

    Raises
    ------
    ShapeError
        If there is not a line for each.
    DataError
        If voxels are numbered in another order, or a number is none.
    """
    if len(table) != n_voxels:
        raise ShapeError(f"{table.label} must have a line for each of {n_voxels} voxels. It has {len(table)}.")
    _require_order(table)
    ceiling = next((table.numbers(name) for name in _CEILINGS if table.has(name)), None)
    if ceiling is not None and np.nanmax(ceiling, initial=0) > 1:
        raise DataError(f"The noise ceiling of {table.label} must be in 0..1. Got {np.nanmax(ceiling):g}: in percent?")
    ncsnr = table.numbers("ncsnr") if table.has("ncsnr") else None
    return OfVoxels(regions_of(table), ncsnr, ceiling)


def regions_of(table: Table) -> dict[str, Rows]:
    """Return the regions that a table of voxels tells, those that hold a voxel."""
    return dict(_regions(table))


def _require_order(table: Table) -> None:
    """Refuse voxels that are numbered otherwise than the columns of the responses are."""
    for name in ("voxel", "voxel_id"):
        if table.has(name):
            numbers = table.whole_numbers(name)
            if (np.diff(numbers) <= 0).any():
                raise DataError(f"The lines of {table.label} must be in the order of {name!r}. They are not.")


def _regions(table: Table) -> Iterator[tuple[str, Rows]]:
    """Yield the regions that hold a voxel."""
    for head in table.heads:
        cells = [cell.lower() for cell in table.column(head)] if head else []
        if head.lower() in NAMED:
            yield from _named(table.column(head))
        elif head and head.lower() not in _NUMBERS and set(cells) <= {*_YES, *_NO} and not set(cells).isdisjoint(_YES):
            yield head, _where(np.isin(cells, _YES))


def _named(cells: tuple[str, ...]) -> Iterator[tuple[str, Rows]]:
    for name in dict.fromkeys(cell for cell in cells if not is_absent(cell)):
        yield name, _where(np.array([cell == name for cell in cells]))


def _where(mask: Any) -> Rows:
    return np.flatnonzero(mask).astype(np.intp)


def ncsnr_of(ceiling: NDArray[np.float64], n_repeats: int) -> NDArray[np.float64]:
    """Return the ratio of signal and noise of one repeat, given the noise ceiling of the mean over some.

    nc = s^2 / (s^2 + 1 / n) for the ratio s, hence s^2 = nc / (1 - nc) / n. A ceiling above .999 is taken as that.

    Examples
    --------
    >>> ncsnr_of(np.array([0.0, 0.5, 0.75]), 3).round(3)
    array([0.   , 0.577, 1.   ])
    """
    share = np.minimum(ceiling, _MOST_CEILING)
    return np.asarray(np.sqrt(share / (1 - share) / n_repeats))
