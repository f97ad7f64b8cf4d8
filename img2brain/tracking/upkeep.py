"""What a person asks of a home as a whole: what it holds, whether all of it is there, where its paths lead."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from img2brain import plain
from img2brain.home import Home
from img2brain.tracking import _relocation
from img2brain.tracking._database import connected
from img2brain.tracking._local import open_to_read
from img2brain.tracking._relocation import Relocated
from img2brain.tracking._store import answering
from img2brain.tracking._uri import local_folder
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


def problems(home: Home) -> list[str]:
    """Tell what is not as it should be in a home's own database and artifacts, a line each; nothing is changed.

    Raises
    ------
    TrackingError
        If there is no database that can be read.
    """
    with answering(str(home.database)), connected(home.database) as connection:
        return [*_unsound(connection), *_astray(connection, home)]


def relocate(home: Home) -> Relocated:
    """Let the database's paths lead to where the home is, whether or not all artifacts are there.

    Raises
    ------
    TrackingError
        If there is no database that can be written.
    """
    with answering(str(home.database)), home.lock("tracking store"):
        return _relocation.relocate(home)


def _unsound(connection: sqlite3.Connection) -> Iterator[str]:
    for (line,) in connection.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield f"The database is damaged: {line}."


def _astray(connection: sqlite3.Connection, home: Home) -> Iterator[str]:
    """Tell which runs and models have their artifacts elsewhere, or lack them."""
    for what, uri, needed in connection.execute(_NEEDED):
        folder = local_folder(uri)
        if folder is None or not folder.is_relative_to(home.artifacts):
            yield f"The artifacts of the {what} are not in the home. They are at {folder or uri}."
        elif not (folder / needed).is_file():
            yield f"The {what} must have the file {folder / needed}. It is not there."
        elif needed == "record.json":
            yield from _damaged(what, folder)


def _damaged(what: str, folder: Path) -> Iterator[str]:
    """Tell which records and arrays of a run are not whole: JSON that cannot be read, a ``.npy`` that was cut."""
    for path in sorted(folder.rglob("*")):
        try:
            if path.suffix == ".json":
                plain.of_json(path.read_text(encoding="utf-8"))
            elif path.suffix == ".npy":
                np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            told = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            yield f"The {what} must have a whole file {path}. Got: {told}."
