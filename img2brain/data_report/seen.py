"""One pass over the responses of a part: what each row and each voxel is like, and some of both to draw."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from img2brain import digest
from img2brain._quiet import ignored
from img2brain.datasets._looks import Numbers
from img2brain.datasets._recorded import Recorded
from img2brain.datasets._responses import steps
from img2brain.datasets._ties import first_of_each

F64 = NDArray[np.float64]
Places = NDArray[np.intp]
Five = tuple[float, float, float, float, float]

MOST = 2000  # rows, and voxels, that are drawn


def evenly(n: int, most: int = MOST) -> Places:
    """Choose some of many, evenly spread, the first and the last among them.

    Examples
    --------
    >>> evenly(9, 3)
    array([0, 4, 8])
    """
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.intp))


@dataclass(frozen=True, eq=False)
class Seen:
    """What the responses of a part are like. A value that is not finite has no part in any mean.

    Attributes
    ----------
    row_mean, row_sd : ndarray (n_rows,)
        Over the voxels.
    voxel_mean, voxel_sd : ndarray (n_voxels,)
        Over the rows.
    n_zero, n_not_finite : int
        Values that are exactly 0, and that are NaN or infinite.
    equal : ndarray of intp (n_rows,)
        Of each row the first one whose responses are the same.
    rows, voxels : ndarray of intp
        Those that are drawn.
    values : ndarray (rows, voxels)
        Their responses, NaN where they are not finite.
    """

    row_mean: F64
    row_sd: F64
    voxel_mean: F64
    voxel_sd: F64
    n_zero: int
    n_not_finite: int
    equal: Places
    rows: Places
    voxels: Places
    values: F64

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.row_mean)

    @property
    def n_values(self) -> int:
        """Number of responses."""
        return len(self.row_mean) * len(self.voxel_mean)


@np.errstate(over="ignore", invalid="ignore")  # values beyond what can be squared: the check refuses them
def look(numbers: Numbers) -> Seen:
    """Read the responses of a part once, in blocks.

    Notes
    -----
    Sums are of what the first row is exceeded by: squares of a mean far from 0 take no digits.
    """
    n_rows, n_voxels = numbers.shape
    rows, voxels = evenly(n_rows), evenly(n_voxels)
    row_mean, row_sd, values = np.empty(n_rows), np.empty(n_rows), np.empty((len(rows), len(voxels)))
    counts, sums, squares = np.zeros(n_voxels), np.zeros(n_voxels), np.zeros(n_voxels)
    n_zero, digests, origin = (
        0,
        list[Hashable](),
        np.nan_to_num(numbers.read(0, 1)[0].astype(np.float64), posinf=0, neginf=0),
    )
    for start, stop in steps(numbers.shape):
        block = numbers.read(start, stop).astype(np.float64)
        there = np.isfinite(block)
        digests += [digest.of_bytes(row.tobytes()) for row in block]
        n_zero += int(np.count_nonzero(block == 0))
        own = slice(*np.searchsorted(rows, [start, stop]))
        values[own] = np.where(there, block, np.nan)[np.ix_(rows[own] - start, voxels)]
        row_mean[start:stop], row_sd[start:stop] = _of_rows(block, there)
        block -= origin
        block[~there] = 0.0
        counts += there.sum(axis=0)
        sums += block.sum(axis=0)
        squares += np.einsum("ij,ij->j", block, block)
    n = np.maximum(counts, 1)
    sd = np.sqrt(np.maximum(squares / n - (sums / n) ** 2, 0.0))
    n_lost = int(n_rows * n_voxels - counts.sum())
    return Seen(row_mean, row_sd, origin + sums / n, sd, n_zero, n_lost, first_of_each(digests), rows, voxels, values)


def _of_rows(block: F64, there: NDArray[np.bool_]) -> tuple[F64, F64]:
    if there.all():
        return block.mean(axis=1), block.std(axis=1)
    n = np.maximum(there.sum(axis=1), 1)
    filled = np.where(there, block, 0.0)
    mean = filled.sum(axis=1) / n
    left = np.where(there, block - mean[:, None], 0.0)
    return mean, np.sqrt((left**2).sum(axis=1) / n)


@dataclass(frozen=True, eq=False)
class Stretch:
    """Trials or rows that follow each other: those of a session, or an equal share of all.

    Attributes
    ----------
    name : str
        What it is called.
    first, n : int
        Its first trial, and how many it holds, of those in all.
    means : ndarray (n_voxels,)
        Mean of each voxel that is drawn, in its standard deviations from its mean over all.
    levels : tuple of float, optional
        Percentiles of its responses, as they lie in the files.
    """

    name: str
    first: int
    n: int
    means: F64
    levels: Five | None


@dataclass(frozen=True, eq=False)
class Drift:
    """How responses move over sessions, or over the order in which they lie in the files.

    Attributes
    ----------
    what : str
        What is followed: trials, or rows.
    by_session : bool
        Whether stretches are sessions.
    stretches : list of Stretch
        In the order of their first trial.
    share : ndarray (n_voxels,)
        Of each voxel that is drawn: the share of its variance that lies between the stretches, less what chance gives
        (epsilon squared; Kelley, 1935).
    by_chance : float
        A share that noise alone would hardly reach.
    trials : ndarray of intp
        The trials or rows that were read.
    trial_mean, trial_sd : ndarray (n_trials,)
        Of each, over the voxels that are drawn.
    """

    what: str
    by_session: bool
    stretches: list[Stretch]
    share: F64
    by_chance: float
    trials: Places
    trial_mean: F64
    trial_sd: F64

    @property
    def median(self) -> float:
        """The share of the median voxel; 0 where no voxel varies."""
        share = self.share[np.isfinite(self.share)]
        return float(np.median(share)) if len(share) else 0.0

    @property
    def moved(self) -> float:
        """How many voxels, as a share, have more than a tenth of their variance between stretches, and than chance."""
        share = self.share[np.isfinite(self.share)]
        return float((share > max(_MOVED, self.by_chance)).mean()) if len(share) else 0.0


_MOVED = 0.1


_N_STRETCHES = 20
_LEAST_IN_STRETCH = 3
_STEP_BYTES = 1 << 26


@np.errstate(over="ignore", invalid="ignore")
def drift_of(recorded: Recorded, n_voxels: int) -> Drift | None:
    """Follow what was recorded; None where there is too little of it."""
    some, voxels = evenly(recorded.n), evenly(n_voxels)
    sessions = None if recorded.sessions is None else [str(session) for session in recorded.sessions]
    labels = [sessions[trial] for trial in some] if sessions else _stretches(len(some))
    names = list(dict.fromkeys(labels))
    if len(names) < 2 or len(some) < _LEAST_IN_STRETCH * len(names):
        return None
    step = max(1, _STEP_BYTES // (8 * n_voxels))
    parts = [recorded.read(some[start : start + step])[:, voxels] for start in range(0, len(some), step)]
    values = np.concatenate(parts).astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    order, trial_mean, trial_sd = np.array(labels), *_of_rows(values, ~np.isnan(values))
    levels = [five(values[order == name]) for name in names]
    with ignored(RuntimeWarning), np.errstate(all="ignore"):  # a voxel that does not vary, or is absent in a session
        values -= np.nanmean(values, axis=0)
        values /= np.nanstd(values, axis=0)
        found = [
            _stretch(name, values[order == name], some[order == name], sessions, level)
            for name, level in zip(names, levels, strict=True)
        ]
        within = sum(
            np.nansum((values[order == name] - part.means) ** 2, axis=0)
            for name, part in zip(names, found, strict=True)
        )
        share = 1 - (within / (len(some) - len(names))) / (np.nansum(values**2, axis=0) / (len(some) - 1))
    by_chance = 2 * np.sqrt(2 * (len(names) - 1)) / len(some)
    share = np.asarray(share)
    return Drift(recorded.what, sessions is not None, found, share, float(by_chance), some, trial_mean, trial_sd)


def _stretches(n: int) -> list[str]:
    number = np.arange(n) * _N_STRETCHES // n
    return [f"{100 * k // _N_STRETCHES}–{100 * (k + 1) // _N_STRETCHES} %" for k in number]


def _stretch(name: str, values: F64, trials: Places, sessions: Sequence[str] | None, levels: Five | None) -> Stretch:
    n = len(values) if sessions is None else sessions.count(name)
    return Stretch(name, int(trials[0]), n, np.nanmean(values, axis=0), levels)


def five(values: Iterable[float] | F64) -> Five | None:
    """Return the 5th, 25th, 50th, 75th and 95th percentile of what is finite; None where nothing is."""
    found = np.asarray(values, dtype=np.float64).ravel()
    found = found[np.isfinite(found)]
    if not len(found):
        return None
    low, q1, middle, q3, high = np.percentile(found, [5, 25, 50, 75, 95]).tolist()
    return low, q1, middle, q3, high
