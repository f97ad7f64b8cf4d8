"""The development rows of a dataset, and the guard that keeps all others from whoever holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from img2brain._mapped import Make, release
from img2brain.datasets._split import Rows
from img2brain.errors import DataError

Array = NDArray[Any]

BLOCK_ROWS = 1024
BLOCK_BYTES = 1 << 28


@dataclass(frozen=True, eq=False)
class Development:
    """The development rows of a dataset: the only responses that a search is handed.

    Parameters
    ----------
    rows : ndarray of intp
        The development rows, sorted and unchangeable.
    n_voxels : int
        Number of voxels.
    rois : mapping of str to ndarray of intp
        Voxel indices by region of interest.
    ncsnr : ndarray of float64, shape (n_voxels,), or None
        Standard deviation of the signal over that of the noise of one trial.
    noise_ceiling : ndarray of float64, shape (n_voxels,), or None
        Share of the variance of the responses that can be explained, 0..1.
    """

    rows: Rows
    n_voxels: int
    rois: Mapping[str, Rows]
    ncsnr: Array | None
    noise_ceiling: Array | None
    _read: Callable[[Rows], Array] = field(repr=False)
    _read_repeats: Callable[[Rows], Array | None] = field(repr=False)
    _read_counts: Callable[[Rows], NDArray[np.int64] | None] = field(repr=False)

    def responses(self, rows: Rows) -> Array:
        """Read the responses of some development rows.

        Parameters
        ----------
        rows : ndarray of intp, shape (n,)
            Row numbers into `Dataset.images`, in any order.

        Returns
        -------
        ndarray of float32 or float64, shape (n, n_voxels)
            New numbers, in the dataset's unit.

        Raises
        ------
        DataError
            If a row is not a development row.
        """
        return self._read(rows)

    def blocks(
        self, rows: Rows, *, block_rows: int = BLOCK_ROWS, block_bytes: int = BLOCK_BYTES
    ) -> Iterator[tuple[Rows, Array]]:
        """Read the responses of some development rows block by block, so that they need not all be in memory.

        Parameters
        ----------
        rows : ndarray of intp, shape (n,)
            As for `responses`.
        block_rows, block_bytes : int
            The most rows of a block, and bytes of float32.

        Yields
        ------
        rows : ndarray of intp, shape (n_block,)
            The rows of a block.
        responses : ndarray of float32 or float64, shape (n_block, n_voxels)
            What `responses` gives for them.

        Raises
        ------
        DataError
            If a row is not a development row.
        """
        return ((part, self._read(part)) for part in row_blocks(rows, self.n_voxels, block_rows, block_bytes))

    def gathered(self, rows: Rows, make: Make) -> Array:
        """Read the responses of some development rows block by block into an array that is made for them.

        Parameters
        ----------
        rows : ndarray of intp, shape (n,)
            As for `responses`.
        make : callable
            Makes an array of zeros of a shape and a type.

        Returns
        -------
        ndarray of float32 or float64, shape (n, n_voxels)
            What `responses` gives.

        Raises
        ------
        DataError
            If a row is not a development row.
        """
        found: Array = gathered(self._read, rows, self.n_voxels, make)
        return found

    def repeats(self, rows: Rows, make: Make = np.zeros) -> Array | None:
        """Read single repeats of some development rows, block by block.

        Parameters
        ----------
        rows : ndarray of intp, shape (n,)
            As for `responses`.
        make : callable
            Makes the array that they are read into, of a shape and a type.

        Returns
        -------
        ndarray of float32 or float64, shape (n, n_repeats, n_voxels), or None
            NaN where a repeat is missing; None where the dataset has no repeats of these rows.

        Raises
        ------
        DataError
            If a row is not a development row.
        """
        found: Array | None = gathered(self._read_repeats, rows, self.n_voxels, make)
        return found

    def counts(self, rows: Rows) -> NDArray[np.int64] | None:
        """Read how many repeats the responses of some development rows are means of.

        Parameters
        ----------
        rows : ndarray of intp, shape (n,)
            As for `responses`.

        Returns
        -------
        ndarray of int64, shape (n,), or None
            None where the dataset does not tell.

        Raises
        ------
        DataError
            If a row is not a development row.
        """
        return self._read_counts(rows)


class Guarded:
    """A reader that keeps its own set of allowed rows, so that no change to its holder widens it."""

    def __init__(self, read: Callable[[Rows], Any], allowed: frozenset[int]) -> None:
        self.__read, self.__allowed = read, allowed

    def __call__(self, rows: Rows) -> Any:
        """Read some rows, each of them allowed."""
        asked = np.array(rows)  # a copy: nobody can change the rows between the check and the reading
        if asked.ndim != 1 or (asked.size and asked.dtype.kind not in "iu"):
            raise DataError(f"Rows must be one dimension of integers. Got {asked.dtype} of shape {asked.shape}.")
        for row in asked.tolist():
            if row not in self.__allowed:
                raise DataError(f"Row {row} must be a development row. It is kept from the search.")
        return self.__read(asked.astype(np.intp))


def frozen(values: Array) -> Array:
    """Copy numbers into memory that not even `setflags` can make writable."""
    return np.frombuffer(values.tobytes(), dtype=values.dtype)


def row_blocks(
    rows: Rows, n_values: int, block_rows: int = BLOCK_ROWS, block_bytes: int = BLOCK_BYTES
) -> Iterator[Rows]:
    """Cut rows of `n_values` numbers in float32 into blocks of so many rows and bytes at most."""
    step = max(1, min(block_rows, block_bytes // (4 * n_values)))
    return (rows[start : start + step] for start in range(0, len(rows), step))


def gathered(
    read: Callable[[Rows], Any],
    rows: Rows,
    n_voxels: int,
    make: Make,
    kind: DTypeLike | None = None,
    block_rows: int | None = None,
) -> Any:
    """Read responses, or single repeats of them, block by block into an array that is made for them.

    Only the array may be large: what memory has no room for, `make` puts elsewhere.

    Parameters
    ----------
    read : callable
        From rows to an array, or to None where there is none for them: then there is none for all.
    rows : ndarray of intp, shape (n,)
        Which rows.
    n_voxels : int
        Number of voxels.
    make : callable
        Makes an array of zeros of a shape and a type.
    kind : dtype, optional
        The narrowest type of the array; by default that of what is read.
    block_rows : int, optional
        The most rows of a block.
    """
    found: Array | None = None
    for some in row_blocks(np.arange(len(rows)), n_voxels, block_rows or len(rows), BLOCK_BYTES // 2):
        block = read(rows[some])
        if block is None:
            return None
        if found is None:
            found = make((len(rows), *block.shape[1:]), np.result_type(block, kind or block))
        found = _into(found, some, block, make)
    return read(rows) if found is None else found  # of no rows there are no blocks


def _into(found: Array, rows: Rows, block: Array, make: Make) -> Array:
    """Write a block into its rows of an array, which is made anew where it is too narrow.

    Blocks of rows may differ in how many repeats they have at most: those that lack are NaN.
    """
    width, kind = max(found.shape[1], block.shape[1]), np.result_type(found, block)
    if width > found.shape[1] or kind != found.dtype:
        wider = make((len(found), width, *found.shape[2:]), kind)
        for part in row_blocks(np.arange(rows[0]), int(np.prod(found.shape[1:]))):
            wider[part, : found.shape[1]] = found[part]
            wider[part, found.shape[1] :] = np.nan
        found = wider
    found[rows, : block.shape[1]] = block
    found[rows, block.shape[1] :] = np.nan
    release(found)
    return found
