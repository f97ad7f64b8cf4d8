"""What the numbers of a board are: a metric, and what stands for all voxels."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Measure(NamedTuple):
    """What the numbers of a board, a figure or a comparison are.

    Attributes
    ----------
    label : str
        What the metric is called.
    summary : {"median", "mean"}
        What stands for all voxels.
    metric : str
        The metric's name in the catalog.

    Examples
    --------
    >>> Measure("R2", "mean", "r2").over_voxels
    'R2, mean over voxels'
    """

    label: str
    summary: Literal["median", "mean"]
    metric: str

    @property
    def short(self) -> str:
        """Name the number of a model, for the head of a column."""
        return f"{self.label}, {self.summary}"

    @property
    def over_voxels(self) -> str:
        """Name the number of a model."""
        return f"{self.label}, {self.summary} over voxels"

    @property
    def of_a_voxel(self) -> str:
        """Name the number of a voxel."""
        return f"{self.label} of a voxel"
