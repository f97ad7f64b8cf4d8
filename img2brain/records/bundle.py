"""The record of a bundle: what it holds, from which home, in whose words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, field_validator

from img2brain.records.base import CodeRecord, Part, Record

_LONGEST = 200  # characters of what a lab says of itself


class BundleRowRecord(Part):
    """What a row of a bundle was computed from, so that a reader need not open it to know.

    Attributes
    ----------
    study, number, member : str, int, str
        Its trial, and the member of the study that it was evaluated on.
    data, split, network, code : str
        Digests of what they name.
    metric : str
        The objective with its revision, see `revision_of`.
    rows : str
        Names the confirmation rows; empty of a trial that was not published.
    """

    added: ClassVar[frozenset[str]] = frozenset(("member",))

    study: str
    number: int = Field(ge=0)
    member: str = ""
    data: str
    split: str
    network: str
    code: str
    metric: str
    rows: str = ""


class BundleRecord(Record):
    """What a bundle holds.

    Attributes
    ----------
    home : str
        Id of the home that it comes from.
    title, contact : str
        What the lab says of itself, each on one line.
    code : CodeRecord
        What wrote the bundle.
    looks : str
        Digest of the last look of the chain; empty where there is none.
    rows : mapping of str to BundleRowRecord
        By the name of the folder in ``rows/``.
    files : mapping of str to str
        SHA-256 of every other file, by name.
    """

    kind: ClassVar[str] = "bundle"

    home: str = Field(pattern=r"^[0-9a-f]{1,64}$")
    title: str = ""
    contact: str = ""
    code: CodeRecord
    looks: str = ""
    rows: Mapping[str, BundleRowRecord]
    files: Mapping[str, str]

    @field_validator("title", "contact")
    @classmethod
    def _on_one_line(cls, text: str) -> str:
        if not text.isprintable() or len(text) > _LONGEST:
            raise ValueError(f"at most {_LONGEST} printable characters on one line are allowed")
        return text

    @property
    def origin(self) -> str:
        """Whose bundle it is, for people."""
        return self.title or f"home {self.home[:8]}"
