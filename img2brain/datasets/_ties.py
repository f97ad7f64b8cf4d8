"""Rows that belong together: they show the same picture or are of one declared group, and stay on one side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from img2brain import digest
from img2brain._mapped import release
from img2brain.amounts import counted
from img2brain.datasets._images import AS_STORED, map_files, open_pixels, size_of
from img2brain.datasets._presentation import Presentation
from img2brain.errors import DataError

Labels = NDArray[np.intp]


class DigestKeeper(Protocol):
    """Keeps texts by name, such as a study does in the cache of its home: data know of no place for that."""

    def __call__(self, key: Mapping[str, Any], find: Callable[[], Mapping[str, str]]) -> Mapping[str, str]:
        """Return what is kept under a key, plain data that name all that it depends on; else what is found."""
        ...


@dataclass(frozen=True, eq=False)
class Ties:
    """Which rows are equal, and which must stay on one side of every split.

    Attributes
    ----------
    equal : ndarray of intp, shape (n_rows,)
        Of each row the first one that is equal to it: the same picture or, without pictures, the same given features.
    sets : ndarray of intp, shape (n_rows,)
        Of each row the first one of its tied set: of those that are equal to it in one way or in its group, of those
        that are equal to these or in their group, and so on.

    Examples
    --------
    >>> Ties.of(["cat", "dog", "cat", "owl"], np.array([1, 1, 2, 3])).sets
    array([0, 0, 0, 3])
    """

    equal: Labels
    sets: Labels

    @classmethod
    def of(cls, contents: Iterable[Hashable], *others: Iterable[Hashable]) -> Ties:
        """Tie rows by what they hold, and by whatever else they share.

        Parameters
        ----------
        contents : iterable of hashable
            What each row holds, by its digest or the like.
        *others : iterable of hashable
            What else each row holds, or its group.
        """
        equal = first_of_each(contents)
        return cls(equal, reduce(_joined, map(first_of_each, others), equal))

    def also(self, labels: Iterable[Hashable]) -> Ties:
        """Tie rows of the same label too."""
        return Ties(self.equal, _joined(self.sets, first_of_each(labels)))

    @property
    def n_rows(self) -> int:
        """How many rows are tied to another one."""
        return int(self._sizes[self._sizes > 1].sum())

    @property
    def n_sets(self) -> int:
        """How many sets of more than one row there are."""
        return int((self._sizes > 1).sum())

    @cached_property
    def _sizes(self) -> NDArray[np.intp]:
        return np.unique(self.sets, return_counts=True)[1]

    def __bool__(self) -> bool:
        return self.n_sets > 0

    def __str__(self) -> str:
        sets = counted(self.n_sets, "set")
        return f"{self.n_rows} of {len(self.sets)} rows in {sets} (equal pictures or features, or one group)"


def first_of_each(labels: Iterable[Hashable]) -> Labels:
    """Return, for each row, the first row of the same label."""
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(label, row) for row, label in enumerate(labels)], dtype=np.intp)


def _joined(one: Labels, other: Labels) -> Labels:
    """Return the first row of the sets that two partitions of the rows make together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = np.arange(len(one))
    edges = np.concatenate([rows, rows]), np.concatenate([one, other])
    graph = coo_array((np.ones(len(edges[0]), bool), edges), shape=(len(rows), len(rows)))
    return first_of_each(connected_components(graph, directed=False)[1].tolist())


def picture_digests(images: Sequence[Path], presentation: Presentation = AS_STORED) -> dict[Path, str]:
    """Digest the pixels of pictures, as networks are shown them, where two of them may be equal.

    Notes
    -----
    A picture of a size that no other one has is equal to none, and is not decoded. One that does not decode is left
    out: it is for others to say so.
    """
    paths = list(dict.fromkeys(images))
    sizes = map_files(_size, paths, "measuring images")
    n_of_size = Counter(sizes)
    alike = [path for path, size in zip(paths, sizes, strict=True) if size is not None and n_of_size[size] > 1]
    digests = map_files(partial(_pixels_digest, presentation), alike, "comparing images") if alike else []
    return {path: found for path, found in zip(alike, digests, strict=True) if found is not None}


def kept_digests(files: Mapping[Path, str], presentation: Presentation, keeper: DigestKeeper) -> dict[Path, str]:
    """Digest pixels as `picture_digests` does, unless that was done for the same files.

    Parameters
    ----------
    files : mapping of Path to str
        Pictures, each with the digest of its bytes, by which what is found of it is kept.
    presentation : Presentation
        How they were shown.
    keeper : DigestKeeper
        Where it is kept.
    """

    def find() -> dict[str, str]:
        return {files[path]: pixels for path, pixels in picture_digests(list(files), presentation).items()}

    key = {"files": digest.of_digests(sorted(files.values())), "presentation": presentation.to_dict()}
    kept = keeper(key, find)
    return {path: kept[content] for path, content in files.items() if content in kept}


def _pixels_digest(presentation: Presentation, path: Path) -> str | None:
    try:
        return digest.of_array(open_pixels(path, presentation))
    except DataError:
        return None


def _size(path: Path) -> tuple[int, ...] | None:
    """Return the sides of a picture, the shorter one first: it may be turned."""
    try:
        return tuple(sorted(size_of(path)))
    except DataError:
        return None


def row_contents(matrices: Iterable[NDArray[Any]]) -> list[Hashable]:
    """Say what each row of some matrices of features holds: rows are equal where they are so in every matrix."""
    parts = [list(_rows_digests(matrix)) for matrix in matrices]
    return list(zip(*parts, strict=True))


def _rows_digests(matrix: NDArray[Any]) -> Iterator[str]:
    for row in matrix:
        yield digest.of_bytes(np.add(row, 0).tobytes())  # -0 + 0 is 0, of which -0 is another writing
        release(matrix)
