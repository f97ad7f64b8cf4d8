"""Tables of others, CSV or TSV: their columns by name, and paths in them that stay where they belong."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets._links import is_there
from img2brain.errors import DataError

_SHOWN = 12


@dataclass(frozen=True)
class Table:
    """The cells of a table, by column.

    Attributes
    ----------
    path : Path
        The file.
    heads : tuple of str
        The names of the columns; they are found whatever their case.
    lines : tuple of int
        The line of the file that each row of the table is on.
    rows : tuple of tuple of str
        The cells, blanks at their ends taken off.
    """

    path: Path
    heads: tuple[str, ...]
    lines: tuple[int, ...]
    rows: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def label(self) -> str:
        """The file, for messages."""
        return repr(str(self.path))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {head.lower(): place for place, head in enumerate(self.heads)}

    def has(self, name: str) -> bool:
        """Say whether there is a column of this name."""
        return name.lower() in self._places

    def column(self, *names: str) -> tuple[str, ...]:
        """Return the first of some columns that is there.

        Raises
        ------
        DataError
            If none is.
        """
        found = next((name for name in names if self.has(name)), None)
        if found is None:
            heads = ", ".join(self.heads[:_SHOWN]) + (", ..." if self.heads[_SHOWN:] else "")
            several = " or ".join(map(repr, names[:3]))
            raise DataError(f"{self.label} must have a column {several}. Its columns are: {heads}.")
        place = self._places[found.lower()]
        return tuple(row[place] for row in self.rows)

    def optional(self, *names: str) -> tuple[str, ...] | None:
        """Return the first of some columns that is there, or None."""
        return self.column(*names) if any(map(self.has, names)) else None

    def at(self, row: int) -> str:
        """Say where a row of the table stands."""
        return f"line {self.lines[row]} of {self.label}"

    def whole_numbers(self, name: str) -> NDArray[np.int64]:
        """Return a column of whole numbers.

        Raises
        ------
        DataError
            If one is none.
        """
        return np.array(self._read(name, _whole, "a whole number"), dtype=np.int64)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column of numbers, NaN where a cell is empty or says so.

        Raises
        ------
        DataError
            If one is none.
        """
        return np.array(self._read(name, lambda cell: np.nan if is_absent(cell) else float(cell), "a number"))

    def _read(self, name: str, read: Callable[[str], float], what: str) -> list[float]:
        found: list[float] = []
        for row, cell in enumerate(self.column(name)):
            try:
                found.append(read(cell))
            except ValueError:
                raise DataError(f"{name!r} must be {what} in {self.at(row)}. Got {cell!r}.") from None
        return found

    def some(self, rows: Sequence[int]) -> Table:
        """Return the table with some of its rows."""
        lines, cells = tuple(self.lines[row] for row in rows), tuple(self.rows[row] for row in rows)
        return Table(self.path, self.heads, lines, cells)


_ABSENT = ("", "na", "n/a", "nan", "none", "null")


def is_absent(cell: str) -> bool:
    """Say whether a cell holds nothing, as tables of others write it."""
    return cell.lower() in _ABSENT


def _whole(cell: str) -> int:
    number = float(cell)
    if not number.is_integer() or abs(number) > 2**53:
        raise ValueError(cell)
    return int(number)


def read_table(path: Path) -> Table:
    """Read a table: commas, or semicolons where there is no comma in its first line; tabs where it ends in .tsv.

    Raises
    ------
    DataError
        If there is none, it is no table in UTF-8, holds no line, names a column twice or has a line of other length.
    """
    if not (is_there(path) and path.is_file()):
        raise DataError(f"The file {str(path)!r} must exist. It does not.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            reader = csv.reader(stream, delimiter=_delimiter(path, first), strict=True)
            found = [(reader.line_num, tuple(cell.strip() for cell in cells)) for cells in reader if any(cells)]
    except (csv.Error, ValueError) as error:
        raise DataError(f"{str(path)!r} must be a table in UTF-8, with a line of names first. Got: {error}.") from error
    if len(found) < 2:
        raise DataError(f"{str(path)!r} must hold a line of names, and lines below it. It has {len(found)}.")
    (_, heads), *rows = found
    folded = [head.lower() for head in heads]
    twice = [head for head in folded if head and folded.count(head) > 1]
    if twice:
        raise DataError(f"{str(path)!r} must name each column once. Got {twice[0]!r} twice.")
    uneven = next((line for line, row in rows if len(row) != len(heads)), None)
    if uneven is not None:
        raise DataError(f"Each line of {str(path)!r} must have {len(heads)} cells. Line {uneven} has not.")
    return Table(path, heads, tuple(line for line, _ in rows), tuple(row for _, row in rows))


def _delimiter(path: Path, first: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    return ";" if ";" in first and "," not in first else "\t" if "\t" in first and "," not in first else ","


def within(folder: Path, name: str, where: str) -> Path:
    """Return the path of a file that a table or another file names, which must not leave its folder.

    Raises
    ------
    DataError
        If it is absolute or leads out of the folder.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive or not path.parts or "\0" in name:
        raise DataError(f"A path must stay within {str(folder)!r}. Got {name!r} in {where}.")
    return folder / path


def few(items: Iterable[object], most: int = 5) -> str:
    """Show some names, and how many more there are."""
    found = list(map(repr, items))
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if found[most:] else "")
