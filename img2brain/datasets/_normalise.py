"""Z-scores within sessions or runs, taken when they are first needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets._split import Rows
from img2brain.errors import DataError

F64 = NDArray[np.float64]
Normalise = Callable[[Rows, F64], F64]  # from numbers of trials and their responses to these, normalised in place


def as_they_are(_: Rows, values: F64) -> F64:
    """Return responses as they are."""
    return values


def within(
    what: str,
    keys: Rows,
    trials: Rows,
    read: Callable[[Rows], F64],
    n_voxels: int,
    blocks: Callable[[Rows], Iterator[Rows]],
) -> Normalise:
    """Return what z-scores each voxel within the trials of one key.

    Parameters
    ----------
    what : str
        What a key is called, for messages.
    keys : ndarray of int (n_all_trials,)
        The session or run of every trial.
    trials : ndarray of int
        Those that count.
    read : callable
        Reads the responses of trials, in float64.
    n_voxels : int
        Number of voxels.
    blocks : callable
        Cuts trials into blocks that fit into memory.

    Raises
    ------
    DataError
        If one of them has a single trial.

    Notes
    -----
    The mean and the standard deviation (of n, not n - 1) from one pass over a session when it is first read; kept from
    there on, 16 bytes for each voxel and session. A NaN has no part in either, and stays one.
    """
    groups = {int(key): trials[keys[trials] == key] for key in np.unique(keys[trials])}
    alone = [group[0] for group in groups.values() if len(group) < 2]
    if alone:
        raise DataError(
            f"A {what} must have at least 2 trials to be normalised. {len(alone)} of {len(groups)} have one, the first "
            f"that of trial {alone[0]}, counted from 0."
        )
    known: dict[int, tuple[F64, F64]] = {}

    def of(key: int) -> tuple[F64, F64]:
        if key not in known:
            known[key] = _mean_and_deviation(groups[key], read, n_voxels, blocks)
        return known[key]

    def normalise(some: Rows, values: F64) -> F64:
        for key in np.unique(keys[some]):
            mean, deviation = of(int(key))
            for place in np.flatnonzero(keys[some] == key):
                values[place] -= mean
                values[place] /= deviation
        return values

    return normalise


def _mean_and_deviation(
    trials: Rows, read: Callable[[Rows], F64], n_voxels: int, blocks: Callable[[Rows], Iterator[Rows]]
) -> tuple[F64, F64]:
    """Return the mean and the standard deviation of each voxel; infinite where it does not vary, so that it is 0."""
    origin = np.nan_to_num(read(trials[:1])[0])  # sums are of differences from one trial, so that no digits are lost
    n_there, sums, squares = np.zeros(n_voxels), np.zeros(n_voxels), np.zeros(n_voxels)
    for block in blocks(trials):
        away = read(block) - origin
        if np.isnan(away.sum()):
            n_there -= np.isnan(away).sum(axis=0)
            away = np.nan_to_num(away)
        n_there += len(block)
        sums += away.sum(axis=0)
        squares += np.einsum("ij,ij->j", away, away)
    n_there = np.maximum(n_there, 1)
    mean = sums / n_there
    deviation: F64 = np.sqrt(np.maximum(squares / n_there - mean**2, 0.0))
    return origin + mean, np.where(deviation > 0, deviation, np.inf)
