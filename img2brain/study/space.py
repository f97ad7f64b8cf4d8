"""The search space of a study, between its spec and Optuna's distributions.

A layer is searched as a relative depth from 0 to 1, so that networks of any number of layers share one joint space,
and a number of components as its rank among the sizes. Alpha is asked for only where the regressor has one, relative
to the spectrum of the components where the study file gives no absolute range. So is the pooling, where a layer has a
choice, under a name that tells what there is to choose from.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from img2brain.catalog import REGRESSORS
from img2brain.errors import SpecError, did_you_mean
from img2brain.features.bases import n_components_of
from img2brain.regressors.base import Hyperparameter
from img2brain.spec import (
    ALL,
    AUTO,
    NO_POOLING,
    PCA,
    SRP,
    BackboneSpec,
    Domain,
    FeatureSpace,
    Interval,
    Number,
    RegressorSpec,
    StudySpec,
    TrialSpec,
    Value,
)

Parameters = Mapping[str, Any]

GRID_POINTS = 5
_EDGE = 0.02  # of a range, in the scale that it is searched in


class Asker(Protocol):
    """The part of an Optuna trial that a space needs."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Ask for a number."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Ask for a whole number."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Ask for one of several values."""


class _Replay:
    """Answers as was answered before, and notes what was asked."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self.asked: dict[str, Any] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(self._answer(name, "float", {"low": low, "high": high, "log": log}))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(self._answer(name, "int", {"low": low, "high": high, "log": log}))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._answer(name, "categorical", {"choices": choices})

    def _answer(self, name: str, kind: str, domain: dict[str, Any]) -> Any:
        self.asked[name] = (kind, domain)
        return self._parameters[name]


@dataclass(frozen=True)
class Range(Hyperparameter):
    """An interval of one hyperparameter, a relative one in units of the scale at the layer and size at hand."""

    def ask(self, trial: Asker, name: str) -> Number:
        """Ask for a value."""
        if self.integer:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def within(self, value: Number, n_components: int) -> Number:
        """Return the value, or the number of components where that is less and counts."""
        return min(value, n_components) if self.within_features else value

    def points(self) -> list[Number]:
        """Return the values that a grid tries."""
        space = np.geomspace if self.log else np.linspace
        values = space(self.low, self.high, GRID_POINTS)
        return sorted({round(value) for value in values}) if self.integer else [float(value) for value in values]

    def edge(self, value: Number) -> str:
        """Say which end of the range a value lies at, if any."""
        low, high, place = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        share = (place - low) / (high - low)
        return "lower" if share <= _EDGE else "upper" if share >= 1 - _EDGE else ""


@dataclass(frozen=True)
class Choice:
    """Several values of one hyperparameter; a single one is fixed and never asked for."""

    values: tuple[Any, ...]
    relative: bool = False

    def ask(self, trial: Asker, name: str) -> Any:
        """Ask for a value."""
        return self.values[0] if len(self.values) == 1 else trial.suggest_categorical(name, list(self.values))

    def within(self, value: Any, n_components: int) -> Any:
        """Return the value: what is listed is meant."""
        return value

    def points(self) -> list[Any]:
        """Return the values that a grid tries."""
        return list(self.values)

    def edge(self, value: Any) -> str:
        """Say which end of the listed numbers a value is, if any."""
        numbers = sorted(item for item in self.values if isinstance(item, int | float))
        if len(numbers) < 3:
            return ""
        return "lower" if value == numbers[0] else "upper" if value == numbers[-1] else ""


@dataclass(frozen=True)
class Size:
    """A number of components, and the basis that they are in; all there are have no number."""

    basis: str
    n_components: int


def sizes_of(spec: StudySpec, reduction: str, n_rows: int) -> tuple[Size, ...]:
    """Return the sizes that a reduction is searched in, the smallest first.

    Parameters
    ----------
    spec : StudySpec
        The study.
    reduction : {"pca", "srp"}
        One of its reductions.
    n_rows : int
        Rows that the Johnson-Lindenstrauss size follows.
    """
    if reduction == PCA:
        every = (Size(ALL, sys.maxsize),) if ALL in spec.n_components else ()
        return (*(Size(PCA, size) for size in spec.sizes), *every)
    sizes = {*spec.sizes, *((n_components_of(n_rows),) if AUTO in spec.n_components else ())}
    return tuple(Size(f"{SRP}:{size}", size) for size in sorted(sizes))


Domains = Mapping[str, Mapping[str, Range | Choice]]


@dataclass(frozen=True)
class Candidate:
    """A backbone as trials name it.

    Attributes
    ----------
    weights, weights_digest : str
        Their name, free of any machine's folders, and the digest that tells them from others of that name.
    layers : tuple of str
        Shallow to deep.
    spans : callable
        Tells how many components a space has, at most: a larger size is taken as this one.
    poolings : callable
        Tells how a layer may be pooled.
    placement : str
        How pictures are placed before the network.
    """

    weights: str
    weights_digest: str
    layers: tuple[str, ...]
    spans: Callable[[FeatureSpace], int] = lambda _: sys.maxsize
    poolings: Callable[[str], tuple[str, ...]] = lambda _: (NO_POOLING,)
    placement: str = ""

    def layer_at(self, depth: float) -> str:
        """Return the layer at a relative depth."""
        return self.layers[min(int(depth * len(self.layers)), len(self.layers) - 1)]


@dataclass(frozen=True)
class Suggestion:
    """A trial as the search asks for it: its spec, in which some hyperparameters are still relative."""

    spec: TrialSpec
    relative: frozenset[str]

    @property
    def digest(self) -> str:
        """Names the point: equal suggestions are the same trial."""
        return self.spec.digest


class Space:
    """The search space of a study.

    Parameters
    ----------
    spec : StudySpec
        The study.
    domains : mapping of str to mapping of str to Range or Choice
        Where each hyperparameter of each regressor is searched; see `find_domains`.
    networks : mapping of BackboneSpec to Candidate
        The backbones.
    n_rows : int
        Rows that a published model is fitted to, which the Johnson-Lindenstrauss size follows.
    """

    def __init__(
        self, spec: StudySpec, domains: Domains, networks: Mapping[BackboneSpec, Candidate], n_rows: int = 1
    ) -> None:
        self._backbones = {_label(item, spec.backbones): item for item in spec.backbones}
        self._networks = {label: networks[item] for label, item in self._backbones.items()}
        self._sizes: dict[str, tuple[Size, ...]] = {name: sizes_of(spec, name, n_rows) for name in spec.reduction}
        self._listed = spec.n_components
        self._domains = domains

    def ask(self, trial: Asker) -> Suggestion:
        """Ask for the next point."""
        label = Choice(tuple(self._backbones)).ask(trial, "backbone")
        depth = trial.suggest_float("depth", 0.0, 1.0) if self._has_depth else 0.0
        network = self._networks[label]
        layer = network.layer_at(depth)
        poolings = network.poolings(layer)
        pooling = Choice(poolings).ask(trial, _choice_of(poolings))
        reduction = Choice(tuple(self._sizes)).ask(trial, "reduction")
        size = self._sizes[reduction][_rank(trial, self._size_of(reduction), len(self._sizes[reduction]))]
        space = FeatureSpace(layer, pooling, size.basis)
        n_components = min(size.n_components, network.spans(space))
        regressor = Choice(tuple(self._domains)).ask(trial, "regressor")
        domains = self._domains[regressor]
        asked = {name: domain.ask(trial, f"{regressor}.{name}") for name, domain in domains.items()}
        values = {name: domains[name].within(value, n_components) for name, value in asked.items()}
        return self._request(label, space, n_components, regressor, values)

    def replay(self, parameters: Parameters) -> tuple[Suggestion, dict[str, Any]]:
        """Return the point that these parameters were asked for, and how each of them was asked for.

        Returns
        -------
        suggestion : Suggestion
        asked : dict of str to (str, dict)
            By name: ``"float"``, ``"int"`` or ``"categorical"``, and the domain, in the order of asking.
        """
        asker = _Replay(parameters)
        return self.ask(asker), asker.asked

    def grid(self) -> Iterator[Parameters]:
        """Yield every cell of the grid, as the parameters that `ask` asks for."""
        for label, network in self._networks.items():
            for (place, n_components), (regressor, domains) in itertools.product(
                self._sizes_of(network), self._domains.items()
            ):
                shared = {"backbone": label, **place}
                for values in itertools.product(*(_points(domain, n_components) for domain in domains.values())):
                    own = {f"{regressor}.{name}": value for name, value in zip(domains, values, strict=True)}
                    yield {**shared, "regressor": regressor, **own}

    def edges(self, parameters: Parameters) -> list[str]:
        """Say which parameters of a trial lie at the edge of their range."""
        regressor = parameters.get("regressor", next(iter(self._domains)))
        asked = {f"{regressor}.{name}": domain for name, domain in self._domains[regressor].items()}
        found = {name: domain.edge(parameters[name]) for name, domain in asked.items() if name in parameters}
        reduction = parameters.get("reduction", next(iter(self._sizes)))
        if self._size_of(reduction) in parameters:
            found["n_components"] = self._edge_of_sizes(reduction, parameters[self._size_of(reduction)])
        return [f"{name} lies at the {side} edge of its range" for name, side in found.items() if side]

    def describe(self) -> dict[str, Any]:
        """Return the space as plain data, for its digest."""
        return {
            "layers": {label: list(network.layers) for label, network in self._networks.items()},
            **self._described_poolings,
            **self._described_placements,
            **({"reduction": list(self._sizes)} if tuple(self._sizes) != (PCA,) else {}),
            "n_components": list(self._listed),
            "regressors": {
                regressor: {name: _described(domain) for name, domain in domains.items()}
                for regressor, domains in self._domains.items()
            },
        }

    @property
    def _described_placements(self) -> dict[str, Any]:
        found = {label: network.placement for label, network in self._networks.items() if network.placement}
        return {"placement": found} if found else {}

    @property
    def _described_poolings(self) -> dict[str, Any]:
        """Return the poolings of the layers, where there are any: a space without has the digest from before them."""
        found = {
            label: {layer: list(network.poolings(layer)) for layer in network.layers}
            for label, network in self._networks.items()
        }
        are_there = any(item != [NO_POOLING] for poolings in found.values() for item in poolings.values())
        return {"pooling": found} if are_there else {}

    def _edge_of_sizes(self, reduction: str, rank: int) -> str:
        """Say which end of the numbers of components one is, if any; nothing is beyond all of them."""
        sizes = self._sizes[reduction]
        found = Choice(tuple(range(len(sizes)))).edge(rank)
        return "" if found == "upper" and sizes[-1].basis == ALL else found

    def _size_of(self, reduction: str) -> str:
        """Name the choice of a size: one name where all reductions have the same sizes to choose from."""
        lists = {tuple(size.n_components for size in sizes) for sizes in self._sizes.values()}
        return "size" if len(lists) == 1 else f"size of {reduction}"

    def _sizes_of(self, network: Candidate) -> Iterator[tuple[Parameters, int]]:
        """Yield, for each layer as it is pooled and reduced, the numbers of components that differ there.

        All but the number is given as the parameters that `ask` asks for.
        """
        for index, layer in enumerate(network.layers):
            poolings = network.poolings(layer)
            for pooling, (reduction, sizes) in itertools.product(poolings, self._sizes.items()):
                place = {"depth": (index + 0.5) / len(network.layers), _choice_of(poolings): pooling}
                ranks: dict[tuple[str, int], int] = {}
                for rank, size in enumerate(sizes):
                    spans = network.spans(FeatureSpace(layer, pooling, size.basis))
                    ranks.setdefault((size.basis, min(size.n_components, spans)), rank)
                for (_, n_components), rank in ranks.items():
                    yield {**place, "reduction": reduction, self._size_of(reduction): rank}, n_components

    @property
    def _has_depth(self) -> bool:
        return max(len(network.layers) for network in self._networks.values()) > 1

    def _request(
        self, label: str, space: FeatureSpace, n_components: int, regressor: str, values: Mapping[str, Value]
    ) -> Suggestion:
        backbone, network = self._backbones[label], self._networks[label]
        spec = TrialSpec(
            backbone=backbone.name,
            weights=network.weights,
            weights_digest=network.weights_digest,
            preprocessing=backbone.preprocessing,
            layer=space.layer,
            n_components=n_components,
            regressor=regressor,
            parameters=dict(values),
            pooling=space.pooling,
            reduction=space.reduction,
            placement=network.placement,
        )
        relative = {name for name, domain in self._domains[regressor].items() if domain.relative}
        return Suggestion(spec, frozenset(relative))


def _points(domain: Range | Choice, n_components: int) -> list[Any]:
    """Return the values that a grid tries with so many components, each once."""
    return list(dict.fromkeys(domain.within(value, n_components) for value in domain.points()))


def _described(domain: Range | Choice) -> dict[str, Any]:
    """Return a domain as plain data; spaces without `within_features` keep the digest from before there was one."""
    return {name: value for name, value in asdict(domain).items() if name != "within_features" or value}


def _choice_of(poolings: tuple[str, ...]) -> str:
    """Name the choice of a pooling: what is asked for under one name must always be a choice of the same."""
    return f"pooling of {', '.join(poolings)}"


def _rank(trial: Asker, name: str, n_sizes: int) -> int:
    """Ask for a size by its rank: sizes have an order that a sampler can learn from."""
    return trial.suggest_int(name, 0, n_sizes - 1) if n_sizes > 1 else 0


def _label(item: BackboneSpec, others: tuple[BackboneSpec, ...]) -> str:
    """Name a backbone, by no more than tells it from the others."""
    fields = ("name", "weights", "preprocessing")
    for n_fields in range(1, len(fields) + 1):
        labels = [" ".join(str(getattr(other, name)) for name in fields[:n_fields]) for other in others]
        label = " ".join(str(getattr(item, name)) for name in fields[:n_fields])
        if labels.count(label) == 1:
            break
    return label


def find_domains(spec: StudySpec) -> Domains:
    """Find where each hyperparameter is searched: as the study says, or by the regressor's default.

    Raises
    ------
    SpecError
        If a regressor has no hyperparameter of a name that the study gives, or a value is not allowed.
    """
    return {item.name: _domains(item) for item in spec.regressors}


def _domains(spec: RegressorSpec) -> dict[str, Range | Choice]:
    component = REGRESSORS[spec.name]
    known = _parameters_of(spec.name)
    domains: dict[str, Range | Choice] = {name: _default(item) for name, item in component.search.items()}
    for name, domain in spec.search.items():
        if name not in known:
            raise SpecError(f"Unknown hyperparameter {name!r} of {spec.name}. {did_you_mean(name, known)}")
        found = _given(domain, component, name)
        for value in found.points() if isinstance(found, Choice) else (found.low, found.high):
            component(**{name: int(value) if isinstance(found, Range) and found.integer else value}).check_parameters()
        domains[name] = found
    return domains


def _parameters_of(name: str) -> dict[str, Any]:
    """Return the parameters of a regressor, by whomever it is written."""
    try:
        parameters: dict[str, Any] = REGRESSORS[name]().get_params()
    except Exception as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise SpecError(f"The regressor {name!r} must keep each parameter under its name. Got {told}.") from error
    return parameters


def _default(item: Hyperparameter) -> Range:
    return Range(**asdict(item))


def _given(domain: Domain, component: Any, name: str) -> Range | Choice:
    if name in component.options:
        return Choice((domain,))
    if isinstance(domain, Interval):
        own = component.search.get(name, Hyperparameter(domain.low, domain.high))
        return Range(domain.low, domain.high, log=domain.log, integer=own.integer, within_features=own.within_features)
    return Choice(domain if isinstance(domain, tuple) else (domain,))
