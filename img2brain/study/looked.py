"""What is read of a study before it is planned: rows, voxels, trials, and how wide its features are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from img2brain.catalog import METRICS, REGRESSORS
from img2brain.datasets.base import Dataset, Split
from img2brain.features.extract import find_device
from img2brain.features.features import Features
from img2brain.features.given import GivenFeatures
from img2brain.features.network import NetworkFeatures, choose_precision
from img2brain.features.pass_ import Budget, kept_as
from img2brain.home import Home
from img2brain.metrics.base import FromSums
from img2brain.spec import GIVEN, PCA, BackboneSpec, StudySpec
from img2brain.store import Store
from img2brain.study import needs
from img2brain.study.opening import Opened
from img2brain.study.probes import fresh, layers_of
from img2brain.study.search import stored_trials
from img2brain.study.space import Candidate, Space, find_domains, sizes_of


class Looked:
    """A study that was looked at.

    Parameters
    ----------
    spec, opened, home
        As for `plan`.
    scratch : Path
        A folder that goes again.
    """

    def __init__(self, spec: StudySpec, opened: Mapping[str, Opened], home: Home | None, scratch: Path) -> None:
        self.spec, self._opened, self._home = spec, opened, home
        self._store = Store(scratch / "cache")
        self._splits = splits_of(spec, opened)
        n_told = _n_told(spec, home)
        members = members_of(opened, self._splits)
        self.banks = [self._bank(item, self._store) for item in spec.backbones]
        networks = [self._features(item, bank) for item, bank in zip(spec.backbones, self.banks, strict=True)]
        budget = Budget(spec.scratch_gb).memory(find_device(spec.device))
        trials = trials_of(spec, self._splits, n_told, self.banks)
        is_done = bool(n_told) and not trials.n_left
        self.needs = needs.Needs(members, networks, trials, spec.scratch_gb * 1e9, budget, is_done)

    @property
    def first(self) -> tuple[Dataset, Split]:
        """The first member, and its rows."""
        name, item = next(iter(self._opened.items()))
        return item.dataset, self._splits[name]

    @property
    def n_shown(self) -> int:
        """Count the pictures of all members, each once."""
        return len({path for item in self._opened.values() for path in item.dataset.images})

    def _bank(self, item: BackboneSpec, store: Store, digests: Sequence[str] = ()) -> Features:
        """Return the features of a network, of which no weights are read."""
        dataset, split = self.first
        rows, leading = split.development, max(self.spec.sizes, default=1)
        bases = _bases(self.spec, len(rows))
        if item.name == GIVEN:
            return GivenFeatures(item, dataset.features, store, rows, leading, bases)
        pooled = item.model_copy(update={"pooling": item.pooling or self.spec.pooling})
        return NetworkFeatures(
            pooled, dataset.images, digests, store, rows, leading, device=self.spec.device,
            precision=self.spec.precision, presentation=dataset.presentation, bases=bases,
        )  # fmt: skip

    def _features(self, item: BackboneSpec, bank: Features) -> needs.FeatureSizes:
        """Say how wide the blocks of a network are that a pass has still to compute."""
        widths = bank.widths()
        missing = self._missing(item, bank)
        dtype = choose_precision(self.spec.precision, len(self.first[0].images), find_device(self.spec.device))
        size = (
            4 if item.name == GIVEN else max((kept_as(width, dtype).itemsize for width in widths.values()), default=4)
        )
        whole, kept = _parameter_bytes(item, bank)
        return needs.FeatureSizes(
            item.name,
            [width for block, width in widths.items() if block in missing],
            len(widths),
            bank.bases,
            size,
            whole,
            _n_controls(item),
            sum(widths.values()) / max(1, len(widths)),
            kept,
        )

    def _missing(self, item: BackboneSpec, bank: Features) -> set[Any]:
        """Return the blocks that are not in the cache of the home."""
        whole = set(bank.widths())
        if self._home is None:
            return whole
        if isinstance(bank, NetworkFeatures):
            if not self._bank_at_home(item).is_known:  # type: ignore[attr-defined]
                return whole
            return self._bank(item, self._home.store, self.first[0].image_digests).lacking()
        return self._bank_at_home(item).lacking()

    def _bank_at_home(self, item: BackboneSpec) -> Features:
        assert self._home is not None, "there is a cache where there is a home"
        return self._bank(item, self._home.store)


def splits_of(spec: StudySpec, opened: Mapping[str, Opened]) -> dict[str, Split]:
    """Divide the rows of each member, but for pictures, which are not compared."""
    return {name: item.dataset.nearly_split(spec.split) for name, item in opened.items()}


def members_of(opened: Mapping[str, Opened], splits: Mapping[str, Split]) -> list[needs.MemberSizes]:
    """Count the rows and voxels of each member."""
    return [_member(item.dataset, splits[name]) for name, item in opened.items()]


def _member(dataset: Dataset, split: Split) -> needs.MemberSizes:
    is_known = dataset.noise_ceiling is not None or dataset.ncsnr is not None
    return needs.MemberSizes(
        len(split.train), len(split.scored), len(split.confirmation), dataset.n_voxels, len(split.folds),
        0 if is_known else _n_repeats(dataset), len(dataset.rois),
    )  # fmt: skip


def _n_repeats(dataset: Dataset) -> int:
    """Count the repeats of a row of the part that confirms."""
    repeats = dataset.sections[1 if dataset.n_test else 0].repeats
    return repeats.shape[1] if repeats else 0


def trials_of(
    spec: StudySpec, splits: Mapping[str, Split], n_told: int, banks: Sequence[Features] = ()
) -> needs.TrialSizes:
    """Count trials and spaces, and say how large they are."""
    split = next(iter(splits.values()))
    n_train = min(len(fold.train) for fold in split.folds)
    sizes = [size.n_components for name in spec.reduction for size in sizes_of(spec, name, len(split.development))]
    known = [min(size, n_train) for size in sizes]
    n_spaces = sum(len(bank.spaces) for bank in banks) or sum(len(item.layers or range(8)) for item in spec.backbones)
    n = _n_trials(spec, banks, n_told) if banks else spec.trials or len(spec.backbones)
    kinds = [REGRESSORS[item.name] for item in spec.regressors]
    return needs.TrialSizes(
        n,
        max(n - n_told, 0),
        known,
        max(known),
        max(n_spaces, 1),
        len(spec.metrics),
        any(not isinstance(METRICS[name], FromSums) for name in spec.metrics),
        any(not hasattr(kind, "fit_folds") for kind in kinds),
    )


def _n_trials(spec: StudySpec, banks: Sequence[Features], n_told: int) -> int:
    """Count the trials that there will be."""
    if spec.sampler != "grid":
        return max(spec.trials or 0, n_told)
    networks = {
        item: Candidate(item.weights, "", bank.layers, poolings=bank.poolings)
        for item, bank in zip(spec.backbones, banks, strict=True)
    }
    n_cells = sum(1 for _ in Space(spec, find_domains(spec), networks).grid())
    return max(min(n_cells, spec.trials or n_cells), n_told)


def _n_told(spec: StudySpec, home: Home | None) -> int:
    """Count the trials of the last study of this name that are over."""
    stored = {} if home is None else stored_trials(home)
    own = [trials for name, trials in stored.items() if name.rpartition("-")[0] == spec.name]
    return len(own[-1]) if own else 0


def _bases(spec: StudySpec, n_rows: int) -> tuple[str, ...]:
    sizes = [size for reduction in spec.reduction for size in sizes_of(spec, reduction, n_rows)]
    return tuple(dict.fromkeys(size.basis for size in sizes))


def unseen(item: BackboneSpec) -> needs.FeatureSizes:
    """Say of a network what is known without looking at it."""
    return needs.FeatureSizes(item.name, (), len(item.layers or range(8)), (PCA,), n_controls=_n_controls(item))


def _n_controls(item: BackboneSpec) -> int:
    """Count what a published model has to beat: an untrained network has no twin, given features have no images."""
    return 1 if item.name == GIVEN else 2 if item.weights.startswith("random:") else 3


def _parameter_bytes(item: BackboneSpec, bank: Features) -> tuple[int, int]:
    """Return the bytes of a network, and of what it needs for the layers that are asked for."""
    if item.name == GIVEN:
        return 0, 0
    backbone = fresh(item)
    body = backbone.extractor(layers_of(bank)).body
    return _bytes_of(backbone.network.state_dict()), _bytes_of(body.state_dict())


def _bytes_of(tensors: Mapping[str, Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
