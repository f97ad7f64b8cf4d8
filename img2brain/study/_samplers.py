"""What asks: TPE at a bounded cost, and a list of points."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
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
        The trials so far, in their order; up to 250 of them are looked at.

    Notes
    -----
    Bergstra, Bardenet, Bengio and Kegl (2011). Some 10 ms an ask from the 250th trial on.
    """

    def __init__(self, seed: int, trials: Sequence[FrozenTrial]) -> None:
        with ignored(optuna.exceptions.ExperimentalWarning):
            super().__init__(seed=seed, multivariate=True, group=True)
        self._seen = _telling(trials)

    def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return super().infer_relative_search_space(_View(study, self._seen), trial)  # type: ignore[arg-type]

    def sample_relative(self, study: Any, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
        return super().sample_relative(_View(study, self._seen), trial, search_space)  # type: ignore[arg-type]

    def sample_independent(self, study: Any, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        return super().sample_independent(_View(study, self._seen), trial, name, distribution)  # type: ignore[arg-type]


class _View:
    """A study that shows a sampler these trials alone."""

    def __init__(self, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
        self._study, self._trials = study, trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(self, deepcopy: bool = True, states: Any = None, use_cache: bool = False) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]


def _telling(trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
    """Return the trials that tell a sampler most: the best, and of the others the latest.

    TPE takes no more than the `_BEST` for good, so that it loses none of those; the others it weights by their age.
    """
    if len(trials) <= _SEEN:
        return trials
    best = {trial.number for trial in heapq.nlargest(_BEST, trials, key=_score)}
    others = [trial.number for trial in trials if trial.number not in best]
    kept = best.union(others[_BEST - _SEEN :])
    return [trial for trial in trials if trial.number in kept]


def _score(trial: FrozenTrial) -> float:
    return -math.inf if trial.value is None else trial.value
