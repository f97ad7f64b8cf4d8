"""What a study needs before its first trial: data, rows, features and the space, each checked before work starts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from img2brain import datasets, digest
from img2brain.backbones import check_request
from img2brain.catalog import LAYOUTS, LIBRARIES, METRICS, REGRESSORS, Plugin
from img2brain.confirm import ceiling_of, with_ceiling
from img2brain.datasets._sample import write_sample
from img2brain.datasets.base import Dataset, Development, Split, require_sound, shuffled
from img2brain.errors import DataError, FitError, SpecError, did_you_mean
from img2brain.evaluate import BankKey, Evaluator, bank_key
from img2brain.features.extract import find_device
from img2brain.features.features import Features
from img2brain.features.given import GIVEN, GivenFeatures
from img2brain.features.network import UNTRAINED_BY_ITS_ACTIVATIONS, NetworkFeatures
from img2brain.features.pass_ import Budget
from img2brain.home import Home
from img2brain.metrics.base import Metric, NeedsCeiling
from img2brain.publish import Publisher
from img2brain.records import (
    DatasetRecord,
    MetricRecord,
    NetworkRecord,
    PluginRecord,
    ProvenanceRecord,
    RowsRecord,
    StudyRecord,
    TiesRecord,
    TrialRecord,
)
from img2brain.records.code import this_code
from img2brain.refit import n_folds_of
from img2brain.result import WHOLE, Scored, TrialResult
from img2brain.spec import BackboneSpec, DatasetSpec, RegressorSpec, StudySpec, TrialSpec
from img2brain.study.space import Candidate, Parameters, Space, find_domains
from img2brain.tracking.names import component_name

log = logging.getLogger(__name__)

_TAKEN = ("subject", "normalise", "repeats", "voxels", "responses", "shuffle")  # of a dataset, whatever folder it is in
_SEEN = {"validation": "trained on", "confirmation": "trained on or validate"}


@dataclass(frozen=True)
class Setting:
    """A study made ready.

    Attributes
    ----------
    spec : StudySpec
        What was asked for.
    dataset, split : Dataset, Split
        The data and its rows.
    banks : mapping of (backbone, weights digest, preprocessing) to Features
        Features by network.
    space : Space
        What is searched.
    metrics : mapping of str to Metric
        What is scored, the objective first.
    plugins : tuple of Plugin
        The components that are not ours.
    home : Home
        Where it is kept.
    device : str
        Where moments are taken and linear regressors fitted.
    """

    spec: StudySpec
    dataset: Dataset
    split: Split
    banks: Mapping[BankKey, Features]
    space: Space
    metrics: Mapping[str, Metric]
    plugins: tuple[Plugin, ...]
    home: Home
    device: str

    @property
    def n_components(self) -> int:
        """The largest size that any trial asks for."""
        return max(self.spec.n_components)

    @property
    def description(self) -> dict[str, Any]:
        """All that the search depends on, as plain data: studies of the same description are the same study."""
        return self._first_description | {
            "networks": [[*key, bank.precision, bank.facts["network_digest"]] for key, bank in self.banks.items()],
            "metrics": list(self.metrics),
            "plugins": {plugin.name: plugin.digest for plugin in self.plugins},
        }

    @property
    def _first_description(self) -> dict[str, Any]:
        """What a study of the first format was described by, and named after."""
        return {
            "dataset": self.dataset.digest,
            "split": self.split.digest,
            "networks": [[*key, bank.precision] for key, bank in self.banks.items()],
            "space": self.space.describe(),
            "sampler": self.spec.sampler,
            "seed": self.spec.seed,
        }

    @property
    def name(self) -> str:
        """The study's name with the digest of its description: another space is another study, never mixed."""
        return f"{self.spec.name}-{digest.of_value(self.description)[:8]}"

    @property
    def first_name(self) -> str | None:
        """What the first format called this study; None where it could not have been run then."""
        if self.plugins or tuple(self.metrics) != ("pearson",):
            return None
        return f"{self.spec.name}-{digest.of_value(self._first_description)[:8]}"

    @property
    def is_renamed(self) -> bool:
        """Whether a layer that it names was another one when studies of the first format were run."""
        return any(bank.is_renamed for bank in self.banks.values())

    def record(self, name: str) -> StudyRecord:
        """Return what is known of the study before its first trial, under its full name."""
        return StudyRecord(
            name=name,
            home=self.home.id,
            description=self.description,
            dataset=self._dataset_record,
            rows=self._rows_record,
            code=this_code(),
            plugins=self._plugin_records,
            sampler=self.spec.sampler,
            seed=self.spec.seed,
            precision=", ".join(sorted({bank.precision for bank in self.banks.values()})),
            metrics=tuple(self.metrics),
            regions={region: tuple(voxels.tolist()) for region, voxels in self.dataset.rois.items()},
            settings=self._settings,
        )

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
        )

    def bank(self, spec: TrialSpec) -> Features:
        """Return the features of a trial's network."""
        return self.banks[bank_key(spec)]

    def extract(self) -> None:
        """Compute the features that are missing: one pass over the images per network."""
        for bank in self.banks.values():
            bank.extract()

    def keep_plugins(self) -> None:
        """Keep the files of the components that are not ours, so that a model of this home finds them again."""
        for plugin in self.plugins:
            plugin.keep(self.home.plugins)

    def evaluator(self) -> Evaluator:
        """Return what evaluates trials; it sees the development rows only."""
        rows = self.dataset.development(self.split)
        return Evaluator(rows, self.split, self.banks, self.n_components, self.metrics, self.device)

    def publisher(self) -> Publisher:
        """Return what publishes trials."""
        metrics = {name: METRICS[name] for name in self.metrics}
        return Publisher(self.dataset, self.split, self.n_components, self.make_bank, metrics, self.device)

    def make_bank(self, network: BackboneSpec) -> Features:
        """Return the features of any network for the images of this study, the cached ones where there are any."""
        return make_bank(network, self.dataset, self.split, self.home, self.spec)

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
    def _settings(self) -> dict[str, Any]:
        """What a repetition of a trial needs to know of the study file; where things lie is its own."""
        taken = self.spec.dataset.model_dump(mode="json", exclude_none=True) if self.spec.dataset else {}
        return {
            "split": self.spec.split.model_dump(mode="json", exclude_unset=True),
            "n_components": list(self.spec.n_components),
            "precision": self.spec.precision,
            "dataset": {name: value for name, value in taken.items() if name in _TAKEN},
            "layers": [[*key, list(bank.layers)] for key, bank in self.banks.items()],
        }

    @property
    def _rows_record(self) -> RowsRecord:
        split = self.split
        return RowsRecord(
            digest=digest.of_digests([self.dataset.digest, split.digest]),
            split=split.digest,
            text=self.spec.split.preset or f"seed {self.spec.split.seed}",
            folds=len(split.folds),
            n_train=len(split.train),
            n_validation=len(split.scored),
            n_confirmation=len(split.confirmation),
            ties=_ties_record(split),
        )

    @property
    def _plugin_records(self) -> tuple[PluginRecord, ...]:
        return tuple(PluginRecord(kind=item.kind, name=item.name, digest=item.digest) for item in self.plugins)


