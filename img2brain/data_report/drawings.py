"""Drawings of a report, in per cent of their width and height."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from img2brain.data_report.seen import Five
from img2brain.leaderboard.site.axis import Axis

F64 = NDArray[np.float64]

_MOST_BINS = 60
_REACH = 5.0  # interquartile ranges beyond the quartiles; what lies further is counted in the last bins


class Hill(NamedTuple):
    """How some numbers are distributed: an outline, and the middle one."""

    name: str
    outline: str
    middle: str
    middle_at: float


class Hills(NamedTuple):
    """Distributions on one axis."""

    label: str
    axis: Axis
    hills: list[Hill]


class Span(NamedTuple):
    """Five percentiles of some numbers, on an axis."""

    name: str
    about: str
    low: float
    q1: float
    middle: float
    q3: float
    high: float
    text: str


class Spans(NamedTuple):
    """Percentiles below each other, on one axis."""

    label: str
    axis: Axis
    spans: list[Span]


class Cloud(NamedTuple):
    """Numbers one after another, a dot for each."""

    name: str
    about: str
    x: Axis
    y: Axis
    dots: str
    x_label: str


def hills(label: str, values: Mapping[str, F64]) -> Hills | None:
    """Draw how numbers are distributed, a hill for each name; None where nothing is finite."""
    finite = {name: found[np.isfinite(found)] for name, found in values.items()}
    finite = {name: found for name, found in finite.items() if len(found)}
    if not finite:
        return None
    low, high = _ends(np.concatenate([_some(found) for found in finite.values()]))
    if high <= low:
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    edges = np.linspace(low, high, _n_bins(min(map(len, finite.values()))) + 1)
    axis = Axis.around([low, high], anchored=False)
    return Hills(label, axis, [_hill(name, found, edges, axis) for name, found in finite.items()])


def _n_bins(n: int) -> int:
    """Return 2 n^(1/3) bins (Rice's rule), within limits."""
    return int(np.clip(2 * np.cbrt(n), 8, _MOST_BINS))


def _ends(values: F64) -> tuple[float, float]:
    """Return where an axis ends, so that a few values far away do not press all others into one bin."""
    low, q1, q3, high = np.percentile(values, [0.1, 25, 75, 99.9]).tolist()
    reach = _REACH * (q3 - q1) or np.inf
    return max(low, q1 - reach), min(high, q3 + reach)


def _some(values: F64) -> F64:
    return values[:: -(-len(values) // 100_000)]


def _hill(name: str, values: F64, edges: F64, axis: Axis) -> Hill:
    counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    x = np.repeat([axis.at(edge) for edge in edges], 2)
    y = 100 - 96 * np.concatenate([[0], np.repeat(counts / counts.max(), 2), [0]])
    middle = float(np.median(values))
    at = min(max(axis.at(middle), 0.0), 100.0)
    return Hill(name, path_of(x, y), short(middle), at)


def spans(label: str, lines: Sequence[tuple[str, str, Five | None]], *, anchored: bool = False) -> Spans | None:
    """Draw percentiles of numbers, a line for each name; None where nothing is finite."""
    found = [(name, about, fives) for name, about, fives in lines if fives is not None]
    if not found:
        return None
    axis = Axis.around([end for _, _, fives in found for end in (fives[0], fives[4])], anchored=anchored)
    return Spans(label, axis, [
        Span(name, about, *_at(axis, fives), short(fives[2])) for name, about, fives in found
    ])  # fmt: skip


def _at(axis: Axis, fives: Five) -> Five:
    low, q1, middle, q3, high = map(axis.at, fives)
    return low, q1, middle, q3, high


def cloud(name: str, about: str, at: NDArray[np.intp], values: F64, x_label: str) -> Cloud:
    """Draw numbers over their places."""
    x = Axis.around(at.tolist(), 4)
    y = Axis.around(values.tolist(), 4, anchored=False)
    dots = "".join(
        f"M{x.at(place):.1f} {y.down(value):.1f}h0"
        for place, value in zip(at.tolist(), values.tolist(), strict=True)
        if math.isfinite(value)
    )
    return Cloud(name, about, x, y, dots, x_label)


def path_of(x: Sequence[float] | F64, y: Sequence[float] | F64) -> str:
    """Return a line through points as SVG has it."""
    return "M" + "L".join(f"{a:.2f} {b:.2f}" for a, b in zip(x, y, strict=True))


def short(value: float) -> str:
    """Write a number in three digits.

    Examples
    --------
    >>> short(0.00012345), short(12345.6), short(-0.5)
    ('0.000123', '12,300', '-0.5')
    """
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if 1000 <= abs(rounded) < 1e6 else f"{rounded:.3g}"
