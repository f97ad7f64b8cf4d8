"""The third level of a check: a row of a bundle is repeated from its spec, and compared."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.confirm import PartResult, confirmation_rows
from img2brain.errors import Img2BrainError
from img2brain.features.placement import Placement
from img2brain.home import Home
from img2brain.leaderboard.bundles.agreement import Difference
from img2brain.leaderboard.bundles.arithmetic import ARITHMETIC, DATA, RERUN, Checked
from img2brain.leaderboard.bundles.closeness import first_apart, is_close
from img2brain.leaderboard.bundles.confirmed import said_of
from img2brain.leaderboard.bundles.data import Data, other_parts, split_of
from img2brain.leaderboard.bundles.opening import Bundle, BundleRow
from img2brain.leaderboard.bundles.recipe import NotChecked, Recipe
from img2brain.records import ConfirmationRecord, PartRecord
from img2brain.result import WHOLE
from img2brain.spec import PCA, SRP, StudySpec, parse
from img2brain.study.member import Member
from img2brain.study.setting import make_ready
from img2brain.tracking.names import part_array

# Of scores of about 1: processors differ by the last digits of float32, or of bfloat16 where networks compute in that.
TOLERANCES = {"float32": 2e-3, "bfloat16": 1e-2}
_OF_A_VOXEL = 10  # times as far may a single voxel be, or a single resample
_NO_FILE = re.compile(r"\w+(:\d+)?", re.ASCII)  # the names that libraries have for weights, and random ones
_FOLLOWING = ("p", "q")  # of the scores: the arithmetic was checked


@dataclass(frozen=True)
class Rerun:
    """Repeats rows of a bundle, in a home of its own that is gone afterwards, or in one that is given.

    Parameters
    ----------
    data : Data
        The data at hand.
    weights : sequence of Path
        Checkpoint files, by their names.
    home : Home
        Where features are kept meanwhile.
    """

    data: Data
    weights: Sequence[Path]
    home: Home

    def check(self, bundle: Bundle, row: BundleRow, checked: Checked) -> Checked:
        """Repeat a row: evaluate, refit, score the confirmation rows and the controls; compare within the tolerance."""
        try:
            different = self._repeated(bundle, row)
        except NotChecked as why:
            return replace(checked, missing=(*checked.missing, str(why)))
        if different is not None:
            return replace(checked, level="", difference=different)
        return replace(checked, level=RERUN, missing=())

    def _repeated(self, bundle: Bundle, row: BundleRow) -> Difference | None:
        dataset = self.data.of(row)
        split_of(row, dataset)
        try:
            setting = make_ready(self._spec(row), self.home, dataset)
            _require_network(setting.first, row)
            setting.extraction.now()
            return self._difference(bundle, row, setting.first)
        except Img2BrainError as error:
            raise NotChecked(f"it cannot be repeated here: {str(error).rstrip('.')}") from None

    def _spec(self, row: BundleRow) -> StudySpec:
        """Return a study of one trial, whose settings are those of the row's."""
        spec, recipe = row.trial.spec, Recipe(row)
        backbone: dict[str, Any] = {
            "name": spec.backbone,
            "weights": self._weights_of(row),
            "layers": list(recipe.layers),
            "preprocessing": spec.preprocessing,
            "pooling": [spec.pooling],
        }
        precision = row.trial.network.precision
        table = {
            "name": "rerun",
            "trials": 1,
            "sampler": "random",
            "split": recipe.split.model_dump(exclude_unset=True),
            "n_components": list(recipe.n_components),
            "reduction": [SRP if spec.reduction == SRP else PCA],
            "precision": precision if precision in TOLERANCES else "auto",
            "metrics": list(row.study.metrics),
            "objective": row.trial.objective,
            "regressors": [spec.regressor],
            "backbones": [backbone],
        }
        if placement := Placement.parse(spec.placement):
            table["stimulus"] = {"degrees": placement.degrees, "background": placement.background}
            backbone["degrees"] = placement.field
        return parse(StudySpec, table, f"the row {row.name!r}")

    def _weights_of(self, row: BundleRow) -> str:
        """Name the weights of a row: a file only where it was given, whatever lies here under the name."""
        weights = row.trial.spec.weights
        name, hash_, part = weights.partition("#")
        file = next((path for path in self.weights if path.name == name), None)
        if file is not None:
            return f"{file.resolve()}{hash_}{part}"
        if not _NO_FILE.fullmatch(weights):
            raise NotChecked(f"its weights {weights!r} are a file: name it with --weights")
        return weights

    def _difference(self, bundle: Bundle, row: BundleRow, member: Member) -> Difference | None:
        tolerance = TOLERANCES.get(row.trial.network.precision, TOLERANCES["float32"])
        spec, trial = row.trial.spec, row.trial
        result = member.evaluator().evaluate(spec)
        for name, scored in result.metrics.items():
            stored = bundle.array(f"rows/{row.name}/{trial.metrics[name].file}")
            if different := _of_voxels(f"accuracy of {name}", stored, scored.accuracy, tolerance):
                return different
            if different := _of_score(f"metrics.{name}", trial.metrics[name].score, scored.score, tolerance):
                return different
        record = row.confirmation
        return None if record is None else self._confirmed(bundle, row, record, member, tolerance)

    def _confirmed(
        self, bundle: Bundle, row: BundleRow, record: ConfirmationRecord, member: Member, tolerance: float
    ) -> Difference | None:
        """Refit, score and compare, the controls too; the layer of each voxel asks for all trials of the study."""
        publisher, bank = member.publisher(), member.bank(row.trial.spec)
        _, predictions = publisher.refit(row.trial.spec, bank)
        rows = confirmation_rows(member.dataset, member.split, member.metrics)
        if different := other_parts(record, rows):
            return different
        report = rows.report(predictions, publisher.controls.of(row.trial.spec, bank))
        compared = (_of_part(bundle, row, name, record.parts[name], found, tolerance) for name, found in report.items())
        return next(filter(None, compared), None)


