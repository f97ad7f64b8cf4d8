"""The record of where a model comes from, in the file that it travels in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from img2brain.records.base import Record
from img2brain.spec import NAME_PATTERN

LONGEST_NAME, LONGEST_TAG, LONGEST_TEXT = 100, 250, 5000  # characters that a registry takes


def _on_one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must hold printable characters alone")
    return text


def _of_lines(text: str) -> str:
    if not all(map(str.isprintable, text.split("\n"))):
        raise ValueError("must hold printable characters and ends of lines alone")
    return text


TagName = Annotated[str, Field(pattern=r"^[\w./ -]*[\w.-]$", max_length=LONGEST_TAG), AfterValidator(_on_one_line)]
TagText = Annotated[str, Field(max_length=LONGEST_TEXT), AfterValidator(_on_one_line)]
Description = Annotated[str, Field(max_length=LONGEST_TEXT), AfterValidator(_of_lines)]


class OriginRecord(Record):
    """Where a model comes from.

    Attributes
    ----------
    img2brain : str
        The version that wrote the file.
    home : str
        Id of the home that it was registered in; empty where it was in none.
    name, version : str
        As it was registered there.
    tags : mapping of str to str
        What was said of it there, for people.
    description : str
        In Markdown.
    """

    kind: ClassVar[str] = "origin"

    img2brain: Annotated[str, Field(max_length=100), AfterValidator(_on_one_line)] = ""
    home: Annotated[str, Field(pattern=r"^[0-9a-f]{0,64}$")] = ""
    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=LONGEST_NAME)]
    version: Annotated[str, Field(pattern=r"^[0-9]{0,9}$")] = ""
    tags: Annotated[Mapping[TagName, TagText], Field(max_length=100)] = {}
    description: Description = ""

    @property
    def label(self) -> str:
        """Where it comes from, for people."""
        version = f"/{self.version}" if self.version else ""
        return f"home {self.home[:8]}, {self.name}{version}" if self.home else f"no home, {self.name}{version}"
