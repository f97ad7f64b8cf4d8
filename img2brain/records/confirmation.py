"""The record of what some rows say of a model: those that the search never saw, or those that it was chosen by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from img2brain.records.base import Estimate, NullableFloat, Part, Record, Summary

CONFIRMATION, VALIDATION = "confirmation", "validation"  # names of parts
UNTRAINED = "untrained"
FEW = 20  # images: of fewer, how much images differ is hardly known


class Against(Part):
    """Something else that was scored on the same rows.

    Attributes
    ----------
    score : float
        Its own score.
    difference : Estimate
        The model's score minus it, paired over images.
    """

    score: NullableFloat
    difference: Estimate


class CeilingRecord(Part):
    """What noise leaves to be predicted, over the voxels with a reliable signal.

    The titles of the fields are what tables and pages call them; a field without one is called by its name.

    Attributes
    ----------
    score : float
        What a perfect model scores in expectation.
    normalised : float
        The model's score as a share of that.
    explained : float
        The signed share of the explainable variance.
    n_unreliable, n_above : int
        Voxels that are left out, and voxels whose score exceeds the ceiling; nothing is clipped.
    """

    score: NullableFloat
    normalised: NullableFloat = Field(title="share of ceiling")
    explained: NullableFloat = Field(title="explained share")
    n_unreliable: int = Field(title="left out of the ceiling")
    n_above: int = Field(title="above the ceiling")


class RegionRecord(Part):
    """What the rows say of a model over some voxels.

    Tables and pages show all that stands here, whatever the fields are, under the titles of the fields.

    Attributes
    ----------
    n_voxels : int
        How many voxels there are.
    score : Estimate
        The objective.
    summaries : mapping of str to mapping
        By metric, see `summary_of`.
    n_significant : int, optional
        Voxels predicted above chance at a false discovery rate of 5 %.
    ceiling : CeilingRecord, optional
        Where there is one, and the metric knows of it.
    controls : mapping of str to Against
        What the model has to beat, by name.
    best_layer : Against, optional
        What it scores where each voxel has the layer that validates best for it.
    """

    n_voxels: int = Field(title="voxels")
    score: Estimate
    summaries: Mapping[str, Summary] = {}
    n_significant: int | None = Field(default=None, title="above chance")
    ceiling: CeilingRecord | None = Field(default=None, title="noise ceiling")
    controls: Mapping[str, Against] = {}
    best_layer: Against | None = Field(default=None, title="a layer per voxel")


class PartRecord(Part):
    """What one part of the rows says.

    Attributes
    ----------
    rows : str
        Names the rows by what was recorded: models with the same name were scored on the same responses.
    n_images : int, optional
        How many they are.
    n_units : int, optional
        How many that is where tied rows count as one; None where none are tied.
    ceiling : str
        Where the noise ceiling comes from; ``"none"`` where there is none.
    looks : int
        How many models had been scored on these rows, with this one.
    whole : RegionRecord
        Over all voxels.
    regions : mapping of str to RegionRecord
        By region of interest.
    """

    added: ClassVar[frozenset[str]] = frozenset(("n_units",))

    rows: str
    n_images: int | None = None
    n_units: int | None = None
    ceiling: str = "none"
    looks: int = 1
    whole: RegionRecord
    regions: Mapping[str, RegionRecord] = {}

    @property
    def flags(self) -> tuple[str, ...]:
        """What a reader must know before the score."""
        n_images = self.n_units or self.n_images
        few = f"few images: {n_images}" if n_images is not None and n_images < FEW else ""
        twin = "does not beat its untrained twin" if self.beats_its_twin is False else ""
        return tuple(text for text in (few, twin) if text)

    @property
    def beats_its_twin(self) -> bool | None:
        """Whether it beats the same network with random weights, beyond chance; None where it has no such twin."""
        twin = self.whole.controls.get(UNTRAINED)
        return None if twin is None else twin.difference.low > 0


class ConfirmationRecord(Record):
    """What rows say of one model.

    Attributes
    ----------
    study : str
        Full name of its study.
    number : int
        Of its trial.
    objective : str
        The metric, and what pages call it (`label`).
    summary : {"median", "mean"}
        What stands for all voxels.
    validation : float
        The score that it was chosen by.
    parts : mapping of str to PartRecord
        By the name of the part, such as ``"confirmation"``.
    best_layers : tuple of str
        The layers that each voxel had a choice of.
    first : str
        The name of the part that ranks; empty for ``"confirmation"``.
    drops : mapping of str to Estimate
        By the name of each other part, the score on the part that ranks minus the score on that one, see
        `img2brain.statistics.drop`.
    """

    added: ClassVar[frozenset[str]] = frozenset(("first", "drops"))
    kind: ClassVar[str] = "confirmation"

    study: str
    number: int
    objective: str = "pearson"
    label: str = "Pearson r"
    summary: Literal["median", "mean"] = "median"
    validation: NullableFloat = math.nan
    parts: Mapping[str, PartRecord]
    best_layers: tuple[str, ...] = ()
    first: str = ""
    drops: Mapping[str, Estimate] = {}

    @property
    def ranking(self) -> str:
        """The name of the part that ranks."""
        return self.first or CONFIRMATION

    @property
    def confirmed(self) -> PartRecord | None:
        """What the rows say that the search never saw, those of the part that ranks."""
        return self.parts.get(self.ranking)

    @property
    def is_named(self) -> bool:
        """Whether the parts have names that somebody gave them."""
        return list(self.parts) != [CONFIRMATION]

    @property
    def given_name(self) -> str:
        """The name that somebody gave the part that ranks; empty where nobody named any."""
        return self.ranking if self.is_named else ""

    @property
    def others(self) -> dict[str, PartRecord]:
        """What the other parts say."""
        return {name: part for name, part in self.parts.items() if name != self.ranking}

    def by(self, part: str) -> ConfirmationRecord:
        """Return the record as it reads where one of its parts ranks."""
        return self.model_copy(update={"first": part})

    @property
    def optimism(self) -> float:
        """By how much choosing flattered the score: that on the rows that chose minus that on rows never seen."""
        return self.validation - self.confirmed.whole.score.estimate if self.confirmed else math.nan
