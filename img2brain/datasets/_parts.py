"""The parts of a split that is given: by a file, a column, a layout, or the numbers of rows."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from img2brain import plain
from img2brain.datasets._columns import Column, column_named, single_values
from img2brain.datasets._links import is_there
from img2brain.datasets._split import DEVELOPMENT, Rows, require_part_names
from img2brain.datasets._tables import few, is_absent, read_table
from img2brain.errors import DataError, SpecError
from img2brain.spec import PREDECESSOR, SplitSpec

IMAGE_COLUMNS = ("image", "image_file", "file", "filename", "file_name", "path", "stimulus", "stim_file")
STIMULUS_COLUMNS = ("stimulus_id", "image_id")

_TRAIN, _VALIDATION = DEVELOPMENT
_DEVELOPMENT = {
    "train": _TRAIN, "training": _TRAIN, "validation": _VALIDATION, "valid": _VALIDATION, "val": _VALIDATION,
    "dev": _VALIDATION,
}  # fmt: skip
_USUAL = ("train", "training", "validation", "test")
_TEST = "test"  # the part that ranks, where no order is given
_NEAR = 0.75  # of difflib's ratio of 1 for the same text
_RANGE = re.compile(r"(\d{1,12})(?:-(\d{1,12}))?", re.ASCII)
_SHOWN = 3
_LARGEST = 1 << 28  # bytes of a file: some ten million images
_PART_ROWS = dict[str, Rows]


def part_of(cell: str, where: str = "") -> str:
    """Return the part that a cell stands for; empty where it is of none.

    Raises
    ------
    SpecError
        If it is nearly a usual one: mistyped names of development rows would confirm.

    Examples
    --------
    >>> part_of("Training"), part_of("val"), part_of("ood"), part_of("n/a")
    ('train', 'validation', 'ood', '')
    """
    folded = cell.lower()
    if is_absent(cell) or folded in _DEVELOPMENT:
        return _DEVELOPMENT.get(folded, "")
    near = [] if folded.startswith("test") else get_close_matches(folded, _USUAL, n=1, cutoff=_NEAR)
    if near:
        raise SpecError(
            f"A part must be 'validation', 'train' or 'test'{where}, or called otherwise, not nearly so. Got {cell!r}. "
            f"Did you mean {near[0]!r}?"
        )
    return cell


@dataclass(frozen=True, eq=False, kw_only=True)
class Known:
    """What is known of the rows of a dataset, as far as a split asks for it.

    Attributes
    ----------
    name, subject : str
        What the dataset is called, and whose responses they are.
    shown : sequence of Path or None
        The picture of each row.
    stimuli : sequence of str, optional
        The id of each row's stimulus.
    columns : mapping of str to Column
        What else is known of each row.
    splits : mapping of str to callable
        The splits that the layout brings: the part of each row, the empty text where it is of none.
    """

    name: str
    subject: str
    shown: Sequence[Path | None]
    stimuli: Sequence[str] | None
    columns: Mapping[str, Column]
    splits: Mapping[str, Callable[[], Sequence[str]]]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.shown)

    def stimulus(self, row: int) -> Hashable:
        """Return what was shown in a row: its stimulus, its picture, or the row where neither is known."""
        return self.stimuli[row] if self.stimuli is not None else self.shown[row] or row

    def label(self, row: int) -> str:
        """Name what was shown in a row, for people."""
        path = self.shown[row]
        return self.stimuli[row] if self.stimuli is not None else f"row {row}" if path is None else path.name

    @cached_property
    def _by_id(self) -> Mapping[str, list[int]]:
        return _grouped((name, row) for row, name in enumerate(self.stimuli or ()))

    @cached_property
    def _by_file(self) -> Mapping[str, list[int]]:
        """Return the rows of each file by its name, with and without its ending."""
        paths = ((_written(path).rpartition("/")[2], row) for row, path in enumerate(self.shown) if path is not None)
        return _grouped((name, row) for file, row in paths for name in {file, Path(file).stem})

    def rows_of(self, name: str) -> list[int]:
        """Return the rows of a stimulus, by its id, by the name of its file, or by that with some of its folders.

        Raises
        ------
        SpecError
            If several files have the name.
        """
        if name in self._by_id:
            return self._by_id[name]
        wanted = name.replace("\\", "/").removeprefix("./")
        found = [row for row in self._by_file.get(wanted.rpartition("/")[2], ()) if _ends_in(self.shown[row], wanted)]
        several = {self.shown[row] for row in found}
        if len(several) > 1:
            raise SpecError(
                f"The name {name!r} must be that of one image of {self.name!r}. {len(several)} have it: name its "
                "folder too."
            )
        return found


def _grouped(pairs: Iterable[tuple[str, int]]) -> Mapping[str, list[int]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for name, row in pairs:
        found[name].append(row)
    return found


def _written(path: Path | None) -> str:
    """Write a path, that of a picture within a file as if the file were a folder."""
    return str(path).replace("\\", "/").replace("#", "/")


def _ends_in(path: Path | None, wanted: str) -> bool:
    """Tell whether a path ends in some folders and a file, with its ending or without."""
    text = f"/{_written(path)}"
    return any(f"{end}".endswith(f"/{wanted}") for end in (text, text.removesuffix(Path(text).suffix)))


def given_parts(spec: SplitSpec, known: Known) -> _PART_ROWS | None:
    """Return the rows of each part of a split that is given, the confirmation parts in their order; None of no such.

    Raises
    ------
    SpecError
        If something is not there, or named twice; if one stimulus is of two parts, or rows are of none that must be.
    """
    if spec.preset == PREDECESSOR or not (spec.preset or spec.file or spec.column or spec.rows):
        return None
    if spec.rows:
        return _in_order(_by_numbers(spec.rows, known.n_rows), spec, "'rows'")
    where, names, order = _named(spec, known)
    _require_one_side(names, known, where)
    if not spec.preset:
        names = _with_rest(names, spec.rest, known, where)
    present = [part for part in dict.fromkeys([*order, *names]) if part in {*names} - {""}]
    found = {part: np.flatnonzero([name == part for name in names]).astype(np.intp) for part in present}
    return _in_order(found, spec, where)


def _named(spec: SplitSpec, known: Known) -> tuple[str, list[str], list[str]]:
    """Return what says the part of each row, these parts, the empty text for none, and what comes before what."""
    if spec.file:
        pairs = _pairs(spec.file)
        own = [(name, part) for name, part, subject in pairs if subject in (None, known.subject)]
        # The order is that of the whole file: every subject's models rank by the same part.
        return repr(str(spec.file)), _of_file(spec.file, own, known), [part for _, part, _ in pairs]
    if spec.column:
        column = column_named(known.columns, spec.column, "column", known.name)
        where = f"the column {spec.column!r} of {known.name!r}"
        return where, [part_of(cell, f" in {where}") for cell in single_values(column, spec.column, "column")], []
    preset = str(spec.preset)
    if preset not in known.splits:
        told = f"It brings {few(known.splits, 30)}." if known.splits else "Its layout brings none."
        raise SpecError(f"'preset' must be a split that {known.name!r} brings. Got {preset!r}. {told}")
    return repr(preset), list(known.splits[preset]()), []


def _of_file(file: Path, pairs: Sequence[tuple[str, str]], known: Known) -> list[str]:
    """Return the part of each row that a file tells."""
    names, label = [""] * known.n_rows, repr(str(file))
    unknown: list[str] = []
    twice: dict[str, None] = {}
    sides: dict[str, tuple[str, str]] = {}
    listed: set[int] = set()
    for name, part in pairs:
        rows = known.rows_of(name)
        unknown += [] if rows else [name]
        if listed.intersection(rows):
            before = names[rows[0]]
            if before == part:
                twice[name] = None
            else:
                sides[name] = (before, part)
        listed.update(rows)
        for row in rows:
            names[row] = part
    _require_none(unknown, f"Each name in {label} must be an image file or a stimulus id of {known.name!r}", "are none")
    _require_none(
        [f"{name} ({one or 'of no part'}, {other or 'of no part'})" for name, (one, other) in sides.items()],
        f"Each stimulus in {label} must be of one part", "are of two",
    )  # fmt: skip
    _require_none(list(twice), f"Each stimulus must be listed once in {label}", "are listed again")
    return names


def _require_none(wrong: Sequence[str], rule: str, what: str) -> None:
    if wrong:
        raise SpecError(f"{rule}. {len(wrong)} {what}: {few(wrong, _SHOWN)}.")


def _pairs(file: Path) -> list[tuple[str, str, str | None]]:
    """Read names, their parts and, where it is told, whose they are from a table or from JSON."""
    kind = file.suffix.lower()
    if kind not in (".csv", ".tsv", ".json"):
        raise SpecError(f"A split must be given by a file .csv, .tsv or .json. Got {str(file)!r}.")
    try:
        _require_file(file)
        found = _of_json(file) if kind == ".json" else _of_table(file)
    except DataError as error:
        raise SpecError(str(error)) from None
    return [(name, part_of(part, f" in {str(file)!r}"), subject) for name, part, subject in found]


def _require_file(file: Path) -> None:
    """Refuse what is no file, as a pipe that nobody writes to, or takes all memory."""
    if not (is_there(file) and file.is_file()):
        raise SpecError(f"The file {str(file)!r} must exist. It does not.")
    if file.stat().st_size > _LARGEST:
        raise SpecError(f"A split must be given by a file of at most {_LARGEST >> 20} MiB. {str(file)!r} is larger.")


def _of_table(file: Path) -> list[tuple[str, str, str | None]]:
    table = read_table(file)
    names, parts = table.column(*IMAGE_COLUMNS, *STIMULUS_COLUMNS), table.column("part")
    return list(zip(names, parts, table.optional("subject") or [None] * len(table), strict=True))


def _of_json(file: Path) -> list[tuple[str, str, None]]:
    """Read an object of names and parts, or of parts and lists of names, whose names may come twice."""
    try:
        found = plain.of_json(file.read_text(encoding="utf-8-sig"), _Pairs)
    except (ValueError, OSError) as error:
        raise SpecError(f"{str(file)!r} must be JSON. Got: {str(error).splitlines()[0].rstrip('.')}.") from None
    pairs = found.items if isinstance(found, _Pairs) else None
    if not pairs:
        raise SpecError(f"{str(file)!r} must hold an object, from names to parts or from parts to lists of names.")
    return [pair for key, value in pairs for pair in _of_object(file, key, value)]


class _Pairs:
    """The names and values of a JSON object, also where a name comes twice."""

    def __init__(self, items: list[tuple[str, Any]]) -> None:
        self.items = items


def _of_object(file: Path, key: str, value: Any) -> list[tuple[str, str, None]]:
    names = value if isinstance(value, list) else [key]
    part = key if isinstance(value, list) else value
    if not isinstance(part, str) or not all(isinstance(name, str | int) for name in names):
        raise SpecError(f"{str(file)!r} must give {key!r} a part, or as a part a list of names. It does not.")
    return [(str(name), part, None) for name in names]


def _require_one_side(names: Sequence[str], known: Known, where: str) -> None:
    """Refuse a stimulus whose rows are of two parts; equal pictures of other names are left out later, and counted."""
    first: dict[Hashable, str] = {}
    wrong: dict[str, None] = {}
    for row, part in enumerate(names):
        if first.setdefault(known.stimulus(row), part) != part:
            wrong[known.label(row)] = None
    _require_none(list(wrong), f"Each stimulus in {where} must be of one part", "are of two")


def _with_rest(names: Sequence[str], rest: str | None, known: Known, where: str) -> list[str]:
    """Say what becomes of rows that are given no part."""
    absent = [known.label(row) for row, part in enumerate(names) if not part]
    if absent and rest is None:
        raise SpecError(
            f"Each row of {known.name!r} must be given a part by {where}. {len(absent)} of {known.n_rows} are not: "
            f'{few(dict.fromkeys(absent), _SHOWN)}. Add them, or write rest = "train" or rest = "leave out".'
        )
    return [part or ("train" if rest == "train" else "") for part in names]


def _in_order(found: _PART_ROWS, spec: SplitSpec, where: str) -> _PART_ROWS:
    """Put parts into their order, and refuse what no split has."""
    if not len(found.get("train", ())):
        raise SpecError(f"There must be rows of the part 'train' in {where}. There are none.")
    if "validation" in found and (spec.folds or "validation" in spec.model_fields_set):
        wrong = "folds" if spec.folds else "validation"
        raise SpecError(f"{wrong!r} must be left out: {where} has a validation part of its own.")
    confirming = [name for name in found if name not in DEVELOPMENT]
    require_part_names(confirming)
    if confirming and spec.confirmation and "confirmation" in spec.model_fields_set:
        raise SpecError(
            f"'confirmation' must be left out: {where} has confirmation parts of its own, {few(confirming)}."
        )
    # Where nobody says which part ranks, that must not hang on which trial happened to be shown first.
    wanted = spec.parts or sorted(confirming, key=lambda name: name != _TEST)
    if {*wanted} != {*confirming}:
        raise SpecError(
            f"'parts' must name the confirmation parts of {where}: {few(confirming) or 'none'}. Got {few(wanted)}."
        )
    return {name: found[name] for name in (*DEVELOPMENT, *wanted) if name in found}


def _by_numbers(parts: Mapping[str, str], n_rows: int) -> _PART_ROWS:
    """Read parts by the numbers of their rows."""
    found = {part: _numbers(part, text, n_rows) for part, text in parts.items()}
    rows, counts = np.unique(np.concatenate([*found.values()]), return_counts=True)
    if (counts > 1).any():
        raise SpecError(f"'rows' must hold each row once. Got row {rows[counts > 1][0]} twice.")
    return found


def _numbers(part: str, text: str, n_rows: int) -> Rows:
    """Read row numbers, as ``"0-79 90"``.

    Examples
    --------
    >>> _numbers("train", "0-3 7", 10).tolist()
    [0, 1, 2, 3, 7]
    """
    found: list[tuple[int, int]] = []
    for word in text.split():
        match = _RANGE.fullmatch(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not first <= last < n_rows:
            raise SpecError(f"{part!r} of 'rows' must be rows 0..{n_rows - 1}, such as '0-79 90'. Got {word[:40]!r}.")
        found.append((first, last + 1))
    if sum(stop - start for start, stop in found) > n_rows:
        raise SpecError(f"{part!r} of 'rows' must hold each row once. It does not.")
    return np.concatenate([np.empty(0, np.intp), *(np.arange(*ends, dtype=np.intp) for ends in found)])


def as_numbers(rows: Rows) -> str:
    """Write row numbers as `SplitSpec.rows` has them.

    Examples
    --------
    >>> as_numbers(np.array([0, 1, 2, 7]))
    '0-2 7'
    """
    runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if len(rows) else []
    return " ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def by_numbers(spec: SplitSpec, known: Known) -> SplitSpec:
    """Say a split that a file gives by the numbers of its rows, so that it can be made again without the file.

    Raises
    ------
    SpecError
        As `given_parts` does.
    """
    found = given_parts(spec, known)
    if spec.file is None or found is None:
        return spec
    table = spec.model_dump(exclude_unset=True, exclude={"file", "parts", "rest"})
    table["rows"] = {part: as_numbers(rows) for part, rows in found.items()}
    table["parts"] = [name for name in found if name not in DEVELOPMENT] or None
    return SplitSpec(**{name: value for name, value in table.items() if value is not None})
