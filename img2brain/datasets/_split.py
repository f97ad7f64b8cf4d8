"""Splits: which rows train, which validate and which confirm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from img2brain import digest
from img2brain.errors import SpecError
from img2brain.spec import SplitSpec

Rows = NDArray[np.intp]

_PRESET_SEED = 224
_LEAST = 2  # a correlation needs two rows


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers into `Dataset.images`, in three parts that share none.

    Parameters
    ----------
    train, validation : ndarray of intp
        The development rows: the search sees them.
    confirmation : ndarray of intp
        The rows that only publishing reads. May be empty.

    Raises
    ------
    SpecError
        If a row is in two parts, or twice in one.
    """

    train: Rows
    validation: Rows
    confirmation: Rows

    def __post_init__(self) -> None:
        rows, counts = np.unique(np.concatenate([self.train, self.validation, self.confirmation]), return_counts=True)
        if (counts > 1).any():
            raise SpecError(f"A split must hold each row once. Got row {rows[counts > 1][0]} twice.")

    @cached_property
    def development(self) -> Rows:
        """The rows that train or validate, sorted."""
        return np.sort(np.concatenate([self.train, self.validation]))

    @cached_property
    def digest(self) -> str:
        """Digest of the three parts, each in its order."""
        parts = {"train": self.train, "validation": self.validation, "confirmation": self.confirmation}
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
    _require_rows("train", split.train)
    _require_rows("validation", split.validation)
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
    n_validation = round(spec.validation * (n_training - n_confirmation))
    confirmation, validation, train = np.split(rows, [n_confirmation, n_confirmation + n_validation])
    return Split(np.sort(train), np.sort(validation), test if len(test) else np.sort(confirmation))


def _require_rows(part: str, rows: Rows) -> None:
    if len(rows) < _LEAST:
        raise SpecError(f"The {part!r} part of a split must hold at least {_LEAST} rows. Got {len(rows)}.")
