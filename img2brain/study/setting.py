"""What a study needs before its first trial: data, rows, features and the space, each checked before work starts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial, reduce
from typing import Any

from img2brain import digest
from img2brain._mapped import Make
from img2brain.amounts import counted
from img2brain.backbones import check_request, pixels
from img2brain.catalog import LAYOUTS, LIBRARIES, METRICS, REGRESSORS, Plugin
from img2brain.confirm import ceiling_of, with_ceiling
from img2brain.datasets._ties import DigestKeeper
from img2brain.datasets.base import Dataset, Development, Split, require_sound
from img2brain.errors import DataError, FeatureError, FitError, SpecError, did_you_mean
from img2brain.evaluate import BankKey
from img2brain.features.extract import cores_allow, find_device
from img2brain.features.features import Features
from img2brain.features.given import GivenFeatures
from img2brain.features.network import UNTRAINED_BY_ITS_ACTIVATIONS, NetworkFeatures
from img2brain.features.pass_ import Budget
from img2brain.features.placement import Placement
from img2brain.features.shards import Hands
from img2brain.features.shared import ShownImages
from img2brain.features.shelf import Shelf
from img2brain.home import Home
from img2brain.metrics.base import Metric, NeedsCeiling
from img2brain.records import (
    PluginRecord,
    StudyRecord,
)
from img2brain.records.code import this_code
from img2brain.refit import n_folds_of
from img2brain.spec import GIVEN, PCA, BackboneSpec, DatasetSpec, FeatureSpace, RegressorSpec, StudySpec
from img2brain.study.extraction import Extraction
from img2brain.study.member import Member
from img2brain.study.networks import that_can_be_had, with_networks
from img2brain.study.opening import handed_members, open_members
from img2brain.study.pictures import keeper_of
from img2brain.study.plan import require_fits
from img2brain.study.shelf import shelf_of
from img2brain.study.space import Candidate, Domains, Space, find_domains, sizes_of

Divided = tuple[Dataset, Split]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """A study made ready.

    Attributes
    ----------
    spec : StudySpec
        What was asked for.
    members : tuple of Member
        The datasets, each with its rows, features and metrics: one, or those that are searched together.
    space : Space
        What is searched, the same on all.
    plugins : tuple of Plugin
        The components that are not ours.
    home : Home
        Where it is kept.
    extraction : Extraction
        Computes their features.
    left_out : mapping of str to str
        Networks that could not be built or fetched, and why.
    """

    spec: StudySpec
    members: tuple[Member, ...]
    space: Space
    plugins: tuple[Plugin, ...]
    home: Home
    extraction: Extraction
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def first(self) -> Member:
        """The first member; the only one, where the study has one dataset."""
        return self.members[0]

    @property
    def description(self) -> dict[str, Any]:
        """All that the search depends on, as plain data: studies of the same description are the same study."""
        banks = self.first.banks.items()
        return self._first_description | {
            "networks": [[*key, bank.precision, bank.facts["network_digest"]] for key, bank in banks],
            "metrics": list(self.spec.metrics),
            "plugins": {plugin.name: plugin.digest for plugin in self.plugins},
        }

    @property
    def _first_description(self) -> dict[str, Any]:
        """What a study of the first format was described by, and named after."""
        return self._data_described | {
            "networks": [[*key, bank.precision] for key, bank in self.first.banks.items()],
            "space": self.space.describe(),
            "sampler": self.spec.sampler,
            "seed": self.spec.seed,
        }

    @property
    def _data_described(self) -> dict[str, Any]:
        first, *others = map(_described, self.members)
        return {"members": {member.name: _described(member) for member in self.members}} if others else first

    @property
    def name(self) -> str:
        """The study's name with the digest of its description: another space is another study, never mixed."""
        return f"{self.spec.name}-{digest.of_value(self.description)[:8]}"

    @property
    def first_name(self) -> str | None:
        """What the first format called this study; None where it could not have been run then."""
        if self.plugins or self.spec.metrics != ("pearson",) or len(self.members) > 1:
            return None
        return f"{self.spec.name}-{digest.of_value(self._first_description)[:8]}"

    @property
    def is_renamed(self) -> bool:
        """Whether a layer that it names was another one when studies of the first format were run."""
        return any(bank.is_renamed for bank in self.first.banks.values())

    def record(self, name: str, member: Member | None = None, home_id: str = "") -> StudyRecord:
        """Return what is known of the study before its first trial, under its full name.

        Parameters
        ----------
        name : str
            The full name.
        member : Member, optional
            Whose record it is, by default that of the first: there is one for each.
        home_id : str
            The home that the study belongs to, by default the one that it is kept in.
        """
        member = member or self.first
        of_all = {item.name: item.record for item in self.members} if member.name else {}
        return StudyRecord(
            name=name,
            home=home_id or self.home.id,
            description=self.description,
            **dict(member.record),
            code=this_code(),
            plugins=self._plugin_records,
            sampler=self.spec.sampler,
            seed=self.spec.seed,
            precision=", ".join(sorted({bank.precision for bank in member.banks.values()})),
            metrics=self.spec.metrics,
            settings=member.settings,
            members=of_all,
            member=member.name,
            left_out=dict(self.left_out),
        )

    @property
    def n_lacking(self) -> int:
        """Count the networks that images have still to pass, once for each member."""
        return sum(bool(bank.lacking()) for member in self.members for bank in member.banks.values())

    @contextmanager
    def extracting(self, in_any_order: bool = False, beside: bool = True, at_once: int = 1) -> Iterator[None]:
        """Have the features that are missing computed: one pass over all images per network.

        Parameters
        ----------
        in_any_order : bool
            Whether to begin with any network, where several workers come at once.
        beside : bool
            Whether the context may be entered before all are there, where cores allow: what needs the features of a
            network then raises `NotYet`. A grid needs those of all.
        at_once : int
            How many networks images pass at once, where they do so elsewhere and all have to be there first.
        """
        allowed = cores_allow(find_device(self.spec.device)) and self.spec.sampler != "grid"
        if beside and allowed and len(self.first.banks) > 1:
            with self.extraction.beside(in_any_order):
                yield
        else:
            self.extraction.now(in_any_order, at_once)
            yield

    def keep_plugins(self) -> None:
        """Keep the files of the components that are not ours, so that a model of this home finds them again."""
        for plugin in self.plugins:
            plugin.keep(self.home.plugins)

    @property
    def _plugin_records(self) -> tuple[PluginRecord, ...]:
        return tuple(PluginRecord(kind=item.kind, name=item.name, digest=item.digest) for item in self.plugins)


