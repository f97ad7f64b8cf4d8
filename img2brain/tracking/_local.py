"""The home's own database, read without MLflow, whose import takes longer than most answers.

What was deleted in MLflow's pages is gone here too, and an alias that was moved there has moved: both read the same
tables. Nothing is written. The tests hold the answers against MLflow's own.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from img2brain.home import Home
from img2brain.tracking._database import read, require_no_artifacts
from img2brain.tracking._relocation import follow
from img2brain.tracking._store import TrackingStore
from img2brain.tracking._uri import local_folder
from img2brain.tracking.names import FINISHED_TRIALS, HOME, KIND

_CONDITION = re.compile(r"(tags|attributes)\.`?([\w.]+)`? = '([^']*)'")
_RUNS = "SELECT run_uuid, artifact_uri, status, lifecycle_stage FROM runs"
_FIRST = "ORDER BY start_time, run_uuid"
_AMONG = "run_uuid IN (SELECT value FROM json_each(?))"
_TAGGED = "EXISTS (SELECT 1 FROM tags WHERE tags.run_uuid = runs.run_uuid AND tags.key = ? AND tags.value = ?)"
_IN_THE_FIRST_FORMAT = f"""
    SELECT 1 FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = '{KIND}'
    WHERE NOT EXISTS (SELECT 1 FROM tags WHERE tags.run_uuid = runs.run_uuid AND tags.key = '{HOME}') LIMIT 1
"""


def open_to_read(home: Home) -> TrackingStore:
    """Open what a home has tracked, for reading: its own database without MLflow, where that can answer.

    MLflow answers for a server, for runs of the first format, and for a database that is not as it should be.

    Raises
    ------
    TrackingError
        If the store cannot be opened.
    """
    if home.tracking_uri is None:
        with suppress(sqlite3.Error, _NotReadable):
            return LocalStore(home)
    return TrackingStore(home)


class LocalStore(TrackingStore):
    """A home's own store, for reading alone; one that is not there holds nothing, and is not made.

    Raises
    ------
    sqlite3.Error
        If the database has not the tables that are read.
    """

    def __init__(self, home: Home) -> None:
        self._local = home
        self.uri = str(home.database)
        self.lock = home.lock("tracking store")
        self.client = _Client(home.database)
        if home.database.exists():
            with self.lock:
                follow(home)
                self.client.require_readable()
        else:
            require_no_artifacts(home.database, home.artifacts)

    def find_run(self, run_id: str) -> Any:
        return next(iter(self.client.runs_where("run_uuid = ?", run_id)), None)

    def finished_trials(self) -> dict[str, Path]:
        """Return the folders of artifacts of the finished trials by run, the first ones first; no tag is read."""
        experiments = [item.experiment_id for item in self.client.search_experiments()]
        found: dict[str, Path] = self.client.folders_where(*_where(experiments, FINISHED_TRIALS))
        return found

    def runs_of(self, run_ids: Sequence[str]) -> list[Any]:
        """Return some runs by their ids, the first ones first."""
        found: list[Any] = self.client.runs_where(_AMONG, json.dumps(list(run_ids)))
        return found


class _NotReadable(Exception):  # noqa: N818 - nothing is wrong: MLflow can read it
    """The database holds what only MLflow's own client reads here."""


class _Page(list[Any]):
    """All that was found, as MLflow's client hands out a part of it."""

    token = None