def make_ready(spec: StudySpec, home: Home, dataset: Dataset | None = None) -> Setting:
    """Check everything that a study names, and open its data.

    Parameters
    ----------
    spec : StudySpec
        The study.
    home : Home
        Where it is kept.
    dataset : Dataset, optional
        In place of the one that the study names.

    Raises
    ------
    SpecError
        For a name, layer or size that is not there.
    DataError
        If the dataset is not as its layout says, or a response is not finite.
    WeightsError
        If the weights are not there.
    """
    for item in spec.backbones:
        if item.name != GIVEN:
            check_request(item.name, item.weights, item.layers or (), item.preprocessing)
    domains = find_domains(spec)
    device = str(find_device(spec.device))
    dataset = open_dataset(spec.dataset, home) if dataset is None else dataset
    require_sound(dataset)
    split = dataset.split(spec.split)
    _tell_ties(split)
    spec = _sized(spec, split)
    _require_sets(spec, split)
    log.info("%s: %d images, %d voxels; %s", dataset.name, dataset.n_images, dataset.n_voxels, _rows_text(split))
    metrics = find_metrics(spec, dataset.development(split), split)
    for item in spec.backbones:
        _require_input(item, dataset)
    banks = {item: make_bank(item, dataset, split, home, spec) for item in spec.backbones}
    for bank in banks.values():
        _tell_of_weights(bank)
    space = Space(
        spec, domains, {item: _candidate(bank, split, max(spec.n_components)) for item, bank in banks.items()}
    )
    by_key: dict[BankKey, Features] = {
        (item.name, bank.facts["weights_digest"], item.preprocessing): bank for item, bank in banks.items()
    }
    return Setting(spec, dataset, split, by_key, space, metrics, find_plugins(spec), home, device)


