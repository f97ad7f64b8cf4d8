"""The networks of a study: patterns in the place of names, and networks that cannot be had."""

from __future__ import annotations

import logging
from collections.abc import Callable

from img2brain.backbones import matching
from img2brain.errors import FeatureError, SpecError, UnavailableError, did_you_mean, lack_of, quoted
from img2brain.progress import track
from img2brain.spec import BackboneSpec, StudySpec

log = logging.getLogger(__name__)

_WILD = "*?["


def with_networks(spec: StudySpec) -> StudySpec:
    """Put the networks that a pattern fits in its place; one that is there already is not added again.

    Raises
    ------
    SpecError
        For a pattern that no network fits.
    """
    if not any(_is_pattern(item.name) for item in spec.backbones):
        return spec
    found = [item.model_copy(update={"name": name}) for item in spec.backbones for name in _names(item.name)]
    return spec.model_copy(update={"backbones": tuple(dict.fromkeys(found))})


def that_can_be_had(spec: StudySpec, attempt: Callable[[BackboneSpec], object]) -> tuple[StudySpec, dict[str, str]]:
    """Leave out the networks of several that cannot be had, and say why: the study goes on with the others.

    Parameters
    ----------
    spec : StudySpec
        The study.
    attempt : callable
        Takes what it needs of a network: its names, or the network with its weights.

    Returns
    -------
    spec : StudySpec
        With the networks that were built, and took pictures.
    left_out : dict of str to str
        The reasons of the others, by name and weights.

    Raises
    ------
    FeatureError
        The reason of the first one, where none is left; and whatever is wrong with the study file: an unknown layer,
        weights that do not fit. A lack of memory or disk is no reason to leave a network out.
    """
    if len(spec.backbones) == 1:
        return spec, {}
    failed: dict[BackboneSpec, FeatureError] = {}
    for item in track(spec.backbones, len(spec.backbones), "looking at networks"):
        try:
            attempt(item)
        except FeatureError as error:
            if lack_of(error) or not is_of_the_network(error):
                raise
            failed[item] = error
            log.warning("%s is left out: %s", item.name, error)
    kept = tuple(item for item in spec.backbones if item not in failed)
    if not kept:
        raise next(iter(failed.values()))
    reasons = {f"{item.name} {item.weights}": str(error) for item, error in failed.items()}
    return spec.model_copy(update={"backbones": kept}) if failed else spec, reasons


def is_of_the_network(error: FeatureError) -> bool:
    """Tell whether a network fails for a reason of its own, and not for what was asked of it, or where it runs."""
    return isinstance(error, UnavailableError) or type(error) is FeatureError


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in _WILD)


def _names(name: str) -> tuple[str, ...]:
    if not _is_pattern(name):
        return (name,)
    found = matching(name)
    if not found:
        library = name.rpartition(":")[0]
        known = matching(f"{library}:*" if library else "*")
        raise SpecError(f"No backbone fits {quoted(name)}. {did_you_mean(name, known)}")
    return found
