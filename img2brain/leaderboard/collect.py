"""From tracked trials to rows of a leaderboard."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from img2brain.errors import Img2BrainError, RecordError, SpecError, did_you_mean
from img2brain.home import Home
from img2brain.leaderboard.bundles import contents
from img2brain.leaderboard.bundles.imported import each_once, imported_rows
from img2brain.leaderboard.index import board_name, found_trials, leading_runs
from img2brain.leaderboard.networks import By
from img2brain.leaderboard.published import with_places
from img2brain.leaderboard.rows import Row, boards
from img2brain.records import StudyRecord
from img2brain.statistics.ties import place_by_voxels
from img2brain.tracking._local import LocalStore, open_to_read
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import (
    TrackedTrial,
    experiments,
    run_array,
    stored_summaries,
    study_of,
    tracked_trials,
    trials_of,
)
from img2brain.tracking.registry import CHAMPION, Registered, Registry

log = logging.getLogger(__name__)


def collect(home: Home, dataset: str | None = None, *, whole: bool = False) -> list[Row]:
    """Read the finished trials of a dataset, or of all: those that are tracked, and those of imported bundles.

    Parameters
    ----------
    home : Home
        Holds the tracking store and the bundles.
    dataset : str, optional
        The dataset's name.
    whole : bool
        Whether to read all arrays of published rows, for whoever needs them: a row of which one is damaged is said and
        left out.

    Returns
    -------
    list of Row

    Raises
    ------
    SpecError
        If nothing is tracked for a dataset of this name.
    """
    own, others = collect_own(home), imported_rows(home)
    _require_tracked(home, dataset, others)
    rows = [row for row in each_once([*own, *others]) if dataset in (None, row.trial.dataset.name)]
    rows = [row for row in rows if _is_whole(row)] if whole else rows
    return _on_boards(rows, rows)


class BestRows(NamedTuple):
    """The rows that lead a board, all published ones among them, and how many trials it has."""

    rows: list[Row]
    n_trials: int


def leading(home: Home, dataset: str | None, most: int, by: By | None = None) -> list[BestRows]:
    """Read what is shown of each board, so many of its best rows; see `collect`.

    Parameters
    ----------
    home : Home
        Holds the tracking store and the bundles.
    dataset : str, optional
        The dataset's name.
    most : int
        How many rows of each board are shown.
    by : {"backbone", "layer", "regressor"}, optional
        What the best trial alone is shown of.

    Notes
    -----
    Of the trials of the home's own database the records of those alone are read that are shown, see `found_trials`.
    """
    store = open_to_read(home)
    if not isinstance(store, LocalStore):
        return [BestRows(board, len(board)) for board in boards(collect(home, dataset))]
    found = [item for item in found_trials(home, store) if dataset in (None, item.entry.dataset)]
    whose = cache(partial(owner, home))
    of_whom = [(whose(item.entry.home) or item.run_id, item.entry) for item in found]
    known = {(own, entry.study, entry.number, entry.member) for own, entry in of_whom}
    others = [row for row in each_once(imported_rows(home)) if dataset in (None, row.trial.dataset.name)]
    _require_tracked(home, dataset, others)
    others = [row for row in others if (row.home or row.run_id, *row.trial.key) not in known]
    read = trials_of(store, store.runs_of(sorted(leading_runs(found, most, by))))
    all_ = [*others, *(SimpleNamespace(study=entry.study, home=own) for own, entry in of_whom)]
    rows = _on_boards([*_rows_of(home, store, read), *others], all_)
    counts = Counter([*(item.entry.board for item in found), *map(board_name, others)])
    return [BestRows(board, counts[board_name(board[0])]) for board in boards(rows)]


def _require_tracked(home: Home, dataset: str | None, others: Iterable[Row]) -> None:
    known = sorted({*experiments(open_to_read(home)), *(row.trial.dataset.name for row in others)})
    if dataset is not None and dataset not in known:
        raise SpecError(f"No trials of the dataset {dataset!r} are tracked. {did_you_mean(dataset, known)}")


def _on_boards(rows: Sequence[Row], all_: Iterable[Any]) -> list[Row]:
    """Place rows on their boards; studies of one name are told apart by all rows that there are."""
    return [row for board in boards(_told_apart(rows, all_)) for row in _tied(with_places(board))]


def _is_whole(row: Row) -> bool:
    """Tell whether the arrays of a published row can be read, and say which cannot."""
    record, study = row.confirmation, row.study_record
    names = contents.arrays_of_trial(row.trial) if record else []
    names += contents.arrays_of_confirmation(study, record) if record and study else []
    names += contents.predictions_of(record) if record else []
    try:
        for name in names:
            row.arrays(name)
    except (Img2BrainError, OSError) as error:
        log.warning("the row %s is left out: %s", row.model, error)
        return False
    return True


def collect_own(home: Home, dataset: str | None = None) -> list[Row]:
    """Read the finished trials that a home, or its server, tracked itself, not yet placed."""
    store = open_to_read(home)
    return _rows_of(home, store, tracked_trials(store, dataset))


def _rows_of(home: Home, store: TrackingStore, read: Iterable[TrackedTrial]) -> list[Row]:
    """Make rows of trials that have scores, not yet placed."""
    models = registered_by_run(store)
    trials = [item for item in read if item.record.metrics]
    studies = _Studies(store)
    whose = cache(partial(owner, home))
    found = (_row_or_warn(item, models.get(item.run_id), whose, store, studies) for item in trials)
    return [row for row in found if row is not None]


def registered_by_run(store: TrackingStore) -> dict[str, Registered]:
    """Return the registered models by the run of the trial that each comes from."""
    return {item.run_id: item for item in Registry(store).versions()}


def model_name(item: Registered | None) -> str:
    """Name a registered model with its version; nothing where there is none."""
    return f"{item.name} v{item.version}" if item else ""


def owner(home: Home, made_by: str) -> str:
    """Return the id of the home that made a run.

    All runs of its own database are the home's own, those of the first format too, which do not say who made them, and
    those of the home that it is a copy of.
    """
    is_own = made_by in home.own_ids or (not made_by and home.tracking_uri is None)
    return home.id if is_own else made_by


def _told_apart(rows: Sequence[Row], all_: Iterable[Any]) -> list[Row]:
    """Mark the rows whose study several homes have, of all that there are."""
    homes = defaultdict[str, set[str]](set)
    for row in all_:
        homes[row.study].add(row.home)
    return [replace(row, has_namesake=True) if len(homes[row.study]) > 1 else row for row in rows]


class _Studies:
    """Reads the record of each study once, and of each member; where it is spoilt, its trials are shown without it."""

    def __init__(self, store: TrackingStore) -> None:
        self._store = store
        self._found: dict[tuple[str, str, str], StudyRecord | None] = {}

    def __call__(self, item: TrackedTrial) -> StudyRecord | None:
        key = item.record.home, item.record.study, item.record.member
        if key not in self._found:
            with suppress(RecordError):
                self._found[key] = study_of(self._store, item.run_id)
        return self._found.get(key)


def _row_or_warn(
    item: TrackedTrial, model: Registered | None, whose: Callable[[str], str], store: TrackingStore, studies: _Studies
) -> Row | None:
    """Make a row of a trial; one whose files are spoilt must not keep all others from the board."""
    try:
        return row_of(item, model, whose(item.record.home), store, studies(item))
    except (RecordError, LookupError, ValueError, TypeError) as error:
        log.warning("the run %s is left out: %s", item.run_id, error)
        return None


def row_of(
    item: TrackedTrial, model: Registered | None, home: str, store: TrackingStore, study: StudyRecord | None
) -> Row:
    """Make a row of a tracked trial of a home, by its id, not yet placed."""
    how = item.record.metrics[item.record.objective].summary
    return Row(
        run_id=item.run_id,
        trial=item.record,
        confirmation=item.confirmation,
        study_record=study,
        arrays=partial(run_array, store, item.run_id),
        origin=item.origin,
        registered=model_name(model),
        home=home,
        champion=model is not None and CHAMPION in model.aliases,
        summaries=stored_summaries(store, item.run_id, how, item.confirmation.ranking) if item.confirmation else None,
    )


def _tied(board: list[Row]) -> list[Row]:
    """Share ranks among results of others, by the scores of their voxels: nothing else is known of them."""
    if not all(row.trial.note for row in board):
        return board
    (ordered,) = boards(board)
    accuracies = [row.arrays(row.metric.file) for row in ordered]
    known = [np.asarray(array) for array in accuracies if array is not None]
    if len(known) < len(ordered):
        return board
    return [replace(row, tie=found) for row, found in zip(ordered, place_by_voxels(known), strict=True)]
