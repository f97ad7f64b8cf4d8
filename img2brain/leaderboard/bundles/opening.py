"""Bundles of others, opened: within bounds, each file as its digest says, nothing executed or unpickled."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from img2brain import digest, looks, untrusted
from img2brain.errors import DataError, RecordError, quoted
from img2brain.leaderboard.bundles import contents
from img2brain.leaderboard.bundles.contents import LOOKS, MANIFEST, SIGNATURE
from img2brain.leaderboard.rows import Row, revision_of
from img2brain.records import (
    BundleRecord,
    BundleRowRecord,
    ConfirmationRecord,
    LookRecord,
    Record,
    StudyRecord,
    TrialRecord,
)
from img2brain.tracking.reading import summaries_in

AnyRecord = TypeVar("AnyRecord", bound=Record)
LIMITS = untrusted.Limits(n_files=200_000, n_bytes=1 << 34)
_LONGEST_TEXT = 1 << 28  # bytes of a file of text


@dataclass(frozen=True, eq=False)
class BundleRow:
    """The records of one row."""

    name: str
    study: StudyRecord
    trial: TrialRecord
    confirmation: ConfirmationRecord | None


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle whose table of contents was read.

    Attributes
    ----------
    path : str
        How it was named, for messages.
    files : mapping of str to Path
        Where its files are.
    record : BundleRecord
        Its table of contents.
    digest : str
        Of that: it names the digests of all files, and stands for the bundle.
    """

    path: str
    files: Mapping[str, Path]
    record: BundleRecord
    digest: str

    @property
    def signed(self) -> bool:
        """Whether there is a signature, valid or not."""
        return SIGNATURE in self.files

    def content(self, name: str) -> bytes:
        """Return a file as its digest says.

        Raises
        ------
        DataError
            If it is absent or another.
        """
        if name not in self.record.files or name not in self.files:
            raise DataError(f"{self.path} must hold {quoted(name)}. It does not.")
        found = self.files[name].read_bytes()
        if digest.of_bytes(found) != self.record.files[name]:
            raise DataError(f"{self.path}: {quoted(name)} is not the file that the manifest names.")
        return found

    def array(self, name: str) -> NDArray[Any] | None:
        """Return an array, or None where the bundle has none of this name."""
        if name not in self.record.files:
            return None
        content, where = self.content(name), f"{self.path}: {quoted(name)}"
        found = untrusted.read_array(self.files[name])
        if contents.bytes_of(found) != content:
            raise DataError(f"{where} must be an array as img2brain writes it: little-endian, in C order. It is not.")
        return found

    def value(self, name: str) -> Any:
        """Return plain data."""
        return contents.value_of(self.content(name), f"{self.path}: {quoted(name)}")

    def read(self, kind: type[AnyRecord], name: str) -> AnyRecord:
        """Return a record."""
        return _record(kind, self.content(name), f"{self.path}: {quoted(name)}")

    @cached_property
    def chain(self) -> list[LookRecord]:
        """The looks, linked, the first one first."""
        lines = self.content(LOOKS).decode("utf-8", "replace").splitlines()
        chain = looks.of_lines(lines, f"{self.path}: {LOOKS}")
        if looks.to_lines(chain).encode() != self.content(LOOKS):
            raise RecordError(f"{self.path}: {LOOKS} must be JSON as img2brain writes it. It is not.")
        if self.record.looks != (chain[-1].digest if chain else ""):
            raise RecordError(f"{self.path}: {LOOKS} must end with the look that the manifest names. It does not.")
        return chain

    def rows(self) -> Iterator[BundleRow]:
        """Yield the records of the rows.

        Raises
        ------
        DataError
            If they do not fit the table of contents.
        """
        studies: dict[str, StudyRecord] = {}
        for name, entry in self.record.rows.items():
            file = contents.study_file(entry.study, entry.member)
            if file not in studies:
                studies[file] = self.read(StudyRecord, file)
            yield self._row(name, entry, studies[file])

    def _row(self, name: str, entry: BundleRowRecord, study: StudyRecord) -> BundleRow:
        trial = self.read(TrialRecord, f"rows/{name}/{contents.TRIAL}")
        file = f"rows/{name}/{contents.CONFIRMATION}"
        confirmation = self.read(ConfirmationRecord, file) if file in self.record.files else None
        if trial.objective not in trial.metrics or contents.row_name(trial) != name:
            raise DataError(f"{self.path}: the row {quoted(name)} must be a trial of that name with a score.")
        if entry != entry_of(trial, confirmation):
            raise DataError(f"{self.path}: the manifest must tell what the row {quoted(name)} says of itself.")
        return BundleRow(name, study, trial, confirmation)

    def to_row(self, item: BundleRow, **about: Any) -> Row:
        """Return a row as leaderboards have it.

        Parameters
        ----------
        item : BundleRow
            Its records.
        **about
            ``origin`` and ``verified``.
        """
        read = partial(self._array_of, item.name)
        how = item.trial.metrics[item.trial.objective].summary
        return Row(
            run_id=digest.of_digests(filter(None, [self.record.home, *map(str, item.trial.key)]))[:32],
            trial=item.trial,
            confirmation=item.confirmation,
            study_record=item.study,
            arrays=read,
            home=self.record.home,
            summaries=summaries_in(read, how, item.confirmation.ranking) if item.confirmation else None,
            **about,
        )

    def _array_of(self, row: str, name: str) -> NDArray[Any] | None:
        return self.array(f"rows/{row}/{name}")


def entry_of(trial: TrialRecord, confirmation: ConfirmationRecord | None) -> BundleRowRecord:
    """Return what the table of contents says of a row."""
    confirmed = confirmation.confirmed if confirmation else None
    return BundleRowRecord(
        study=trial.study,
        number=trial.number,
        member=trial.member,
        data=trial.dataset.digest,
        split=trial.rows.split,
        network=trial.network.digest,
        code=trial.code.digest,
        metric=revision_of(trial),
        rows=confirmed.rows if confirmed else "",
    )


@contextmanager
def opened(path: Path) -> Iterator[Bundle]:
    """Open a bundle, a folder or one file.

    Raises
    ------
    DataError
        If it is none, or holds a file that the manifest does not name.
    """
    if path.is_dir():
        yield in_folder(path)
        return
    with untrusted.opened(path, LIMITS) as archive, tempfile.TemporaryDirectory() as scratch:
        archive.unpack(Path(scratch) / "bundle")
        yield in_folder(Path(scratch) / "bundle", str(path))


def in_folder(folder: Path, path: str = "") -> Bundle:
    """Read the table of contents of a bundle in a folder; see `opened`."""
    path = path or str(folder)
    files = untrusted.files(folder, LIMITS)
    if MANIFEST not in files or files[MANIFEST].stat().st_size > _LONGEST_TEXT:
        raise DataError(f"{path} must be a bundle of img2brain, with a {MANIFEST}. It is not.")
    content = files[MANIFEST].read_bytes()
    record = _record(BundleRecord, content, f"{path}: {MANIFEST}")
    strays = sorted(files.keys() - record.files.keys() - {MANIFEST, SIGNATURE})
    absent = sorted(record.files.keys() - files.keys())
    if strays or absent:
        told = f"holds {quoted(strays[0])}, which it does not" if strays else f"lacks {quoted(absent[0])}"
        raise DataError(f"{path} must hold the files that its {MANIFEST} names. It {told}.")
    return Bundle(path, files, record, digest.of_bytes(content))


def _record(kind: type[AnyRecord], content: bytes, where: str) -> AnyRecord:
    contents.value_of(content, where)
    return kind.from_json(content.decode("utf-8"), where)
