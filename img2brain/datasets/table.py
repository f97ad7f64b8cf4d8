"""A table of trials: the layout of a lab of its own, which needs no other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets._about import read_about, read_per_voxel, read_rois, safe_name
from img2brain.datasets._facts import About
from img2brain.datasets._links import is_there
from img2brain.datasets._split import Rows
from img2brain.datasets._stored import SUFFIXES, Stored, find_responses
from img2brain.datasets._tables import Table, few, is_absent, read_table, within
from img2brain.datasets._trials import Recording, TrialDataset, chosen_subject
from img2brain.datasets._voxel_tables import OfVoxels, read_voxels
from img2brain.errors import DataError
from img2brain.spec import PreparationSpec

_TABLES = ("trials.csv", "trials.tsv")
_VOXELS = ("regions.csv", "regions.tsv", "voxels.csv", "voxels.tsv")
_IMAGE = ("image", "image_file", "file", "filename", "file_name", "path", "stimulus", "stim_file")
_COLUMNS = ("subject", "session", "run", "group", "part", "repeats", "trial")
_READ = (*_COLUMNS, *_IMAGE)
_FOLDERS = ("", "images", "stimuli", "pictures")
_PARTS = {"train": False, "training": False, "validation": False, "val": False, "test": True}
_OTHERS = ("ncsnr.npy", "noise_ceiling.npy", *_TABLES, *_VOXELS)


class TableDataset(TrialDataset):
    """Images listed in trials.csv, a line for each trial, and responses with a row for each line.

    Notes
    -----
    ::

        trials.csv | trials.tsv    image; if known: subject, session, run, group, part (train or test), repeats (how
                                   many showings the line is the mean of already), trial (its row of the responses, from
                                   0; without it lines are in order)
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
    def record(cls, path: Path, asked: PreparationSpec) -> Recording:
        """Read the tables, and find the images and the responses."""
        file = _table_file(path)
        table, root = read_table(file), file.parent
        _require_known(table)
        whole, notes = len(table), {}
        subjects = table.optional("subject") or ()
        known, about = tuple(dict.fromkeys(subjects)), read_about(root, About)
        subject = chosen_subject(known, asked.subject, table.label) if known else _only(asked.subject, about, table)
        own = [row for row in range(whole) if not known or subjects[row] == subject]
        table = table.some(own)
        images = _images(table, root, asked.images)
        responses, is_own = _responses(root, asked.responses, subject if known else "", len(table), whole, table)
        rows = _rows(table, np.arange(len(table)) if is_own else np.array(own, dtype=np.intp), is_own)
        if responses.transposed:
            notes["responses"] = "read transposed: their file has voxels first"
        voxels = _voxels(root, responses.n_voxels)
        told = about.model_dump(exclude={"name", "subject"})
        return Recording(
            name=about.name if len(known) < 2 else safe_name(f"{about.name}-{subject}"),
            images=images,
            n_voxels=responses.n_voxels,
            read=_reader(responses, rows),
            where=lambda trial: f"{responses.label!r}, row {rows[trial]} ({table.at(trial)})",
            dtype=responses.dtype,
            session=table.optional("session"),
            run=table.optional("run"),
            group=table.optional("group"),
            test=_test(table),
            counts=table.whole_numbers("repeats") if table.has("repeats") else None,
            may_lack=responses.dtype.kind == "f",
            rois=voxels.rois,
            ncsnr=voxels.ncsnr,
            noise_ceiling=voxels.noise_ceiling,
            facts={**told, "subject": subject or about.subject, "source": root.resolve().name},
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


def _only(asked: str | None, about: About, table: Table) -> str:
    """Return the subject of a table of one, who may be asked for by name."""
    if asked is not None and asked != about.subject:
        raise DataError(
            f"'subject' must be left out: {table.label} has no column 'subject', so all its lines are of one. "
            f"Got {asked!r}."
        )
    return about.subject


def _require_known(table: Table) -> None:
    """Refuse a column whose name is nearly one that is read, and would be left alone without a word."""
    for head in table.heads:
        absent = [name for name in _COLUMNS if not table.has(name)]
        near = get_close_matches(head.lower(), absent, n=1, cutoff=0.85) if head.lower() not in _READ else []
        if near:
            raise DataError(f"{table.label} has a column {head!r}. Did you mean {near[0]!r}? Rename it, either way.")


def _responses(
    root: Path, asked: str | None, subject: str, n_own: int, n_all: int, table: Table
) -> tuple[Stored, bool]:
    """Find the responses, and say whether their rows are the lines of this subject alone."""
    if asked is not None:
        file, _, name = asked.partition("#")
        path = root / file
        try:
            return find_responses(path, name or None, n_own, table.label), True
        except DataError:
            if n_own == n_all:
                raise
            return find_responses(path, name or None, n_all, table.label), False
    own = [path for path in _candidates(root, f"responses_{subject}") if subject]
    if own:
        return find_responses(own[0], None, n_own, f"{table.label} of {subject!r}"), True
    found = _candidates(root, "responses") or _candidates(root, None)
    if len(found) != 1:
        there = f"{len(found)}: {few(path.name for path in found)}" if found else "none"
        raise DataError(
            f"{str(root)!r} must hold the responses, such as responses.npy, a row for each line of {table.label}. "
            f'Files that could be they: {there}. Another name is given as responses = "FILE" or "FILE#ARRAY".'
        )
    return find_responses(found[0], None, n_all, table.label), n_own == n_all


def _candidates(root: Path, stem: str | None) -> list[Path]:
    """List files of arrays in a folder: of one name, or all that are nothing else."""
    found = [path for path in sorted(root.iterdir()) if path.suffix.lower() in SUFFIXES]
    if stem is not None:
        return [path for path in found if path.stem == stem]
    return [path for path in found if path.name not in _OTHERS and path.suffix.lower() not in (".csv", ".tsv")]


def _rows(table: Table, rows: Rows, is_own: bool) -> Rows:
    """Return the row of the responses that each line belongs to."""
    if not table.has("trial"):
        return rows
    numbers = table.whole_numbers("trial")
    n_rows = len(table) if is_own else int(max(rows.max(), numbers.max())) + 1
    if numbers.min() == 1 and numbers.max() == n_rows and is_own:
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
    names = table.column(*_IMAGE)
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
    parts: Sequence[str] | None = table.optional("part")
    if parts is None:
        return None
    for row, part in enumerate(parts):
        if part.lower() not in _PARTS and not is_absent(part):
            raise DataError(f"'part' must be 'train' or 'test' in {table.at(row)}. Got {part!r}.")
    return np.array([_PARTS.get(part.lower(), False) for part in parts], dtype=bool)


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
