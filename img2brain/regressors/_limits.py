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


def _all_positive(value: Any) -> bool:
    is_list = isinstance(value, list | tuple) or getattr(value, "ndim", 0) == 1
    return is_list and len(value) > 0 and all(_number(item) and item > 0 for item in value)


POSITIVE = Limit(lambda value: _number(value) and value > 0, "be > 0")
NOT_NEGATIVE = Limit(lambda value: _number(value) and value >= 0, "be >= 0")
SHARE = Limit(lambda value: _number(value) and 0 < value <= 1, "be above 0 and at most 1")
COUNT = Limit(lambda value: _whole(value) and value >= 1, "be a whole number >= 1")
COUNT_OR_NONE = Limit(lambda value: value is None or COUNT.holds(value), "be a whole number >= 1, or None")
SEED = Limit(lambda value: _whole(value) and 0 <= value < 2**32, "be a whole number from 0 to 2**32 - 1")
ALPHAS = Limit(lambda value: value is None or _all_positive(value), "be a list of numbers > 0, or None")
FOLDS = Limit(lambda value: _whole(value) and value >= 2, "be a whole number >= 2")
FLAG = Limit(lambda value: type(value) is bool, "be true or false")
