"""What a record of a repository tells of its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from img2brain import untrusted
from img2brain.errors import DataError, SpecError
from img2brain.fetching.addresses import require_onward
from img2brain.fetching.archives import PublicArchive, RemoteFile
from img2brain.fetching.download import Patience, read_json
from img2brain.spec import parse


@dataclass(frozen=True)
class Told:
    """The files of an archive, and its licence."""

    files: tuple[RemoteFile, ...]
    licence: str


def told_of(archive: PublicArchive, patience: Patience) -> Told:
    """Return the files of an archive: those that it names, or those of its record.

    Raises
    ------
    DataError
        If the record is none, or tells no licence where the archive does not.
    ResourceError
        If nothing answers.
    """
    if archive.record is None:
        return Told(archive.files, archive.licence)
    found = read_json(archive.record, patience)
    try:
        told = {"zenodo": _of_zenodo, "figshare": _of_figshare}[archive.kind](found)
    except (KeyError, TypeError, AttributeError, SpecError) as error:
        raise DataError(
            f"{archive.record} must be a record of {archive.kind}'s kind, with files. It is not: {_said(error)}."
        ) from error
    untrusted.check_names([file.name for file in told.files], archive.record)
    for file in told.files:
        require_onward(archive.record, file.url)
    licence = archive.licence or told.licence
    if not licence:
        raise DataError(f"{archive.record} must tell a licence. It tells none.")
    return Told(told.files, licence)


def _of_zenodo(record: Any) -> Told:
    files = [
        _file(item["key"], item["links"]["self"], item["size"], str(item["checksum"]).removeprefix("md5:"))
        for item in record["files"]
    ]
    return _told(files, (record.get("metadata", {}).get("license") or {}).get("id", ""))


def _of_figshare(record: Any) -> Told:
    files = [_file(item["name"], item["download_url"], item["size"], item["computed_md5"]) for item in record["files"]]
    return _told(files, (record.get("license") or {}).get("name", ""))


def _file(name: Any, url: Any, n_bytes: Any, md5: Any) -> RemoteFile:
    return parse(RemoteFile, {"name": name, "url": url, "bytes": n_bytes, "md5": md5}, "a file of the record")


def _told(files: list[RemoteFile], licence: Any) -> Told:
    if not files:
        raise KeyError("no files")
    text = str(licence)
    return Told(tuple(files), text if text.isprintable() else "")


def _said(error: Exception) -> str:
    kind = "lacks " if isinstance(error, KeyError) else ""
    return f"{kind}{' '.join(str(error).split())[:200]}".rstrip(".")
