"""The record of a backup: which files of a home it holds, each by its digest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from img2brain.records.base import CodeRecord, Part, Record

_DIGEST = r"^[0-9a-f]{64}$"


class BackupFileRecord(Part):
    """A file of a home.

    Attributes
    ----------
    digest : str
        SHA-256 of its bytes; files of the same digest are kept once.
    size : int
        In bytes.
    shared : bool
        Whether it shares its place on the disk with others of the same content, as it will where it is restored.
    """

    digest: str = Field(pattern=_DIGEST)
    size: int = Field(ge=0)
    shared: bool = False


class BackupRecord(Record):
    """What a backup holds.

    Attributes
    ----------
    home : str
        Id of the home.
    made : str
        When it was begun, in UTC.
    code : CodeRecord
        What wrote it.
    left_out : tuple of str
        What of the home is not in it, a line each.
    files : mapping of str to BackupFileRecord
        By the name in the home.
    """

    kind: ClassVar[str] = "backup"

    home: str = Field(pattern=r"^[0-9a-f]{1,64}$")
    made: str
    code: CodeRecord
    left_out: tuple[str, ...] = ()
    files: Mapping[str, BackupFileRecord]
