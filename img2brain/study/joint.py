"""Resamples of confirmation rows that are joint over the members of a study."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets._ties import Ties, picture_digests, row_contents
from img2brain.datasets.base import Dataset, Rows, Split
from img2brain.statistics.members import joint_resamples

Draws = NDArray[np.float32]


class HasRows(Protocol):
    """Data with their rows, such as a `Member`."""

    @property
    def dataset(self) -> Dataset:
        """The data."""
        ...

    @property
    def split(self) -> Split:
        """Which rows confirm."""
        ...


def joint_draws(members: Sequence[HasRows]) -> list[Draws | None]:
    """Draw the confirmation rows of all members at once, those of the part that ranks.

    Rows with equal pictures are drawn together, of whatever members, and so are those that are tied within one.

    Returns
    -------
    list of ndarray (n_resamples, n_confirmation) or None
        How often each row is in each resample; None for each where the study has one dataset, or one of its members has
        no confirmation rows.
    """
    rows = [_ranking(member) for member in members]
    if len(members) == 1 or not all(map(len, rows)):
        return [None] * len(members)
    return [*joint_resamples(_joint_units(members, rows))]


def _ranking(member: HasRows) -> Rows:
    return next(iter(member.split.parts.values()))


def _joint_units(members: Sequence[HasRows], rows: Sequence[Rows]) -> list[Rows]:
    """Label rows so that those of one label are drawn together."""
    tied = [(number, int(name)) for number, (member, part) in enumerate(zip(members, rows, strict=True))
            for name in member.split.sets(part)]  # fmt: skip
    shown = list(_shown([member.dataset for member in members], rows))
    units = Ties.of(tied, shown).sets
    return np.split(units, np.cumsum([len(part) for part in rows])[:-1])


def _shown(datasets: Sequence[Dataset], rows: Sequence[Rows]) -> Iterator[Hashable]:
    """Say what each row shows: the pixels of its picture, or the features that came in its place."""
    images = [
        dataset.images[row] for dataset, part in zip(datasets, rows, strict=True) if dataset.images for row in part
    ]
    found = {shown: picture_digests(images, shown) for shown in {dataset.presentation for dataset in datasets}}
    for dataset, part in zip(datasets, rows, strict=True):
        if dataset.images:
            yield from (found[dataset.presentation].get(path, path) for path in (dataset.images[row] for row in part))
        else:
            yield from row_contents(dataset.features[name][part] for name in sorted(dataset.features))
