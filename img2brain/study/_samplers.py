"""What asks: TPE at a bounded cost, and a list of points."""

from __future__ import annotations

import copy
import math
from bisect import insort
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
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


class BoundedTPE(TPESampler):
    """Multivariate TPE that looks at the trials that tell most, so that an ask costs the same however many there are.

    Parameters
    ----------
    seed : int
        With the trials, all that a suggestion depends on.
    trials : sequence of FrozenTrial
        Those that are looked at, in their order, see `Telling`.

    Notes
    -----
    Bergstra, Bardenet, Bengio and Kegl (2011). Some 10 ms an ask from the 250th trial on.
    """

    def __init__(self, seed: int, trials: Sequence[FrozenTrial]) -> None:
        with ignored(optuna.exceptions.ExperimentalWarning):
            super().__init__(seed=seed, multivariate=True, group=True)
        self._seen = trials

    def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return super().infer_relative_search_space(_View(study, self._seen), trial)  # type: ignore[arg-type]

    def sample_relative(self, study: Any, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
        view: Any = _View(study, self._seen)
        return super().sample_relative(view, _unlike(trial), search_space)

    def sample_independent(self, study: Any, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        view: Any = _View(study, self._seen)
        return super().sample_independent(view, _unlike(trial), name, distribution)


def _unlike(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial with a number that no other has: Optuna leaves out what has the number of the one it asks for."""
    other = copy.copy(trial)
    other.number = -1
    return other


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
