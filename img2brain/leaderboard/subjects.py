"""From a reference to what is stored of a trial or a model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np

from img2brain.errors import DataError, ModelError, RecordError, SpecError, did_you_mean
from img2brain.home import Home
from img2brain.leaderboard.bundles.imported import each_once, imported_rows
from img2brain.leaderboard.collect import owner, registered_by_run, row_of
from img2brain.leaderboard.compare import Subject
from img2brain.leaderboard.rows import Row, home_name
from img2brain.records.confirmation import VALIDATION
from img2brain.tracking import reading
from img2brain.tracking._local import open_to_read
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.names import HOME, MEMBER, STUDY, TRIAL, part_array
from img2brain.tracking.reading import TrackedTrial, study_of, summaries_in
from img2brain.tracking.registry import Registry

_RUN = re.compile(r"[0-9a-f]{32}")


def find_trial(reference: str, home: Home) -> TrackedTrial:
    """Find the trial that a reference names.

    Parameters
    ----------
    reference : str
        ``STUDY#NUMBER``, a run id, or a registered model: ``NAME``, ``NAME@ALIAS``, ``NAME/VERSION``.
    home : Home
        Where it is stored. Of studies of one name its own comes before those of other homes on a server.

    Raises
    ------
    SpecError
        If there is no such trial, or there are several.
    ModelError
        If there is no such model.
    """
    store = open_to_read(home)
    study, hash_, number = reference.rpartition("#")
    if hash_ and number.isdecimal():
        return reading.read_trial(store, _run_of(study, int(number), home, store))
    run_id = reference if _RUN.fullmatch(reference) else Registry(store).find(reference).run_id
    found = reading.find_trial(store, run_id)
    if found is None or not found.record.metrics:
        raise SpecError(f"No trial is tracked for {reference!r}.")
    return found


def find_subjects(first: str, second: str, home: Home) -> tuple[Subject, Subject]:
    """Find two subjects, on the confirmation rows where both were published, else on the validation rows.

    Parameters
    ----------
    first, second : str
        As for `find_trial`; or ``STUDY#NUMBER`` of a bundle that the home has taken in.
    home : Home
        Where they are stored. Its own trials come before those of others.
    """
    rows = [_find_row(reference, home) for reference in (first, second)]
    is_confirmed = all(row.confirmed is not None for row in rows)
    one, other = (_subject(row, is_confirmed=is_confirmed) for row in rows)
    return one, other


def _find_row(reference: str, home: Home) -> Row:
    """Find a trial that is tracked, or else one of a bundle."""
    store = open_to_read(home)
    try:
        trial = find_trial(reference, home)
    except (SpecError, ModelError):
        if (row := _imported_row(reference, home)) is None:
            raise
        return row
    model, whose = registered_by_run(store).get(trial.run_id), owner(home, trial.record.home)
    with suppress(RecordError):
        return row_of(trial, model, whose, store, study_of(store, trial.run_id))
    return row_of(trial, model, whose, store, None)


def _imported_row(reference: str, home: Home) -> Row | None:
    study, hash_, number = reference.rpartition("#")
    if not hash_ or not number.isdecimal():
        return None
    rows = [row for row in each_once(imported_rows(home)) if _is_study(row.study, study)]
    found = [row for row in rows if row.trial.number == int(number)]
    if len(found) > 1:
        told = " or ".join(sorted(row.model for row in found))
        raise SpecError(f"The trial {reference!r} must be one. Got {told}.")
    return found[0] if found else None


def _run_of(study: str, number: int, home: Home, store: TrackingStore) -> Any:
    """Find the run of a trial by the tags of all: no record is read for it."""
    runs = reading.finished_runs(store)
    of_study = [run for run in runs if _is_study(run.data.tags[STUDY], study)]
    found = [run for run in of_study if int(run.data.tags[TRIAL]) == number]
    own = [run for run in found if _home_of(run, home) == home.id]
    candidates = {_whose(run, home): run for run in reversed(own or found)}
    if not candidates:
        known = [int(run.data.tags[TRIAL]) for run in of_study]
        names = {run.data.tags[STUDY] for run in runs}
        hint = f"Its numbers go to {max(known)}." if known else did_you_mean(study, names)
        raise SpecError(f"No trial {number} of a study {study!r} is tracked. {hint}")
    if len(candidates) > 1:
        raise SpecError(f"The trial '{study}#{number}' must be one. Name its run: {_listed(candidates.items())}.")
    return next(iter(candidates.values()))


def _whose(run: Any, home: Home) -> tuple[str, str, str]:
    return run.data.tags[STUDY], _home_of(run, home), run.data.tags.get(MEMBER, "")


def _listed(found: Iterable[tuple[tuple[str, str, str], Any]]) -> str:
    ordered = sorted(found, key=lambda item: item[0])
    return " or ".join(
        f"{run.info.run_id} of {study}{f' on {member}' if member else ''} (home {home_name(home)})"
        for (study, home, member), run in ordered
    )


def _home_of(run: Any, home: Home) -> str:
    return owner(home, run.data.tags.get(HOME, ""))


def _is_study(name: str, asked: str) -> bool:
    return asked in (name, name.rpartition("-")[0])


def _subject(row: Row, *, is_confirmed: bool) -> Subject:
    label = _label(row)
    part = row.confirmation.ranking if is_confirmed and row.confirmation else VALIDATION
    accuracy = row.arrays(part_array(part, "accuracy") if is_confirmed else row.metric.file)
    if accuracy is None:
        raise DataError(f"The scores of {label} are not stored any more.")
    regions = row.study_record.regions if row.study_record else {}
    return Subject(
        label=label,
        dataset=row.trial.dataset.name,
        rows=row.confirmed.rows if is_confirmed and row.confirmed else row.trial.rows.digest,
        part=part,
        measure=row.measure,
        accuracy=np.asarray(accuracy, np.float64),
        regions={name: np.asarray(voxels, np.intp) for name, voxels in regions.items()},
        predictions=row.arrays(part_array(part, "predictions")),
        summaries=row.summaries if is_confirmed else summaries_in(row.arrays, row.measure.summary, part),
    )


def _label(row: Row) -> str:
    spec = row.trial.spec
    what = f"{spec.backbone} {spec.weights} {spec.space} {spec.n_components} {spec.regressor}"
    whose = f", {row.origin}" if row.origin else ""
    return f"{row.registered or f'{row.study}#{row.trial.number}'} ({what}{whose})"
