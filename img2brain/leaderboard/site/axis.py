"""Axes of the drawings of a site: where a value lies, in per cent, and which values are written beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """A range of values.

    Attributes
    ----------
    low, high : float
        Its ends.
    ticks : tuple of float
        Values that are written beside it.
    digits : int
        Decimals that they need.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    digits: int

    @classmethod
    def around(cls, values: Iterable[float], most_ticks: int = 6, *, anchored: bool = True) -> Axis:
        """Return an axis that holds all values that are finite, and 0 where it is anchored.

        Examples
        --------
        >>> Axis.around([0.31, 0.52]).ticks
        (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
        """
        finite = [float(value) for value in values if math.isfinite(value)] + [0.0] * anchored
        low, high = min(finite, default=0.0), max(finite, default=1.0)
        span = high - low or abs(high) or 1.0
        step = _nice(span / most_ticks)
        margin = 0.03 * span
        low, high = low - margin * (low < 0 or not anchored), high + margin
        numbers = range(math.ceil(low / step), math.floor(high / step) + 1)
        ticks = [float(f"{number * step:.10g}") for number in numbers]
        return cls(low, high, tuple(ticks), _digits(step))

    def at(self, value: float) -> float:
        """Return where a value lies, in per cent of the axis from its low end."""
        return 100 * (value - self.low) / (self.high - self.low)

    def down(self, value: float) -> float:
        """Return where a value lies on an axis that is drawn upwards, in per cent from the top."""
        return 100 - self.at(value)

    def text(self, value: float) -> str:
        """Write a tick."""
        return f"{value:.3g}" if self.digits > 6 or abs(value) >= 1e6 else f"{value:.{self.digits}f}"


def _nice(step: float) -> float:
    """Return the least of 1, 2, 2.5, 5 times a power of ten that is no smaller."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * each for each in _STEPS if power * each >= step * (1 - 1e-9))


def _digits(step: float) -> int:
    return next((n for n in range(8) if math.isclose(round(step, n), step, rel_tol=1e-9)), 8)
