"""Which row an image belongs to: by its file name where nobody can doubt it, else as the folder says."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from img2brain.datasets._links import is_there
from img2brain.errors import DataError

Images = tuple[Path, ...]

LISTING = "images.csv"

_FILE, _ROWS = "file", "row"
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


@dataclass(frozen=True)
class Listing:
    """What a table tells of images: the row of each, where it tells that, and by column what else.

    Attributes
    ----------
    rows : dict of Path to int
        The row of each image; none where the table has no column for it.
    columns : dict of str to dict of Path to str
        All other columns.
    """

    rows: dict[Path, int] = field(default_factory=dict)
    columns: dict[str, dict[Path, str]] = field(default_factory=dict)


def read_listing(path: Path, images: Sequence[Path]) -> Listing:
    """Read what is known of each image, from a table with the columns file, and row or any other.

    Parameters
    ----------
    path : Path
        A CSV file. A file of it is named from the folder of the table, as in ``trainingIMG/1.png``, or by its name
        alone where only one image has it; rows are counted from 0.
    images : sequence of Path
        The images of all parts.

    Returns
    -------
    Listing
        Of the images that are listed; none where there is no table.

    Raises
    ------
    DataError
        If it is no such table, or names what is no image, or one image twice.
    """
    found, seen = Listing(), set[Path]()
    if not is_there(path):
        return found
    known = _by_name(images)
    for line, file, told in _lines(path):
        where = f"line {line} of {str(path)!r}"
        matches = known.get(file, [])
        if len(matches) != 1:
            several = "Several folders have one; name its folder too" if matches else "There is none of this name"
            raise DataError(f"The file {file!r} in {where} must be an image of the dataset. {several}.")
        if matches[0] in seen:
            raise DataError(f"Each file must be listed once. Got {file!r} again in {where}.")
        seen.add(matches[0])
        row = told.pop(_ROWS, None)
        if row is not None and not _ROW.fullmatch(row):
            raise DataError(f"The row in {where} must be a whole number, counted from 0. Got {row!r}.")
        found.rows.update({} if row is None else {matches[0]: int(row)})
        for name, cell in told.items():
            found.columns.setdefault(name, {})[matches[0]] = cell
    return found


def _by_name(images: Iterable[Path]) -> Mapping[str, list[Path]]:
    known: defaultdict[str, list[Path]] = defaultdict(list)
    for path in images:
        known[path.name].append(path)
        known[f"{path.parent.name}/{path.name}"].append(path)
    return known


def _lines(path: Path) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Yield the number, file and other cells of each line of a table that holds something."""
    (_, heads), *lines = _table(path) or [(1, [])]
    if _FILE not in heads or not (
        others := {head: place for place, head in enumerate(heads) if head not in ("", _FILE)}
    ):
        found = ",".join(heads)[:80]
        raise DataError(f"The first line of {str(path)!r} must name the columns file,row. Got {found!r}.")
    file, last = heads.index(_FILE), max(heads.index(_FILE), others.get(_ROWS, 0))
    for number, cells in lines:
        if len(cells) <= last:
            what = "a file and a row" if _ROWS in others else "a file"
            raise DataError(f"Line {number} of {str(path)!r} must hold {what}. It does not.")
        yield number, cells[file], {head: cells[place] for head, place in others.items() if place < len(cells)}


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
