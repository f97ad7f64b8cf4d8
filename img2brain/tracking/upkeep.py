"""What a person asks of a home as a whole: what it holds, whether all of it is there, where its paths lead."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from img2brain import plain
from img2brain.finding import Finding
from img2brain.home import Home
from img2brain.tracking import _relocation
from img2brain.tracking._database import how_to_save, read
from img2brain.tracking._local import open_to_read
from img2brain.tracking._relocation import Relocated
from img2brain.tracking._store import answering
from img2brain.tracking._uri import local_folder
from img2brain.tracking.names import KIND, WORKER
from img2brain.tracking.registry import DIGEST
from img2brain.tracking.room import Room, room

_NEEDED = """
    SELECT 'run ' || runs.run_uuid, artifact_uri, 'accuracy.npy' FROM runs
    JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'img2brain.kind' AND tags.value = 'trial'
    WHERE runs.status = 'FINISHED' AND runs.lifecycle_stage = 'active'
    UNION ALL SELECT 'run ' || runs.run_uuid, artifact_uri, 'record.json' FROM runs
    JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'img2brain.home'
    WHERE runs.status IN ('FINISHED', 'FAILED') AND runs.lifecycle_stage = 'active'
    UNION ALL SELECT 'model ' || model_id, artifact_location, 'MLmodel' FROM logged_models
    WHERE lifecycle_stage = 'active' AND status = 2
"""  # a file of each that is whole, of the first format without records; 2 is READY
_HALF_TRACKED = f"""
    SELECT runs.run_uuid, coalesce(worker.value, '') FROM runs
    JOIN tags AS kind ON kind.run_uuid = runs.run_uuid AND kind.key = '{KIND}' AND kind.value = 'trial'
    LEFT JOIN tags AS worker ON worker.run_uuid = runs.run_uuid AND worker.key = '{WORKER}'
    WHERE runs.status = 'RUNNING' AND runs.lifecycle_stage = 'active'
"""
_VERSIONS = """
    SELECT item.name || '/' || item.version, coalesce(item.storage_location, item.source), tag.value
    FROM model_versions AS item LEFT JOIN model_version_tags AS tag
    ON tag.name = item.name AND tag.version = item.version AND tag.key = ?
    WHERE item.current_stage != 'Deleted_Internal'
"""
_BACK = (
    "Put it back from a backup; a trial's run may also be deleted (img2brain ui): its study, when it is run, tracks it "
    "anew."
)


@dataclass(frozen=True)
class Holdings:
    """What a home holds.

    Attributes
    ----------
    n_runs, n_models : int
        Finished trials, and versions of registered models.
    room : list of Room
        What it takes of the disk, by kind.
    """

    n_runs: int
    n_models: int
    room: list[Room]

    @property
    def n_bytes(self) -> int:
        """What it takes in all."""
        return sum(item.n_bytes for item in self.room)


def holdings(home: Home) -> Holdings:
    """Count what a home holds, on its server where it names one.

    Raises
    ------
    TrackingError
        If the store does not answer.
    """
    store = open_to_read(home)
    with answering(store.uri):
        ids = [item.experiment_id for item in store.client.search_experiments()]
        query = "tags.`img2brain.kind` = 'trial' and attributes.status = 'FINISHED'"
        n_runs = sum(1 for _ in store.runs(ids, query))
        n_models = len(store.client.search_model_versions(max_results=10_000))
    return Holdings(n_runs, n_models, room(home))


def problems(home: Home) -> list[Finding]:
    """Tell what is not as it should be in a home's own database and artifacts; nothing is changed.

    Raises
    ------
    TrackingError
        If there is no database that can be read.
    """
    with answering(str(home.database)):
        return read(home.database, lambda found: [*_unsound(found, home.database), *_astray(found, home)])


def half_tracked(home: Home) -> dict[str, str]:
    """Return who tracks the trials of a home's own database that are not tracked whole, by the id of their run."""
    with answering(str(home.database)):
        return read(home.database, lambda connection: dict(connection.execute(_HALF_TRACKED)))


def registered_folders(home: Home) -> dict[str, tuple[Path, str]]:
    """Return where the files of each registered version lie, and the digest that they were sealed with, by its name.

    Those that are not on this machine, and those that are not sealed, are left out.
    """
    with answering(str(home.database)):
        found = read(home.database, lambda connection: connection.execute(_VERSIONS, (DIGEST,)).fetchall())
    return {name: (folder, sealed) for name, uri, sealed in found if (folder := local_folder(uri)) and sealed}


def relocate(home: Home) -> Relocated:
    """Let the database's paths lead to where the home is, whether or not all artifacts are there.

    Raises
    ------
    TrackingError
        If there is no database that can be written.
    """
    with answering(str(home.database)), home.lock("tracking store"):
        return _relocation.relocate(home)


def _unsound(connection: sqlite3.Connection, database: Path) -> Iterator[Finding]:
    for (line,) in connection.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield Finding(f"The database is damaged: {line}.", how_to_save(database))


def _astray(connection: sqlite3.Connection, home: Home) -> Iterator[Finding]:
    """Tell which runs and models have their artifacts elsewhere, or lack them."""
    for what, uri, needed in connection.execute(_NEEDED):
        folder = local_folder(uri)
        if folder is None or not folder.is_relative_to(home.artifacts):
            said = f"The artifacts of the {what} are not in the home. They are at {folder or uri}."
            yield Finding(said, f"Let its paths lead here: img2brain home relocate --home {home.folder}")
        elif not (folder / needed).is_file():
            yield Finding(f"The {what} must have the file {folder / needed}. It is not there.", _BACK)
        elif needed == "record.json":
            yield from _damaged(what, folder)


def _damaged(what: str, folder: Path) -> Iterator[Finding]:
    """Tell which records and arrays of a run are not whole: JSON that cannot be read, a ``.npy`` that was cut."""
    for path in sorted(folder.rglob("*")):
        try:
            if path.suffix == ".json":
                plain.of_json(path.read_text(encoding="utf-8"))
            elif path.suffix == ".npy":
                np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            told = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            yield Finding(f"The {what} must have a whole file {path}. Got: {told}.", _BACK)