def _described(member: Member) -> dict[str, Any]:
    """Return what tells the data of a member; of several, in what precision their networks compute, too."""
    found: dict[str, Any] = {"dataset": member.dataset.digest, "split": member.split.digest}
    precisions = {bank.precision for bank in member.banks.values()}
    return found | ({"precision": sorted(precisions)} if member.name else {})


def make_ready(
    spec: StudySpec, home: Home, dataset: Dataset | Sequence[Dataset] | None = None, hands: Hands | None = None
) -> Setting:
    """Check everything that a study names, and open its data.

    Parameters
    ----------
    spec : StudySpec
        The study.
    home : Home
        Where it is kept.
    dataset : Dataset or sequence of Dataset, optional
        In place of what the study names; several are its members.
    hands : Hands, optional
        Where images pass the networks; by default here.

    Raises
    ------
    SpecError
        For a name, layer or size that is not there.
    DataError
        If a dataset is not as its layout says, or a response is not finite.
    WeightsError
        If the weights are not there.
    ResourceError
        If the study does not fit the memory or the disk.
    """
    spec, unfit = that_can_be_had(with_networks(spec), _check)
    domains = find_domains(spec)
    device = str(find_device(spec.device))
    opened = open_members(spec, home) if dataset is None else handed_members(dataset)
    require_fits(spec, opened, home)
    split = {}
    for name, item in opened.items():
        with _naming(name):
            split[name] = _divided(spec, item.dataset, keeper_of(home.store))
    _require_one_ranking(split)
    spec = reduce(_sized, split.values(), spec)
    for part in split.values():
        _require_sets(spec, part)
    spec = _with_shared_layers(spec, [item.dataset for item in opened.values()])
    rows = {name: (item.dataset, split[name]) for name, item in opened.items()}
    makers = {name: _maker(name, spec, rows, home, hands) for name in rows}
    first, make = dict[BackboneSpec, Features](), next(iter(makers.values()))
    # A look at a network takes seconds: the first member keeps what was seen.
    spec, failed = that_can_be_had(spec, lambda item: first.setdefault(item, make(item)).facts)
    members = tuple(
        _member(name, item.taken, spec, rows[name], device, makers[name], {} if place else first, home.store.array)
        for place, (name, item) in enumerate(opened.items())
    )
    extraction = Extraction(list(zip(*(member.banks.values() for member in members), strict=True)))
    space = _space(spec, domains, members, extraction)
    return Setting(spec, members, space, find_plugins(spec), home, extraction, unfit | failed)


