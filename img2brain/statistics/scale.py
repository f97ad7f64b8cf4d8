"""Scales on which a summary of scores is about normal, so that its interval lies where scores lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Kind = Literal["correlation", "determination", "other"]  # what a metric says of itself
Known = Literal["correlation", "difference of correlations", "determination", "other"]

_NEAR = 1e-6  # of a correlation to 1, as near as float32 tells it


@dataclass(frozen=True)
class Scale:
    """A scale for intervals.

    Attributes
    ----------
    forward, back : callable
        From scores to the scale, and back.
    offset : callable
        By how much the summary of so many images lies above the truth on the scale: of (score, n_images).
    counts : bool
        Whether the standard error is corrected for its n in place of n - 1, as the spread of resamples has it.
    """

    forward: Callable[[Any], Any]
    back: Callable[[Any], Any]
    offset: Callable[[float, int], float] = lambda _score, _n: 0.0
    counts: bool = True

    def error(self, spread: float, n_images: int) -> float:
        """Return the standard error of so many images from the spread of their resamples."""
        return spread * float(np.sqrt(n_images / (n_images - 1))) if self.counts and n_images > 1 else spread


def _fisher(r: Any) -> Any:
    return np.arctanh(np.clip(r, _NEAR - 1, 1 - _NEAR))


def _fisher_offset(r: float, n_images: int) -> float:
    return r / (2 * (n_images - 1)) if n_images > 1 else 0.0


def _unexplained_offset(_: float, n_images: int) -> float:
    return float(np.log1p(-1 / n_images)) if n_images > 1 else 0.0


SCALES: dict[Known, Scale] = {
    # Fisher (1921): artanh r, which lies r / (2 (n - 1)) above the truth.
    "correlation": Scale(_fisher, np.tanh, _fisher_offset),
    "difference of correlations": Scale(lambda d: _fisher(d / 2), lambda z: 2 * np.tanh(z)),
    # Responses are centred at their own mean, which takes a share 1 / n of their variance; predictions are not.
    "determination": Scale(lambda x: -np.log(np.maximum(1 - x, 1e-12)), lambda z: -np.expm1(-z), _unexplained_offset),
    "other": Scale(lambda x: x, lambda x: x, counts=False),
}


def of_difference(one: Known, other: Known) -> Known:
    """Name the scale of the difference between two summaries."""
    return "difference of correlations" if one == other == "correlation" else "other"
