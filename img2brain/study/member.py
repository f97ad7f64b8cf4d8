"""One dataset of a study, made ready: its rows, features and metrics, and the records that name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain import digest
from img2brain._mapped import Make
from img2brain.catalog import METRICS
from img2brain.datasets._split import UNNAMED
from img2brain.datasets.base import Dataset, Split
from img2brain.evaluate import MOMENTS_BYTES, BankKey, Evaluator, bank_key
from img2brain.features.features import Features
from img2brain.metrics.base import Metric
from img2brain.publish import Publisher
from img2brain.records import (
    DatasetRecord,
    MemberRecord,
    MetricRecord,
    NetworkRecord,
    ProvenanceRecord,
    RowsRecord,
    StudyRecord,
    TiesRecord,
    TrialRecord,
)
from img2brain.result import WHOLE, Scored, TrialResult
from img2brain.spec import ALL, PCA, BackboneSpec, DatasetSpec, StudySpec, TrialSpec
from img2brain.study.space import Parameters
from img2brain.tracking.names import component_name

_TAKEN = ("subject", "normalise", "repeats", "voxels", "responses", "shuffle")  # of a dataset, whatever folder it is in


@dataclass(frozen=True)
class Member:
    """One dataset of a study, made ready.

    Attributes
    ----------
    name : str
        What it is called among the members; empty where the study has one dataset.
    spec : StudySpec
        The study.
    taken : DatasetSpec, optional
        What the study file says of this dataset; None where the study was handed it.
    dataset, split : Dataset, Split
        The data and its rows.
    banks : mapping of (backbone, weights digest, preprocessing) to Features
        Features by network, the networks in the order of those of the study.
    metrics : mapping of str to Metric
        What is scored, the objective first.
    make_bank : callable
        From any network to its features of the images of this dataset, the cached ones where there are any.
    device : str
        Where moments are taken and linear regressors fitted.
    """

    name: str
    spec: StudySpec
    taken: DatasetSpec | None
    dataset: Dataset
    split: Split
    banks: Mapping[BankKey, Features]
    metrics: Mapping[str, Metric]
    make_bank: Callable[[BackboneSpec], Features]
    device: str

    @property
    def n_components(self) -> int:
        """The largest size that any trial asks for."""
        return max(self.spec.sizes, default=1)

    @property
    def record(self) -> MemberRecord:
        """Return what the record of its study says of it."""
        regions = {region: tuple(voxels.tolist()) for region, voxels in self.dataset.rois.items()}
        return MemberRecord(dataset=self._dataset_record, rows=self._rows_record, regions=regions)

    def trial_record(
        self,
        study: StudyRecord,
        number: int,
        spec: TrialSpec,
        asked: Parameters,
        found: TrialResult | str,
        wall_s: float = 0.0,
    ) -> TrialRecord:
        """Return all that is known of a trial: what was found, or why nothing was."""
        bank = self.bank(spec)
        result = found if isinstance(found, TrialResult) else None
        network = NetworkRecord(
            digest=bank.facts["network_digest"],
            library=str(bank.facts.get("library", "")),
            trained=str(bank.facts["trained"]),
            precision=bank.precision,
        )
        return TrialRecord(
            study=study.name,
            home=study.home,
            number=number,
            spec=spec,
            asked=dict(asked),
            dataset=study.dataset,
            rows=study.rows,
            network=network,
            code=study.code,
            plugins=study.plugins,
            objective=study.objective,
            metrics=_metric_records(result.metrics) if result else {},
            n_unconverged=result.n_unconverged if result else 0,
            timings={**(result.timings if result else {}), "wall_s": wall_s},
            failure=found if isinstance(found, str) else "",
            member=self.name,
        )

    def bank(self, spec: TrialSpec) -> Features:
        """Return the features of a trial's network."""
        return self.banks[bank_key(spec)]

    def own(self, spec: TrialSpec, first: Member) -> TrialSpec:
        """Return a trial of the first member as one of this: features that came with the data are known by digest."""
        place = list(first.banks).index(bank_key(spec))
        return spec.model_copy(update={"weights_digest": list(self.banks)[place][1]})

    def evaluator(self, n_members: int = 1, make: Make = np.zeros) -> Evaluator:
        """Return what evaluates trials; it sees the development rows only, and shares memory with other members."""
        rows = self.dataset.development(self.split)
        widest = max(self._widths, default=self.n_components)
        return Evaluator(
            rows,
            self.split,
            self.banks,
            self.n_components,
            self.metrics,
            self.device,
            widest,
            MOMENTS_BYTES // n_members,
            make,
        )

    @property
    def _widths(self) -> set[int]:
        """How many coordinates the bases have, or may have at most."""
        sizes = {PCA: self.n_components, ALL: len(self.split.development)}
        found = {basis for bank in self.banks.values() for basis in bank.bases}
        return {sizes.get(basis) or int(basis.partition(":")[2]) for basis in found}

    def publisher(self, draws: NDArray[np.float32] | None = None, make: Make = np.zeros) -> Publisher:
        """Return what publishes trials, with resamples of the confirmation rows of all members where there are any."""
        metrics = {name: METRICS[name] for name in self.metrics}
        return Publisher(self.dataset, self.split, self.n_components, self.make_bank, metrics, self.device, draws, make)

    @property
    def settings(self) -> dict[str, Any]:
        """What a repetition of a trial needs to know of the study file; where things lie is its own."""
        taken = self.taken.model_dump(mode="json", exclude_none=True) if self.taken else {}
        return {
            "split": self.dataset.portable(self.spec.split).model_dump(mode="json", exclude_unset=True),
            "n_components": list(self.spec.n_components),
            "precision": self.spec.precision,
            "dataset": {name: value for name, value in taken.items() if name in _TAKEN},
            "layers": [
                [*key, [_item(bank.together(name)) for name in bank.layers]] for key, bank in self.banks.items()
            ],
        }

    @property
    def _dataset_record(self) -> DatasetRecord:
        dataset = self.dataset
        return DatasetRecord(
            name=dataset.name,
            digest=dataset.digest,
            source=dataset.source,
            layout=dataset.layout,
            unit=dataset.unit,
            subject=dataset.subject,
            n_images=dataset.n_images,
            n_voxels=dataset.n_voxels,
            provenance=_provenance_record(dataset),
            preparation=dataset.preparation or None,
        )

    @property
    def _rows_record(self) -> RowsRecord:
        split = self.split
        return RowsRecord(
            digest=digest.of_digests([self.dataset.digest, split.digest]),
            split=split.digest,
            text=self.spec.split.text,
            folds=len(split.folds),
            n_train=len(split.train),
            n_validation=len(split.scored),
            n_confirmation=len(split.confirmation),
            ties=_ties_record(split),
            parts=tuple((name, len(rows)) for name, rows in split.parts.items() if list(split.parts) != [UNNAMED]),
        )


