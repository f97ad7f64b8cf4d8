"""All numbers of a record, named for files and for people: whatever fields the record has.

A statistic or a control that is added to the records is in every table and on every page from there on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from img2brain.amounts import counted
from img2brain.records import Against, ConfirmationRecord, Estimate, PartRecord, RegionRecord
from img2brain.records.base import Part
from img2brain.result import score_text

_SHORT = {"pearson": "r"}  # what the field calls a metric
_SUMMARIES, _SCORE = "summaries", "score"


class Statistic(NamedTuple):
    """A number of a record.

    Attributes
    ----------
    name : str
        In a file, such as ``"control_pixels_score"``.
    heading : str
        For people, such as ``"pixels"``; empty where it is a detail that files alone hold.
    value : float or int
    """

    name: str
    heading: str
    value: float | int


def statistics_of(region: RegionRecord) -> list[Statistic]:
    """Return all numbers of a region by the objective, the number of voxels and the score first."""
    fields = [(field, value) for field, value in region if field != _SUMMARIES]
    return [item for field, value in fields for item in _numbers(field, _title(region, field), value)]


def summaries_of(region: RegionRecord) -> dict[str, float]:
    """Return the summaries of a region by every metric: ``median_r``, ``mean_r2`` ..."""
    return {
        f"{name}_{_SHORT.get(metric, metric)}": value
        for metric, found in region.summaries.items()
        for name, value in found.items()
        if not name.startswith("n_")
    }


def texts_of(region: RegionRecord) -> dict[str, str]:
    """Tell all statistics of a region for people, but for the score itself, by their headings."""
    found: dict[str, str] = {}
    for field, value in region:
        if field not in (_SUMMARIES, _SCORE, "n_voxels"):
            found |= dict(_texts(_title(region, field), value, region.n_voxels))
    return found


def interval_text(interval: Estimate, digits: int = 3, *, sign: bool = False) -> str:
    """Write a number with its interval.

    Examples
    --------
    >>> interval_text(Estimate(estimate=0.1234, low=0.1, high=0.15))
    '0.123 [0.100, 0.150]'
    >>> interval_text(Estimate(estimate=0.1234))
    '0.123, no interval'
    >>> interval_text(Estimate(estimate=1.234e140, low=1e140, high=2e140), sign=True)
    '+1.234e+140 [+1e+140, +2e+140]'
    """
    text = partial(score_text, digits=digits, sign="+" if sign else "")
    if not math.isfinite(interval.estimate):
        return ""
    if not math.isfinite(interval.low):
        return f"{text(interval.estimate)}, no interval"
    return f"{text(interval.estimate)} [{text(interval.low)}, {text(interval.high)}]"


def images_text(part: PartRecord, name: str = "") -> str:
    """Say what confirmation rows are, how many, and of which named part."""
    images = counted(part.n_images, "image", form=",") if part.n_images else "images"
    tied = f", in {counted(part.n_units, 'tied set', form=',')}," if part.n_units else ""
    of = f" of {name!r}" if name else ""
    return f"{images}{of}{tied} that the search never saw"


def confirmation_texts(part: PartRecord, name: str = "") -> list[tuple[str, str]]:
    """Tell in a few lines what the confirmation rows, or a named part of them, say: score, noise ceiling, controls."""
    whole = part.whole
    score = interval_text(whole.score, 4) or "undefined"
    lines = [("confirmation", f"{score} ({'; '.join((images_text(part, name), *part.flags))})")]
    if whole.ceiling is not None:
        share = f"{_text(whole.ceiling.normalised) or 'no share'} of it"
        lines.append(("noise ceiling", f"{_text(whole.ceiling.score)} (from {part.ceiling}); the model has {share}"))
    return lines + [("control", f"{name} {text}") for name, text in _texts("", whole.controls, whole.n_voxels)]


def part_texts(record: ConfirmationRecord) -> dict[str, str]:
    """Tell what the named parts of the confirmation rows say, a line each, and how far the score drops from the first.

    Returns
    -------
    dict of str to str
        By the name of the part; empty where nobody named any.
    """
    parts = record.parts.items() if record.is_named else ()
    return {f"on {name}": _part_text(part, record.drops.get(name)) for name, part in parts}


def other_texts(record: ConfirmationRecord) -> dict[str, str]:
    """Tell the same of the parts that do not rank."""
    return {name: text for name, text in part_texts(record).items() if name != f"on {record.ranking}"}


def _part_text(part: PartRecord, drop: Estimate | None) -> str:
    score = interval_text(part.whole.score, 4) or "undefined"
    told = f"{score} ({'; '.join((images_text(part), *part.flags))})"
    return f"{told}, a drop of {interval_text(drop, 4, sign=True)}" if drop else told


def _title(part: Part, field: str) -> str:
    return type(part).model_fields[field].title or field.replace("_", " ")


def _numbers(name: str, heading: str, value: Any) -> Iterator[Statistic]:
    """Yield the numbers of what a field holds: a number, an estimate, a part, or a mapping of these."""
    if value is None:
        return
    if isinstance(value, Estimate):
        yield Statistic(name, heading, value.estimate)
        yield Statistic(f"{name}_low", heading and "from", value.low)
        yield Statistic(f"{name}_high", heading and "to", value.high)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(f"{name.removesuffix('s')}_{key}", heading and key, item)
    elif isinstance(value, Part):
        for field, item in value:
            yield from _numbers(f"{name}_{field}", _inner_heading(value, field, heading), item)
    else:
        yield Statistic(name, heading, value)


def _inner_heading(part: Part, field: str, heading: str) -> str:
    """Call the score of a control as the control is called, and its difference nothing: people see the score."""
    if not heading or field == _SCORE:
        return heading
    return "" if isinstance(part, Against) else _title(part, field)


def _texts(heading: str, value: Any, n_voxels: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, Against):
        yield heading, f"{_text(value.score)}, the model {interval_text(value.difference, sign=True)}"
    elif isinstance(value, Estimate):
        yield heading, interval_text(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key, item, n_voxels)
    elif isinstance(value, Part):
        for field, item in value:
            yield from _texts(heading if field == _SCORE else _title(value, field), item, n_voxels)
    elif isinstance(value, int):
        yield heading, f"{value} of {counted(n_voxels, 'voxel')}"
    elif value is not None:
        yield heading, _text(value)


def _text(value: float) -> str:
    return score_text(value) if math.isfinite(value) else ""
