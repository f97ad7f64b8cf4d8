"""What the confirmation rows say of a row of a bundle, computed again part by part from the arrays of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain import digest, looks
from img2brain.errors import DataError
from img2brain.findings import Findings, Rival, estimate_of
from img2brain.leaderboard.bundles import contents
from img2brain.leaderboard.bundles.agreement import Disagrees, agree, listed, mask, numbers, out_of, plain
from img2brain.leaderboard.bundles.contents import LOOKS
from img2brain.leaderboard.bundles.opening import Bundle, BundleRow
from img2brain.leaderboard.bundles.scored import Voxels, metric_of, regions_of, scores_of
from img2brain.metrics.base import Metric
from img2brain.records import ConfirmationRecord, LookRecord, PartRecord
from img2brain.records.confirmation import CONFIRMATION
from img2brain.result import WHOLE
from img2brain.statistics.bootstrap import Summaries
from img2brain.statistics.drop import drops
from img2brain.statistics.noise_ceiling import LEAST_SHARE
from img2brain.statistics.significance import benjamini_hochberg, p_of_r
from img2brain.tracking.names import MEMBERS, component_name, part_array
from img2brain.tracking.reading import joint_files, joint_summaries_in

_PEARSON = "pearson"


def check_confirmation(bundle: Bundle, row: BundleRow) -> Iterator[str]:
    """Compute the record of the confirmation rows again, and find its looks in the chain.

    Yields
    ------
    str
        What is not in the bundle, so that something cannot be computed again.

    Raises
    ------
    Disagrees
        At the first difference.
    """
    record = row.confirmation
    if record is None:
        return
    _same_facts(row, record)
    summaries: dict[str, Summaries] = {}
    for name, part in record.parts.items():
        check = _PartCheck(bundle, row, name, part)
        if absent := check.absent:
            yield absent
            continue
        yield from check.run()
        summaries[name] = check.findings.summaries
        if row.trial.member and name == record.ranking:
            yield from check.joint()
    if len(summaries) == len(record.parts):
        agree("confirmation.drops", plain(record.drops), plain(drops(summaries, record.ranking)))


def _same_facts(row: BundleRow, record: ConfirmationRecord) -> None:
    """Compare what is said twice: what was scored, and which parts there are."""
    trial = row.trial
    scored = trial.metrics[trial.objective]
    expected = {"study": trial.study, "number": trial.number, "objective": trial.objective}
    expected |= {"label": scored.label, "summary": scored.summary, "validation": trial.score}
    for name, value in expected.items():
        agree(f"confirmation.{name}", getattr(record, name), value)
    named = dict(trial.rows.parts) or {CONFIRMATION: trial.rows.n_confirmation}
    agree("confirmation.parts", sorted(record.parts), sorted(named))
    agree("rows.n_confirmation", trial.rows.n_confirmation, sum(named.values()))
    agree("confirmation.first", record.ranking, next(iter(named)))
    for name, part in record.parts.items():
        if part.n_images is not None:
            agree(f"{said_of(name)}.n_images", part.n_images, named[name])


def said_of(part: str) -> str:
    """Name a part where something of it does not agree."""
    return "confirmation" if part == CONFIRMATION else f"confirmation.{part}"


@dataclass(frozen=True, eq=False)
class _PartCheck:
    """What a record says of one part of the confirmation rows, beside the arrays that it follows from."""

    bundle: Bundle
    row: BundleRow
    name: str
    part: PartRecord

    def run(self) -> Iterator[str]:
        """Compare all that follows from the arrays, and yield what cannot be."""
        self._check_arrays()
        yield from self._same_part()
        yield from self._look()

    def joint(self) -> Iterator[str]:
        """Compare resamples that are joint over members with what they are resamples of, and yield what is absent."""
        how, rivals = self.findings.summaries.how, self.findings.controls
        scored = {"": self.findings.summaries, **{name: rival.summaries for name, rival in rivals.items()}}
        for name, summaries in scored.items():
            try:
                found = joint_summaries_in(self._array, how, name)
            except (DataError, ValueError, TypeError) as error:
                raise Disagrees(MEMBERS, "arrays that do not fit together", f"arrays that do: {error}") from None
            if found is None:
                yield joint_files(name)["resampled"]
            else:
                _same_joint(name, found, summaries)

    @property
    def absent(self) -> str:
        """The first array that is needed and not there; empty where all are."""
        _, *others = self.row.study.metrics
        needed = ["accuracy", *(f"accuracy_{name}" for name in others), "p", "q"]
        needed += [f"summaries_{name}" for name in ("regions", "estimate", "resampled")]
        needed += ["ceiling_share", "ceiling_reliable"] if self.part.ceiling != "none" else []
        return next((part_array(self.name, name) for name in needed if self.read(name) is None), "")

    @cached_property
    def findings(self) -> Findings:
        """What the arrays say."""
        metric, trial = self._metric, self.row.trial
        perfect = metric.ceiling if metric else lambda _share: None
        how = trial.metrics[trial.objective].summary
        try:
            return Findings.from_arrays(self.read, self.row.study.metrics, self.part, how, perfect)
        except (DataError, ValueError, TypeError) as error:
            told = f"arrays that do: {error}"
            raise Disagrees(self.what, "arrays that do not fit together", told) from None

    def read(self, name: str) -> NDArray[Any] | None:
        """Read an array of the part; None where there is none."""
        return self._array(part_array(self.name, name))

    @property
    def what(self) -> str:
        """What the part is called where it does not agree."""
        return said_of(self.name)

    @property
    def _metric(self) -> Metric | None:
        return metric_of(self.row, self.row.trial.objective)

    @property
    def _n_voxels(self) -> int:
        return self.row.trial.dataset.n_voxels

    def _array(self, file: str) -> NDArray[Any] | None:
        return self.bundle.array(f"rows/{self.row.name}/{file}")

    def _check_arrays(self) -> None:
        """Check shapes, ranges, and what follows from one array for another."""
        found, regions, what = self.findings, regions_of(self.row), self.what
        summaries, n_voxels = found.summaries, self._n_voxels
        mask(found.constant, n_voxels, f"{what}.constant")
        for name, scores in found.accuracies.items():
            scores_of(scores, self.row, name, f"{what}.accuracy of {name}")
        for name in ("p", "q"):
            numbers(self.read(name), (n_voxels,), f"{what}.{name}", 0.0, 1.0)
        if sorted(summaries.regions) != sorted((WHOLE, *regions)) or summaries.regions[0] != WHOLE:
            raise Disagrees(f"{what}.summaries_regions", summaries.regions, (WHOLE, *regions))
        if self._metric is not None:
            agree(f"{what}.summaries_kind", summaries.kind, self._metric.kind)
        n_units = self.part.n_units or self.part.n_images
        if summaries.n_units:
            agree(f"{what}.summaries_n_units", summaries.n_units, n_units)
        ordered = {name: regions[name] for name in summaries.regions[1:]}
        objective = Rival(found.accuracies[self.row.trial.objective], summaries)
        rivals = {"summaries": objective, **{f"control_{name}": rival for name, rival in found.controls.items()}}
        rivals |= {"best_layer": found.best_layer} if found.best_layer is not None else {}
        for name, rival in rivals.items():
            self._check_rival(name, rival, ordered)
        if _PEARSON in found.accuracies and n_units is not None:
            agree(f"{what}.p", listed(found.p), listed(p_of_r(found.accuracies[_PEARSON], n_units)))
        agree(f"{what}.q", listed(self.read("q")), listed(benjamini_hochberg(found.p)))
        self._check_ceiling()
        self._check_choice()

    def _check_rival(self, name: str, rival: Rival, regions: Mapping[str, Voxels]) -> None:
        found, what = self.findings, f"{self.what}.{name}"
        accuracy = numbers(rival.accuracy, (self._n_voxels,), f"{what}_accuracy", math.nan, math.nan)
        estimate = estimate_of(accuracy, found.constant, regions, found.summaries.how)
        agree(f"{what}_estimate", listed(rival.summaries.estimate), listed(estimate))
        resampled = rival.summaries.resampled
        if len(resampled) != len(found.summaries.resampled) or out_of(resampled, math.nan, math.nan):
            raise Disagrees(f"{what}_resampled", resampled.shape, found.summaries.resampled.shape)

    def _check_ceiling(self) -> None:
        ceiling, what = self.findings.ceiling, f"{self.what}.ceiling"
        share = numbers(ceiling.share, (self._n_voxels,), f"{what}_share", 0.0, math.inf)
        reliable = mask(ceiling.reliable, self._n_voxels, f"{what}_reliable")
        with np.errstate(invalid="ignore"):
            enough = share >= LEAST_SHARE
        if (reliable & ~enough).any() or (ceiling.origin in ("given", "ncsnr") and (reliable != enough).any()):
            raise Disagrees(f"{what}_reliable", int(reliable.sum()), int(enough.sum()))

    def _check_choice(self) -> None:
        choice, record = self.findings.choice, self.row.confirmation
        if choice is None or record is None:
            return
        n_layers = len(record.best_layers)
        is_whole = choice.shape == (self._n_voxels,) and choice.dtype.kind == "i"
        if not is_whole or not ((choice >= 0) & (choice < n_layers)).all():
            raise Disagrees(f"{self.what}.best_layer", "places of other layers", f"places of {n_layers} layers")

    def _same_part(self) -> Iterator[str]:
        """Compare the record with the one that follows from the arrays, but for what cannot be computed again."""
        part, found, objective = self.part, self.findings, self.row.trial.objective
        left_out = {name for name in part.whole.controls if name not in found.controls}
        if left_out or (part.whole.best_layer is not None and found.best_layer is None):
            yield f"resamples of {', '.join(sorted(left_out) or ['the best layers'])}"
        if part.ceiling != "none" and self._metric is None:
            yield f"the ceiling of the metric {objective!r}"
        facts = {"rows": part.rows, "n_images": part.n_images, "n_units": part.n_units, "looks": part.looks}
        stored, again = plain(part), plain(found.part(regions_of(self.row), **facts))
        for item in (stored, again):
            _forget(item, left_out, best_layer=found.best_layer is None, ceiling=self._metric is None)
        agree(self.what, stored, again)

    def _look(self) -> Iterator[str]:
        """Find the look of a row in the chain, and compare what was seen with what the row says."""
        wanted = (self.part.rows, self.row.trial.digest, looks.name_of(self.name))
        look = next((look for look in self.bundle.chain if look.what == wanted), None)
        if look is None:
            raise Disagrees("looks", "no look at these rows by this trial", f"one in {LOOKS}")
        self._predictions(look)
        if look.unchained:
            yield "its look is unchained: it was made before there was a chain"
            return
        agree("looks.home", look.home, self.row.trial.home)
        agree(f"{self.what}.looks", self.part.looks, looks.count(self.bundle.chain, look))
        agree("looks.found", look.found, digest.of_arrays(self._found_arrays))

    @property
    def _found_arrays(self) -> dict[str, NDArray[Any]]:
        arrays = {name: self.read(name) for name in contents.arrays_of_part(self.row.study, self.part)}
        found = {component_name(name): array for name, array in arrays.items()}
        record = self.row.confirmation
        if record is not None and self.name == record.ranking:
            files = contents.arrays_of_members(self.row.trial, record)
            found |= {file.removesuffix(".npy"): self._array(file) for file in files}
        return {name: array for name, array in found.items() if array is not None}

    def _predictions(self, look: LookRecord) -> None:
        array = self.read(contents.PREDICTED)
        if array is None:
            return
        shape = self.part.n_images or len(array), self._n_voxels
        if array.shape != shape or array.dtype.kind != "f" or not np.isfinite(array).all():
            told = f"{array.dtype} {array.shape}"
            raise Disagrees(f"{self.what}.predictions", told, f"finite numbers {shape}")
        if not look.unchained:
            agree("looks.predictions", look.predictions, digest.of_array(array))


def _same_joint(control: str, found: Summaries, summaries: Summaries) -> None:
    """Compare joint resamples with the summaries that they are resamples of."""
    what = f"{MEMBERS}.{control}" if control else MEMBERS
    for field in ("regions", "kind", "n_units"):
        agree(f"{what}.{field}", getattr(found, field), getattr(summaries, field))
    agree(f"{what}.estimate", listed(found.estimate), listed(summaries.estimate))
    if out_of(found.resampled, math.nan, math.nan) or len(found.resampled) < 1:
        raise Disagrees(f"{what}.resampled", found.resampled.shape, "numbers in range")


def _forget(part: dict[str, Any], left_out: set[str], *, best_layer: bool, ceiling: bool) -> None:
    """Drop from a record what cannot be computed again: what was stored without resamples, a ceiling of others."""
    for region in (part["whole"], *part["regions"].values()):
        region["controls"] = {name: item for name, item in region["controls"].items() if name not in left_out}
        region.update({"best_layer": None} if best_layer else {})
        region.update({"ceiling": None} if ceiling else {})
