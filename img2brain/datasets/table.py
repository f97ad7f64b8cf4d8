"""A table of trials: the layout of a lab of its own, which needs no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets._about import read_about, read_per_voxel, read_rois, safe_name
from img2brain.datasets._facts import About
from img2brain.datasets._links import is_there
from img2brain.datasets._looks import Problems
from img2brain.datasets._parts import IMAGE_COLUMNS, STIMULUS_COLUMNS, part_of
from img2brain.datasets._split import DEVELOPMENT, Rows, require_part_names
from img2brain.datasets._stored import SUFFIXES, Stored, find_responses
from img2brain.datasets._tables import Table, few, is_absent, read_table, within
from img2brain.datasets._trials import Recording, TrialDataset, chosen_subject
from img2brain.datasets._voxel_tables import OfVoxels, read_voxels
from img2brain.errors import DataError, SpecError
from img2brain.spec import PreparationSpec

_TABLES = ("trials.csv", "trials.tsv")
_VOXELS = ("regions.csv", "regions.tsv", "voxels.csv", "voxels.tsv")
_COLUMNS = ("subject", "session", "run", "group", "part", "repeats", "trial")
_READ = (*_COLUMNS, *IMAGE_COLUMNS, *STIMULUS_COLUMNS)
_NOT_OF_SPLITS = ("subject", "session", "run", "repeats", "trial", *IMAGE_COLUMNS, *STIMULUS_COLUMNS)
_FOLDERS = ("", "images", "stimuli", "pictures")
_OTHERS = ("ncsnr.npy", "noise_ceiling.npy", *_TABLES, *_VOXELS)


class TableDataset(TrialDataset):
    """Images listed in trials.csv, a line for each trial, and responses with a row for each line.

    Notes
    -----
    ::

        trials.csv | trials.tsv    image; if known: subject, session, run, group, part (train, validation or the name of
                                   a test part), repeats (how many showings the line is the mean of already), trial (its
                                   row of the responses, from 0; without it lines are in order), stimulus_id; and others
                                   of your own, such as category, that a split may go by
        responses.npy              (trials, voxels); or .npz, .h5, .mat (5 and 7.3), .zarr, .csv, .tsv; of several
                                   subjects all lines, or for each its own responses_SUBJECT.npy
        images/, stimuli/ ...      images, named from here, from the folder of the table or from `images`
        regions.csv | voxels.csv   optional, a line for each voxel: columns of 0 and 1, or `region` with names; ncsnr,
                                   noise_ceiling
        rois.json, ncsnr.npy, noise_ceiling.npy, dataset.toml   optional, as in the layout folder

    The table may be given itself, whatever it is called. A line without an image is a trial that shows none.
    """

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Say whether there is a table of trials, or this is one."""
        if path.suffix.lower() in (".csv", ".tsv") and path.is_file():
            return True
        return any((path / name).is_file() or (path / name).is_symlink() for name in _TABLES)

    @classmethod
    def subjects(cls, path: Path) -> tuple[str, ...]:
        """Name the subjects of the table, in its order."""
        column = read_table(_table_file(path)).optional("subject")
        return tuple(dict.fromkeys(column or ()))

    @classmethod
    def problems_of(cls, path: Path, asked: PreparationSpec) -> tuple[str, ...]:
        """Say all that keeps a folder from being opened: what is wrong with images, responses and parts at once."""
        problems = Problems()
        with problems.keep():
            file = _table_file(path)
            table, root = read_table(file), file.parent
            steps: tuple[Callable[[], object], ...] = (
                lambda: _require_known(table), lambda: _images(table, root, asked.images), lambda: _test(table),
                lambda: read_about(root, About),
                lambda: _responses(_of_subject(table, About(), asked.subject), root, asked.responses),
                lambda: cls.open_prepared(path, asked),
            )  # fmt: skip
            for step in steps:
                with problems.keep():
                    step()
        return tuple(dict.fromkeys(problem.message for problem in problems.sorted))

    @classmethod
    def record(cls, path: Path, asked: PreparationSpec) -> Recording:
        """Read the tables, and find the images and the responses."""
        file = _table_file(path)
        whole, root = read_table(file), file.parent
        _require_known(whole)
        about = read_about(root, About)
        own = _of_subject(whole, about, asked.subject)
        table, notes = own.table, {}
        images = _images(table, root, asked.images)
        responses, rows = _responses(own, root, asked.responses)
        if responses.transposed:
            notes["responses"] = "read transposed: their file has voxels first"
        voxels = _voxels(root, responses.n_voxels)
        told = about.model_dump(exclude={"name", "subject"})
        return Recording(
            name=safe_name(f"{about.name}-{own.subject}") if own.is_one_of_several else about.name,
            images=images,
            n_voxels=responses.n_voxels,
            read=_reader(responses, rows),
            where=lambda trial: f"{responses.label!r}, row {rows[trial]} ({table.at(trial)})",
            dtype=responses.dtype,
            session=table.optional("session"),
            run=table.optional("run"),
            group=table.optional("group"),
            test=_test(table),
            stimuli=_stimuli(table),
            columns={head.lower(): table.column(head) for head in table.heads if head.lower() not in _NOT_OF_SPLITS},
            counts=table.whole_numbers("repeats") if table.has("repeats") else None,
            may_lack=responses.dtype.kind == "f",
            rois=voxels.rois,
            ncsnr=voxels.ncsnr,
            noise_ceiling=voxels.noise_ceiling,
            files=(responses.file,),
            facts={**told, "subject": own.subject, "source": root.resolve().name},
            notes=notes,
        )


