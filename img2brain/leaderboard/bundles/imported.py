"""Bundles of others that a home has taken in: kept whole under their digests, never executed, and forgotten by name."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from img2brain import digest, plain
from img2brain.errors import DataError, Img2BrainError, SpecError, StoreError, did_you_mean, lack_of
from img2brain.home import Home
from img2brain.leaderboard.bundles.arithmetic import LEVELS, Checked, check_bundle
from img2brain.leaderboard.bundles.opening import Bundle, BundleRow, in_folder, opened
from img2brain.leaderboard.rows import Row
from img2brain.records import LookRecord

log = logging.getLogger(__name__)

_LEVELS = ".levels.json"  # beside the folder of a bundle: what was found when it was taken in


@dataclass(frozen=True)
class ImportedBundle:
    """A bundle that a home has taken in.

    Attributes
    ----------
    digest : str
        Its name.
    origin : str
        Whose it is.
    contact : str
        What the lab says of itself.
    n_rows : int
        How many rows it holds.
    levels : mapping of str to str
        The level at which each row was verified.
    """

    digest: str
    origin: str
    contact: str
    n_rows: int
    levels: Mapping[str, str]


def import_bundle(
    path: Path | str,
    home: Home | Path | str = "mlruns",
    *,
    checked: Sequence[Checked] = (),
    expected: str = "",
) -> ImportedBundle:
    """Take a bundle into a home, after a check of its arithmetic: its rows are on the boards from there on.

    Parameters
    ----------
    path : Path or str
        A folder, or one file.
    home : Home, Path or str
        The home, or its folder; made where it is not there.
    checked : sequence of Checked
        What a check found of higher levels; by default the arithmetic is checked here.
    expected : str
        The digest of the bundle that was checked.

    Returns
    -------
    ImportedBundle

    Raises
    ------
    DataError
        If the bundle does not agree with itself, or with what is here of the same home. Nothing is written then.
    StoreError
        If the home cannot be written.
    """
    place = Home.of(home)
    with opened(Path(path)) as bundle:
        if expected not in ("", bundle.digest):
            raise DataError(f"{bundle.path} must be the bundle that was checked. It was changed.")
        found = list(checked) or check_bundle(bundle)
        for item in found:
            if item.difference is not None:
                raise DataError(f"{bundle.path}: the row {item.name!r}: {item.difference}.")
        with place.lock("imported"):
            _require_agreement(bundle, place)
            try:
                _keep(bundle, place, {item.row: item.level for item in found})
            except OSError as error:
                raise StoreError(f"The bundle cannot be kept in {place.imported}: {lack_of(error)}.") from error
        return _told(bundle, _levels(place, bundle.digest))


def imported_bundles(home: Home | Path | str = "mlruns") -> list[ImportedBundle]:
    """Name the bundles of a home, in the order of their digests."""
    place = home if isinstance(home, Home) else Home.existing(home)
    return [_told(bundle, levels) for bundle, levels in _bundles(place)]


def forget_bundle(name: str, home: Home | Path | str = "mlruns") -> str:
    """Take a bundle out of a home again, and return its digest.

    Parameters
    ----------
    name : str
        Its digest, or the beginning of it.
    home : Home, Path or str
        The home, or its folder.

    Raises
    ------
    SpecError
        If no bundle is of this name, or several are.
    """
    place = home if isinstance(home, Home) else Home.existing(home)
    with place.lock("imported"):
        known = [path.name for path in _folders(place)]
        found = [item for item in known if name and item.startswith(name)]
        if len(found) != 1:
            told = f"{len(found)} bundles are" if found else "no bundle is"
            raise SpecError(f"The bundle to forget must be one; {told} called {name!r}. {did_you_mean(name, known)}")
        with tempfile.TemporaryDirectory(dir=place.imported, prefix=".") as scratch:
            (place.imported / found[0]).rename(Path(scratch) / "forgotten")
        (place.imported / f"{found[0]}{_LEVELS}").unlink(missing_ok=True)
        return found[0]


def imported_rows(home: Home) -> list[Row]:
    """Return the rows of all bundles; a bundle or a row that was damaged since is said and left out."""
    rows: list[Row] = []
    for bundle, levels in _bundles(home):
        with _or_left_out(f"the bundle {bundle.digest[: digest.SHORT]}"):
            for item in list(bundle.rows()):
                with _or_left_out(f"the row {item.trial.name!r} of the bundle {bundle.digest[: digest.SHORT]}"):
                    rows.append(bundle.to_row(item, origin=bundle.record.origin, verified=levels.get(item.name, "")))
    return rows


@contextmanager
def _or_left_out(what: str) -> Iterator[None]:
    """Say what cannot be read and go on without it."""
    try:
        yield
    except (Img2BrainError, OSError) as error:
        log.warning("%s is left out: %s", what, error)


def each_once(rows: Iterable[Row]) -> list[Row]:
    """Return rows without those that stand twice: own ones first, then those that say more, or were checked further."""
    found: dict[tuple[str, str, int, str], Row] = {}
    for row in rows:
        key = (row.home or row.run_id, *row.trial.key)
        present = found.get(key)
        if present is None or (present.origin and _weight(row) > _weight(present)):
            found[key] = row
    return list(found.values())


def _weight(row: Row) -> tuple[bool, int]:
    return row.confirmation is not None, ("", *LEVELS).index(row.verified)


def _require_agreement(bundle: Bundle, home: Home) -> None:
    """Refuse a bundle that tells otherwise of a row, or of the looks of a home, than one that is here."""
    rows = {item.trial.key: item for item in bundle.rows()}
    for other, _ in _bundles(home):
        if other.record.home != bundle.record.home or other.digest == bundle.digest:
            continue
        where = f"the bundle {other.digest[: digest.SHORT]}, which is here already"
        if not _is_start(other.chain, bundle.chain) and not _is_start(bundle.chain, other.chain):
            raise DataError(f"{bundle.path} must have the looks of {where}, and others after them. It has others.")
        for item in other.rows():
            _compare(bundle.path, rows.get(item.trial.key), item, where)


def _compare(path: str, new: BundleRow | None, old: BundleRow, where: str) -> None:
    if new is None:
        return
    same = new.trial.digest == old.trial.digest
    if new.confirmation is not None and old.confirmation is not None:
        same &= new.confirmation.digest == old.confirmation.digest
    if not same:
        name = old.trial.name
        raise DataError(f"{path}: the row {name!r} must be the one of {where}. It is another: forget one of them.")


def _is_start(first: Sequence[LookRecord], second: Sequence[LookRecord]) -> bool:
    """Tell whether a chain goes on where another ends."""
    return not first or (len(first) <= len(second) and second[len(first) - 1].digest == first[-1].digest)


def _keep(bundle: Bundle, home: Home, levels: Mapping[str, str]) -> None:
    """Copy a bundle into its place whole or not at all; what is there already is left, with the higher levels."""
    home.imported.mkdir(exist_ok=True)
    _clear(home)
    target = home.imported / bundle.digest
    with tempfile.TemporaryDirectory(dir=home.imported, prefix=".") as scratch:
        before = _levels(home, bundle.digest)
        higher = {row: max(level, before.get(row, level), key=LEVELS.index) for row, level in levels.items()}
        kept = Path(scratch) / "levels"
        kept.write_text(json.dumps(higher, indent=1, sort_keys=True), encoding="utf-8")
        folder = Path(scratch) / "bundle"
        if not target.exists():
            _copy(bundle, folder)
        kept.replace(home.imported / f"{bundle.digest}{_LEVELS}")  # first: no row is here without its level
        if folder.exists():
            folder.rename(target)


def _clear(home: Home) -> None:
    """Take away what an import left that was killed; the caller holds the lock, so that none is at work."""
    for path in home.imported.glob(".*"):
        shutil.rmtree(path, ignore_errors=True)


def _copy(bundle: Bundle, folder: Path) -> None:
    """Copy the files of a bundle, each as it was checked."""
    for name in bundle.files:
        content = bundle.content(name) if name in bundle.record.files else bundle.files[name].read_bytes()
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    if in_folder(folder).digest != bundle.digest:
        raise DataError(f"{bundle.path} must stay as it is while it is imported. It was changed.")


def _bundles(home: Home) -> list[tuple[Bundle, Mapping[str, str]]]:
    """Open all bundles whose table of contents is what their name says."""
    found = []
    for path in _folders(home):
        try:
            bundle = in_folder(path)
            if bundle.digest != path.name:
                raise DataError("it is not what its name says")
            found.append((bundle, _levels(home, path.name)))
        except (Img2BrainError, OSError) as error:
            log.warning("the bundle %s is left out: %s", path.name[: digest.SHORT], error)
    return found


def _folders(home: Home) -> list[Path]:
    if not home.imported.is_dir():
        return []
    return sorted(path for path in home.imported.iterdir() if path.is_dir() and not path.name.startswith("."))


def _levels(home: Home, name: str) -> Mapping[str, str]:
    try:
        found = plain.of_json((home.imported / f"{name}{_LEVELS}").read_bytes())
    except (OSError, ValueError):
        return {}
    return {row: level for row, level in found.items() if level in LEVELS} if isinstance(found, dict) else {}


def _told(bundle: Bundle, levels: Mapping[str, str]) -> ImportedBundle:
    record = bundle.record
    return ImportedBundle(bundle.digest, record.origin, record.contact, len(record.rows), dict(levels))
