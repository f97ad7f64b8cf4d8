"""From the rows of a home to a bundle: a folder or one file, the same bytes from the same rows."""

from __future__ import annotations

import logging
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from img2brain import digest, looks
from img2brain.amounts import counted
from img2brain.errors import DataError, SpecError, StoreError, lack_of
from img2brain.home import Home
from img2brain.leaderboard.bundles import contents
from img2brain.leaderboard.bundles.boards import boards_table
from img2brain.leaderboard.bundles.contents import BOARDS, LOOKS, MANIFEST
from img2brain.leaderboard.bundles.opening import Bundle, entry_of, in_folder
from img2brain.leaderboard.bundles.signature import sign
from img2brain.leaderboard.collect import collect_own
from img2brain.leaderboard.rows import Row
from img2brain.records import BundleRecord, StudyRecord
from img2brain.records.code import this_code

log = logging.getLogger(__name__)

ONE_FILE = ".zip"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a zip file knows


def export_bundle(
    path: Path | str,
    home: Home | Path | str = "mlruns",
    *,
    dataset: str | None = None,
    predictions: bool = False,
    title: str = "",
    contact: str = "",
    key: Path | str | None = None,
) -> Bundle:
    """Write the rows of a home as a bundle, with all that is needed to check them.

    Parameters
    ----------
    path : Path or str
        A folder, or a file that ends in ``.zip``. A bundle that is there already is replaced; nothing else is.
    home : Home, Path or str
        The home, or its folder; its own rows are exported, those of others and results of others are not.
    dataset : str, optional
        One dataset's rows only, by its name.
    predictions : bool
        Whether predictions of the confirmation rows enter, so that the scores can be computed again by whoever has the
        data. Responses and pictures never do.
    title, contact : str
        What the lab says of itself, each on one line.
    key : Path or str, optional
        An SSH key that signs the manifest.

    Returns
    -------
    Bundle
        Of a folder, opened.

    Raises
    ------
    SpecError
        If the home has no such rows.
    StoreError
        If something else is at the path, or it cannot be written.
    """
    target = Path(path)
    _require_room(target)
    place = home if isinstance(home, Home) else Home.existing(home)
    own = [row for row in collect_own(place, dataset) if row.home == place.id and not row.note and not row.origin]
    rows = sorted(own, key=lambda row: row.trial.key)
    whole = [row for row in rows if row.study_record is not None]
    if len(whole) < len(rows):
        n_left = counted(len(rows) - len(whole), "row is", "rows are")
        log.warning("%s left out: the record of the study is not there", n_left)
    if not whole:
        raise SpecError("A bundle must hold at least one row of the home's own. There is none.")
    with tempfile.TemporaryDirectory(dir=_parent(target), prefix=".bundle-") as scratch:
        folder = Path(scratch) / "bundle"
        try:
            _write(folder, whole, place, predictions=predictions, title=title, contact=contact)
            if key is not None:
                sign(folder, Path(key))
            made = folder if target.suffix != ONE_FILE else _one_file(folder, Path(scratch) / "bundle.zip")
            _put(made, target, Path(scratch) / "before")
        except OSError as error:
            raise StoreError(f"The bundle {target} cannot be written: {lack_of(error)}.") from error
        return in_folder(target if made == folder else folder, str(target))


def _write(folder: Path, rows: Sequence[Row], home: Home, *, predictions: bool, title: str, contact: str) -> None:
    """Write every file, and the manifest last."""
    chain = looks.extended(looks.chain_of(home), looks.unchained(_confirmed(rows)))
    files: dict[str, str] = {}
    for name, content in _files(rows, looks.to_lines(chain), predictions=predictions):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        files[name] = digest.of_bytes(content)
    record = BundleRecord(
        home=home.id,
        title=title,
        contact=contact,
        code=this_code(),
        looks=chain[-1].digest if chain else "",
        rows={contents.row_name(row.trial): entry_of(row.trial, row.confirmation) for row in rows},
        files=dict(sorted(files.items())),
    )
    (folder / MANIFEST).write_text(contents.text_of_record(record), encoding="utf-8")


def _files(rows: Sequence[Row], chain: str, *, predictions: bool) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file that a bundle may hold."""
    studies = {_study(row): row.study_record for row in rows if row.study_record is not None}
    yield LOOKS, chain.encode()
    yield BOARDS, contents.text_of(boards_table(rows)).encode()
    for name, study in sorted(studies.items()):
        yield name, contents.text_of_record(study).encode()
    for row in rows:
        for name, content in _of_row(row, studies[_study(row)], predictions=predictions):
            yield f"rows/{contents.row_name(row.trial)}/{name}", content


def _study(row: Row) -> str:
    return contents.study_file(row.study, row.trial.member)


def _of_row(row: Row, study: StudyRecord, *, predictions: bool) -> Iterator[tuple[str, bytes]]:
    yield contents.TRIAL, contents.text_of_record(row.trial).encode()
    names = contents.arrays_of_trial(row.trial)
    if row.confirmation is not None:
        yield contents.CONFIRMATION, contents.text_of_record(row.confirmation).encode()
        names += contents.arrays_of_confirmation(study, row.confirmation)
        names += contents.arrays_of_members(row.trial, row.confirmation)
        names += contents.predictions_of(row.confirmation) if predictions else []
    for name in names:
        array = row.arrays(name)
        if array is not None:
            yield name, contents.bytes_of(array)


def _confirmed(rows: Iterable[Row]) -> Iterator[Any]:
    for row in rows:
        if row.confirmation is not None:
            yield row.trial, row.confirmation


def _one_file(folder: Path, path: Path) -> Path:
    """Put a folder into one file, in the order of the names and without times: equal folders are equal files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(item for item in folder.rglob("*") if item.is_file()):
            info = zipfile.ZipInfo(file.relative_to(folder).as_posix(), _EPOCH)
            info.create_system, info.external_attr = 3, 0o100644 << 16
            archive.writestr(info, file.read_bytes())
    return path


def _require_room(target: Path) -> None:
    """Refuse a path where something is that is no bundle."""
    is_file = target.suffix == ONE_FILE
    if not target.exists() or (is_file and target.is_file()):
        return
    if is_file or not target.is_dir() or (any(target.iterdir()) and not (target / MANIFEST).is_file()):
        raise StoreError(f"The bundle must be written where nothing is, or a bundle. There is something at {target}.")


def _parent(target: Path) -> Path:
    parent = target.absolute().parent
    if not parent.is_dir():
        raise DataError(f"The folder of the bundle must exist. {parent} does not.")
    return parent


def _put(made: Path, target: Path, before: Path) -> None:
    """Move what was made to its place; a bundle that was there goes."""
    if target.is_dir():
        target.rename(before)
    with suppress(FileNotFoundError):
        shutil.rmtree(before)
    made.rename(target)
