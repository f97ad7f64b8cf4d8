"""Numbers with as many digits as their intervals deserve."""

from __future__ import annotations

import math

from img2brain.records import Estimate

_USUAL, _MOST = 3, 4


def digits_of(interval: Estimate) -> int:
    """Return how many decimals to write: the last is worth no more than a tenth of the interval to either side.

    Examples
    --------
    >>> [digits_of(Estimate(estimate=0.5, low=0.5 - side, high=0.5 + side)) for side in (0.3, 0.03, 0.003)]
    [2, 3, 4]
    """
    side = (interval.high - interval.low) / 2
    if not math.isfinite(side) or side <= 0:
        return _USUAL
    return min(max(math.ceil(1 - math.log10(side) - 1e-9), 0), _MOST)


def estimate_text(interval: Estimate, *, sign: bool = False) -> str:
    """Write the estimate alone.

    Examples
    --------
    >>> estimate_text(Estimate(estimate=0.51234, low=0.4, high=0.6))
    '0.51'
    """
    return _written(interval.estimate, digits_of(interval), sign)


def bounds_text(interval: Estimate, *, sign: bool = False) -> str:
    """Write the interval; empty where none is known.

    Examples
    --------
    >>> bounds_text(Estimate(estimate=0.51234, low=0.4, high=0.6))
    '[0.40, 0.60]'
    """
    if not math.isfinite(interval.low):
        return ""
    digits = digits_of(interval)
    return f"[{_written(interval.low, digits, sign)}, {_written(interval.high, digits, sign)}]"


def p_text(p: float) -> str:
    """Write a p value.

    Examples
    --------
    >>> p_text(0.0421), p_text(1e-9), p_text(float("nan"))
    ('p = 0.042', 'p < 0.001', '')
    """
    if not math.isfinite(p):
        return ""
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"


def _written(value: float, digits: int, sign: bool) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")
