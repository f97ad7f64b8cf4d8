"""What a study needs before its first trial: data, rows, features and the space, each checked before work starts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from img2brain import datasets, digest
from img2brain.backbones import check_request
from img2brain.datasets._sample import write_sample
from img2brain.datasets.base import Dataset, Split, require_finite, shuffled
from img2brain.errors import DataError, SpecError, did_you_mean
from img2brain.evaluate import BankKey, Evaluator, bank_key
from img2brain.features.extract import find_device
from img2brain.features.features import Features
from img2brain.features.given import GIVEN, GivenFeatures
from img2brain.features.network import UNTRAINED_BY_ITS_ACTIVATIONS, NetworkFeatures
from img2brain.features.pass_ import Budget
from img2brain.home import Home
from img2brain.publish import Publisher
from img2brain.spec import BackboneSpec, DatasetSpec, StudySpec, TrialSpec
from img2brain.study.space import Network, Space, find_domains
from img2brain.tracking.records import StudyRecord

log = logging.getLogger(__name__)


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
    home : Home
        Where it is kept.
    """

    spec: StudySpec
    dataset: Dataset
    split: Split
    banks: Mapping[BankKey, Features]
    space: Space
    home: Home

    @property
    def n_components(self) -> int:
        """The largest size that any trial asks for."""
        return max(self.spec.n_components)

    @property
    def description(self) -> dict[str, Any]:
        """All that the search depends on, as plain data: studies of the same description are the same study."""
        return {
            "dataset": self.dataset.digest,
            "split": self.split.digest,
            "networks": [[*key, bank.precision, *_code(bank)] for key, bank in self.banks.items()],
            "space": self.space.describe(),
            "sampler": self.spec.sampler,
            "seed": self.spec.seed,
        }

    @property
    def name(self) -> str:
        """The study's name with the digest of its description: another space is another study, never mixed."""
        return f"{self.spec.name}-{digest.of_value(self.description)[:8]}"

    @property
    def record(self) -> StudyRecord:
        """What the tracking store is told of the study."""
        dataset = self.dataset
        facts = {
            "name": dataset.name,
            "digest": dataset.digest,
            "source": dataset.source,
            "unit": dataset.unit,
            "n_images": str(dataset.n_images),
            "n_voxels": str(dataset.n_voxels),
        }
        parameters = {
            "study": self.name,
            "sampler": self.spec.sampler,
            "seed": str(self.spec.seed),
            "split": self.spec.split.preset or f"seed {self.spec.split.seed}",
            "folds": str(len(self.split.folds)),
            "dataset_digest": dataset.digest,
            "split_digest": self.split.digest,
            "n_train": str(len(self.split.train)),
            "n_validation": str(len(self.split.scored)),
            "n_confirmation": str(len(self.split.confirmation)),
            "precision": ", ".join(sorted({bank.precision for bank in self.banks.values()})),
        }
        rows = digest.of_digests([dataset.digest, self.split.digest])
        regions = {name: voxels.tolist() for name, voxels in dataset.rois.items()}
        return StudyRecord(self.name, dataset.name, facts, parameters, rows, regions)

    def bank(self, spec: TrialSpec) -> Features:
        """Return the features of a trial's network."""
        return self.banks[bank_key(spec)]

    def extract(self) -> None:
        """Compute the features that are missing: one pass over the images per network."""
        for bank in self.banks.values():
            bank.extract()

    def evaluator(self) -> Evaluator:
        """Return what evaluates trials; it sees the development rows only."""
        rows = self.dataset.development(self.split)
        return Evaluator(rows, self.split, self.banks, self.n_components, str(find_device(self.spec.device)))

    def publisher(self) -> Publisher:
        """Return what publishes trials."""
        return Publisher(self.dataset, self.split, self.n_components, self.make_bank)

    def make_bank(self, network: BackboneSpec) -> Features:
        """Return the features of any network for the images of this study, the cached ones where there are any."""
        return make_bank(network, self.dataset, self.split, self.home, self.spec)


