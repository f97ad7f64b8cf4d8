"""What every dataset is, whatever its layout: images, responses, and a search that sees the development rows only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain import digest
from img2brain.datasets._images import map_files
from img2brain.datasets._responses import Scan
from img2brain.datasets._split import Rows, Split, split_rows
from img2brain.errors import DataError
from img2brain.spec import SplitSpec

__all__ = ["Dataset", "Development", "Rows", "Split", "require_finite", "shuffled", "split_rows"]

Array = NDArray[Any]

_BLOCK_ROWS = 1024
_BLOCK_BYTES = 1 << 28


class Dataset(ABC):
    """Images and the responses to them.

    Attributes
    ----------
    name, unit, subject : str
        What it is called, the unit of the responses, and whose they are.
    source : str
        Name of the folder, or the like, that it was read from.
    images : tuple of Path
        All images that have responses: the training images in lexicographic order of file names, then the test images.
        Empty for a dataset that brings features in place of images.
    features : mapping of str to ndarray (n_images, n_features)
        Feature matrices that came with the data, in the order of the images.
    n_training, n_test : int
        How many of `images` are training and test images.
    test_images : tuple of Path
        The test images, with or without responses.
    n_voxels : int
        Number of voxels (or neurons, or channels).
    rois : mapping of str to ndarray of intp
        Voxel indices by region of interest.
    ncsnr : ndarray, shape (n_voxels,), or None
        Standard deviation of the signal over that of the noise of one trial.
    noise_ceiling : ndarray, shape (n_voxels,), or None
        Share of the variance of the responses that can be explained, 0..1.
    """

    name: str
    unit: str
    subject: str
    source: str
    images: tuple[Path, ...]
    features: Mapping[str, Array]
    n_training: int
    n_test: int
    test_images: tuple[Path, ...]
    n_voxels: int
    rois: Mapping[str, Rows]
    ncsnr: Array | None
    noise_ceiling: Array | None

    @abstractmethod
    def _responses(self, rows: Rows) -> Array:
        """Read the responses of valid rows, as new float32 or float64 numbers (n, n_voxels)."""

    @abstractmethod
    def _arrays(self) -> Mapping[str, Array]:
        """Name every array that a score depends on, for the digest."""

    @abstractmethod
    def where(self, row: int) -> str:
        """Say where the responses of a row are kept, for messages."""

    @property
    def n_images(self) -> int:
        """Number of images that have responses."""
        return self.n_training + self.n_test

    @cached_property
    def image_digests(self) -> tuple[str, ...]:
        """Digests of the bytes of `images`, in their order."""
        return tuple(map_files(digest.of_file, self.images, "digesting images"))

    @cached_property
    def digest(self) -> str:
        """Digest of all that a score depends on: image bytes in order, responses, repeats, regions, ceilings.

        Names of files and folders, unit, subject and test images without responses do not enter.
        """
        return digest.of_digests([digest.of_digests(self.image_digests), digest.of_arrays(self._arrays())])

    def split(self, spec: SplitSpec) -> Split:
        """Split the rows as `split_rows` does."""
        return split_rows(spec, self.n_training, self.n_test)

    def development(self, split: Split) -> Development:
        """Hand out the development rows: all that a search may see."""
        allowed = self._checked(split.development)
        rois = {name: _frozen(voxels) for name, voxels in self.rois.items()}
        return Development(_frozen(allowed), self.n_voxels, rois, _read=_Guarded(self._responses, allowed))

    def confirmation(self, split: Split) -> NDArray[np.float64]:
        """Read the responses of the confirmation rows, float64 (n_confirmation, n_voxels). For publishing alone."""
        return self._responses(self._checked(split.confirmation)).astype(np.float64, copy=False)

    def confirmation_repeats(self, split: Split) -> Array | None:
        """Read single repeats of the confirmation rows (n_confirmation, n_repeats, n_voxels). For publishing alone.

        Returns
        -------
        ndarray or None
            NaN where a repeat is missing; None where the dataset has no repeats of these rows.
        """
        return self._repeats(self._checked(split.confirmation))

    def confirmation_counts(self, split: Split) -> NDArray[np.int64] | None:
        """Read how many repeats the responses of the confirmation rows are means of, or None where that is not told."""
        return self._counts(self._checked(split.confirmation))

    def _repeats(self, rows: Rows) -> Array | None:
        """Read the repeats of valid rows, where there are any."""
        return None

    def _counts(self, rows: Rows) -> NDArray[np.int64] | None:
        """Read the number of repeats of valid rows, where it is told."""
        return None

    def _checked(self, rows: Rows) -> Rows:
        outside = rows[(rows < 0) | (rows >= self.n_images)]
        if len(outside):
            raise DataError(f"The rows of {self.name!r} must lie in 0..{self.n_images - 1}. Got {outside[0]}.")
        return rows


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
    """

    rows: Rows
    n_voxels: int
    rois: Mapping[str, Rows]
    _read: Callable[[Rows], Array] = field(repr=False)

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

    def blocks(self, rows: Rows) -> Iterator[tuple[Rows, Array]]:
        """Read the responses of some development rows block by block, so that they need not all be in memory.

        Parameters
        ----------
        rows : ndarray of intp, shape (n,)
            As for `responses`.

        Yields
        ------
        rows : ndarray of intp, shape (n_block,)
            The rows of a block, at most 1024 and some 256 MB of responses.
        responses : ndarray of float32 or float64, shape (n_block, n_voxels)
            What `responses` gives for them.

        Raises
        ------
        DataError
            If a row is not a development row.
        """
        step = max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // (4 * self.n_voxels)))
        return ((part, self._read(part)) for part in (rows[i : i + step] for i in range(0, len(rows), step)))