COMPONENT = TableDataset


def _table_file(path: Path) -> Path:
    if path.is_file():
        return path
    found = [path / name for name in _TABLES if is_there(path / name)]
    if len(found) != 1:
        raise DataError(f"{str(path)!r} must hold one table, trials.csv or trials.tsv. It holds {len(found)}.")
    return found[0]


@dataclass(frozen=True)
class _OfSubject:
    """The lines of a table that are of one subject, and which of all lines they are."""

    table: Table
    subject: str
    rows: Rows
    n_all: int
    is_one_of_several: bool


def _of_subject(table: Table, about: About, asked: str | None) -> _OfSubject:
    """Take the lines of the subject that is asked for; a table without the column is all of one."""
    every = np.arange(len(table), dtype=np.intp)
    column = table.optional("subject")
    if column is None:
        if asked not in (None, about.subject):
            raise DataError(
                f"'subject' must be left out: {table.label} has no column 'subject', so all its lines are of one. "
                f"Got {asked!r}."
            )
        return _OfSubject(table, about.subject, every, len(table), is_one_of_several=False)
    known = tuple(dict.fromkeys(column))
    subject = chosen_subject(known, asked, table.label)
    rows = every[[cell == subject for cell in column]]
    return _OfSubject(table.some(rows.tolist()), subject, rows, len(table), is_one_of_several=len(known) > 1)


def _require_known(table: Table) -> None:
    """Refuse a column whose name is nearly one that is read, and would be left alone without a word."""
    for head in table.heads:
        absent = [name for name in _COLUMNS if not table.has(name)]
        near = get_close_matches(head.lower(), absent, n=1, cutoff=0.85) if head.lower() not in _READ else []
        if near:
            raise DataError(f"{table.label} has a column {head!r}. Did you mean {near[0]!r}? Rename it, either way.")


def _responses(own: _OfSubject, root: Path, asked: str | None) -> tuple[Stored, Rows]:
    """Find the responses, of this subject alone or of all lines, and the row of them that each line belongs to."""
    stored, n_rows = _stored(own, root, asked)
    return stored, _rows(own.table, own.rows if n_rows > len(own.table) else np.arange(n_rows, dtype=np.intp), n_rows)


def _stored(own: _OfSubject, root: Path, asked: str | None) -> tuple[Stored, int]:
    table, n_own = own.table, len(own.table)
    if asked is not None:
        file, _, name = asked.partition("#")
        try:
            return find_responses(root / file, name or None, n_own, table.label), n_own
        except DataError:
            if n_own == own.n_all:
                raise
            return find_responses(root / file, name or None, own.n_all, table.label), own.n_all
    alone = _candidates(root, f"responses_{own.subject}") if own.subject else []
    if alone:
        return find_responses(alone[0], None, n_own, f"{table.label} of {own.subject!r}"), n_own
    found = _candidates(root, "responses") or _candidates(root, None)
    if len(found) != 1:
        there = f"{len(found)}: {few(path.name for path in found)}" if found else "none"
        raise DataError(
            f"{str(root)!r} must hold the responses, such as responses.npy, a row for each line of {table.label}. "
            f'Files that could be they: {there}. Another name is given as responses = "FILE" or "FILE#ARRAY".'
        )
    return find_responses(found[0], None, own.n_all, table.label), own.n_all