def _check(item: BackboneSpec) -> None:
    if item.name != GIVEN:
        check_request(item.name, item.weights, item.single_layers, item.preprocessing)


@contextmanager
def _naming(member: str) -> Iterator[None]:
    """Say which of several members it is whose rows cannot be divided."""
    try:
        yield
    except (SpecError, DataError) as error:
        if not member or type(error) not in (SpecError, DataError):
            raise
        raise type(error)(f"{str(error).rstrip('.')} (member {member!r}).") from error


def _divided(spec: StudySpec, dataset: Dataset, keeper: DigestKeeper) -> Split:
    """Check a dataset, split its rows and say so."""
    require_sound(dataset)
    dataset.learn_ties(keeper)
    split = dataset.split(spec.split)
    _tell_ties(split, dataset.n_images)
    size = f"{counted(dataset.n_images, 'image')}, {counted(dataset.n_voxels, 'voxel')}"
    log.info("%s: %s; %s", dataset.name, size, _rows_text(split))
    for item in spec.backbones:
        _require_input(item, dataset)
    return split


def _require_one_ranking(split: Mapping[str, Split]) -> None:
    """Refuse members that rank by parts of different names: a mean over them would be of no one thing."""
    ranking = {name: next(iter(part.parts)) for name, part in split.items()}
    if len({*ranking.values()}) > 1:
        told = ", ".join(f"{part!r} of {name!r}" for name, part in ranking.items())
        raise SpecError(
            "The members of a study must rank by one confirmation part, the first of 'parts' of 'split'. "
            f"They would rank by {told}."
        )


def _maker(
    name: str, spec: StudySpec, rows: Mapping[str, Divided], home: Home, hands: Hands | None
) -> Callable[[BackboneSpec], Features]:
    """Return what makes features of a member; images that others share are not shown to a network twice."""
    dataset, split = rows[name]
    others = [found for other, found in rows.items() if other != name]
    shelf = shelf_of(home)
    return partial(
        make_bank, dataset=dataset, split=split, home=home, spec=spec, others=others, hands=hands, shelf=shelf
    )


def _member(
    name: str,
    taken: DatasetSpec | None,
    spec: StudySpec,
    rows: Divided,
    device: str,
    make: Callable[[BackboneSpec], Features],
    made: Mapping[BackboneSpec, Features],
    hold: Make,
) -> Member:
    """Make features and metrics of a dataset ready; features that are made already are taken.

    Single repeats, where a metric needs them, are held in an array that `hold` makes.
    """
    dataset, split = rows
    banks = {item: made.get(item) or make(item) for item in spec.backbones}
    for bank in banks.values():
        _tell_of_weights(bank)
    by_key: dict[BankKey, Features] = {}
    for item, bank in banks.items():
        key = item.name, bank.facts["weights_digest"], item.preprocessing
        _require_other(by_key.setdefault(key, bank).spec, item)
    metrics = find_metrics(spec, dataset.development(split), split, hold)
    return Member(name, spec, taken, dataset, split, by_key, metrics, make, device)


