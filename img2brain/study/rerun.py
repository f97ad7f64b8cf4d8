"""The third level of a check: a row of a bundle is repeated from its spec, and compared."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.confirm import confirmation_rows
from img2brain.datasets.base import Dataset
from img2brain.errors import Img2BrainError
from img2brain.home import Home
from img2brain.leaderboard.bundles import contents
from img2brain.leaderboard.bundles.arithmetic import ARITHMETIC, DATA, RERUN, Checked, Difference
from img2brain.leaderboard.bundles.data import Data, NotChecked, split_of
from img2brain.leaderboard.bundles.opening import Bundle, BundleRow
from img2brain.records import PartRecord
from img2brain.result import WHOLE
from img2brain.spec import StudySpec, parse
from img2brain.study.setting import Setting, make_ready

# Of scores of about 1: processors differ by the last digits of float32, or of bfloat16 where networks compute in that.
TOLERANCES = {"float32": 2e-3, "bfloat16": 1e-2}
_OF_A_VOXEL = 10  # times as far may a single voxel be


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
        dataset = self.data.of(row.study)
        split_of(row, dataset)
        if row.trial.plugins:
            raise NotChecked(f"it needs {row.trial.plugins[0].name}, code of others, which is not run for a bundle")
        try:
            setting = make_ready(self._spec(row), self.home, dataset)
            _require_network(setting, row)
            setting.extract()
            return self._difference(bundle, row, setting, dataset)
        except Img2BrainError as error:
            raise NotChecked(f"it cannot be repeated here: {str(error).rstrip('.')}") from None

    def _spec(self, row: BundleRow) -> StudySpec:
        """Return a study of one trial, whose settings are those of the row's."""
        spec, settings = row.trial.spec, row.study.settings or {}
        file = next((path for path in self.weights if path.name == spec.weights.partition("#")[0]), None)
        part = spec.weights.partition("#")[2]
        weights = spec.weights if file is None else f"{file.resolve()}{f'#{part}' if part else ''}"
        backbone = {
            "name": spec.backbone,
            "weights": weights,
            "layers": _layers(row),
            "preprocessing": spec.preprocessing,
        }
        precision = row.trial.network.precision
        table = {
            "name": "rerun",
            "trials": 1,
            "sampler": "random",
            "split": dict(settings.get("split", {})),
            "n_components": sorted({*settings.get("n_components", ()), spec.n_components}),
            "precision": precision if precision in TOLERANCES else "auto",
            "metrics": list(row.study.metrics),
            "objective": row.trial.objective,
            "regressors": [spec.regressor],
            "backbones": [backbone],
        }
        return parse(StudySpec, table, f"the row {row.name!r}")

    def _difference(self, bundle: Bundle, row: BundleRow, setting: Setting, dataset: Dataset) -> Difference | None:
        tolerance = TOLERANCES.get(row.trial.network.precision, TOLERANCES["float32"])
        spec, trial = row.trial.spec, row.trial
        result = setting.evaluator().evaluate(spec)
        for name, scored in result.metrics.items():
            stored = bundle.array(f"rows/{row.name}/{trial.metrics[name].file}")
            if different := _of_voxels(f"accuracy of {name}", stored, scored.accuracy, tolerance):
                return different
            if different := _of_score(f"metrics.{name}", trial.metrics[name].score, scored.score, tolerance):
                return different
        part = row.confirmation.confirmed if row.confirmation else None
        return None if part is None else self._confirmed(bundle, row, part, setting, dataset, tolerance)

    def _confirmed(
        self, bundle: Bundle, row: BundleRow, part: PartRecord, setting: Setting, dataset: Dataset, tolerance: float
    ) -> Difference | None:
        """Refit, score and compare, the controls too; the layer of each voxel asks for all trials of the study."""
        publisher, bank = setting.publisher(), setting.bank(row.trial.spec)
        _, predictions = publisher.refit(row.trial.spec, bank)
        rows = confirmation_rows(dataset, setting.split, setting.metrics)
        report = rows.report(predictions, publisher.controls.of(row.trial.spec, bank))
        again = report.part(part.looks)
        if again.rows != part.rows:
            return Difference("confirmation.rows", part.rows[:12], again.rows[:12])
        for name in ("accuracy", *(f"control_{control}_accuracy" for control in part.whole.controls)):
            stored = bundle.array(f"rows/{row.name}/{contents.array_file(name)}")
            if different := _of_voxels(f"confirmation.{name}", stored, report.arrays.get(name), tolerance):
                return different
        for region in (WHOLE, *part.regions):
            one, other = (item.regions[region] if region else item.whole for item in (part, again))
            what = f"confirmation.{region or 'whole'}.score"
            for end in ("estimate", "low", "high"):
                if different := _of_score(
                    f"{what}.{end}", getattr(one.score, end), getattr(other.score, end), 2 * tolerance
                ):
                    return different
        return None


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


def _layers(row: BundleRow) -> list[str]:
    """Return the layers that were taken with that of a row: a network is cut behind the last of them."""
    spec, settings = row.trial.spec, row.study.settings or {}
    key = [spec.backbone, spec.weights_digest, spec.preprocessing]
    return next((list(item[3]) for item in settings.get("layers", []) if list(item[:3]) == key), [spec.layer])


def _require_network(setting: Setting, row: BundleRow) -> None:
    """Tell where the network at hand is not the one of the row."""
    (bank,) = setting.banks.values()
    spec, network = row.trial.spec, row.trial.network
    if bank.facts["weights_digest"] != spec.weights_digest:
        raise NotChecked(f"its weights {spec.weights} have another digest: name their file with --weights")
    if bank.facts["network_digest"] != network.digest:
        raise NotChecked("its network computes otherwise here: another version of a library builds it")


def _of_voxels(
    what: str, stored: NDArray[Any] | None, found: NDArray[Any] | None, tolerance: float
) -> Difference | None:
    if stored is None or found is None:
        return Difference(what, "nothing" if stored is None else "it", "nothing" if found is None else "it")
    if stored.shape != found.shape:
        return Difference(what, str(stored.shape), str(found.shape))
    most = _OF_A_VOXEL * tolerance * _scale(found)
    same = np.isclose(stored, found, rtol=0, atol=most, equal_nan=True)
    if same.all():
        return None
    place = int(np.flatnonzero(~same)[0])
    return Difference(f"{what}[{place}]", f"{stored[place]:.6g}", f"{found[place]:.6g} within {most:.2g}")


def _of_score(what: str, stored: float, found: float, tolerance: float) -> Difference | None:
    most = tolerance * max(1.0, abs(found))
    if np.isclose(stored, found, rtol=0, atol=most, equal_nan=True):
        return None
    return Difference(what, f"{stored:.6g}", f"{found:.6g} within {most:.2g}")


def _scale(found: NDArray[Any]) -> float:
    return max(1.0, float(np.nanmax(np.abs(found), initial=0.0)))