class _Client:
    """The questions to MLflow's client that reading asks, answered by the database itself."""

    def __init__(self, database: Path) -> None:
        self._database = database

    def require_readable(self) -> None:
        """Ask all that is ever asked."""
        self.search_experiments()
        self.runs_where("0")
        self.search_registered_models()
        self.search_model_versions("name=''")
        if self._rows(_IN_THE_FIRST_FORMAT):
            raise _NotReadable

    def search_experiments(self) -> list[Any]:
        found = self._rows("SELECT experiment_id, name FROM experiments WHERE lifecycle_stage = 'active'")
        return [SimpleNamespace(experiment_id=str(number), name=name) for number, name in found]

    def search_runs(self, experiment_ids: Sequence[str], query: str, **_: Any) -> _Page:
        """Find the runs that were not deleted, the first ones first."""
        return self.runs_where(*_where(experiment_ids, query))

    def get_run(self, run_id: str) -> Any:
        (run,) = self.runs_where("run_uuid = ?", run_id)
        return run

    def runs_where(self, where: str, *values: Any) -> _Page:
        """Return runs with their tags."""
        found = self._rows(f"{_RUNS} WHERE {where} {_FIRST}", *values)
        asked = f"SELECT run_uuid, key, value FROM tags WHERE run_uuid IN (SELECT run_uuid FROM runs WHERE {where})"
        tags = _by_first(self._rows(asked, *values))
        return _Page(_run(run, tags.get(run[0], {})) for run in found)

    def folders_where(self, where: str, *values: Any) -> dict[str, Path]:
        """Return where the artifacts of runs are that are in local folders."""
        found = {run[0]: local_folder(run[1]) for run in self._rows(f"{_RUNS} WHERE {where} {_FIRST}", *values)}
        return {run_id: folder for run_id, folder in found.items() if folder is not None}

    def search_registered_models(self, **_: Any) -> list[Any]:
        aliases = _by_first(self._rows("SELECT name, alias, version FROM registered_model_aliases"))
        tags = _by_first(self._rows("SELECT name, key, value FROM registered_model_tags"))
        return [
            SimpleNamespace(name=name, aliases=aliases.get(name, {}), tags=tags.get(name, {}), description=text)
            for name, text in self._rows("SELECT name, description FROM registered_models")
        ]

    def search_model_versions(self, query: str = "", **_: Any) -> list[Any]:
        """Find the versions that were not deleted, of all models or of ``name='NAME'``."""
        name = query.removeprefix("name='").removesuffix("'") or None
        asked = "SELECT name, version, run_id, description, creation_time FROM model_versions"
        found = self._rows(f"{asked} WHERE current_stage != 'Deleted_Internal' AND (?1 IS NULL OR name = ?1)", name)
        tagged = self._rows("SELECT name || '/' || version, key, value FROM model_version_tags")
        tags = _by_first(tagged)
        return [
            SimpleNamespace(
                name=name,
                version=number,
                run_id=run,
                tags=tags.get(f"{name}/{number}", {}),
                aliases=(),
                description=text,
                creation_timestamp=made_ms,
            )
            for name, number, run, text, made_ms in found
        ]

    def _rows(self, query: str, *values: Any) -> list[Any]:
        if not self._database.exists():
            return []
        return read(self._database, lambda connection: connection.execute(query, values).fetchall())


def _where(experiment_ids: Sequence[str], query: str) -> list[Any]:
    """Return a query of MLflow's as SQL has it, with its values."""
    where = [f"experiment_id IN ({', '.join('?' * len(experiment_ids))})", "lifecycle_stage = 'active'"]
    values: list[Any] = list(map(int, experiment_ids))
    for kind, name, value in map(_condition, query.split(" and ")):
        where.append(_TAGGED if kind == "tags" else f"{name} = ?")
        values += [name, value] if kind == "tags" else [value]
    return [" AND ".join(where), *values]


def _condition(text: str) -> tuple[str, str, str]:
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise ValueError(f"A condition must be such as \"tags.`a` = 'b'\". Got {text!r}.")
    kind, name, value = found.groups()
    return kind, name, value


def _run(line: tuple[str, str, str, str], tags: Mapping[str, str]) -> Any:
    run_id, artifact_uri, status, stage = line
    info = SimpleNamespace(run_id=run_id, artifact_uri=artifact_uri, status=status, lifecycle_stage=stage)
    return SimpleNamespace(info=info, data=SimpleNamespace(tags=tags))


def _by_first(found: Iterable[tuple[str, str, Any]]) -> dict[str, dict[str, Any]]:
    """Gather keys and values by what they belong to."""
    gathered: dict[str, dict[str, Any]] = {}
    for owner, key, value in found:
        gathered.setdefault(owner, {})[key] = value
    return gathered
