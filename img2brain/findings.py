"""What was found on some rows, voxel by voxel and resample by resample, and the record that follows from it.

Whoever writes a record of rows and whoever checks one come through here: a number that the arrays do not give is in no
record that agrees with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.errors import RecordError
from img2brain.records import Against, CeilingRecord, Estimate, PartRecord, RegionRecord
from img2brain.result import WHOLE, summaries_of
from img2brain.statistics.bootstrap import How, Summaries, summarised
from img2brain.statistics.noise_ceiling import ORIGINS, NoiseCeiling, unknown
from img2brain.statistics.significance import benjamini_hochberg

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Voxels = NDArray[np.intp]
Read = Callable[[str], NDArray[Any] | None]
FALSE_DISCOVERIES = 0.05
BEST_LAYER = "best_layer"


@dataclass(frozen=True, eq=False)
class Rival:
    """Something else that was scored on the same rows: its score of each voxel, and resamples of its summaries."""

    accuracy: F64
    summaries: Summaries


@dataclass(frozen=True, eq=False)
class Findings:
    """All that a record of some rows follows from.

    Attributes
    ----------
    accuracies : mapping of str to ndarray (n_voxels,)
        Scores of the model by metric, the objective first.
    summaries : Summaries
        Of the objective, with resamples.
    p : ndarray (n_voxels,)
        That a voxel is predicted by chance.
    constant : ndarray (n_voxels,), bool
        Voxels whose responses do not vary.
    ceiling : NoiseCeiling
        Of the responses.
    perfect : ndarray (n_voxels,), optional
        What a perfect model scores by the objective, where the noise sets it.
    controls : mapping of str to Rival
        What the model has to beat.
    best_layer : Rival, optional
        Each voxel with a layer of its own.
    choice : ndarray (n_voxels,), optional
        Which of the layers that is.
    """

    accuracies: Mapping[str, F64]
    summaries: Summaries
    p: F64
    constant: Mask
    ceiling: NoiseCeiling
    perfect: F64 | None
    controls: Mapping[str, Rival]
    best_layer: Rival | None = None
    choice: Voxels | None = None

    def part(self, regions: Mapping[str, Voxels], **facts: Any) -> PartRecord:
        """Return what is recorded of the rows.

        Parameters
        ----------
        regions : mapping of str to ndarray of int
            Voxels by region of interest.
        **facts
            What does not follow from arrays: ``rows``, ``n_images``, ``n_units`` and ``looks``.
        """
        parts = {WHOLE: np.arange(len(self.p)), **regions}
        numbers = {name: summaries_of(found, regions, self.constant) for name, found in self.accuracies.items()}
        q = benjamini_hochberg(self.p)
        by_region = {
            name: self._region(name, voxels, {metric: found[name] for metric, found in numbers.items()}, q)
            for name, voxels in parts.items()
        }
        return PartRecord(ceiling=self.ceiling.origin, whole=by_region.pop(WHOLE), regions=by_region, **facts)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, the objective's own without its name; `from_arrays` reads them."""
        first, *others = self.accuracies
        arrays: dict[str, NDArray[Any]] = {"p": self.p, "q": benjamini_hochberg(self.p)}
        arrays |= {"accuracy": self.accuracies[first]}
        arrays |= {f"accuracy_{name}": self.accuracies[name] for name in others}
        arrays |= {f"summaries_{name}": array for name, array in self.summaries.to_arrays().items()}
        for name, rival in self.controls.items():
            arrays |= _of_rival(f"control_{name}", rival)
        if self.best_layer is not None:
            arrays |= _of_rival(BEST_LAYER, self.best_layer)
        if self.choice is not None:
            arrays[BEST_LAYER] = self.choice
        if self.ceiling.origin != "none":
            arrays |= {"ceiling_share": self.ceiling.share, "ceiling_reliable": self.ceiling.reliable}
        return arrays | ({"constant": self.constant} if self.constant.any() else {})

    @classmethod
    def from_arrays(
        cls,
        read: Read,
        metrics: Sequence[str],
        part: PartRecord,
        how: How,
        perfect: Callable[[F64], F64 | None] = lambda _share: None,
    ) -> Findings:
        """Return what `to_arrays` gave, but for rivals that were stored without resamples.

        Parameters
        ----------
        read : callable
            Reads an array by its name; None where there is none.
        metrics : sequence of str
            The objective first.
        part : PartRecord
            Says which rivals and which ceiling there are.
        how : {"median", "mean"}
            What stands for the voxels of a region.
        perfect : callable
            From shares that can be explained to what a perfect model scores by the objective.

        Raises
        ------
        RecordError
            Naming the first array that is not there.
        """
        first, *others = metrics
        files = {first: "accuracy"} | {name: f"accuracy_{name}" for name in others}
        named, estimate, resampled = (
            _there(read, f"summaries_{name}") for name in ("regions", "estimate", "resampled")
        )
        found = {name: read(f"summaries_{name}") for name in ("kind", "n_units", "draws")}
        about: dict[str, Any] = {name: array for name, array in found.items() if array is not None}
        summaries = Summaries.from_arrays(named, estimate, resampled, how, **about)
        ceiling = _ceiling(read, part.ceiling, p := _there(read, "p"))
        constant = read("constant")
        rivals = {name: _rival(f"control_{name}", summaries, read) for name in part.whole.controls}
        return cls(
            accuracies={name: _there(read, file) for name, file in files.items()},
            summaries=summaries,
            p=p,
            constant=np.zeros(p.shape, dtype=bool) if constant is None else constant,
            ceiling=ceiling,
            perfect=None if ceiling.origin == "none" else perfect(ceiling.share),
            controls={name: rival for name, rival in rivals.items() if rival is not None},
            best_layer=_rival(BEST_LAYER, summaries, read) if part.whole.best_layer else None,
            choice=read(BEST_LAYER) if part.whole.best_layer else None,
        )

    def _region(self, name: str, voxels: Voxels, numbers: Mapping[str, Mapping[str, float]], q: F64) -> RegionRecord:
        best = self.best_layer
        return RegionRecord(
            n_voxels=len(voxels),
            score=_around(self.summaries.interval(name), next(iter(numbers.values()))[self.summaries.how]),
            summaries=numbers,
            n_significant=int((q[voxels] < FALSE_DISCOVERIES).sum()),
            ceiling=self._beside_ceiling(voxels),
            controls={control: _against(self.summaries, rival, name) for control, rival in self.controls.items()},
            best_layer=None if best is None else _against(self.summaries, best, name),
        )

    def _beside_ceiling(self, voxels: Voxels) -> CeilingRecord | None:
        """Summarise scores as shares of what could be reached, over the voxels whose signal is reliable."""
        if self.perfect is None:
            return None
        kept = voxels[self.ceiling.reliable[voxels] & ~self.constant[voxels]]
        normalised = next(iter(self.accuracies.values()))[kept] / self.perfect[kept]
        return CeilingRecord(
            score=float(np.median(self.perfect[kept])) if len(kept) else math.nan,
            normalised=_median(normalised),
            explained=_median(np.abs(normalised) * normalised),
            n_unreliable=len(voxels) - len(kept),
            n_above=int((normalised > 1).sum()),
        )