def open_dataset(spec: DatasetSpec | None, home: Home) -> Dataset:
    """Open the dataset that a study names, writing sample data where it asks for it."""
    if spec is None:
        raise SpecError("A study must name its dataset, or be handed one. Got none.")
    layout = "folder" if spec.sample else spec.layout
    dataset = datasets.open_dataset(spec.path or _sample(spec, home), layout, **spec.preparation.model_dump())
    if spec.sample:  # samples of all sizes have one name, and are one origin's
        dataset.origin = home.datasets
    return dataset if spec.shuffle is None else shuffled(dataset, spec.shuffle)


def make_bank(item: BackboneSpec, dataset: Dataset, split: Split, home: Home, spec: StudySpec) -> Features:
    """Return the features of a network for the images of a dataset, or those that came with the data."""
    rows, n_components = split.development, max(spec.n_components)
    if item.name == GIVEN:
        return GivenFeatures(item, dataset.features, home.store, rows, n_components)
    return NetworkFeatures(
        item, dataset.images, dataset.image_digests, home.store, rows, n_components,
        device=spec.device, precision=spec.precision, budget=Budget(spec.scratch_gb),
        presentation=dataset.presentation,
    )  # fmt: skip


def find_metrics(spec: StudySpec, development: Development, split: Split) -> dict[str, Metric]:
    """Return the metrics of a study, those that depend on it knowing the noise ceiling of the rows that are scored.

    Raises
    ------
    SpecError
        If a metric needs a noise ceiling, and there is none.
    """
    metrics: dict[str, Metric] = {name: METRICS[name] for name in spec.metrics}
    asking = [name for name, metric in metrics.items() if isinstance(metric, NeedsCeiling)]
    if not asking:
        return metrics
    rows = split.scored
    ceiling = ceiling_of(development, lambda: development.counts(rows), lambda: development.repeats(rows))
    if ceiling.origin == "none":
        raise SpecError(
            f"The metric {asking[0]!r} needs a noise ceiling of the validation rows: noise_ceiling, ncsnr with counts "
            "of repeats, or single repeats. The dataset has none of these."
        )
    return with_ceiling(metrics, ceiling)


def find_plugins(spec: StudySpec) -> tuple[Plugin, ...]:
    """Return the regressors, metrics, layout and libraries of networks of a study that are not ours."""
    asked = [(REGRESSORS, item.name) for item in spec.regressors]
    asked += [(METRICS, name) for name in spec.metrics]
    asked += [(LAYOUTS, spec.dataset.layout)] if spec.dataset and spec.dataset.layout else []
    asked += [(LIBRARIES, item.name.rpartition(":")[0]) for item in spec.backbones if ":" in item.name]
    found = {(catalog.kind, name): catalog.plugin(name) for catalog, name in asked}
    return tuple(plugin for plugin in found.values() if plugin is not None)


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


def _tell_of_weights(bank: Features) -> None:
    if taken := bank.facts.get("taken"):
        log.info("%s: of %s was taken %s", bank.spec.name, bank.facts["label"], taken)
    if bank.facts["trained"] == UNTRAINED_BY_ITS_ACTIVATIONS:
        log.warning(
            "the weights %s of %s see pictures as a fresh initialisation does: they are not trained",
            bank.facts["label"], bank.spec.name,
        )  # fmt: skip


def _require_input(item: BackboneSpec, dataset: Dataset) -> None:
    """Refuse a network without images, and given features that are not there."""
    if item.name != GIVEN:
        if not dataset.images:
            raise DataError(f"The backbone {item.name!r} needs images. {dataset.name!r} has none; use {GIVEN!r}.")
        return
    for name in item.layers or ():
        if name not in dataset.features:
            raise SpecError(f"{dataset.name!r} brings no features {name!r}. {did_you_mean(name, dataset.features)}")
    if not dataset.features:
        raise DataError(f"{dataset.name!r} brings no features of its own: trainingFeatures/ is empty or absent.")


