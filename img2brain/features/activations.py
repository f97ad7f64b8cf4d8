"""Activations of one layer, of all images: in memory where they fit, otherwise in a scratch file, never both."""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from img2brain._arrays import slices
from img2brain._mapped import release
from img2brain.errors import StoreError

Rows = NDArray[np.intp]
Tensors = tuple[torch.Tensor, ...]
Work = Callable[..., Tensors]  # of a block of rows, their numbers as a slice, and what all blocks share


@dataclass(frozen=True)
class BlockSizes:
    """How much of activations is at hand at a time; no number depends on it but by rounding.

    Attributes
    ----------
    n_bytes : int
        The most that a block of whole rows takes.
    n_features : int
        Features of those that are multiplied at a time: a block of them stays in a processor's cache.
    """

    n_bytes: int = 1 << 29
    n_features: int = 1 << 14


class Activations(ABC):
    """Rows of activations, written once in order, then read as often as needed.

    Parameters
    ----------
    n_images, n_features : int
        Their shape.
    dtype : torch.dtype
        Their type.
    sizes : BlockSizes, optional
        The blocks that they are read in.
    """

    def __init__(self, n_images: int, n_features: int, dtype: torch.dtype, sizes: BlockSizes | None = None) -> None:
        self.n_images, self.n_features, self.dtype = n_images, n_features, dtype
        self.sizes = sizes or BlockSizes()

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where what is read lies."""

    @abstractmethod
    def append(self, values: torch.Tensor) -> None:
        """Write the next rows, shape (n, n_features), in the type of the others."""

    @abstractmethod
    def read(self, start: int, stop: int) -> torch.Tensor:
        """Read consecutive rows; what is read next may take its place."""

    @abstractmethod
    def rows(self, numbers: Rows) -> torch.Tensor:
        """Copy some rows."""

    @abstractmethod
    def columns(self, part: slice) -> torch.Tensor:
        """Read a range of the features of all rows."""

    def blocks(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield all rows in blocks of bounded size."""
        step = max(1, self.sizes.n_bytes // (self.n_features * self.dtype.itemsize))
        for rows in slices(self.n_images, step):
            yield rows, self.read(rows.start, rows.stop)

    def each(self, work: Work, *shared: torch.Tensor) -> Iterator[tuple[slice, Tensors]]:
        """Do some work on each block of rows, wherever these are, and yield what it gives, in order.

        Parameters
        ----------
        work : callable
            ``work(block, rows, *shared)``, which gives a tuple of tensors in float32. A function of a module, or a
            partial one: it may be done elsewhere.
        *shared : torch.Tensor
            What is the same for all blocks.
        """
        for rows, block in self.blocks():
            yield rows, work(block, rows, *shared)

    def total(self, work: Work, *shared: torch.Tensor) -> Tensors:
        """Add up what some work gives of each block of rows; see `each`."""
        return reduce(added, (found for _, found in self.each(work, *shared)))

    def ranges(self, most: int | None = None) -> Iterator[slice]:
        """Yield ranges of the features, of so many at most."""
        return slices(self.n_features, min(self.sizes.n_features, most or self.n_features))


def added(first: Tensors, second: Tensors) -> Tensors:
    """Add tensors to others, in their place."""
    return tuple(one.add_(other) for one, other in zip(first, second, strict=True))


class InMemory(Activations):
    """Activations held on a device."""

    def __init__(
        self,
        n_images: int,
        n_features: int,
        dtype: torch.dtype,
        device: torch.device,
        sizes: BlockSizes | None = None,
    ) -> None:
        super().__init__(n_images, n_features, dtype, sizes)
        self._values = torch.empty((n_images, n_features), dtype=dtype, device=device)
        self._n_written = 0

    @property
    def device(self) -> torch.device:
        """Return the device that holds them."""
        return self._values.device

    def append(self, values: torch.Tensor) -> None:
        """Copy the next rows."""
        self._values[self._n_written : self._n_written + len(values)] = values
        self._n_written += len(values)

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Return consecutive rows, as a view."""
        return self._values[start:stop]

    def rows(self, numbers: Rows) -> torch.Tensor:
        """Copy some rows."""
        return self._values[torch.from_numpy(numbers).to(self.device)]

    def columns(self, part: slice) -> torch.Tensor:
        """Return a range of the features, as a view."""
        return self._values[:, part]


class OfMatrix(Activations):
    """A matrix that is there already, in memory or mapped to a file: of what is mapped no more is held than is read.

    Parameters
    ----------
    values : ndarray of float32 (n_images, n_features)
        The matrix.
    sizes : BlockSizes, optional
        As for `Activations`.
    require_unchanged : callable
        Raises where the file is not as it was; asked after each reading.
    """

    def __init__(
        self,
        values: NDArray[np.float32],
        sizes: BlockSizes | None = None,
        require_unchanged: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(len(values), values.shape[1], torch.float32, sizes)
        self._values, self._require_unchanged = values, require_unchanged

    @property
    def device(self) -> torch.device:
        """Return that of NumPy's arrays."""
        return torch.device("cpu")

    def append(self, values: torch.Tensor) -> None:
        """Refuse what is not there."""
        raise AssertionError("a matrix that is there is read, not written")

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Copy consecutive rows."""
        return self._copied(slice(start, stop))

    def rows(self, numbers: Rows) -> torch.Tensor:
        """Copy some rows."""
        return self._copied(numbers)

    def columns(self, part: slice) -> torch.Tensor:
        """Copy a range of the features."""
        return self._copied((slice(None), part))

    def _copied(self, place: Any) -> torch.Tensor:
        found = np.array(self._values[place], np.float32, order="C", subok=False)
        release(self._values)
        self._require_unchanged()
        return torch.from_numpy(found)


class OnDisk(Activations):
    """Activations in a scratch file.

    Notes
    -----
    Read by calls, not mapped: what is mapped counts as memory of the process, and here it would be all of it. The
    system keeps the file in the memory that nobody needs.
    """

    def __init__(
        self,
        n_images: int,
        n_features: int,
        dtype: torch.dtype,
        path: Path,
        device: torch.device | None = None,
        sizes: BlockSizes | None = None,
    ) -> None:
        super().__init__(n_images, n_features, dtype, sizes)
        self._path = path
        self._device = device or torch.device("cpu")
        self._row_bytes = n_features * dtype.itemsize
        self._buffer = torch.empty(0, dtype=torch.uint8)
        # Open from now on: it is there as long as it is needed, also where somebody deletes its name.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        weakref.finalize(self, os.close, self._descriptor)

    @property
    def device(self) -> torch.device:
        """Return the device that rows are read to."""
        return self._device

    def append(self, values: torch.Tensor) -> None:
        """Write the next rows."""
        rest = values.to(self.dtype).contiguous().cpu().view(torch.uint8).numpy().data.cast("B")
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except OSError as error:
                raise StoreError(f"The scratch file {self._path} cannot be written: {error.strerror}.") from error

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Read consecutive rows into a buffer that is used again."""
        n_bytes = (stop - start) * self._row_bytes
        if len(self._buffer) < n_bytes:
            self._buffer = torch.empty(n_bytes, dtype=torch.uint8)
        found = self._buffer[:n_bytes]
        self._fill(found, start * self._row_bytes)
        return found.view(self.dtype).reshape(stop - start, self.n_features).to(self._device)

    def rows(self, numbers: Rows) -> torch.Tensor:
        """Read some rows, one by one."""
        found = torch.empty((len(numbers), self._row_bytes), dtype=torch.uint8)
        for place, number in zip(found, numbers.tolist(), strict=True):
            self._fill(place, number * self._row_bytes)
        return found.view(self.dtype).to(self._device)

    def columns(self, part: slice) -> torch.Tensor:
        """Read a range of the features, row by row."""
        width = (part.stop - part.start) * self.dtype.itemsize
        found = torch.empty((self.n_images, width), dtype=torch.uint8)
        for number, place in enumerate(found):
            self._fill(place, number * self._row_bytes + part.start * self.dtype.itemsize)
        return found.view(self.dtype).to(self._device)

    def _fill(self, buffer: torch.Tensor, offset: int) -> None:
        """Read until the buffer is full; one call reads no more than 2 GiB."""
        rest = buffer.numpy().data
        while rest:
            n_read = os.preadv(self._descriptor, [rest], offset)
            if not n_read:
                raise StoreError(f"The scratch file {self._path} must stay whole while it is in use. It was cut.")
            rest, offset = rest[n_read:], offset + n_read