def _require_other(first: BackboneSpec, item: BackboneSpec) -> None:
    """Refuse one network twice, its weights under two names."""
    if first.weights != item.weights:
        raise SpecError(
            f"The weights of each of the 'backbones' {item.name!r} must be others. Those of {item.weights!r} are those "
            f"of {first.weights!r}."
        )


def _space(spec: StudySpec, domains: Domains, members: Sequence[Member], extraction: Extraction) -> Space:
    """Return the space that all members have: no more components of a layer than each spans."""
    candidates = {}
    for place, item in enumerate(spec.backbones):
        banks = [(list(member.banks.values())[place], member.split) for member in members]
        candidates[item] = _candidate(banks, max(spec.sizes, default=1), partial(extraction.require, place))
    return Space(spec, domains, candidates, max(len(member.split.development) for member in members))


def _with_shared_layers(spec: StudySpec, opened: Sequence[Dataset]) -> StudySpec:
    """Let features that came with several datasets be those that all of them bring, where the study names none."""
    if len(opened) == 1:
        return spec
    shared = set.intersection(*(set(dataset.features) for dataset in opened))
    asking = [item for item in spec.backbones if item.name == GIVEN and item.layers is None]
    if asking and not shared:
        raise DataError(
            "The members must bring features of the same names, or the study name a network. None is shared."
        )
    layers = {item: tuple(sorted(shared)) if item in asking else item.layers for item in spec.backbones}
    named = tuple(item.model_copy(update={"layers": layers[item]}) for item in spec.backbones)
    return spec.model_copy(update={"backbones": named})


def make_bank(
    item: BackboneSpec,
    dataset: Dataset,
    split: Split,
    home: Home,
    spec: StudySpec,
    others: Sequence[Divided] = (),
    hands: Hands | None = None,
    shelf: Shelf | None = None,
) -> Features:
    """Return the features of a network for the images of a dataset, or those that came with the data.

    Parameters
    ----------
    item : BackboneSpec
        The network.
    dataset, split : Dataset, Split
        Whose images, and which of them are fitted to.
    home : Home
        Keeps them.
    spec : StudySpec
        Says how they are computed.
    others : sequence of (Dataset, Split)
        Datasets that are searched together with this one.
    hands : Hands, optional
        Where images pass the network.
    shelf : Shelf, optional
        Where machines with caches of their own leave features for one another.
    """
    rows, n_components = split.development, max(spec.sizes, default=1)
    n_rows = max(len(part.development) for _, part in [(dataset, split), *others])
    sizes = [size for reduction in spec.reduction for size in sizes_of(spec, reduction, n_rows)]
    bases = tuple(dict.fromkeys(size.basis for size in sizes))
    if item.name == GIVEN:
        return GivenFeatures(item, dataset.features, home.store, rows, n_components, bases, dataset.require_unchanged)
    pooled = item.model_copy(update={"pooling": item.pooling or spec.pooling})
    return NetworkFeatures(
        pooled, dataset.images, dataset.image_digests, home.store, rows, n_components,
        device=spec.device, precision=spec.precision, budget=Budget(spec.scratch_gb),
        presentation=dataset.presentation, others=[_shown(*other) for other in others],
        bases=bases, placement=_placement(item, spec), hands=hands, shelf=shelf,
        require_unchanged=partial(_require_unchanged, [dataset, *(other for other, _ in others)]),
    )  # fmt: skip


def _placement(item: BackboneSpec, spec: StudySpec) -> Placement | None:
    """Return how pictures are placed before a network; the control of plain pixels sees them as they are."""
    if spec.stimulus is None or item.name == pixels.NAME:
        return None
    return Placement(spec.stimulus.degrees, item.degrees, spec.stimulus.colour)


def _require_unchanged(shown: Sequence[Dataset]) -> None:
    for dataset in shown:
        dataset.require_unchanged()


