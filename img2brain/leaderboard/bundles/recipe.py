"""How a row says that it was made: the word of others, of which nothing is taken but names of ours and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from img2brain.catalog import LIBRARIES, METRICS, REGRESSORS
from img2brain.errors import Img2BrainError
from img2brain.faults import describe
from img2brain.leaderboard.bundles.opening import BundleRow
from img2brain.records.base import Part
from img2brain.spec import ALL, PCA, Layers, PreparationSpec, SplitSpec, TrialSpec, joined, parse

_LONGEST = 300  # characters of a reason


class NotChecked(Exception):  # noqa: N818 - it says why a row stays at its level, which is no error
    """Why a row cannot be checked at a level, on one line whatever its bundle says."""

    def __init__(self, reason: str) -> None:
        told = "".join(char if char.isprintable() else "?" for char in reason)
        super().__init__(told if len(told) <= _LONGEST else f"{told[:_LONGEST]}...")


class _Settings(Part):
    """What the record of a study says of its file; see `StudyRecord.settings`."""

    split: Mapping[str, Any] = {}
    n_components: tuple[int | Literal["all", "auto"], ...] = ()
    precision: str = "auto"
    dataset: Mapping[str, Any] = {}
    layers: tuple[tuple[str, str, str, tuple[Layers, ...]], ...] = ()


class Recipe:
    """How a row was made, as far as its bundle says so.

    Parameters
    ----------
    row : BundleRow
        The row.

    Attributes
    ----------
    split : SplitSpec
        How its rows were divided.
    taken : PreparationSpec
        What was taken of the data.
    shuffle : int, optional
        The seed by which the responses were permuted, of a control.
    n_components : tuple of int or str
        The sizes that components were taken in.
    layers : tuple of str or tuple of str
        Those that were taken of the network, the row's own among them.

    Raises
    ------
    NotChecked
        If it cannot be followed here: a setting is none of a study file, leads to a file of this machine, or names
        code of others, which is not run for a bundle.
    """

    def __init__(self, row: BundleRow) -> None:
        _require_ours(row)
        _require_regressor(row.trial.spec)
        spec, settings = row.trial.spec, _settings(row)
        asked = dict(settings.dataset)
        shuffle = asked.pop("shuffle", None)
        if shuffle is not None and not (type(shuffle) is int and shuffle >= 0):
            raise NotChecked("the seed of its shuffled responses is none")
        self.shuffle: int | None = shuffle
        try:
            self.split = parse(SplitSpec, settings.split, "the split of the study")
            self.taken = parse(PreparationSpec, asked, "what the study took of the data")
        except Img2BrainError as error:
            raise NotChecked(str(error).rstrip(".")) from None
        if self.taken.images is not None:
            raise NotChecked("it names a folder of images of another machine")
        if self.split.file is not None:
            raise NotChecked("its rows are those of a file of another machine")
        self.n_components = _sizes(settings, spec)
        key = (spec.backbone, spec.weights_digest, spec.preprocessing)
        self.layers = next((found for *of, found in settings.layers if tuple(of) == key), (spec.layer,))
        if spec.layer not in map(joined, self.layers):
            raise NotChecked(f"its layer {spec.layer!r} is none of its study")


def _sizes(settings: _Settings, spec: TrialSpec) -> tuple[int | str, ...]:
    """Return the sizes that a study must name so that the components of a trial are those that they were."""
    if spec.reduction == ALL:
        return (ALL,)
    listed = settings.n_components if spec.reduction == PCA else ()
    return tuple(sorted({*(size for size in listed if isinstance(size, int)), spec.n_components}))


def _settings(row: BundleRow) -> _Settings:
    try:
        return _Settings.model_validate(row.study.settings or {})
    except ValidationError as error:
        raise NotChecked(f"the settings of its study: {describe(_Settings, error).rstrip('.')}") from None


def _require_ours(row: BundleRow) -> None:
    """Refuse code of others, whether the row says so or not."""
    library, colon, _ = row.trial.spec.backbone.rpartition(":")
    named = {*[(METRICS, name) for name in row.study.metrics], (REGRESSORS, row.trial.spec.regressor)}
    named |= {(LIBRARIES, library)} if colon else set()
    others = sorted([name for catalog, name in named if name not in catalog.own])
    others += [item.name for item in row.trial.plugins]
    if others:
        raise NotChecked(f"it needs {others[0]!r}, code of others, which is not run for a bundle")


def _require_regressor(spec: TrialSpec) -> None:
    try:
        REGRESSORS[spec.regressor](**spec.parameters)
    except (Img2BrainError, TypeError, ValueError) as error:
        raise NotChecked(f"its regressor cannot be made: {error}") from None