def _item(layers: tuple[str, ...]) -> str | list[str]:
    """Return a layer as a study file names it."""
    return layers[0] if len(layers) == 1 else list(layers)


def _metric_records(metrics: Mapping[str, Scored]) -> dict[str, MetricRecord]:
    """Record what was scored; the objective's array is ``accuracy.npy``."""
    first = next(iter(metrics))
    return {
        name: MetricRecord(
            label=scored.label,
            summary=scored.summary,
            whole=scored.summaries[WHOLE],
            regions={region: summary for region, summary in scored.summaries.items() if region != WHOLE},
            file="accuracy.npy" if name == first else f"accuracy_{component_name(name)}.npy",
            revision=revision if (revision := METRICS[name].revision) > 1 else None,
            digest=digest.of_array(scored.accuracy),
        )
        for name, scored in metrics.items()
    }


def _provenance_record(dataset: Dataset) -> ProvenanceRecord | None:
    """Return what is said of the data, None where nothing is."""
    said = dataset.provenance.model_dump()
    return ProvenanceRecord(**said) if any(said.values()) else None


def _ties_record(split: Split) -> TiesRecord | None:
    if split.ties is None:
        return None
    left_out = {part: len(rows) for part, rows in split.left_out.items()}
    return TiesRecord(n_images=split.ties.n_rows, n_sets=split.ties.n_sets, left_out=left_out)
