"""Findings: what is not as it should be, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """Something that is not as it should be.

    Attributes
    ----------
    problem : str
        What it is, as sentences that name a file, a folder or a store.
    advice : str
        What to do about it, as a sentence.

    Examples
    --------
    >>> print(Finding("The disk is full.", "Make room."))
    The disk is full. Make room.
    """

    problem: str
    advice: str

    def __str__(self) -> str:
        return f"{self.problem} {self.advice}".strip()
