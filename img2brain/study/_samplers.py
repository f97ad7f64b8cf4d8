"""What asks: TPE at a bounded cost, and a list of points."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, cached_property, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.samplers._tpe.sampler import _split_trials, default_gamma
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from img2brain._quiet import ignored

if TYPE_CHECKING:
    from img2brain.study.space import Parameters

_BEST, _SEEN = 25, 250  # trials that TPE takes for good at most, and the fewest for which it takes so many


class Listed(BaseSampler):
    """A sampler that gives the values it is handed."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters

    def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study: Any, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: Any, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        return self._parameters[name]


class Learned:
    """What TPE makes of trials before it draws, made once for all draws from the same trials.

    Parameters
    ----------
    trials : sequence of FrozenTrial
        Those that are looked at, in their order, see `Telling`.
    """

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        self.trials = trials
        self._densities: dict[tuple[str, ...], Any] = {}

    @cached_property
    def of_each_kind(self) -> Sequence[FrozenTrial]:
        """The first trial of each set of parameters: others with the same ones say no more of the space."""
        first: dict[frozenset[str], FrozenTrial] = {}
        for trial in self.trials:
            first.setdefault(frozenset(trial.distributions), trial)
        return list(first.values())

    @cached_property
    def _split(self) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
        maximising: Any = SimpleNamespace(direction=StudyDirection.MAXIMIZE, directions=[StudyDirection.MAXIMIZE])
        return _split_trials(maximising, list(self.trials), default_gamma(len(self.trials)))

    def density(self, space: Mapping[str, BaseDistribution], build: Callable[..., Any], *, of_good: bool) -> Any:
        """Return the density over some parameters of the good trials, or of the others, made by a sampler."""
        key = (*space, "good" if of_good else "other")
        if key not in self._densities:
            good, others = self._split
            self._densities[key] = build(space, good if of_good else others, handle_below=of_good)
        return self._densities[key]


class _Drawn(dict[str, Any]):
    """Values by name, each worked out when it is asked for: of most regressors a trial asks for none."""

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name)()


class BoundedTPE(TPESampler):
    """Multivariate TPE that looks at the trials that tell most, so that an ask costs the same however many there are.

    Parameters
    ----------
    seed : int
        With the trials, all that a suggestion depends on.
    learned : Learned
        The trials that are looked at, shared by samplers of other seeds that draw from the same ones.

    Notes
    -----
    Bergstra, Bardenet, Bengio and Kegl (2011). Some 10 ms an ask from the 250th trial on. Suggestions are those of
    Optuna's `TPESampler`, which looks at all trials anew for each group of parameters and each draw.
    """

    def __init__(self, seed: int, learned: Learned) -> None:
        with ignored(optuna.exceptions.ExperimentalWarning):
            super().__init__(seed=seed, multivariate=True, group=True, constant_liar=False)  # none runs that is seen
        self._learned = learned

    def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return super().infer_relative_search_space(_View(study, self._learned.of_each_kind), trial)  # type: ignore[arg-type]

    def sample_relative(self, study: Any, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
        view: Any = _View(study, self._learned.trials)
        return _Drawn(super().sample_relative(view, trial, search_space))

    def sample_independent(self, study: Any, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        view: Any = _View(study, self._learned.trials)
        return super().sample_independent(view, trial, name, distribution)

    def _sample(self, study: Any, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """Draw candidates at once, since that moves the generator on, and choose among them when one is asked for."""
        density = partial(self._learned.density, search_space, partial(self._build_parzen_estimator, study))
        good = density(of_good=True)
        drawn = good.sample(self._rng.rng, self._n_ei_candidates)

        @cache
        def best() -> dict[str, Any]:
            gain = self._compute_acquisition_func(drawn, good, density(of_good=False))
            return dict(TPESampler._compare(drawn, gain))

        def value(name: str, distribution: BaseDistribution) -> Any:
            return distribution.to_external_repr(best()[name])

        return _Drawn({name: partial(value, name, distribution) for name, distribution in search_space.items()})


class _View:
    """A study that shows a sampler these trials alone."""

    def __init__(self, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
        self._study, self._trials = study, trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(self, deepcopy: bool = True, states: Any = None, use_cache: bool = False) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]


class Telling:
    """The trials that tell a sampler most: the best, and of the others the latest.

    TPE takes no more than the `_BEST` for good, so that it loses none of those; the others it weights by their age.

    Parameters
    ----------
    trials : iterable of FrozenTrial
        Trials that are over, in any order.
    """

    def __init__(self, trials: Iterable[FrozenTrial] = ()) -> None:
        self._best: list[FrozenTrial] = []
        self._all: list[FrozenTrial] = []
        for trial in trials:
            self.add(trial)

    def add(self, trial: FrozenTrial) -> None:
        """Add a trial that is over."""
        insort(self._all, trial, key=_number)
        insort(self._best, trial, key=_rank)
        del self._best[_BEST:]

    def all(self) -> Sequence[FrozenTrial]:
        """Return all trials by number."""
        return self._all

    def most(self) -> Sequence[FrozenTrial]:
        """Return those that tell most, by number."""
        if len(self._all) <= _SEEN:
            return self._all
        best = set(map(_number, self._best))
        others = [trial for trial in self._all[-_SEEN:] if trial.number not in best]
        return sorted([*self._best, *others[_BEST - _SEEN :]], key=_number)


def _number(trial: FrozenTrial) -> int:
    return trial.number


def _rank(trial: FrozenTrial) -> tuple[float, int]:
    """Rank the highest score first, the first among equals."""
    return -_score(trial), trial.number


def _score(trial: FrozenTrial) -> float:
    return -math.inf if trial.value is None else trial.value
