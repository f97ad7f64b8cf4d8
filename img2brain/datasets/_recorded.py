"""What was recorded, in the order in which it lies in the files, for looking at how it drifts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from img2brain.datasets._split import Rows


@dataclass(frozen=True, eq=False)
class Recorded:
    """What was recorded, before it is z-scored and averaged.

    Attributes
    ----------
    what : {"trials", "rows"}
        Whether these are the single showings, or the rows, where a dataset knows no others.
    n : int
        How many there are.
    read : callable
        From numbers of them, rising and each once, to their responses (n, n_voxels).
    sessions : sequence of hashable, optional
        The session of each, where that is told.
    """

    what: Literal["trials", "rows"]
    n: int
    read: Callable[[Rows], NDArray[Any]]
    sessions: Sequence[Hashable] | None = None
