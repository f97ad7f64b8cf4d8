"""The paths in a home's database: MLflow stores absolute ones, and a home may be moved or copied."""

from __future__ import annotations

import logging
import shlex
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from img2brain.amounts import counted
from img2brain.errors import StoreError
from img2brain.home import Home
from img2brain.tracking._database import connected, require_sound
from img2brain.tracking._uri import local_folder

log = logging.getLogger(__name__)

_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
_FOLDERS = """
    SELECT artifact_uri FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'img2brain.kind'
    WHERE runs.status = 'FINISHED' AND runs.lifecycle_stage = 'active'
    UNION ALL SELECT artifact_location FROM logged_models WHERE lifecycle_stage = 'active' AND status = 2
"""  # of those that are whole: they hold files for certain; 2 is READY


@dataclass(frozen=True)
class Relocated:
    """What became of the paths of a home that was moved or copied.

    Attributes
    ----------
    places : tuple of str
        The folders of artifacts that the database named, as URIs.
    n_paths : int
        How many paths lead into the home now.
    missing : tuple of str
        Of runs and models: folders of artifacts that are not in the home.
    """

    places: tuple[str, ...]
    n_paths: int
    missing: tuple[str, ...]


def follow(home: Home) -> None:
    """Let the database's paths follow a home that was moved or copied, where all artifacts came with it.

    The store's lock is held by whoever calls. All paths are changed in one transaction, so that no process sees half of
    them; a process that was at work while its home was moved asks the database where each new run belongs.

    Raises
    ------
    StoreError
        If artifacts are not in the home. Nothing is changed, and nothing is written into another home.
    """
    with connected(home.database) as connection:
        places = _places(connection, home)
        missing = _missing(connection, places, home)
    if not places:
        return
    if missing:
        raise StoreError(
            f"The home {home.folder} was moved or copied from {_shown(places)}, and {len(missing)} of its folders of "
            f"artifacts did not come with it. Bring them, or go on without them: img2brain home relocate --home "
            f"{shlex.quote(str(home.folder))}"
        )
    relocate(home)


def relocate(home: Home) -> Relocated:
    """Change the paths of the database to where the home is, whether or not all artifacts are there."""
    require_sound(home.database)
    with connected(home.database) as connection:
        places = _places(connection, home)
        missing = _missing(connection, places, home)
        n_paths = sum(_change(connection, table, column, place, home) for place in places for table, column in _COLUMNS)
    if n_paths:
        log.warning(
            "the home was moved or copied from %s: %s here",
            _shown(places),
            counted(n_paths, "path now leads", "paths now lead"),
        )
    if home.former_folders:
        home.become(was=())
    return Relocated(tuple(places), n_paths, tuple(missing))


def _places(connection: sqlite3.Connection, home: Home) -> list[str]:
    """Return the folders of artifacts, as URIs, that the home had before it was moved or copied.

    A home of format 1 did not know its path when it was made; its experiments do.
    """
    found = {(folder / home.artifacts.name).as_uri() for folder in home.former_folders}
    if home.format == 1:
        query = "SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE 'file:%/artifacts'"
        found |= {place for (place,) in connection.execute(query)}
    return sorted(place for place in found if not _is_here(place, home))


def _is_here(place: str, home: Home) -> bool:
    """Tell whether a folder is the home's own, also under another name, such as that of a mounted disk."""
    folder = local_folder(place)
    return folder is None or folder == home.artifacts or (folder.exists() and _is_same(folder.parent, home.folder))


def _is_same(first: Path, second: Path) -> bool:
    return first.exists() and first.samefile(second)


def _missing(connection: sqlite3.Connection, places: list[str], home: Home) -> list[str]:
    found = [path for (path,) in connection.execute(_FOLDERS)] if places else []
    moved = (new for path in found for place in places if (new := _moved(path, place, home)))
    return [path for path in moved if (folder := local_folder(path)) is None or not folder.is_dir()]


def _moved(path: str, place: str, home: Home) -> str:
    """Return the path in the home of a path in a place that it had, or nothing where it is in no such place."""
    return home.artifacts.as_uri() + path[len(place) :] if path == place or path.startswith(f"{place}/") else ""


def _change(connection: sqlite3.Connection, table: str, column: str, place: str, home: Home) -> int:
    query = f"""
        UPDATE {table} SET {column} = :here || substr({column}, length(:place) + 1)
        WHERE {column} = :place OR substr({column}, 1, length(:place) + 1) = :place || '/'
    """
    return connection.execute(query, {"here": home.artifacts.as_uri(), "place": place}).rowcount


def _shown(places: list[str]) -> str:
    return ", ".join(_folders(places))


def _folders(places: list[str]) -> Iterator[str]:
    for place in places:
        folder = local_folder(place)
        yield str(folder.parent if folder else place)