def _candidates(root: Path, stem: str | None) -> list[Path]:
    """List files of arrays in a folder: of one name, or all that are nothing else."""
    found = [path for path in sorted(root.iterdir()) if path.suffix.lower() in SUFFIXES]
    if stem is not None:
        return [path for path in found if path.stem == stem]
    return [path for path in found if path.name not in _OTHERS and path.suffix.lower() not in (".csv", ".tsv")]


def _rows(table: Table, rows: Rows, n_rows: int) -> Rows:
    """Return the row of the responses, of so many, that each line belongs to."""
    if not table.has("trial"):
        return rows
    numbers = table.whole_numbers("trial")
    if numbers.min() == 1 and numbers.max() == n_rows:
        raise DataError(
            f"'trial' of {table.label} must be the row of the responses, counted from 0. Got 1..{n_rows}: subtract 1, "
            "or leave the column out where the lines are in the order of the responses."
        )
    if len(np.unique(numbers)) < len(numbers) or numbers.min() < 0 or numbers.max() >= n_rows:
        raise DataError(
            f"'trial' of {table.label} must name rows 0..{n_rows - 1} of the responses, each once. "
            f"Got {numbers.min()}..{numbers.max()}, {len(np.unique(numbers))} different ones of {len(numbers)}."
        )
    return numbers.astype(np.intp)


def _reader(responses: Stored, rows: Rows) -> Any:
    """Read lines of the table from the rows that they belong to, whatever their order."""
    if np.array_equal(rows, np.arange(len(rows))):
        return responses.read

    def read(trials: Rows) -> NDArray[Any]:
        order = np.argsort(rows[trials])
        out: NDArray[Any] = np.empty((len(trials), responses.n_voxels), responses.dtype)
        out[order] = responses.read(rows[trials][order])
        return out

    return read


def _images(table: Table, root: Path, apart: Path | None) -> list[Path | None]:
    """Find the image of each line."""
    names = table.column(*IMAGE_COLUMNS)
    shown = [row for row, name in enumerate(names) if not is_absent(name)]
    folders = [apart] if apart is not None else [root / name for name in _FOLDERS]
    for row in shown:
        within(root, names[row], table.at(row))
    folder = next((item for item in folders if shown and within(item, names[shown[0]], "").is_file()), folders[0])
    paths: dict[str, Path] = {names[row]: within(folder, names[row], table.at(row)) for row in shown}
    absent = [row for row in shown if not is_there(paths[names[row]])] if paths else []
    if absent:
        where = " or ".join(repr(str(item)) for item in folders)
        raise DataError(
            f"Each image of {table.label} must be a file in {where}. {len(absent)} lines name none, the first: "
            f"{names[absent[0]]!r} in {table.at(absent[0])}."
        )
    return [None if is_absent(name) else paths[name] for name in names]


def _test(table: Table) -> NDArray[np.bool_] | None:
    """Return the lines of the test part: all but those of development rows and of no part."""
    cells: Sequence[str] | None = table.optional("part")
    if cells is None:
        return None
    try:
        parts = [part_of(cell, f" in {table.at(row)}") for row, cell in enumerate(cells)]
        require_part_names({part for part in parts if part} - {*DEVELOPMENT})
    except SpecError as error:
        raise DataError(str(error)) from None
    return np.array([part not in ("", *DEVELOPMENT) for part in parts], dtype=bool)


def _stimuli(table: Table) -> list[str] | None:
    """Return the stimulus of each line, its image where none is told."""
    ids = table.optional(*STIMULUS_COLUMNS)
    if ids is None:
        return None
    images = table.column(*IMAGE_COLUMNS)
    return [image if is_absent(name) else name for name, image in zip(ids, images, strict=True)]


def _voxels(root: Path, n_voxels: int) -> OfVoxels:
    """Read what files beside the table say of voxels; a table of them says it first."""
    found = [root / name for name in _VOXELS if is_there(root / name)]
    told = read_voxels(read_table(found[0]), n_voxels) if found else OfVoxels()
    ncsnr, ceiling = told.ncsnr, told.noise_ceiling
    return OfVoxels(
        {**read_rois(root / "rois.json", n_voxels, nullcontext), **told.rois},
        read_per_voxel(root / "ncsnr.npy", n_voxels, np.inf) if ncsnr is None else ncsnr,
        read_per_voxel(root / "noise_ceiling.npy", n_voxels, 1.0) if ceiling is None else ceiling,
    )