def _candidate(bank: Features, split: Split, n_components: int) -> Candidate:
    spans = cache(partial(_spanned, bank, split, n_components))
    return Candidate(bank.facts["label"], bank.facts["weights_digest"], bank.layers, spans)


def _spanned(bank: Features, split: Split, n_components: int, layer: str) -> int:
    """Count the components of a layer over the training rows, and say where these are fewer than asked for."""
    try:
        n_found = min(len(bank.components(layer, fold.train, n_components).variances) for fold in split.folds)
    except FitError:  # the layer does not vary: its trials fail with this reason
        return n_components
    if n_found < n_components:
        log.warning(
            "%s %s spans %d components over the training rows: n_components of more are taken as %d there",
            bank.spec.name, layer, n_found, n_found,
        )  # fmt: skip
    return n_found


def _sample(spec: DatasetSpec, home: Home) -> Path:
    sample = spec.sample
    assert sample is not None, "a dataset spec has a path or a sample"
    folder = home.datasets / f"sample-{sample.images}x{sample.voxels}-seed{sample.seed}"
    with home.lock(f"dataset {folder.name}"):
        if not folder.exists():
            log.info("writing sample data: %d images, %d voxels", sample.images, sample.voxels)
            write_sample(folder, sample.images, sample.voxels, sample.seed, name="sample")
    return folder


def _sized(spec: StudySpec, split: Split) -> StudySpec:
    """Refuse more components than rows; lower a size that ties alone put out of reach, which no file can foresee."""
    largest, n_rows = max(spec.n_components), min(len(fold.train) for fold in split.folds)
    if largest >= n_rows:
        raise SpecError(f"'n_components' must be below the number of training rows, {n_rows}. Got {largest}.")
    most = min(split.n_different(fold.train) for fold in split.folds) - 1
    if largest <= most:
        return spec
    log.warning("n_components of more than %d are taken as %d: %d training rows differ", most, most, most + 1)
    return spec.model_copy(update={"n_components": tuple(dict.fromkeys(min(n, most) for n in spec.n_components))})


def _require_sets(spec: StudySpec, split: Split) -> None:
    """Refuse regressors that validate among the rows that they are fitted to, where these are one tied set."""
    asking = {item.name: n_folds for item in spec.regressors if (n_folds := _n_folds(item)) > 1}
    n_rows = min(len(fold.train) for fold in split.folds)
    for name, n_folds in asking.items():
        if n_folds > n_rows // 2:
            raise SpecError(
                f"The own cross-validation of {name!r} must have at least 2 of the {n_rows} training rows in each "
                f"part: {n_rows // 2} parts at most. Got {n_folds}."
            )
        if any(len(split.runs(fold.train, n_folds)) < 2 for fold in split.folds):
            raise SpecError(
                f"The regressor {name!r} must be fitted to at least 2 sets of tied rows, not counting one of a single "
                f"row: its own cross-validation cuts none. There are tied {split.ties}, and each set stays on one side."
            )


def _n_folds(item: RegressorSpec) -> int:
    """Return into how many parts a regressor divides its training rows, with the options of the study."""
    component = REGRESSORS[item.name]
    return n_folds_of(component(**{name: value for name, value in item.search.items() if name in component.options}))


def _provenance_record(dataset: Dataset) -> ProvenanceRecord | None:
    """Return what is said of the data, None where nothing is."""
    said = dataset.provenance.model_dump()
    return ProvenanceRecord(**said) if any(said.values()) else None


def _ties_record(split: Split) -> TiesRecord | None:
    if split.ties is None:
        return None
    left_out = {part: len(rows) for part, rows in split.left_out.items()}
    return TiesRecord(n_images=split.ties.n_rows, n_sets=split.ties.n_sets, left_out=left_out)


def _tell_ties(split: Split) -> None:
    """Say which rows were kept together, and which were left out for that."""
    if split.ties is not None:
        log.info("tied %s: each set stays on one side", split.ties)
    for part, rows in split.left_out.items():
        log.warning("left %d %s rows out: they are tied to rows that are %s", len(rows), part, _SEEN[part])


def _rows_text(split: Split) -> str:
    parts = {"training": split.train, "validation": split.validation, "confirmation": split.confirmation}
    if split.held_out:
        parts = {f"development (in {len(split.held_out)} folds)": split.train, "confirmation": split.confirmation}
    return ", ".join(f"{len(rows)} {name}" for name, rows in parts.items()) + " rows"