class _Guarded:
    """A reader that keeps its own set of allowed rows, so that no change to its holder widens it."""

    def __init__(self, read: Callable[[Rows], Array], allowed: Rows) -> None:
        self.__read, self.__allowed = read, frozenset(allowed.tolist())

    def __call__(self, rows: Rows) -> Array:
        asked = np.array(rows)  # a copy: nobody can change the rows between the check and the reading
        if asked.ndim != 1 or (asked.size and asked.dtype.kind not in "iu"):
            raise DataError(f"Rows must be one dimension of integers. Got {asked.dtype} of shape {asked.shape}.")
        for row in asked.tolist():
            if row not in self.__allowed:
                raise DataError(f"Row {row} must be a development row. It is kept from the search.")
        return self.__read(asked.astype(np.intp))


def _frozen(rows: Rows) -> Rows:
    """Copy rows into memory that not even `setflags` can make writable."""
    return np.frombuffer(rows.astype(np.intp).tobytes(), dtype=np.intp)


class _Shuffled(Dataset):
    def __init__(self, dataset: Dataset, seed: int) -> None:
        for name in Dataset.__annotations__:
            setattr(self, name, getattr(dataset, name))
        self.name = f"{dataset.name}-shuffled"
        self._dataset, self._seed = dataset, seed
        random = np.random.RandomState(seed)
        training, test = random.permutation(self.n_training), random.permutation(self.n_test)
        self._order = np.concatenate([training, self.n_training + test]).astype(np.intp)

    def _responses(self, rows: Rows) -> Array:
        return self._dataset._responses(self._order[rows])

    def _repeats(self, rows: Rows) -> Array | None:
        return self._dataset._repeats(self._order[rows])

    def _counts(self, rows: Rows) -> NDArray[np.int64] | None:
        return self._dataset._counts(self._order[rows])

    def _arrays(self) -> Mapping[str, Array]:
        return {**self._dataset._arrays(), "shuffled": self._order}

    def where(self, row: int) -> str:
        return self._dataset.where(int(self._order[row]))

    @cached_property
    def image_digests(self) -> tuple[str, ...]:
        return self._dataset.image_digests


def shuffled(dataset: Dataset, seed: int) -> Dataset:
    """View a dataset with its responses permuted against its images: a control in which nothing can be predicted.

    Parameters
    ----------
    dataset : Dataset
        Left as it is.
    seed : int
        Seed of the two permutations, one within the training rows and one within the test rows.

    Returns
    -------
    Dataset
        Named ``NAME-shuffled``, with another digest.
    """
    return _Shuffled(dataset, seed)


def require_finite(dataset: Dataset) -> None:
    """Refuse responses that are NaN or infinite, before any work starts.

    Raises
    ------
    DataError
        With the file, row and voxel of the first such value, and how many there are.

    Notes
    -----
    One pass over all responses, in blocks of some 16 MB.
    """
    shape = (dataset.n_images, dataset.n_voxels)
    scan = Scan(lambda start, stop: dataset._responses(np.arange(start, stop)), shape)
    if scan.first_bad:
        raise DataError(not_finite(dataset.where(scan.first_bad[0]), scan.first_bad[1], scan.n_bad))


def not_finite(where: str, voxel: int, n_bad: int) -> str:
    """Write the message on values that are NaN or infinite."""
    values = "1 NaN or infinite value" if n_bad == 1 else f"{n_bad} NaN or infinite values, the first"
    return f"Responses must be finite. Got {values} at {where}, voxel {voxel}."
