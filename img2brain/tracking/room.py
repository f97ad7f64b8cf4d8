"""What takes the room of a home, kind by kind, and what of it can be freed: what is computed again when needed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from img2brain.errors import StoreError, did_you_mean
from img2brain.home import Home
from img2brain.store import Store
from img2brain.tracking._database import connected
from img2brain.tracking._store import TrackingStore, answering
from img2brain.tracking._uri import local_folder

_ENTRY = re.compile(r"[0-9a-f]{64}")
_NO_ENTRIES = ("locks", "unfinished")
_DELETED = """
    SELECT artifact_uri FROM runs WHERE lifecycle_stage = 'deleted'
    UNION SELECT artifact_location FROM logged_models WHERE lifecycle_stage = 'deleted'
"""
_KEPT = """
    SELECT artifact_uri FROM runs WHERE lifecycle_stage = 'active'
    UNION SELECT artifact_location FROM logged_models WHERE lifecycle_stage = 'active'
    UNION SELECT storage_location FROM model_versions WHERE storage_location IS NOT NULL
    UNION SELECT source FROM model_versions WHERE source IS NOT NULL
"""
_KINDS = {
    ".trials.json": "databases",
    "artifacts/models/*": "artifacts: registered models",
    "artifacts/*/artifacts/features.npy": "artifacts: features",
    "artifacts/*/artifacts/model/*": "artifacts: fitted regressors",
    "artifacts/*/artifacts/pages/*": "artifacts: pages",
    "artifacts/*": "artifacts: records and scores",
    "datasets/*": "sample data",
    "leaderboards/*": "pages",
    "mlflow.db*": "databases",
    "optuna.log*": "databases",
    "plugins/*": "plug-ins",
}


@dataclass(frozen=True)
class Room:
    """What one kind of files takes.

    Attributes
    ----------
    kind : str
        Such as ``"artifacts: features"`` or ``"cache: layers"``.
    n_files, n_bytes : int
        Files that are one on the disk, such as features that trials share, are counted once.
    """

    kind: str
    n_files: int
    n_bytes: int


def room(home: Home) -> list[Room]:
    """Tell what takes the room of a home, kind by kind; links are not followed.

    Notes
    -----
    A file that artifacts share with the cache counts as an artifact: the cache alone would not free it.
    """
    found: dict[str, list[int]] = {}
    seen: set[tuple[int, int]] = set()
    for parts, status in _files(home.folder):
        if (name := (status.st_dev, status.st_ino)) not in seen:
            seen.add(name)
            found.setdefault(_kind(parts), []).append(status.st_size)
    return [Room(kind, len(sizes), sum(sizes)) for kind, sizes in sorted(found.items())]


def n_bytes_of(path: Path) -> int:
    """Return what a file takes, or a folder with all in it."""
    return sum(status.st_size for _, status in _files(path)) if path.is_dir() else path.lstat().st_size


def free(
    home: Home, kinds: Sequence[str] = (), *, deleted_runs: bool = False, dry_run: bool = False
) -> tuple[list[Room], list[str]]:
    """Free what can be computed again: entries of the cache, and what killed processes left of them.

    Parameters
    ----------
    home : Home
        The home.
    kinds : sequence of str
        The kinds of entries, such as ``"axes"``; by default all.
    deleted_runs : bool
        Whether artifacts of runs and models that were deleted in MLflow are freed too: these cannot be computed again,
        and such a run cannot be restored whole. A registered version keeps its own.
    dry_run : bool
        Tell only.

    Returns
    -------
    freed : list of Room
        What is freed, by kind.
    left : list of str
        What is left as it is, and why, a line each.

    Raises
    ------
    StoreError
        If a study is at work in the home, the cache has no such kind, or a file cannot be removed.
    TrackingError
        If the home's own database cannot be read.

    Notes
    -----
    An entry is moved out of its place before it is removed: it is there whole or not at all, whenever this is killed.
    """
    with home.unused():
        left = [_leads_out(folder) for folder in (home.cache, home.artifacts) if folder.is_symlink()]
        freed = [] if home.cache.is_symlink() else _free_cache(home, kinds, dry_run)
        if deleted_runs and not home.artifacts.is_symlink():
            freed += _freed("artifacts of what was deleted", _deleted(home, left), _remove, dry_run)
    return freed, left


def _free_cache(home: Home, kinds: Sequence[str], dry_run: bool) -> list[Room]:
    known = [folder.name for folder in _folders(home.cache) if folder.name not in _NO_ENTRIES]
    for kind in kinds:
        if kind not in known:
            close = did_you_mean(kind, known)
            raise StoreError(f"The cache of {home.folder} holds nothing of the kind {kind!r}. {close}")
    found = [] if kinds else _freed_unfinished(home, dry_run)
    for kind in kinds or known:
        found += _freed(f"cache: {kind}", _entries(home.cache / kind), lambda entry: _set_aside(home, entry), dry_run)
    return found


def _freed_unfinished(home: Home, dry_run: bool) -> list[Room]:
    """Free what killed processes left, of which the locks have no owner."""
    before = _folders(home.cache / "unfinished")
    found = _sizes("cache: unfinished", before)
    if not dry_run and before:
        Store(home.cache)  # A store does so when it is opened.
    return found


def _freed(kind: str, folders: Sequence[Path], remove: Callable[[Path], None], dry_run: bool) -> list[Room]:
    """Remove folders, and return what that frees."""
    found = _sizes(kind, folders)
    for folder in () if dry_run else folders:
        try:
            remove(folder)
        except OSError as error:
            raise StoreError(f"The folder {folder} cannot be removed: {error.strerror}.") from None
    return found


def _sizes(kind: str, folders: Sequence[Path]) -> list[Room]:
    sizes = [status.st_size for folder in folders for _, status in _files(folder)]
    return [Room(kind, len(sizes), sum(sizes))] if sizes else []


def _entries(folder: Path) -> list[Path]:
    """Return the entries of a kind whose files are nobody else's: to remove the others would free nothing."""
    found = [entry for part in _folders(folder) for entry in _folders(part) if _ENTRY.fullmatch(entry.name)]
    return [entry for entry in found if all(status.st_nlink == 1 for _, status in _files(entry))]


