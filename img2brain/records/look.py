"""The record of a look: one scoring of a model on confirmation rows, as a link of the chain of its home."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import ValidationError

from img2brain import digest, plain
from img2brain.errors import RecordError
from img2brain.faults import describe
from img2brain.records.base import Part


class LookRecord(Part):
    """One scoring of a model on confirmation rows, which names the look before it.

    Attributes
    ----------
    home : str
        Id of the home that made the trial.
    rows : str
        Names the rows, as `PartRecord` does.
    trial : str
        Digest of the record of the trial that was scored.
    found : str
        Digest of all arrays that the record of the rows follows from.
    predictions : str
        Digest of the predictions.
    when : str
        The time in UTC.
    unchained : bool
        Whether it was made elsewhere, or before there was a chain: what is known of it is that it was. Then `found`,
        `predictions` and `when` are empty.
    previous : str
        Digest of the look before; empty for the first.
    part : str
        The name of the rows; empty where they have none.
    """

    added: ClassVar[frozenset[str]] = frozenset(("part",))

    home: str
    rows: str
    trial: str
    found: str = ""
    predictions: str = ""
    when: str = ""
    unchained: bool = False
    previous: str = ""
    part: str = ""

    @property
    def digest(self) -> str:
        """What the next look names."""
        return digest.of_value(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Read a look.

        Raises
        ------
        RecordError
            If it is none.
        """
        try:
            return cls.model_validate(plain.of_json(text))
        except ValidationError as error:
            raise RecordError(f"{where}: {describe(cls, error)}") from None
        except ValueError as error:
            raise RecordError(f"{where} must be JSON. Got: {error}.") from None

    def is_of(self, other: LookRecord) -> bool:
        """Tell whether another look is one by the same model at the same rows."""
        return self.what == other.what

    @property
    def what(self) -> tuple[str, str, str]:
        """Which model looked at which rows."""
        return self.rows, self.trial, self.part
