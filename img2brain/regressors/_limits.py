"""What values a parameter may take, as data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Limit:
    """What values a parameter may take: a test, and how a message says it."""

    holds: Callable[[Any], bool]
    says: str


Limits: TypeAlias = Mapping[str, Limit]


def _number(value: Any) -> bool:
    return type(value) is not bool and isinstance(value, Real) and math.isfinite(value)


def _whole(value: Any) -> bool:
    return type(value) is not bool and isinstance(value, Integral)


POSITIVE = Limit(lambda value: _number(value) and value > 0, "be > 0")
NOT_NEGATIVE = Limit(lambda value: _number(value) and value >= 0, "be >= 0")
SHARE = Limit(lambda value: _number(value) and 0 < value <= 1, "be above 0 and at most 1")
COUNT = Limit(lambda value: _whole(value) and value >= 1, "be a whole number >= 1")
COUNT_OR_NONE = Limit(lambda value: value is None or COUNT.holds(value), "be a whole number >= 1, or None")
SEED = Limit(lambda value: _whole(value) and 0 <= value < 2**32, "be a whole number from 0 to 2**32 - 1")