def _set_aside(home: Home, entry: Path) -> None:
    try:
        with home.store.scratch() as folder:
            entry.rename(folder / "freed")
    except StoreError:  # A full disk has no room for another folder.
        shutil.rmtree(entry)


def _remove(folder: Path) -> None:
    """Remove the artifacts of a run, and its own folder with them."""
    shutil.rmtree(folder)
    with suppress(OSError):  # which holds something else
        folder.parent.rmdir()


def _deleted(home: Home, left: list[str]) -> list[Path]:
    """Return the folders of artifacts that only deleted runs and models name, all of them inside the home."""
    if not home.database.exists():
        return []
    TrackingStore(home)  # The paths of a home that was moved lead to where it is now.
    with answering(str(home.database)), connected(home.database) as connection:
        deleted, kept = ([local_folder(uri) for (uri,) in connection.execute(query)] for query in (_DELETED, _KEPT))
    needed = [folder.resolve() for folder in kept if folder]
    found = [folder for folder in deleted if folder and folder.is_dir()]
    inside = [folder for folder in found if _is_within(folder, home.artifacts)]
    left += [_leads_out(folder) for folder in found if folder not in inside]
    return [folder for folder in inside if not any(other.is_relative_to(folder) or folder == other for other in needed)]


def _is_within(folder: Path, artifacts: Path) -> bool:
    """Tell whether a folder lies inside of another, by no link."""
    return folder == folder.resolve() and folder != artifacts and folder.is_relative_to(artifacts)


def _leads_out(folder: Path) -> str:
    return f"{folder} leads out of the home, and is left as it is."


def _kind(parts: tuple[str, ...]) -> str:
    """Name the kind of a file by its place in the home."""
    if parts[0] == "cache":
        return f"cache: {parts[1]}"
    return next((kind for pattern, kind in _KINDS.items() if fnmatchcase("/".join(parts), pattern)), "other")


def _files(folder: Path) -> Iterator[tuple[tuple[str, ...], os.stat_result]]:
    """Yield the files below a folder with their places in it, by name; what vanishes meanwhile is left out."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            with suppress(FileNotFoundError):
                yield path.relative_to(folder).parts, path.lstat()


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, links left out, by name."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as found:
        return sorted(Path(item.path) for item in found if item.is_dir(follow_symlinks=False))
    return []
