"""What ranks the trials of a home: an index, so that who shows a few of thousands reads the records of these alone.

It is derived. An entry counts as long as the record is the file that it was made from, and is made again otherwise;
what is shown of a trial is read from its record. It tells of the home's own database alone: a server does not say which
file a record is.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from img2brain import digest
from img2brain.home import Home
from img2brain.leaderboard.networks import By, network_of
from img2brain.leaderboard.rows import Row
from img2brain.tracking._local import LocalStore
from img2brain.tracking.names import CONFIRMATION, RECORD
from img2brain.tracking.reading import TrackedTrial, read_or_warn

_FORMAT = 1


class IndexEntry(NamedTuple):
    """What ranks a trial.

    Attributes
    ----------
    stamp : list of int
        Size, time and inode of the record that it was made from.
    home, study, number, member
        Which trial it is, see `TrialRecord`.
    dataset, board : str
        The name of the dataset, and what names the board; none of a trial without scores.
    score : float or None
        The objective; None where it is not known.
    network, layer, regressor : str
        What it is a trial of.
    is_noted : bool
        Whether it is a result of others.
    """

    stamp: list[int]
    home: str
    study: str
    number: int
    member: str
    dataset: str
    board: str
    score: float | None
    network: str
    layer: str
    regressor: str
    is_noted: bool


class Found(NamedTuple):
    """An entry with the run that it is of, and whether the trial was published."""

    run_id: str
    entry: IndexEntry
    is_published: bool


def found_trials(home: Home, store: LocalStore) -> list[Found]:
    """Return what ranks the finished trials of a home, the first ones first, each once."""
    folders = store.finished_trials()
    known = _read(home)
    stamps = {run_id: _stamp(folder / RECORD) for run_id, folder in folders.items()}
    current = {run_id: entry for run_id, entry in known.items() if stamps.get(run_id) == entry.stamp}
    new = dict(_made(store, [run_id for run_id in folders if run_id not in current], stamps))
    if new or len(current) < len(known):
        _write(home, current | new)
    entries = {run_id: current.get(run_id) or new.get(run_id) for run_id in folders}
    once: dict[tuple[object, ...], Found] = {}
    for run_id, entry in entries.items():
        if entry is not None and entry.board:
            key = (entry.home or run_id, entry.study, entry.number, entry.member)
            once.setdefault(key, Found(run_id, entry, (folders[run_id] / CONFIRMATION).exists()))
    return list(once.values())


def leading_runs(found: Iterable[Found], most: int, by: By | None) -> set[str]:
    """Name the runs of the trials that lead each board.

    Parameters
    ----------
    found : iterable of Found
        All trials.
    most : int
        How many of each board are shown.
    by : {"backbone", "layer", "regressor"}, optional
        What the best trial alone is shown of; all of these are counted, and of a backbone those of its layers are.

    Returns
    -------
    set of str
        With them all published trials, and all results of others, which are placed together.
    """
    found = list(found)
    groups: dict[str, list[Found]] = {}
    for item in found:
        groups.setdefault(item.entry.board, []).append(item)
    asked = {item.run_id for item in found if item.is_published or item.entry.is_noted}
    leading = (_best_of_each(group, by) if by else _leading(group, most) for group in groups.values())
    return asked.union(item.run_id for group in leading for item in group)


def board_name(row: Row) -> str:
    """Name the board of a row, as entries do."""
    return digest.of_value(list(row.board_key))


def _leading(group: list[Found], most: int) -> list[Found]:
    """Return so many of the best trials, with those that are equal to the last."""
    last = sorted(map(_score, group), reverse=True)[:most][-1]
    return [item for item in group if _score(item) >= last]


def _best_of_each(group: list[Found], by: By) -> list[Found]:
    """Return the best trials of each regressor, or of each layer of each network, equal ones together."""
    best: dict[tuple[str, ...], float] = {}
    for item in group:
        key = _one_of(item.entry, by)
        best[key] = max(best.get(key, -math.inf), _score(item))
    return [item for item in group if _score(item) == best[_one_of(item.entry, by)]]


def _one_of(entry: IndexEntry, by: By) -> tuple[str, ...]:
    return (entry.regressor,) if by == "regressor" else (entry.network, entry.layer)


def _score(item: Found) -> float:
    return -math.inf if item.entry.score is None else item.entry.score


def _made(store: LocalStore, run_ids: list[str], stamps: Mapping[str, list[int]]) -> Iterator[tuple[str, IndexEntry]]:
    """Make the entries of some runs; one that cannot be read is said, and has none."""
    for run in store.runs_of(run_ids):
        trial = read_or_warn(store, run)
        if trial is not None:
            yield run.info.run_id, _entry(trial, stamps[run.info.run_id])


def _entry(found: TrackedTrial, stamp: list[int]) -> IndexEntry:
    trial = found.record
    row, spec = Row(run_id=found.run_id, trial=trial), trial.spec
    return IndexEntry(
        stamp=stamp,
        home=trial.home,
        study=trial.study,
        number=trial.number,
        member=trial.member,
        dataset=trial.dataset.name,
        board=board_name(row) if trial.metrics else "",
        score=trial.score if math.isfinite(trial.score) else None,
        network=digest.of_value(list(network_of(row))),
        layer=spec.layer,
        regressor=spec.regressor,
        is_noted=bool(trial.note),
    )


def _stamp(path: Path) -> list[int]:
    """Return what tells a file from what was there before; nothing where there is none."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def _read(home: Home) -> dict[str, IndexEntry]:
    """Read the index; one that is absent, damaged or of another version is none."""
    with suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
        found: dict[str, Any] = json.loads(home.index.read_bytes())
        if found["format"] == _FORMAT:
            return {run_id: IndexEntry(*values) for run_id, values in found["trials"].items()}
    return {}


def _write(home: Home, entries: Mapping[str, IndexEntry]) -> None:
    """Write the index whole or not at all; where it cannot be written, the next reader makes it again."""
    unfinished = home.index.with_name(f"{home.index.name}.{uuid.uuid4().hex}")
    with suppress(OSError):
        try:
            unfinished.write_text(json.dumps({"format": _FORMAT, "trials": entries}), encoding="utf-8")
            unfinished.replace(home.index)
        finally:
            unfinished.unlink(missing_ok=True)
