"""Fetching an archive: licence, room, download, unpacking; a folder that is there whole or not at all."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from img2brain import digest, untrusted
from img2brain.beside import link_or_copy, require_free, require_room, unfinished
from img2brain.datasets._layouts import find_layout
from img2brain.errors import DataError, quoted
from img2brain.fetching.archives import ARCHIVES, ELSEWHERE, PublicArchive, RemoteFile, find_archive
from img2brain.fetching.download import Patience, download
from img2brain.fetching.records import told_of

log = logging.getLogger(__name__)

LIMITS = untrusted.Limits(n_files=1_000_000, n_bytes=1 << 40, folders=True)
_OF_MAC = "__MACOSX"  # what archives of that system hold beside their files


def archives() -> Mapping[str, dict[str, Any]]:
    """Tell of each archive what it is, its size, licence and layout; of those that must be asked for, where.

    Examples
    --------
    >>> archives()["img2brain-2023"]["licence"], archives()["nsd"]["where"]
    ('CC0-1.0', 'agree to its terms at https://naturalscenesdataset.org')
    """
    told = ("title", "bytes", "licence", "layout", "page", "citation")
    there = {name: {key: getattr(archive, key) for key in told} for name, archive in ARCHIVES.items()}
    return there | {name: {"where": where} for name, where in ELSEWHERE.items()}


def fetch_dataset(
    name: str,
    folder: Path | str,
    *,
    accept_licence: bool = False,
    patience: Patience | None = None,
    limits: untrusted.Limits = LIMITS,
) -> Path:
    """Download a public archive, check it, and unpack it into a folder that a layout reads.

    Parameters
    ----------
    name : str
        One of `archives`, or a ``.toml`` file that describes another one.
    folder : Path or str
        Where to: absent or empty. It is there whole or not at all.
    accept_licence : bool
        Whether its licence is agreed to; without that nothing is downloaded.
    patience : Patience, optional
        How long a server is waited for.
    limits : Limits
        How much may be in a zip file.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    DataError
        If the archive must be asked for elsewhere, its licence is not agreed to, something is at `folder`, or what
        comes is not what it should be.
    ResourceError
        If the disk has no room, or the server stops: the same call goes on.

    Notes
    -----
    What is downloaded so far is kept beside `folder`, in ``.FOLDER.unfinished``. A file is asked for from where it
    stopped, with ``If-Range``, so that one that has changed meanwhile comes whole. Nothing is unpacked before its
    digest was checked. A server may lead on to https alone, unless it is asked by http, and not into this machine's own
    network. Proxies are those that the system names.
    """
    folder, patience = Path(folder), patience or Patience()
    archive = find_archive(name)
    require_free(folder)
    if archive.licence:
        _require_agreement(archive, archive.licence, agreed=accept_licence)
    told = told_of(archive, patience)
    _require_agreement(archive, told.licence, agreed=accept_licence)
    log.info("%s: %s", archive.name, told.licence)
    with unfinished(folder) as beside:
        downloads = beside / "downloads"
        _require_room(archive, told.files, downloads)
        files = [download(file, downloads / _key(file), patience) for file in told.files]
        whole = _unpacked(told.files, files, beside, limits)
        whole.replace(folder.resolve())
        shutil.rmtree(beside)
    return folder


def _unpacked(told: Iterable[RemoteFile], files: Iterable[Path], beside: Path, limits: untrusted.Limits) -> Path:
    """Unpack what was downloaded; of an archive that is refused nothing is kept."""
    whole = beside / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    try:
        for one, file in zip(told, files, strict=True):
            _place(file, one.name, whole, limits)
    except DataError:
        shutil.rmtree(beside)
        raise
    return _without_wrapper(whole)


def _require_agreement(archive: PublicArchive, licence: str, *, agreed: bool) -> None:
    if not agreed:
        where = f" (see {archive.page})" if archive.page else ""
        raise DataError(
            f"The licence of {archive.name!r} must be agreed to before it is fetched: {licence}{where}. "
            "Say so with --accept-licence."
        )


def _require_room(archive: PublicArchive, files: Iterable[RemoteFile], downloads: Path) -> None:
    """Refuse what the disk has no room for: what is still to come, and once more as much where it is unpacked."""
    there = sum(path.stat().st_size for path in downloads.rglob("*") if path.is_file())
    n_bytes = sum((file.bytes or 0) * (2 if _is_packed(file.name) else 1) for file in files)
    require_room(downloads, max(0, n_bytes - there), f"The archive {archive.name!r}")


def _key(file: RemoteFile) -> str:
    """Name the folder of a download, so that what was begun of another file is not gone on with."""
    return digest.of_value(file.model_dump(mode="json"))[: digest.SHORT]


def _is_packed(name: str) -> bool:
    return name.lower().endswith(".zip")


def _place(file: Path, name: str, whole: Path, limits: untrusted.Limits) -> None:
    """Unpack a file into a folder, or link it there."""
    if not _is_packed(name):
        _require_absent(whole, name, name)
        (whole / name).parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(file, whole / name)
        return
    with untrusted.opened(file, limits) as packed:
        require_room(whole, sum(map(packed.size, packed.names)), f"The archive {name!r}")
        for inner in packed.names:
            _require_absent(whole, inner, name)
        log.info("unpacking %s", name)
        packed.unpack(whole)


def _require_absent(whole: Path, name: str, archive: str) -> None:
    if os.path.lexists(whole / name):
        raise DataError(f"Each file must come once. {quoted(name)} of {archive!r} is there already.")


def _without_wrapper(whole: Path) -> Path:
    """Return the one folder that is around all that was unpacked, where that is what a layout reads."""
    shutil.rmtree(whole / _OF_MAC, ignore_errors=True)
    found = list(whole.iterdir())
    return found[0] if len(found) == 1 and not _is_read(whole) and _is_read(found[0]) else whole


def _is_read(folder: Path) -> bool:
    try:
        find_layout(folder)
    except DataError:
        return False
    return True
