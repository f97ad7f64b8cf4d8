"""A shelf: where machines that have a cache each put what they computed, for the others to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from img2brain.store import Store


class CacheEntry(NamedTuple):
    """An entry of a cache.

    Attributes
    ----------
    kind : str
        Of the entry.
    key : mapping of str to Any
        Its key.
    n_bytes : int
        The most that the numbers of its arrays take, so that no more is taken for it from elsewhere.
    """

    kind: str
    key: Mapping[str, Any]
    n_bytes: int


class Shelf(Protocol):
    """Entries of caches, beyond the reach of one machine."""

    def alone(self, name: str) -> AbstractContextManager[object]:
        """Hold the right to compute what is named so, of all machines."""
        ...

    def take(self, entries: Sequence[CacheEntry], store: Store) -> None:
        """Bring those of some entries into a cache that are there."""
        ...

    def give(self, title: str, entries: Sequence[CacheEntry], store: Store) -> None:
        """Put entries of a cache there, under a title for people."""
        ...
