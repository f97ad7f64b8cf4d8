"""Splits: which rows train, which validate and which confirm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from img2brain import digest
from img2brain.errors import SpecError
from img2brain.spec import SplitSpec

Rows = NDArray[np.intp]

_PRESET_SEED = 224
_LEAST = 2  # a correlation needs two rows


class Fold(NamedTuple):
    """Rows that a trial is fitted to, and rows that it is scored on."""

    train: Rows
    validation: Rows


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers into `Dataset.images`, in three parts that share none.

    Parameters
    ----------
    train, validation : ndarray of intp
        The development rows: the search sees them.
    confirmation : ndarray of intp
        The rows that only publishing reads. May be empty.
    held_out : tuple of ndarray of intp
        The parts of `train` that take turns to validate, where there is no validation part: each row in one of them.

    Raises
    ------
    SpecError
        If a row is in two parts, or twice in one.
    """

    train: Rows
    validation: Rows
    confirmation: Rows
    held_out: tuple[Rows, ...] = ()

    def __post_init__(self) -> None:
        rows, counts = np.unique(np.concatenate([self.train, self.validation, self.confirmation]), return_counts=True)
        if (counts > 1).any():
            raise SpecError(f"A split must hold each row once. Got row {rows[counts > 1][0]} twice.")
        if self.held_out and not np.array_equal(np.sort(np.concatenate(self.held_out)), np.sort(self.train)):
            raise SpecError("The parts that take turns to validate must hold each training row once.")

    @cached_property
    def folds(self) -> tuple[Fold, ...]:
        """What a trial is fitted to and scored on: one pair, or as many as parts take turns."""
        if not self.held_out:
            return (Fold(self.train, self.validation),)
        return tuple(Fold(np.setdiff1d(self.train, rows), rows) for rows in self.held_out)

    @cached_property
    def scored(self) -> Rows:
        """The rows that a trial is scored on, fold after fold."""
        return np.concatenate([fold.validation for fold in self.folds])

    @cached_property
    def development(self) -> Rows:
        """The rows that train or validate, sorted."""
        return np.sort(np.concatenate([self.train, self.validation]))

    @cached_property
    def digest(self) -> str:
        """Digest of all parts, each in its order."""
        parts = {"train": self.train, "validation": self.validation, "confirmation": self.confirmation}
        parts |= {f"held out {number}": rows for number, rows in enumerate(self.held_out)}
        return digest.of_arrays({name: rows.astype(np.int64) for name, rows in parts.items()})


def split_rows(spec: SplitSpec, n_training: int, n_test: int = 0) -> Split:
    """Split the rows of a dataset by seed.

    Parameters
    ----------
    spec : SplitSpec
        Preset, or seed and fractions.
    n_training : int
        Number of training rows.
    n_test : int
        Number of test rows that have responses. Where there are any, they alone confirm.

    Returns
    -------
    Split
        Sorted parts; those of the preset keep their shuffled order, since an incremental PCA depends on it.

    Raises
    ------
    SpecError
        If a part would hold fewer than two rows.

    Examples
    --------
    >>> split = split_rows(SplitSpec(preset="img2brain-2023"), 8857)
    >>> len(split.train), len(split.validation), len(split.confirmation)
    (7086, 1771, 0)
    """
    test = np.arange(n_training, n_training + n_test, dtype=np.intp)
    split = _preset(n_training, test) if spec.preset else _seeded(spec, n_training, test)
    wants_confirmation = n_test > 0 or (spec.preset is None and spec.confirmation > 0)
    if spec.folds and len(split.train) < _LEAST * spec.folds:
        most = len(split.train) // _LEAST
        raise SpecError(f"Each of the 'folds' must hold at least {_LEAST} rows: {most} at most. Got {spec.folds}.")
    for fold in split.folds:
        _require_rows("train", fold.train)
        _require_rows("validation", fold.validation)
    if wants_confirmation:
        _require_rows("confirmation", split.confirmation)
    return split


def _preset(n_training: int, test: Rows) -> Split:
    rows = np.random.RandomState(_PRESET_SEED).permutation(n_training).astype(np.intp)
    n_train = round(0.8 * n_training)
    return Split(rows[:n_train], rows[n_train:], test)


def _seeded(spec: SplitSpec, n_training: int, test: Rows) -> Split:
    rows = np.random.RandomState(spec.seed).permutation(n_training).astype(np.intp)
    n_confirmation = 0 if len(test) else round(spec.confirmation * n_training)
    if spec.folds:
        confirmation, development = np.split(rows, [n_confirmation])
        held_out = tuple(np.sort(part) for part in np.array_split(development, spec.folds))
        none = np.empty(0, dtype=np.intp)
        return Split(np.sort(development), none, test if len(test) else np.sort(confirmation), held_out)
    n_validation = round(spec.validation * (n_training - n_confirmation))
    confirmation, validation, train = np.split(rows, [n_confirmation, n_confirmation + n_validation])
    return Split(np.sort(train), np.sort(validation), test if len(test) else np.sort(confirmation))


def _require_rows(part: str, rows: Rows) -> None:
    if len(rows) < _LEAST:
        raise SpecError(f"The {part!r} part of a split must hold at least {_LEAST} rows. Got {len(rows)}.")
