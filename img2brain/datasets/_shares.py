"""Sharing sets of rows out among parts: each set whole, each part of the size that is wanted, of each kind of row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets._ties import Labels

Rows = NDArray[np.intp]
Members = list[tuple[int, int]]  # the kinds of a set's rows, each with their number


def numbered(keys: Rows) -> Rows:
    """Give the rows of each key, which are a set, the same number, counted in the order of keys."""
    return np.unique(keys, return_inverse=True)[1].astype(np.intp)


def _members(of_rows: Rows, kinds: Rows) -> list[Members]:
    """Return of each set, in the order of their numbers, the kinds of its rows and how many it has of each."""
    found: list[Members] = [[] for _ in range(int(of_rows.max(initial=-1)) + 1)]
    pairs, counts = np.unique(np.stack([of_rows, kinds]), axis=1, return_counts=True)
    for number, kind, count in zip(*pairs.tolist(), counts.tolist(), strict=True):
        found[number].append((kind, count))
    return found


def _further(members: Members, missing: Sequence[int]) -> int:
    """Say by how much a sum of squares of what is missing of each kind grows when a set is taken."""
    return sum(count * (count - 2 * missing[kind]) for kind, count in members)


def _take(members: Members, missing: list[int]) -> int:
    """Take a set, and count the kinds of which nothing is missing any more."""
    n_filled = 0
    for kind, count in members:
        n_filled += 0 < missing[kind] <= count
        missing[kind] -= count
    return n_filled


@dataclass(frozen=True, eq=False)
class Sets:
    """Sets of rows that are still to be shared out.

    Parameters
    ----------
    of_rows : ndarray of intp, shape (n_rows,)
        The number of the set of each row, from 0.
    kinds : ndarray of intp, shape (n_rows,)
        The kind of each row, from 0: parts are to have like shares of each. All are 0 where there is one kind.
    there : ndarray of bool, shape (n_sets,)
        Which sets are left.
    """

    of_rows: Rows
    kinds: Labels
    there: NDArray[np.bool_]
    _members: Sequence[Members] = field(repr=False)

    @classmethod
    def of(cls, of_rows: Rows, kinds: Labels | None = None) -> Sets:
        """Take all sets, of one kind where none are given."""
        numbers = np.zeros_like(of_rows) if kinds is None else numbered(kinds)
        members = _members(of_rows, numbers)
        return cls(of_rows, numbers, np.ones(len(members), bool), members)

    def without(self, chosen: NDArray[np.bool_]) -> Sets:
        """Return the sets that are left when some are taken."""
        return Sets(self.of_rows, self.kinds, self.there & ~chosen, self._members)

    @cached_property
    def sizes(self) -> Rows:
        """How many rows each set has; 0 of one that is not there."""
        return np.where(self.there, np.bincount(self.of_rows, minlength=len(self.there)), 0).astype(np.intp)

    @cached_property
    def of_kinds(self) -> Rows:
        """How many rows of each kind are left."""
        return np.bincount(self.kinds[self.there[self.of_rows]], minlength=int(self.kinds.max(initial=0)) + 1)

    def wanted(self, n_rows: int) -> Rows:
        """Divide a number of rows among kinds as what is left is divided, the largest remainders rounded up."""
        total = max(int(self.of_kinds.sum()), 1)
        whole, remainders = np.divmod(self.of_kinds * n_rows, total)
        whole[np.argsort(-remainders, kind="stable")[: n_rows - int(whole.sum())]] += 1
        return whole

    def chosen(self, wanted: Rows) -> NDArray[np.bool_]:
        """Choose sets one after another, each that brings the numbers of rows closer to what is wanted of each kind.

        Closer is of a smaller sum of squares over kinds. A set of no rows is not there to be chosen.
        """
        chosen, missing = np.zeros(len(self.there), bool), wanted.tolist()
        n_missing = sum(number > 0 for number in missing)
        for number in np.flatnonzero(self.there).tolist():
            if not n_missing:
                break
            members = self._members[number]
            if _further(members, missing) < 0:
                chosen[number] = True
                n_missing -= _take(members, missing)
        return chosen

    def one_at_least(self, n_rows: int) -> NDArray[np.bool_]:
        """Choose so many rows; where each set alone is far larger, and something is wanted, the set that is closest."""
        wanted = self.wanted(n_rows)
        chosen = self.chosen(wanted)
        if n_rows > 0 and not chosen.any() and self.there.any():
            missing = wanted.tolist()
            further = [_further(members, missing) for members in self._members]
            chosen[np.where(self.there, further, np.iinfo(np.intp).max).argmin()] = True
        return chosen

    def shared_out(self, n_parts: int) -> Rows:
        """Share sets out among parts of about as many rows, each starting with the largest set that is left.

        Returns
        -------
        ndarray of intp
            The part of each set; -1 for one of no rows. Sets of one row and one kind fall into runs, those of
            scikit-learn's ``KFold``.
        """
        part, left = np.full(len(self.there), -1, dtype=np.intp), self
        for number in range(n_parts):
            if not left.there.any():
                break
            largest = int(left.sizes.argmax())
            wanted = left.wanted(-(-int(left.sizes.sum()) // (n_parts - number)))
            for kind, count in self._members[largest]:
                wanted[kind] -= count
            taken = left.without(np.arange(len(part)) == largest).chosen(wanted)
            taken[largest] = True
            part[taken], left = number, left.without(taken)
        return part
