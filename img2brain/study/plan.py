"""The plan of a study: what it will take, stage by stage, before work starts; and its refusal where it cannot fit.

Sizes are looked at, weights are not: a few pictures pass a fresh network, a few responses are read, a small fit is
timed. Nothing is written.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.backbones import Backbone, accelerated, load_backbone
from img2brain.catalog import METRICS, REGRESSORS
from img2brain.datasets._images import open_pixels
from img2brain.datasets.base import Dataset, Split
from img2brain.errors import DataError, FitError, Img2BrainError, ResourceError, SpecError
from img2brain.features.extract import activations, find_batch_size, find_device
from img2brain.features.features import Features
from img2brain.features.given import GivenFeatures
from img2brain.features.network import NetworkFeatures, choose_precision
from img2brain.features.pass_ import Budget, kept_as
from img2brain.features.pooling import Pooled
from img2brain.home import Home
from img2brain.machine import core_seconds, memory_limit, n_cores, speeds
from img2brain.metrics.base import FromSums, NeedsCeiling, Sums
from img2brain.moments import Moments
from img2brain.spec import ALL, GIVEN, NO_POOLING, PCA, BackboneSpec, StudySpec
from img2brain.statistics.bootstrap import Bootstrap
from img2brain.store import Store
from img2brain.study import needs
from img2brain.study.networks import with_networks
from img2brain.study.opening import Opened, handed_members, open_members
from img2brain.study.search import stored_trials
from img2brain.study.space import Candidate, Space, find_domains, sizes_of

Rows = NDArray[np.intp]

STAGES = ("open", "extract", "reduce", "moments", "search", "track", "publish")
# What a core takes for what does not follow from sizes, measured where nothing else was at work.
_START_S, _TRIAL_S, _PUBLISH_S = 13.0, 0.045, 9.0
_VALUE_S = 8e-9  # to read a response of a trial, z-score it and add it to a mean
_LARGE_BYTES = 2e9  # of responses of which no few are read fast, since whole sessions are normalised
_SMALL, _MIDDLE = 64, 512  # voxels of the fits that are timed
_NETWORKS_S = 5.0  # that all networks together are looked at
_SOME = 8  # pictures that are decoded


@dataclass(frozen=True)
class Stage:
    """What a stage of a study takes.

    Attributes
    ----------
    name : str
        ``"open"``, ``"extract"``, ``"reduce"``, ``"moments"``, ``"search"``, ``"track"`` or ``"publish"``.
    passes : float
        Over all pictures in ``"extract"``, over all responses in the others.
    read_bytes : float
        Pictures and responses that are read.
    disk_bytes, scratch_bytes : float
        Disk that stays, and that is taken for a while.
    memory_bytes : int
        The most memory that the process takes.
    work_s : float
        Seconds of one core.
    """

    name: str
    passes: float
    read_bytes: float
    disk_bytes: float
    scratch_bytes: float
    memory_bytes: int
    work_s: float


@dataclass(frozen=True)
class Plan:
    """What a study will take.

    Attributes
    ----------
    stages : tuple of Stage
        In their order.
    networks : mapping of str to (int, float)
        Pictures that pass each network, with the seconds of one core that each takes.
    n_trials, n_told : int
        Trials in all, and those that are over.
    n_cores : int
        Cores that there are: the time is that of the work, divided among them where they are free.
    memory_limit, disk_free : int
        What there is, in bytes.
    problems : tuple of str
        What does not fit, and what to change.
    """

    stages: tuple[Stage, ...]
    networks: Mapping[str, tuple[int, float]]
    n_trials: int
    n_told: int
    n_cores: int
    memory_limit: int
    disk_free: int
    problems: tuple[str, ...]

    @property
    def work_s(self) -> float:
        """Seconds of one core."""
        return sum(stage.work_s for stage in self.stages)

    @property
    def wall_s(self) -> float:
        """Seconds, where all cores are free: passes, products and resamples use all of them, trials hardly two."""
        return sum(stage.work_s / (self.n_cores if stage.name in _PARALLEL else 1) for stage in self.stages)

    @property
    def disk_bytes(self) -> float:
        """Disk that stays."""
        return sum(stage.disk_bytes for stage in self.stages)

    @property
    def scratch_bytes(self) -> float:
        """Disk that is taken for a while."""
        return max(stage.scratch_bytes for stage in self.stages)

    @property
    def memory_bytes(self) -> int:
        """The most memory that the process takes."""
        return max(stage.memory_bytes for stage in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        sums = ("work_s", "wall_s", "disk_bytes", "scratch_bytes", "memory_bytes")
        return asdict(self) | {name: getattr(self, name) for name in sums}


_PARALLEL = ("extract", "reduce", "moments", "publish")


def plan(spec: StudySpec, home: Home | None = None, dataset: Dataset | Sequence[Dataset] | None = None) -> Plan:
    """Say what a study will take, before any of its work is done.

    Parameters
    ----------
    spec : StudySpec
        The study.
    home : Home, optional
        Where it would be kept: features that are cached there, and trials that are told, count as done.
    dataset : Dataset or sequence of Dataset, optional
        In place of what the study names, as for `run_study`.

    Returns
    -------
    Plan

    Raises
    ------
    SpecError, DataError, FeatureError
        For bad input.

    Notes
    -----
    Pictures are not compared, so that parts of the rows may come out a little smaller. What is cached is looked for
    where the network was looked at before in this home; what is told is that of the last study of this name.
    """
    spec = with_networks(spec)
    with TemporaryDirectory() as scratch:
        opened = _opened(spec, home, Path(scratch)) if dataset is None else handed_members(dataset)
        looked = _Looked(spec, opened, home, Path(scratch))
        return looked.plan()


def require_fits(spec: StudySpec, opened: Mapping[str, Opened], home: Home) -> None:
    """Refuse a study whose responses, moments or predictions do not fit the memory, or its results the disk.

    Parameters
    ----------
    spec : StudySpec
        The study.
    opened : mapping of str to Opened
        Its data.
    home : Home
        Where it will be kept.

    Raises
    ------
    ResourceError
        Saying what does not fit, and what to change.
    """
    networks = [_unseen(item) for item in spec.backbones]
    with suppress(SpecError, DataError):  # what is wrong with the rows, those say who divide them
        _require_fits(spec, home, needs.Needs(_members(spec, opened), networks, _trials(spec, opened, 0)))


def _require_fits(spec: StudySpec, home: Home, found: needs.Needs) -> None:
    for problem in _problems(found, memory_limit(), _free(home)):
        raise ResourceError(f"The study {spec.name!r} does not fit. {problem}")


def _opened(spec: StudySpec, home: Home | None, scratch: Path) -> Mapping[str, Opened]:
    """Open the data of a study; sample data that are not there yet are written to a folder that goes again."""
    missing = home is None or any(item.sample for item in spec.data)
    return open_members(spec, Home(scratch / "home") if missing or home is None else home)


class _Looked:
    """A study that was looked at.

    Parameters
    ----------
    spec, opened, home
        As for `plan`.
    scratch : Path
        A folder that goes again.
    """

    def __init__(self, spec: StudySpec, opened: Mapping[str, Opened], home: Home | None, scratch: Path) -> None:
        self._spec, self._opened, self._home = spec, opened, home
        self._store = Store(scratch / "cache")
        self._splits = {name: item.dataset.nearly_split(spec.split) for name, item in opened.items()}
        self._told = _n_told(spec, home)
        self._members = _members(spec, opened)
        self._banks = [self._bank(item, self._store) for item in spec.backbones]
        networks = [self._features(item, bank) for item, bank in zip(spec.backbones, self._banks, strict=True)]
        budget = Budget(spec.scratch_gb).memory(find_device(spec.device))
        trials = _trials(spec, opened, self._told, self._banks)
        is_done = bool(self._told) and not trials.n_left
        self.needs = needs.Needs(self._members, networks, trials, spec.scratch_gb * 1e9, budget, is_done)

    @property
    def _first(self) -> tuple[Dataset, Split]:
        name, item = next(iter(self._opened.items()))
        return item.dataset, self._splits[name]

    def plan(self) -> Plan:
        """Put together what each stage takes."""
        memory, disk, scratch = self.needs.memory(), self.needs.disk(), self.needs.scratch()
        limit, free = memory_limit(), _free(self._home)
        seconds = self._seconds_of_networks()
        work, passes = self._work(seconds), self._passes()
        stages = tuple(
            Stage(
                name, passes.get(name, 0.0), self._read_bytes(name, passes), disk.get(name, 0.0),
                scratch.get(name, 0.0), memory[name], work[name],
            )
            for name in STAGES
        )  # fmt: skip
        shown = {
            item.name: (self._n_shown * self.needs.n_passes(item), seconds[place])
            for place, item in enumerate(self.needs.networks)
        }
        trials = self.needs.trials
        problems = tuple(_problems(self.needs, limit, free))
        return Plan(stages, shown, trials.n, trials.n - trials.n_left, n_cores(), limit, free, problems)

    @property
    def _n_shown(self) -> int:
        """Count the pictures of all members, each once."""
        return len({path for item in self._opened.values() for path in item.dataset.images})

    def _passes(self) -> dict[str, float]:
        """Count passes over the pictures, and over the responses."""
        trials, needed = self.needs.trials, self.needs
        n_left = 0.0 if needed.published else 1.0
        n_rivals = max((item.n_controls for item in needed.networks), default=0)
        extracted = float(sum(map(needed.n_passes, needed.networks)))
        return {
            "open": 3.0,
            "extract": extracted,
            "moments": trials.n_spaces_met,
            "search": float(trials.by_rows or trials.keep_rows),
            "publish": n_left * (2.0 + 2.0 * n_rivals),
        }

    def _read_bytes(self, stage: str, passes: Mapping[str, float]) -> float:
        dataset, _ = self._first
        if stage == "extract":
            return passes[stage] * self._n_shown * _picture_bytes(dataset)
        responses = sum(item.n_images * item.n_voxels * item.item_bytes for item in self._members)
        pictures = self._n_shown * _picture_bytes(dataset) if stage == "open" else 0.0
        return passes.get(stage, 0.0) * responses + pictures

    def _work(self, seconds: Sequence[float]) -> dict[str, float]:
        """Return the seconds of a core that each stage takes."""
        trials, speed, passes = self.needs.trials, speeds(), self._passes()
        dataset, split = self._first
        row_s, picture_s = _row_s(dataset, split), _picture_s(dataset)
        n_rows = sum(item.n_development for item in self._members)
        shown = [
            self._n_shown * self.needs.n_passes(item) * seconds[place] for place, item in enumerate(self.needs.networks)
        ]
        blocks = [(width, item) for item in self.needs.networks for width in item.widths]
        reduced = sum(self._reduction_s(width, item) for width, item in blocks)
        sums = sum(needs.moments_work(item.n_development, trials.largest, item.n_voxels) for item in self._members)
        trial_s = self._trial_s() if trials.n_left else 0.0
        moments_s = row_s * n_rows + sums / speed.flops32
        digested = sum(item.n_images * item.n_voxels * item.item_bytes for item in self._members)
        alike_s = picture_s * self._n_shown if _are_alike(dataset) else 0.0
        return {
            "open": _START_S + passes["open"] * row_s * n_rows + digested / speed.digest + alike_s,
            "extract": sum(shown),
            "reduce": reduced,
            "moments": trials.n_spaces_met * moments_s,
            "search": trials.n_left * trial_s,
            "track": trials.n_left * _TRIAL_S * len(self._members) + self.needs.disk()["track"] / speed.digest,
            "publish": 0.0 if self.needs.published else self._publish_s(seconds, moments_s, picture_s, trial_s),
        }

    def _reduction_s(self, width: int, item: needs.FeatureSizes) -> float:
        trials, speed, n = self.needs.trials, speeds(), self.needs.n_images
        leading = max(trials.sizes, default=1)
        exact = n <= 1024 and item.item_bytes > 2
        found = needs.pca_work(n, width, leading) / (speed.flops64 if exact else speed.flops32)
        whole = 2.0 * n**2 * width + 12.0 * n**3 if ALL in item.bases else 0.0
        kept = needs.kept_dimensions(n, width, leading)
        fitted = 2.0 * n * kept * (min(n, kept) + leading) + 10.0 * min(n, kept) ** 3
        return found + (whole + 2 * fitted) / speed.flops64

    def _publish_s(self, seconds: Sequence[float], moments_s: float, picture_s: float, trial_s: float) -> float:
        """Return the seconds of the last stage: passes of axes and controls, fits, resamples, pages."""
        n_controls = max((item.n_controls for item in self.needs.networks), default=0)
        n_layers = max((item.n_blocks for item in self.needs.networks), default=1)
        n_others = n_controls + (n_layers if n_layers > 1 else 0)
        passes = self._n_shown * ((n_controls > 2) + 1) * max(seconds, default=0.0)
        pixels = self._n_shown * picture_s * (n_controls > 1)
        fits = (1 + n_others) * moments_s + 2 * (n_controls - 1) * moments_s + (7 * n_controls + n_layers) * trial_s
        resampled = (1 + n_controls + (n_layers > 1)) * sum(map(partial(_resample_s, self._spec), self._members))
        return _PUBLISH_S * len(self._members) + passes + pixels + fits + resampled

    def _trial_s(self) -> float:
        """Time a small fit of each regressor, with its scores, and return the mean of what a trial takes."""
        each = [_fit_s(self._spec, item.name, self.needs.trials, self._members[0]) for item in self._spec.regressors]
        share = sum(item.n_voxels for item in self._members) / self._members[0].n_voxels
        return share * sum(each) / len(each)

    def _seconds_of_networks(self) -> list[float]:
        """Time some pictures of each network that has a pass to make; of more than there is time for, guess."""
        found: list[float] = []
        for item in self._spec.backbones:
            known = [value for value in found if value]
            if item.name == GIVEN:
                found.append(0.0)
            elif sum(known) and sum(known) * _SOME * 4 > _NETWORKS_S:
                found.append(sum(known) / len(known))
            else:
                found.append(_image_s(item, self._spec, self._first[0], self._banks[len(found)]))
        return found

    def _bank(self, item: BackboneSpec, store: Store, digests: Sequence[str] = ()) -> Features:
        """Return the features of a network, of which no weights are read."""
        dataset, split = self._first
        rows, leading = split.development, max(self._spec.sizes, default=1)
        bases = _bases(self._spec, len(rows))
        if item.name == GIVEN:
            return GivenFeatures(item, dataset.features, store, rows, leading, bases)
        pooled = item.model_copy(update={"pooling": item.pooling or self._spec.pooling})
        return NetworkFeatures(
            pooled, dataset.images, digests, store, rows, leading, device=self._spec.device,
            precision=self._spec.precision, presentation=dataset.presentation, bases=bases,
        )  # fmt: skip

    def _features(self, item: BackboneSpec, bank: Features) -> needs.FeatureSizes:
        """Say how wide the blocks of a network are that a pass has still to compute."""
        widths = bank.widths()
        missing = self._missing(item, bank)
        dtype = choose_precision(self._spec.precision, len(self._first[0].images), find_device(self._spec.device))
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
            return self._bank(item, self._home.store, self._first[0].image_digests).lacking()
        return self._bank_at_home(item).lacking()

    def _bank_at_home(self, item: BackboneSpec) -> Features:
        assert self._home is not None, "there is a cache where there is a home"
        return self._bank(item, self._home.store)


def _members(spec: StudySpec, opened: Mapping[str, Opened]) -> list[needs.MemberSizes]:
    """Count the rows and voxels of each member."""
    found = []
    for item in (each.dataset for each in opened.values()):
        split = item.nearly_split(spec.split)
        is_known = item.noise_ceiling is not None or item.ncsnr is not None
        found.append(
            needs.MemberSizes(
                len(split.train), len(split.scored), len(split.confirmation), item.n_voxels, len(split.folds),
                0 if is_known else 3, len(item.rois),
            )
        )  # fmt: skip
    return found


def _trials(
    spec: StudySpec, opened: Mapping[str, Opened], n_told: int, banks: Sequence[Features] = ()
) -> needs.TrialSizes:
    """Count trials and spaces, and say how large they are."""
    split = next(iter(opened.values())).dataset.nearly_split(spec.split)
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


def _unseen(item: BackboneSpec) -> needs.FeatureSizes:
    """Say of a network what is known without looking at it."""
    return needs.FeatureSizes(item.name, (), len(item.layers or range(8)), (PCA,), n_controls=_n_controls(item))


def _n_controls(item: BackboneSpec) -> int:
    """Count what a published model has to beat: an untrained network has no twin, given features have no images."""
    return 1 if item.name == GIVEN else 2 if item.weights.startswith("random:") else 3


def _problems(found: needs.Needs, limit: int, free: int) -> Iterator[str]:
    """Say what does not fit, and what to change."""
    memory = found.memory()
    stage = needs.in_words(memory)
    if memory[stage] > limit:
        yield (
            f"The stage {stage!r} takes {memory[stage] / 2**30:.1f} GiB of memory. There are {limit / 2**30:.1f} GiB: "
            f"{_advice(found, stage)}."
        )
    disk = sum(found.disk().values()) + max(found.scratch().values())
    if disk > free:
        yield (
            f"Results and features take {disk / 1e9:.1f} GB of disk. {free / 1e9:.1f} GB are free: choose fewer voxels "
            "('voxels' of the dataset), layers or trials, a smaller 'scratch_gb', or another home."
        )


def _advice(found: needs.Needs, stage: str) -> str:
    if found.trials.keep_rows and stage in ("search", "publish"):
        return "choose regressors that need no rows, such as ridge, or fewer voxels ('voxels' of the dataset)"
    if stage in ("extract", "reduce"):
        return "choose fewer features: 'pooling', other layers, or no \"all\" in 'n_components'"
    return "choose fewer voxels ('voxels' of the dataset) or smaller 'n_components'"


def _free(home: Home | None) -> int:
    folder = Path.cwd() if home is None else home.folder
    return shutil.disk_usage(folder if folder.exists() else Path.cwd()).free


def _picture_bytes(dataset: Dataset) -> float:
    some = dataset.images[:: max(1, len(dataset.images) // _SOME)][:_SOME]
    sizes = [path.stat().st_size for path in some if path.is_file()]
    return sum(sizes) / len(sizes) if sizes else 0.0


def _picture_s(dataset: Dataset) -> float:
    """Time the decoding of some pictures."""
    some = dataset.images[:_SOME]
    if not some:
        return 0.0
    return core_seconds(lambda: [open_pixels(path, dataset.presentation) for path in some]) / len(some)


def _are_alike(dataset: Dataset) -> bool:
    """Tell whether pictures have one size, so that they are compared by their pixels."""
    from img2brain.datasets._images import size_of

    sizes = [size_of(path) for path in dataset.images[:_SOME]]
    return len(sizes) > len(set(sizes))


def _row_s(dataset: Dataset, split: Split) -> float:
    """Time the reading of some responses; of many, where sessions are normalised as wholes, say what it takes."""
    values = dataset.n_voxels * max(1.0, dataset.recorded.n / max(1, dataset.n_images))
    if dataset.n_images * dataset.n_voxels * 4 > _LARGE_BYTES:
        return _VALUE_S * values
    rows = split.train[: max(1, min(256, (1 << 24) // dataset.n_voxels))]
    development = dataset.development(split)
    development.responses(rows)
    return core_seconds(lambda: development.responses(rows), 0.05) / len(rows)


def _parameter_bytes(item: BackboneSpec, bank: Features) -> tuple[int, int]:
    """Return the bytes of a network, and of what it needs for the layers that are asked for."""
    if item.name == GIVEN:
        return 0, 0
    backbone = _fresh(item)
    body = backbone.extractor(_layers(bank)).body
    return _bytes_of(backbone.network.state_dict()), _bytes_of(body.state_dict())


def _bytes_of(tensors: Mapping[str, Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _layers(bank: Features) -> list[str]:
    return list(dict.fromkeys(block.layer for block in bank.widths()))


@lru_cache(maxsize=1)
def _fresh(item: BackboneSpec) -> Backbone:
    """Build a network without its weights."""
    return load_backbone(item.name, "random:0", item.preprocessing)


def _image_s(item: BackboneSpec, spec: StudySpec, dataset: Dataset, bank: Features) -> float:
    """Time some pictures on their way through a fresh network, the first batch aside."""
    device = find_device(spec.device)
    dtype = choose_precision(spec.precision, len(dataset.images), device)
    backbone, blocks = _fresh(item), list(bank.widths())
    extractor = backbone.extractor(_layers(bank))
    kinds = backbone.layer_kinds([block.layer for block in blocks if block.pooling != NO_POOLING])
    network = Pooled(accelerated(extractor, device, dtype), blocks, kinds)
    size = find_batch_size(network.n_widest, dtype, device)
    shown = list(islice(dataset.images, 3 * size))
    passing = activations(
        network, backbone.preprocessing, shown, device, dtype, size, n_together=size,
        presentation=dataset.presentation,
    )  # fmt: skip
    next(passing)
    n_others = len(shown) - min(size, len(shown))
    if not n_others:
        return core_seconds(
            lambda: list(activations(network, backbone.preprocessing, shown, device, dtype, size))
        ) / len(shown)
    return core_seconds(lambda: list(passing)) / n_others


def _fit_s(spec: StudySpec, name: str, trials: needs.TrialSizes, member: needs.MemberSizes) -> float:
    """Return what a fit and its scores take, from those of few voxels: some part follows their number."""
    size = max(1, min(round(trials.mean_size), 1024))
    few, more = (min(n, member.n_voxels) for n in (_SMALL, _MIDDLE))
    try:
        first, second = (core_seconds(_fit(spec, name, size, n, member)) for n in (few, more))
    except (FitError, Img2BrainError, ValueError):  # of numbers drawn by chance
        return 0.0
    each = max(0.0, second - first) / max(1, more - few) or second / more
    return first + each * (member.n_voxels - few)


def _fit(spec: StudySpec, name: str, size: int, n_voxels: int, member: needs.MemberSizes) -> Any:
    """Return a fit to numbers drawn by chance, and its scores."""
    random = np.random.default_rng(0)
    n_rows = min(member.n_train, 4096)
    X, Y = random.standard_normal((n_rows, size)), random.standard_normal((n_rows, n_voxels))
    kind = REGRESSORS[name]
    metrics = [METRICS[metric] for metric in spec.metrics if not isinstance(METRICS[metric], NeedsCeiling)]
    if not hasattr(kind, "fit_folds"):

        def by_rows() -> None:
            predicted = kind().fit(X, Y).predict(X[: member.n_scored])
            for metric in metrics:
                metric.from_rows(Y[: len(predicted)], predicted)

        return by_rows
    moments = Moments.from_rows(X, Y)
    unit = kind().alpha_scale(moments) if hasattr(kind, "alpha_scale") else 1.0
    options = {"alpha": 0.1 * unit} if "alpha" in kind.search else {}
    n_folds = int(getattr(kind(), "n_folds", 1))

    def by_moments() -> None:
        fitted = kind(**options).fit_folds([moments] * n_folds)
        sums = Sums.from_moments(fitted.coef_.T, fitted.intercept_, moments)
        for metric in metrics:
            metric.from_sums(sums) if isinstance(metric, FromSums) else metric.from_rows(Y, fitted.predict(X))

    by_moments()
    return by_moments


def _resample_s(spec: StudySpec, member: needs.MemberSizes) -> float:
    """Time the resamples of few voxels, and return what those of all take."""
    n_images, n_voxels = member.n_confirmation, min(_MIDDLE, member.n_voxels)
    metric = METRICS[spec.metrics[0]]
    if n_images < 2 or isinstance(metric, NeedsCeiling):
        return 0.0
    random = np.random.default_rng(0)
    Y, P = random.standard_normal((2, n_images, n_voxels))
    return core_seconds(lambda: Bootstrap(Y, metric).summaries(P, {})) * member.n_voxels / n_voxels