def rerun(
    bundle: Bundle, rows: Mapping[str, BundleRow], found: Sequence[Checked], data: Data, weights: Sequence[Path]
) -> list[Checked]:
    """Repeat rows of a bundle, and return what was found of all.

    Parameters
    ----------
    bundle : Bundle
        Holds them.
    rows : mapping of str to BundleRow
        Those to repeat, by name.
    found : sequence of Checked
        What is known of all rows.
    data : Data
        The data at hand.
    weights : sequence of Path
        Checkpoint files.
    """
    with tempfile.TemporaryDirectory() as scratch:
        repeat = Rerun(data, weights, Home(Path(scratch) / "home"))
        return [repeat.check(bundle, rows[item.row], item) if _asked(item, rows) else item for item in found]


def _asked(item: Checked, rows: Mapping[str, BundleRow]) -> bool:
    return item.level in (ARITHMETIC, DATA) and item.row in rows


def _of_part(
    bundle: Bundle, row: BundleRow, name: str, part: PartRecord, report: PartResult, tolerance: float
) -> Difference | None:
    """Compare the arrays and the scores of a part of the confirmation rows."""
    again = report.part(part.looks)
    for array, found in report.findings.to_arrays().items():
        if array in _FOLLOWING or array.endswith("_estimate"):
            continue
        stored = bundle.array(f"rows/{row.name}/{part_array(name, array)}")
        if different := _of_array(f"{said_of(name)}.{array}", stored, found, tolerance):
            return different
    for region in (WHOLE, *part.regions):
        one, other = (item.regions[region] if region else item.whole for item in (part, again))
        what = f"{said_of(name)}.{region or 'whole'}.score"
        for end in ("estimate", "low", "high"):
            if different := _of_score(
                f"{what}.{end}", getattr(one.score, end), getattr(other.score, end), 2 * tolerance
            ):
                return different
    return None


def _require_network(member: Member, row: BundleRow) -> None:
    """Tell where the network at hand is not the one of the row."""
    (bank,) = member.banks.values()
    spec, network = row.trial.spec, row.trial.network
    if bank.facts["label"] != spec.weights:
        raise NotChecked(f"its weights are {bank.facts['label']!r} here, and {spec.weights!r} in the bundle")
    if bank.facts["weights_digest"] != spec.weights_digest:
        raise NotChecked(f"its weights {spec.weights} have another digest: name their file with --weights")
    if bank.facts["network_digest"] != network.digest:
        raise NotChecked("its network computes otherwise here: another version of a library builds it")
    if bank.facts["trained"] != network.trained:
        raise NotChecked(f"its network is {bank.facts['trained']!r} here, and {network.trained!r} in the bundle")


def _of_array(what: str, stored: NDArray[Any] | None, found: NDArray[Any], tolerance: float) -> Difference | None:
    if found.dtype.kind == "f" or stored is None:
        return _of_voxels(what, stored, found, tolerance)
    return None if np.array_equal(stored, found) else Difference(what, "others", "those of the data")


def _of_voxels(
    what: str, stored: NDArray[Any] | None, found: NDArray[Any] | None, tolerance: float
) -> Difference | None:
    if stored is None or found is None:
        return Difference(what, "nothing" if stored is None else "it", "nothing" if found is None else "it")
    if stored.shape != found.shape:
        return Difference(what, str(stored.shape), str(found.shape))
    place = first_apart(stored, found, _OF_A_VOXEL * tolerance)
    if place is None:
        return None
    within = _OF_A_VOXEL * tolerance * max(1.0, abs(float(found[place])))
    told = ", ".join(map(str, place))
    return Difference(f"{what}[{told}]", f"{stored[place]:.6g}", f"{found[place]:.6g} within {within:.2g}")


def _of_score(what: str, stored: float, found: float, tolerance: float) -> Difference | None:
    if is_close(stored, found, tolerance):
        return None
    return Difference(what, f"{stored:.6g}", f"{found:.6g} within {tolerance * max(1.0, abs(found)):.2g}")
