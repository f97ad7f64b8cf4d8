"""What all records share: how they are written and read, and the parts that several of them have."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from img2brain import digest, plain
from img2brain.errors import RecordError
from img2brain.faults import describe


def _nan_for_none(value: Any) -> Any:
    return math.nan if value is None else value


NullableFloat = Annotated[float, BeforeValidator(_nan_for_none)]  # JSON has no NaN: it is written as null
Summary = Mapping[str, NullableFloat]


class Part(BaseModel):
    """Base of what a record holds: frozen, and an unknown key is refused.

    Attributes
    ----------
    added : frozenset of str
        Keys that came later and are not written where they hold their default, such as None or nothing: such a record
        is written as it was before them.
    """

    added: ClassVar[frozenset[str]] = frozenset()
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if not self._is_usual(name, value)}

    def _is_usual(self, name: str, value: Any) -> bool:
        """Tell whether a key came later and holds its default; a tuple is a list in JSON."""
        usual = type(self).model_fields[name].default
        return name in self.added and value in (usual, list(usual) if isinstance(usual, tuple) else usual)


class Record(Part):
    """Base of all records.

    Attributes
    ----------
    format : int
        Of the file: raised where its keys change. Files of every format are read.
    """

    newest: ClassVar[int] = 1
    kind: ClassVar[str]

    format: int = 1

    def to_json(self) -> str:
        """Write the record; NaN becomes null."""
        return self.model_dump_json(indent=1)

    @property
    def digest(self) -> str:
        """What names the record in a chain of looks: it does not depend on the order of keys."""
        return digest.of_value(json.loads(self.to_json()))

    @classmethod
    def from_json(cls, text: str, where: str = "the record") -> Self:
        """Read a record.

        Parameters
        ----------
        text : str
            What `to_json` wrote.
        where : str
            Where it comes from, for messages.

        Raises
        ------
        RecordError
            If it is no such record, or one of a newer version.
        """
        try:
            table = plain.of_json(text, any_text=True)  # The message of a failure may hold anything.
        except ValueError as error:
            raise RecordError(f"{where} must be a {cls.kind} record in JSON. Got: {error}.") from None
        found = table.get("format") if isinstance(table, dict) else None
        if type(found) is not int or not 1 <= found <= cls.newest:
            raise RecordError(
                f"The 'format' of {where}, a {cls.kind} record, must be a whole number from 1 to {cls.newest}. "
                f"Got {found!r}; a larger one is of a newer version of img2brain."
            )
        try:
            return cls.model_validate(table)
        except ValidationError as error:
            raise RecordError(f"{where}: {describe(cls, error)}") from None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record from a file."""
        return cls.from_json(path.read_text(encoding="utf-8"), str(path))


class Estimate(Part):
    """A number with the interval of 95 % that holds it; NaN where nothing is known.

    Attributes
    ----------
    estimate, low, high : float
        In the unit of the metric; ``low <= estimate <= high``.
    """

    estimate: NullableFloat
    low: NullableFloat = math.nan
    high: NullableFloat = math.nan

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside of the interval."""
        return self.low > 0 or self.high < 0


class ProvenanceRecord(Part):
    """What readers ask about data, in one line each; empty where it was not said.

    Attributes
    ----------
    species, area, licence, url, citation : str
        Whose responses they are, from where, how they may be used, where they are published, and how to cite them.
    """

    species: str = ""
    area: str = ""
    licence: str = ""
    url: str = ""
    citation: str = ""


class DatasetRecord(Part):
    """What is known of a dataset.

    Attributes
    ----------
    name, unit, subject : str
        What it is called, the unit of the responses, and whose they are.
    digest : str
        Of all that a score depends on.
    source : str
        Name of the folder, or the like, that it was read from.
    layout : str
        The layout it was read in.
    n_images, n_voxels : int
        How many images have responses, and of how many voxels.
    provenance : ProvenanceRecord, optional
        Where anything was said of it.
    preparation : mapping of str to str, optional
        What was done to what was recorded until it was these responses, each under a name; where anything was.
    """

    added: ClassVar[frozenset[str]] = frozenset(("provenance", "preparation"))

    name: str
    digest: str
    source: str = ""
    layout: str = ""
    unit: str = ""
    subject: str = ""
    n_images: int
    n_voxels: int
    provenance: ProvenanceRecord | None = None
    preparation: Mapping[str, str] | None = None

    @property
    def prepared(self) -> str:
        """What was done to what was recorded, on one line; empty where nothing was."""
        return "; ".join(f"{name}: {done}" for name, done in (self.preparation or {}).items())


class TiesRecord(Part):
    """Which images stay on one side of a split.

    Attributes
    ----------
    n_images, n_sets : int
        Images that are equal to others or of one group with them, and how many sets they fall into: each on one side.
    left_out : mapping of str to int
        By part, the images that would have been in it and are in none: they are tied to some that are trained on.
    """

    n_images: int
    n_sets: int
    left_out: Mapping[str, int] = {}


class RowsRecord(Part):
    """Which rows trained, validated and confirmed.

    Attributes
    ----------
    digest : str
        Names the dataset and its split: scores with the same one are of the same rows.
    split : str
        Digest of the split alone.
    text : str
        How the split was made, for people.
    folds : int
        How many parts took turns to validate; 1 where one part did.
    n_train, n_validation, n_confirmation : int
        Images of each part.
    ties : TiesRecord, optional
        Where some images are tied to others.
    parts : tuple of (str, int)
        Name and number of images of each confirmation part, in order: the first one ranks. Empty where they are one
        part without a name.
    """

    added: ClassVar[frozenset[str]] = frozenset(("ties", "parts"))

    digest: str
    split: str
    text: str = ""
    folds: int = 1
    n_train: int
    n_validation: int
    n_confirmation: int
    ties: TiesRecord | None = None
    parts: tuple[tuple[str, int], ...] = ()


class CodeRecord(Part):
    """The code that computed something.

    Attributes
    ----------
    version : str
        Of img2brain.
    digest : str
        Of its source files.
    commit : str
        Of the checkout that it ran from; empty where it was installed.
    """

    version: str
    digest: str
    commit: str = ""


class PluginRecord(Part):
    """A component of others.

    Attributes
    ----------
    kind, name : str
        Such as ``"regressor"`` and ``"mine.py:MyRidge"``.
    digest : str
        Of its file.
    """

    kind: str
    name: str
    digest: str
