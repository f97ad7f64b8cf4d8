"""From the best trial to a registered model: refitted, scored once on the confirmation rows, crowned if it is best."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain import looks, plain
from img2brain._mapped import Make
from img2brain.confirm import BestLayers, ConfirmationRows, Metrics, PartResult, Rivals, confirmation_rows
from img2brain.controls import Controls, MakeBank
from img2brain.crown import crown
from img2brain.datasets._responses import Scan, float32_holds
from img2brain.datasets.base import Dataset, Development, Split
from img2brain.errors import ModelError
from img2brain.features.features import Features
from img2brain.model import EncodingModel
from img2brain.model._metadata import histograms, versions
from img2brain.records import ConfirmationRecord, Estimate, LookRecord, PartRecord, TrialRecord
from img2brain.refit import Refit
from img2brain.regressors.base import Regressor
from img2brain.spec import TrialSpec
from img2brain.statistics.drop import drops
from img2brain.tracking.names import MEMBERS, component_name
from img2brain.tracking.reading import find_trial
from img2brain.tracking.registry import Registered, Registry
from img2brain.tracking.tracker import Tracker

Arrays = Mapping[str, NDArray[Any]]

_N_COMPARED = 4  # rows that a saved model is compared on
_FARTHEST = 0.05  # in units of the spread of coordinates: bfloat16 sketches were .002 off at most, float32 6e-6


@dataclass(frozen=True)
class Publication:
    """What became of the best trial.

    Attributes
    ----------
    registered : Registered
        The registered version.
    is_champion : bool
        Whether it has the alias `champion`.
    confirmation : ConfirmationRecord, optional
        What the confirmation rows say; None where there are none.
    reason : str
        Why it is, or is not, the champion.
    """

    registered: Registered
    is_champion: bool
    confirmation: ConfirmationRecord | None
    reason: str

    @property
    def score(self) -> float:
        """The objective on the confirmation rows; NaN where there are none."""
        return _confirmed_score(self.confirmation)


class Publisher:
    """Publishes trials of one split of one dataset.

    Parameters
    ----------
    dataset : Dataset
        The whole dataset: this is the one place that reads the confirmation responses.
    split : Split
        Its rows.
    n_components : int
        The size that the components are stored at.
    make_bank : callable
        From a network to its features of the same images, for the controls.
    metrics : mapping of str to Metric
        What is scored, the objective first.
    device : str
        Where linear regressors are fitted.
    draws : ndarray (n_resamples, n_confirmation), optional
        Of a member of a study, how often each row of the part that ranks is in each resample of all members.
    make : callable
        Makes the arrays that responses and predictions of confirmation rows are held in, of a shape and a type.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split,
        n_components: int,
        make_bank: MakeBank,
        metrics: Metrics,
        device: str = "cpu",
        draws: NDArray[np.float32] | None = None,
        make: Make = np.zeros,
    ) -> None:
        self._draws, self._make = draws, make
        self._dataset = dataset
        self._split = split
        self._n_components = n_components
        self._metrics, self._device = metrics, device
        self._development = development = dataset.development(split)
        self.refit = Refit(development, split, n_components, device)
        self.controls = Controls(development, split, n_components, make_bank, metrics, device)

    def publish(
        self,
        record: TrialRecord,
        run_id: str,
        bank: Features,
        tracker: Tracker,
        best_layers: Callable[[], BestLayers | None] = lambda: None,
    ) -> Publication:
        """Refit a trial, score it once on the confirmation rows, register it, and crown it where it is told apart.

        Parameters
        ----------
        record : TrialRecord
            The trial.
        run_id : str
            Its run.
        bank : Features
            Features of its backbone.
        tracker : Tracker
            Where it is tracked.
        best_layers : callable, optional
            Chooses the best layer of each voxel, asked for where there are confirmation rows.

        Returns
        -------
        Publication

        Raises
        ------
        ModelError
            If the saved model does not predict what it was made from; it is not registered.
        """
        registry = Registry(tracker.store)
        present = next((item for item in registry.versions(self._dataset.name) if item.run_id == run_id), None)
        registered = present or self._register(record, run_id, bank, tracker, registry, best_layers)
        tracked = find_trial(tracker.store, run_id)
        with tracker.store.lock:
            is_champion, reason = crown(registered, registry, tracker.store)
        confirmation = tracked.confirmation if tracked else None
        return Publication(registered, is_champion, confirmation, reason)

    def model(
        self,
        record: TrialRecord,
        regressor: Regressor,
        bank: Features,
        confirmation: ConfirmationRecord | None,
        arrays: Arrays = MappingProxyType({}),
    ) -> EncodingModel:
        """Assemble the model that maps images to responses, with all that is known of it."""
        spec = record.spec
        network, tensors = bank.export(spec.space)
        axes = bank.axes(spec.space, self._split.development, spec.n_components)
        scores = {"validation": record.score, "confirmation": _confirmed_score(confirmation)}
        about = {
            "dataset": self._dataset.name,
            "dataset_digest": self._dataset.digest,
            "split_digest": self._split.digest,
            "unit": self._dataset.unit,
            "subject": self._dataset.subject,
            "n_voxels": self._dataset.n_voxels,
            "dtype": _type_of(self._development),
            "n_images": len(self._split.development),
            "objective": record.objective,
            "scores": {name: None if math.isnan(value) else value for name, value in scores.items()},
            "versions": versions(),
            "trial": plain.of_json(record.to_json(), any_text=True),
            "confirmation": plain.of_json(confirmation.to_json()) if confirmation else None,
            "histograms": _histograms(arrays),
        }
        return EncodingModel(
            spec,
            network,
            tensors,
            axes,
            regressor,
            about,
            bank.precision,
            presentation=self._dataset.presentation,
            regions=self._dataset.rois,
        )

    def _register(
        self,
        record: TrialRecord,
        run_id: str,
        bank: Features,
        tracker: Tracker,
        registry: Registry,
        best_layers: Callable[[], BestLayers | None],
    ) -> Registered:
        confirmation: ConfirmationRecord | None = None
        arrays: Arrays = {}
        if len(self._split.confirmation):
            regressor, confirmation, arrays = self._confirm(record, run_id, bank, tracker, registry, best_layers)
        else:
            regressor, _ = self.refit(record.spec, bank)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            folder.mkdir()
            model = self.model(record, regressor, bank, confirmation, arrays)
            model.save(folder)
            self._require_same(EncodingModel.load(folder), model, bank)
            n_features = len(model.axes.axes) if model.takes_features else None
            tags = _tags(record, confirmation)
            return registry.register(
                self._dataset.name,
                folder,
                run_id,
                self._dataset.n_voxels,
                tags,
                n_features=n_features,
                dtype=model.dtype,
            )

    def _require_same(self, saved: EncodingModel, model: EncodingModel, bank: Features) -> None:
        """Refuse a saved model that predicts a few rows otherwise than what it was made from.

        Its coordinates are compared by their distance, since a regressor such as the nearest neighbours may jump where
        they hardly differ; its regressor is compared on the coordinates that are kept.
        """
        spec, rows = model.spec, self._split.development
        kept = spec.leading(bank.components(spec.space, rows, self._n_components)).coordinates
        some = rows[:: -(-len(rows) // _N_COMPARED)]
        images = self._dataset.images
        given = self._given(bank.together(spec.layer), some) if model.takes_features else [images[row] for row in some]
        found = saved.coordinates(given, device=self._device)
        distance = _spread(found - kept[some]) / _spread(kept[rows])
        expected, predicted = (item.regressor.predict(kept[some]) for item in (model, saved))
        if not distance < _FARTHEST or not np.allclose(predicted, expected, rtol=1e-4, atol=1e-4 * np.std(expected)):
            raise ModelError(
                f"The saved model must predict what it was made from. Its coordinates of {len(some)} images are "
                f"{distance:.2g} of their spread away. It is not registered, and the present champion stays."
            )

    def _given(self, layers: Sequence[str], rows: NDArray[np.intp]) -> NDArray[Any]:
        """Return features that came with the data, those of several names side by side."""
        return np.concatenate([self._dataset.features[name][rows] for name in layers], axis=1)

    def _confirm(
        self,
        record: TrialRecord,
        run_id: str,
        bank: Features,
        tracker: Tracker,
        registry: Registry,
        best_layers: Callable[[], BestLayers | None],
    ) -> tuple[Any, ConfirmationRecord, Arrays]:
        """Refit a trial, score it on each confirmation part beside the controls, once, and log what the parts say.

        Predictions may take as much memory as the responses themselves: those of the controls and of the best layers
        are let go before those of the model are made.
        """
        rows = confirmation_rows(self._dataset, self._split, self._metrics, self._draws, self._make)
        layers, rivals = self._rivals(rows, record.spec, bank, best_layers)
        regressor, predictions = self.refit(record.spec, bank)
        report = rows.result(predictions, rivals)
        known = looks.unchained(_confirmed(registry, tracker, run_id))
        seen = [_look_at(record, name, part) for name, part in report.items()]
        counts = looks.add_all(tracker.home, seen, known)
        parts = {name: part.part(count) for (name, part), count in zip(report.items(), counts, strict=True)}
        found = drops({name: part.findings.summaries for name, part in report.items()}, rows.first)
        confirmation = confirmation_record(record, parts, layers, looks.name_of(rows.first), found)
        tracker.log_confirmation(run_id, confirmation, {name: part.arrays for name, part in report.items()})
        if joint := report[rows.first].joint:
            tracker.log_members(run_id, joint)
        return regressor, confirmation, report[rows.first].arrays

    def _rivals(
        self, rows: ConfirmationRows, spec: TrialSpec, bank: Features, best_layers: Callable[[], BestLayers | None]
    ) -> tuple[tuple[str, ...], Mapping[str, Rivals]]:
        """Score what the model is reported beside, and name the layers that each voxel had a choice of."""
        rivals = rows.rivals(self.controls.of(spec, bank))
        found = best_layers()
        return (found.layers, rows.with_layers(rivals, found)) if found else ((), rivals)


def _look_at(record: TrialRecord, name: str, part: PartResult) -> LookRecord:
    """Return the look of a trial at a part of the rows, with what is joint over members, where there are several."""
    found = {component_name(key): array for key, array in part.findings.to_arrays().items()}
    found |= {f"{MEMBERS}/{component_name(key)}": array for key, array in part.joint.items()}
    rows = str(part.facts["rows"])
    return looks.look_at(record, rows, found, part.arrays["predictions"], looks.name_of(name))


def _spread(coordinates: NDArray[np.floating]) -> float:
    """Return the root mean square of distances from the origin."""
    return float(np.sqrt(np.square(coordinates, dtype=np.float64).sum(axis=1).mean()))


def confirmation_record(
    record: TrialRecord,
    parts: Mapping[str, PartRecord],
    best_layers: tuple[str, ...] = (),
    first: str = "",
    drops: Mapping[str, Estimate] = MappingProxyType({}),
) -> ConfirmationRecord:
    """Make a record of what parts of the rows say of a trial; see `ConfirmationRecord`."""
    metric = record.metrics[record.objective]
    return ConfirmationRecord(
        study=record.study,
        number=record.number,
        objective=record.objective,
        label=metric.label,
        summary=metric.summary,
        validation=record.score,
        parts=parts,
        best_layers=best_layers,
        first=first,
        drops=dict(drops),
    )


def _histograms(arrays: Arrays) -> dict[str, Any] | None:
    """Count voxels by score, of a model and of its controls, for its card."""
    if "accuracy" not in arrays:
        return None
    names = {name: found[1] for name in arrays if (found := re.fullmatch(r"control_(.+)_accuracy", name))}
    return histograms(arrays["accuracy"], {label: arrays[name] for name, label in names.items()})


def _type_of(development: Development) -> str:
    """Return the type that holds what varies of the responses."""
    shape = len(development.rows), development.n_voxels
    scan = Scan(lambda start, stop: development.responses(development.rows[start:stop]), shape)
    return "float32" if float32_holds(scan.lowest, scan.highest) else "float64"


def _tags(record: TrialRecord, confirmation: ConfirmationRecord | None) -> dict[str, str]:
    """Tell the pages of the registry what a version is; nothing reads these tags back."""
    tags = {
        "trial": record.spec.label,
        "trained": record.network.trained,
        "objective": record.objective,
        "validation": f"{record.score:.6g}",
    }
    if confirmation is not None:
        tags["confirmation"] = f"{_confirmed_score(confirmation):.6g}"
    return tags


def _confirmed(registry: Registry, tracker: Tracker, run_id: str) -> Iterator[tuple[TrialRecord, ConfirmationRecord]]:
    """Yield the registered models, of any name and home, that were confirmed, but for that of one run."""
    for other in {item.run_id for item in registry.versions()} - {run_id}:
        found = find_trial(tracker.store, other)
        if found is not None and found.confirmation is not None:
            yield found.record, found.confirmation


def _confirmed_score(confirmation: ConfirmationRecord | None) -> float:
    part = confirmation.confirmed if confirmation else None
    return part.whole.score.estimate if part else math.nan
