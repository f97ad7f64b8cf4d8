"""Images that several datasets share: shown to a network once, and reduced for each dataset by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from img2brain.datasets._presentation import Presentation
from img2brain.features.activations import Activations, Rows


class ShownImages(NamedTuple):
    """Images of a dataset.

    Attributes
    ----------
    images : sequence of Path
        One row each.
    digests : sequence of str
        Of the images, in their order.
    rows : ndarray of int
        The rows that features are fitted to.
    presentation : Presentation
        How they were shown.
    """

    images: Sequence[Path]
    digests: Sequence[str]
    rows: Rows
    presentation: Presentation


@dataclass(frozen=True)
class Union:
    """The images of some datasets, each once.

    Attributes
    ----------
    images : list of Path
        Those of the first in their order, then those that the next one adds, and so on.
    rows : list of ndarray of int
        For each dataset, which of `images` its rows are.
    """

    images: list[Path]
    rows: list[Rows]

    @classmethod
    def of(cls, shown: Sequence[ShownImages]) -> Union:
        """Unite images; equal ones are told by their digests."""
        images: list[Path] = []
        place: dict[str, int] = {}
        rows = []
        for item in shown:
            for path, name in zip(item.images, item.digests, strict=True):
                if name not in place:
                    place[name] = len(images)
                    images.append(path)
            rows.append(np.array([place[name] for name in item.digests], dtype=np.intp))
        return cls(images, rows)


def sharing(one: ShownImages, others: Sequence[ShownImages]) -> list[ShownImages]:
    """Return the others that show images of the first, also through each other, and show them as the first does.

    Examples
    --------
    >>> def of(*names):
    ...     return ShownImages([Path(name) for name in names], names, np.arange(1), Presentation("#000000", "stored"))
    >>> [item.digests for item in sharing(of("a", "b"), [of("c"), of("d", "e"), of("b", "d")])]
    [('b', 'd'), ('d', 'e')]
    """
    seen, found = set(one.digests), []
    left = [item for item in others if item.presentation == one.presentation]
    while near := [item for item in left if not seen.isdisjoint(item.digests)]:
        found += near
        left = [item for item in left if seen.isdisjoint(item.digests)]
        seen = seen.union(*(item.digests for item in near))
    return found


def of_rows(values: Activations, rows: Rows) -> Activations:
    """Return the activations of some rows, without a copy of them."""
    is_whole = np.array_equal(rows, np.arange(values.n_images))
    return values if is_whole else _SomeRows(values, rows)


class _SomeRows(Activations):
    def __init__(self, values: Activations, rows: Rows) -> None:
        super().__init__(len(rows), values.n_features, values.dtype, values.sizes)
        self._values, self._rows = values, rows

    @property
    def device(self) -> torch.device:
        return self._values.device

    def append(self, values: torch.Tensor) -> None:
        raise AssertionError("a view of rows is read, not written")

    def read(self, start: int, stop: int) -> torch.Tensor:
        rows = self._rows[start:stop]
        first = int(rows[0]) if len(rows) else 0
        if np.array_equal(rows, np.arange(first, first + len(rows))):
            return self._values.read(first, first + len(rows))
        return self._values.rows(rows)

    def rows(self, numbers: Rows) -> torch.Tensor:
        return self._values.rows(self._rows[numbers])

    def columns(self, part: slice) -> torch.Tensor:
        return self._values.columns(part)[torch.from_numpy(self._rows).to(self.device)]