def make_ready(spec: StudySpec, home: Home) -> Setting:
    """Check everything that a study names, and open its data.

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
        if item.name == GIVEN:
            continue
        check_request(item.name, item.weights, item.layers or (), item.preprocessing)
    domains = find_domains(spec)
    find_device(spec.device)
    dataset = open_dataset(spec.dataset, home)
    require_finite(dataset)
    split = dataset.split(spec.split)
    _require_rows(spec, split)
    log.info("%s: %d images, %d voxels; %s", dataset.name, dataset.n_images, dataset.n_voxels, _rows_text(split))
    for item in spec.backbones:
        _require_input(item, dataset)
    banks = {item: make_bank(item, dataset, split, home, spec) for item in spec.backbones}
    for bank in banks.values():
        if bank.facts["trained"] == UNTRAINED_BY_ITS_ACTIVATIONS:
            log.warning(
                "the weights %s of %s see pictures as a fresh initialisation does: they are not trained",
                bank.facts["label"], bank.spec.name,
            )  # fmt: skip
    space = Space(spec, domains, {item: _network(bank) for item, bank in banks.items()})
    by_key: dict[BankKey, Features] = {
        (item.name, bank.facts["weights_digest"], item.preprocessing): bank for item, bank in banks.items()
    }
    return Setting(spec, dataset, split, by_key, space, home)


def open_dataset(spec: DatasetSpec, home: Home) -> Dataset:
    """Open the dataset that a study names, writing sample data where it asks for it."""
    layout = "folder" if spec.sample else spec.layout
    dataset = datasets.open_dataset(spec.path or _sample(spec, home), layout)
    return dataset if spec.shuffle is None else shuffled(dataset, spec.shuffle)


def make_bank(item: BackboneSpec, dataset: Dataset, split: Split, home: Home, spec: StudySpec) -> Features:
    """Return the features of a network for the images of a dataset, or those that came with the data."""
    rows, n_components = split.development, max(spec.n_components)
    if item.name == GIVEN:
        return GivenFeatures(item, dataset.features, home.store, rows, n_components)
    return NetworkFeatures(
        item, dataset.images, dataset.image_digests, home.store, rows, n_components,
        device=spec.device, precision=spec.precision, budget=Budget(spec.scratch_gb),
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


def _code(features: Features) -> tuple[str, ...]:
    """Digest the network of a library that is not ours: edited code is another study. That of ours has a version."""
    return (features.facts["network_digest"],) if features.facts.get("plugin") else ()


def _network(bank: Features) -> Network:
    return Network(bank.facts["label"], bank.facts["weights_digest"], bank.layers)


def _sample(spec: DatasetSpec, home: Home) -> Path:
    sample = spec.sample
    assert sample is not None, "a dataset spec has a path or a sample"
    folder = home.datasets / f"sample-{sample.images}x{sample.voxels}-seed{sample.seed}"
    with home.lock(f"dataset {folder.name}"):
        if not folder.exists():
            log.info("writing sample data: %d images, %d voxels", sample.images, sample.voxels)
            write_sample(folder, n_images=sample.images, n_voxels=sample.voxels, seed=sample.seed)
    return folder


def _require_rows(spec: StudySpec, split: Split) -> None:
    largest, n_rows = max(spec.n_components), min(len(fold.train) for fold in split.folds)
    if largest >= n_rows:
        raise SpecError(f"'n_components' must be below the number of training rows, {n_rows}. Got {largest}.")


def _rows_text(split: Split) -> str:
    parts = {"training": split.train, "validation": split.validation, "confirmation": split.confirmation}
    if split.held_out:
        parts = {f"development (in {len(split.held_out)} folds)": split.train, "confirmation": split.confirmation}
    return ", ".join(f"{len(rows)} {name}" for name, rows in parts.items()) + " rows"