def estimate_of(accuracy: F64, constant: Mask, regions: Mapping[str, Voxels], how: How) -> F64:
    """Summarise scores (n_voxels,) as resamples are (n_regions + 1,), all voxels first."""
    marked = np.where(constant, np.nan, np.where(np.isfinite(accuracy), accuracy, -np.inf))
    found: F64 = summarised(marked[None], [np.arange(len(accuracy)), *regions.values()], how)[0]
    return found


def _there(read: Read, name: str) -> NDArray[Any]:
    found = read(name)
    if found is None:
        raise RecordError(f"The array {name} must be there. It is not.")
    return found


def _ceiling(read: Read, origin: str, p: F64) -> NoiseCeiling:
    if origin not in ORIGINS[1:]:
        return unknown(len(p))
    share, reliable = (_there(read, f"ceiling_{name}") for name in ("share", "reliable"))
    return NoiseCeiling(origin, share, reliable)


def _rival(name: str, summaries: Summaries, read: Read) -> Rival | None:
    """Read back a control or the best layers, which met the resamples of the model."""
    accuracy, estimate, resampled = (read(f"{name}_{kind}") for kind in ("accuracy", "estimate", "resampled"))
    if accuracy is None or estimate is None or resampled is None:
        return None
    about = {"kind": summaries.kind, "n_units": summaries.n_units, "draws": summaries.draws}
    found = Summaries.from_arrays(np.array(summaries.regions), estimate, resampled, summaries.how, **about)
    return Rival(accuracy, found)


def _of_rival(name: str, rival: Rival) -> dict[str, NDArray[Any]]:
    arrays = rival.summaries.to_arrays()
    return {f"{name}_accuracy": rival.accuracy} | {f"{name}_{key}": arrays[key] for key in ("estimate", "resampled")}


def _against(summaries: Summaries, rival: Rival, region: str) -> Against:
    """Compare the model with something else that was scored on the same rows."""
    difference = (summaries - rival.summaries).interval(region)
    score = float(rival.summaries.estimate[rival.summaries.regions.index(region)])
    return Against(score=score, difference=difference)


def _around(interval: Estimate, score: float) -> Estimate:
    """Return an interval that holds the score, whose last digits may differ from those of its resamples."""
    return Estimate(estimate=score, low=min(interval.low, score), high=max(interval.high, score))


def _median(values: F64) -> float:
    """Return the median, in which an undefined voxel ranks lowest."""
    ranked = np.where(np.isnan(values), -np.inf, values)
    median = float(np.median(ranked)) if len(ranked) else math.nan
    return median if math.isfinite(median) else math.nan