def _shown(dataset: Dataset, split: Split) -> ShownImages:
    return ShownImages(dataset.images, dataset.image_digests, split.development, dataset.presentation)


def find_metrics(spec: StudySpec, development: Development, split: Split, hold: Make) -> dict[str, Metric]:
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
    ceiling = ceiling_of(development, lambda: development.counts(rows), lambda: development.repeats(rows, hold))
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
    asked += [(LAYOUTS, item.layout) for item in spec.data if item.layout]
    asked += [(LIBRARIES, item.name.rpartition(":")[0]) for item in spec.backbones if ":" in item.name]
    found = {(catalog.kind, name): catalog.plugin(name) for catalog, name in asked}
    return tuple(plugin for plugin in found.values() if plugin is not None)


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
    for name in item.single_layers:
        if name not in dataset.features:
            raise SpecError(f"{dataset.name!r} brings no features {name!r}. {did_you_mean(name, dataset.features)}")
    if not dataset.features:
        raise DataError(f"{dataset.name!r} brings no features of its own: trainingFeatures/ is empty or absent.")


def _candidate(banks: Sequence[tuple[Features, Split]], n_components: int, require: Callable[[], None]) -> Candidate:
    first, _ = banks[0]

    @cache
    def spans(space: FeatureSpace) -> int:
        require()
        return min(_spanned(bank, split, n_components, space) for bank, split in banks)

    return Candidate(
        first.facts["label"], first.facts["weights_digest"], first.layers, spans, first.poolings, first.placement
    )


def _spanned(bank: Features, split: Split, n_components: int, space: FeatureSpace) -> int:
    """Count the components of a space over the training rows, and say where these are fewer than asked for."""
    try:
        n_found = min(len(bank.components(space, fold.train, n_components).variances) for fold in split.folds)
    except (FitError, FeatureError):  # its trials fail with this reason, such as a layer that does not vary
        return n_components
    if space.basis == PCA and n_found < n_components:
        log.warning(
            "%s %s spans %s over the training rows: n_components of more are taken as %d there",
            bank.spec.name, space, counted(n_found, "component"), n_found,
        )  # fmt: skip
    return n_found


def _sized(spec: StudySpec, split: Split) -> StudySpec:
    """Refuse more components than rows; lower a size that ties alone put out of reach, which no file can foresee."""
    if PCA not in spec.reduction or not spec.sizes:
        return spec
    largest, n_rows = max(spec.sizes), min(len(fold.train) for fold in split.folds)
    if largest >= n_rows:
        raise SpecError(f"'n_components' must be below the number of training rows, {n_rows}. Got {largest}.")
    most = min(split.n_different(fold.train) for fold in split.folds) - 1
    if largest <= most:
        return spec
    log.warning("n_components of more than %d are taken as %d: %d training rows differ", most, most, most + 1)
    lowered = (min(n, most) if isinstance(n, int) else n for n in spec.n_components)
    return spec.model_copy(update={"n_components": tuple(dict.fromkeys(lowered))})


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


def _tell_ties(split: Split, n_images: int) -> None:
    """Say which rows were kept together, and which were left out for that."""
    if split.ties is not None:
        log.info("tied %s: each set stays on one side", split.ties)
    if n_unused := n_images - len(split.development) - len(split.confirmation) - sum(map(len, split.left_out.values())):
        log.info("left %s out that the split gives no part", counted(n_unused, "row"))
    for part, rows in split.left_out.items():
        seen = "trained on" if part == "validation" else "trained on or validate"
        left = counted(len(rows), f"{part} row out: it is", f"{part} rows out: they are")
        log.warning("left %s tied to rows that are %s", left, seen)


def _rows_text(split: Split) -> str:
    parts = {"training": split.train, "validation": split.validation}
    if split.held_out:
        parts = {f"development (in {len(split.held_out)} folds)": split.train}
    return ", ".join(f"{len(rows)} {name}" for name, rows in {**parts, **split.parts}.items()) + " rows"
