"""Which row an image belongs to: by its file name where nobody can doubt it, else as the folder says."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from img2brain.datasets._links import is_there
from img2brain.errors import DataError

Images = tuple[Path, ...]

LISTING = "images.csv"

_COLUMNS = ("file", "row")
_NUMBER = re.compile(r"((?<![^\W_])[-+\N{MINUS SIGN}])?(\d+)")  # a sign that follows a letter or a digit is a hyphen
_ROW = re.compile(r"[0-9]{1,9}", re.ASCII)


def natural_key(name: str) -> tuple[tuple[int, int], ...]:
    """Return what sorts file names in natural order: numbers by their value, letters whatever their case.

    Examples
    --------
    >>> sorted(["b10", "B2", "a-3", "a"], key=natural_key)
    ['a', 'a-3', 'B2', 'b10']
    >>> sorted(["x_5", "x_-5", "x_-10"], key=natural_key)
    ['x_-10', 'x_-5', 'x_5']
    """
    return tuple(_natural_parts(name.casefold()))


def _natural_parts(name: str) -> Iterator[tuple[int, int]]:
    """Yield a pair for each character and each number, so that a number stands where its first digit would."""
    end = 0
    for number in _NUMBER.finditer(name):
        yield from ((ord(character), 0) for character in name[end : number.start()])
        sign, digits = number.groups()
        yield ord(digits[0]) - unicodedata.decimal(digits[0]), int(digits) * (-1 if sign not in (None, "+") else 1)
        end = number.end()
    yield from ((ord(character), 0) for character in name[end:])


def ordered(images: Images, order: str | None, root: Path) -> Images:
    """Put the images of a folder into the order of their rows.

    Parameters
    ----------
    images : tuple of Path
        In the plain order of their names.
    order : {"name", "natural"} or None
        What the dataset says.
    root : Path
        The folder of the dataset, for messages.

    Raises
    ------
    DataError
        Where the order is not given, and that by name and the natural one differ, or natural order cannot tell two
        names apart.
    """
    if order == "name":
        return images
    keys = {path: natural_key(path.name) for path in images}
    natural = tuple(sorted(images, key=lambda path: (keys[path], path)))
    for one, other in pairwise(natural):
        if keys[one] == keys[other]:
            why = f"natural order cannot tell {one.name!r} and {other.name!r} apart"
            raise DataError(_must_be_given(root, one.parent, why, '"name"'))
    for one, other in zip(images, natural, strict=True):
        if order is None and one != other:
            why = (
                f"by name {one.name!r} comes before {other.name!r}, in natural order (numbers by value, letters in any "
                "case) after it"
            )
            raise DataError(_must_be_given(root, one.parent, why, '"natural" or order = "name"'))
    return natural


def _must_be_given(root: Path, folder: Path, why: str, orders: str) -> str:
    about, listing = str(root / "dataset.toml"), str(root / LISTING)
    return (
        f"The order of the images of {str(folder)!r} must be given: {why}. Write order = {orders} in {about!r}, or "
        f"list file and row in {listing!r}."
    )


def read_listing(path: Path, images: Sequence[Path]) -> dict[Path, int]:
    """Read which row each image belongs to, from a table with the columns file and row.

    Parameters
    ----------
    path : Path
        A CSV file. A file of it is named from the folder of the table, as in ``trainingIMG/1.png``, or by its name
        alone where only one image has it; rows are counted from 0. Other columns are left alone.
    images : sequence of Path
        The images of all parts.

    Returns
    -------
    dict of Path to int
        The images that are listed; none where there is no table.

    Raises
    ------
    DataError
        If it is no such table, or names what is no image, or one image twice.
    """
    found: dict[Path, int] = {}
    known = _by_name(images)
    for line, file, row in _lines(path) if is_there(path) else ():
        where = f"line {line} of {str(path)!r}"
        matches = known.get(file, [])
        if len(matches) != 1:
            several = "Several folders have one; name its folder too" if matches else "There is none of this name"
            raise DataError(f"The file {file!r} in {where} must be an image of the dataset. {several}.")
        if matches[0] in found:
            raise DataError(f"Each file must be listed once. Got {file!r} again in {where}.")
        if not _ROW.fullmatch(row):
            raise DataError(f"The row in {where} must be a whole number, counted from 0. Got {row!r}.")
        found[matches[0]] = int(row)
    return found


def _by_name(images: Iterable[Path]) -> Mapping[str, list[Path]]:
    known: defaultdict[str, list[Path]] = defaultdict(list)
    for path in images:
        known[path.name].append(path)
        known[f"{path.parent.name}/{path.name}"].append(path)
    return known


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield the number, file and row of each line of a table that holds something."""
    (_, heads), *lines = _table(path) or [(1, [])]
    if not set(_COLUMNS) <= set(heads):
        found = ",".join(heads)[:80]
        raise DataError(f"The first line of {str(path)!r} must name the columns file,row. Got {found!r}.")
    file, row = map(heads.index, _COLUMNS)
    for number, cells in lines:
        if len(cells) <= max(file, row):
            raise DataError(f"Line {number} of {str(path)!r} must hold a file and a row. It does not.")
        yield number, cells[file], cells[row]


def _table(path: Path) -> list[tuple[int, list[str]]]:
    """Read the cells of a table, and the number of each line, without those that hold nothing."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:  # spreadsheets write a byte order mark
            table = csv.reader(stream, strict=True)
            return [(table.line_num, [cell.strip() for cell in cells]) for cells in table if any(cells)]
    except (csv.Error, ValueError) as error:
        raise DataError(f"{str(path)!r} must be a CSV table in UTF-8. Got: {error}.") from error


def by_rows(images: Images, rows: Mapping[Path, int], listing: Path) -> Images:
    """Put the images of a folder into the order of the rows that a table gives them.

    Raises
    ------
    DataError
        If an image is not listed, or the rows are not 0, 1, 2, ..., each once.
    """
    label, last = str(listing), len(images) - 1
    absent = [path for path in images if path not in rows]
    if absent:
        more = f" and {len(absent) - 1} more" if absent[1:] else ""
        raise DataError(
            f"{label!r} must list every image of {str(images[0].parent)!r}. It lacks {absent[0].name!r}{more}."
        )
    counts = Counter(rows[path] for path in images)
    wrong = next((row for row, count in counts.items() if row > last or count > 1), None)
    if wrong is not None:
        raise DataError(f"{label!r} must give {str(images[0].parent)!r} the rows 0..{last}, each once. Got {wrong}.")
    return tuple(sorted(images, key=lambda path: rows[path]))
