"""How reliable the responses are, and what could be explained of them, by region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from img2brain.confirm import ceiling_of
from img2brain.data_report.seen import MOST, evenly
from img2brain.datasets._choice import split_half_reliability
from img2brain.datasets._looks import Numbers, Section
from img2brain.datasets._responses import steps
from img2brain.datasets.base import Dataset
from img2brain.errors import DataError
from img2brain.result import WHOLE
from img2brain.statistics.noise_ceiling import Origin

F64 = NDArray[np.float64]
Places = NDArray[np.intp]

_MOST_ESTIMATED = 500  # voxels whose ceiling is estimated from repeats, and so many more of each region
_MORE_OF_REGION = 30


@dataclass(frozen=True, eq=False)
class PartCeiling:
    """The noise ceiling of a part.

    Attributes
    ----------
    origin : {"none", "given", "ncsnr", "split halves"}
        Where it is known from.
    r : ndarray (n_voxels,)
        The highest r of a perfect model in expectation; NaN where it is not known, or was not estimated.
    reliable : ndarray (n_voxels,), bool
        Voxels with a reliable signal.
    known : ndarray of intp
        The voxels that were looked at.
    """

    origin: Origin
    r: F64
    reliable: NDArray[np.bool_]
    known: Places


@dataclass(frozen=True, eq=False)
class Quality:
    """What is known of the signal of each voxel.

    Attributes
    ----------
    regions : mapping of str to ndarray of intp
        Voxels by region, all of them first, under the empty name.
    reliability : ndarray (n_voxels,) or None
        Of the training responses, from halves of their repeats.
    ceilings : mapping of str to PartCeiling
        By part; those that something is known of.
    """

    regions: Mapping[str, Places]
    reliability: F64 | None
    ceilings: Mapping[str, PartCeiling]


def quality_of(dataset: Dataset, sections: Sequence[Section]) -> Quality:
    """Read the repeats of a dataset, and what else tells how reliable its responses are."""
    regions = {WHOLE: np.arange(dataset.n_voxels), **dataset.rois}
    training = next(iter(dataset.averaged.sections)).repeats if sections else None
    ceilings = {part.name: _ceiling(dataset, part, regions) for part in sections if part.responses is not None}
    known = {str(name): found for name, found in ceilings.items() if found.origin != "none"}
    return Quality(regions, None if training is None else _reliability(training), known)


def _reliability(repeats: Numbers) -> F64 | None:
    if repeats.shape[1] < 2:
        return None
    try:
        found = split_half_reliability((repeats.read(*step) for step in steps(repeats.shape)), repeats.shape[2])
        return np.clip(found, -1.0, 1.0)  # Below -1/3 the correction of an r has no meaning but "they disagree".
    except DataError:  # Too few images have repeats: the check says so.
        return None


def _ceiling(dataset: Dataset, part: Section, regions: Mapping[str, Places]) -> PartCeiling:
    assert part.responses is not None
    first = 0 if part.name == "training" else dataset.n_training
    rows = np.arange(first, first + part.responses.shape[0])
    is_known = dataset.noise_ceiling is not None or dataset.ncsnr is not None
    voxels = np.arange(dataset.n_voxels) if is_known else _some(dataset.n_voxels, regions)
    source = SimpleNamespace(n_voxels=len(voxels), noise_ceiling=dataset.noise_ceiling, ncsnr=dataset.ncsnr)
    found = ceiling_of(source, lambda: dataset.read_counts(rows), lambda: _repeats(part.repeats, voxels))
    r, reliable = np.full(dataset.n_voxels, np.nan), np.zeros(dataset.n_voxels, bool)
    if len(found.share) == len(voxels):
        r[voxels], reliable[voxels] = found.r, found.reliable
    return PartCeiling(found.origin, r, reliable, voxels)


def _some(n_voxels: int, regions: Mapping[str, Places]) -> Places:
    more = [region[evenly(len(region), _MORE_OF_REGION)] for region in regions.values() if len(region)]
    return np.unique(np.concatenate([evenly(n_voxels, _MOST_ESTIMATED), *more]))


def _repeats(repeats: Numbers | None, voxels: Places) -> F64 | None:
    """Read some voxels of the images that have repeats, of some of these where there are many."""
    if repeats is None:
        return None
    blocks = [repeats.read(*step)[..., voxels].astype(np.float64) for step in steps(repeats.shape)]
    found = np.concatenate(blocks)
    found = found[(np.isfinite(found).sum(axis=1) >= 2).any(axis=1)]
    return found[evenly(len(found), MOST)] if len(found) else None
