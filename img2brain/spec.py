"""Specs: what a person asks for, as frozen plain data."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """Base of all specs: frozen, and an unknown key is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SplitSpec(Spec):
    """Which rows train, validate and confirm.

    Attributes
    ----------
    preset : {"img2brain-2023"}, optional
        The predecessor's rows: ``numpy.random.seed(224)``, shuffle, the first round(0.8 n) train, the others validate.
    seed : int
        Seed of the shuffle.
    validation : float
        Fraction of the development rows that validate.
    confirmation : float
        Fraction of the rows kept out of the search. Without effect where the dataset brings test responses: they confirm.
    """

    preset: Literal["img2brain-2023"] | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)
    validation: float = Field(default=0.2, gt=0, lt=1)
    confirmation: float = Field(default=0.1, ge=0, lt=1)
