"""The search log: what was asked and told, in an Optuna journal that no kill can spoil.

Suggestions depend on the seed, the number of the trial and the finished trials alone, not on the process: a search
that was cut off anywhere goes on exactly as if it had not been.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from img2brain import digest
from img2brain._quiet import ignored
from img2brain.errors import StoreError
from img2brain.home import Home
from img2brain.records import TrialRecord
from img2brain.spec import TrialSpec
from img2brain.study._journal import QUIET, open_journal
from img2brain.study._samplers import BoundedTPE, Listed

if TYPE_CHECKING:
    from img2brain.study.space import Parameters, Space, Suggestion

SPEC, FAILURE, STUDY, POINT, MEMBERS = "spec", "failure", "study", "point", "members"

_DISTRIBUTIONS: Mapping[str, Callable[..., BaseDistribution]] = {
    "float": FloatDistribution,
    "int": IntDistribution,
    "categorical": CategoricalDistribution,
}
_ATTEMPTS = 10  # at a point that was not tried yet; a small space may have none left
_N_TREES = 16  # of the forest that tells importances; each takes 0.05 s where there are 500 trials


@dataclass(frozen=True)
class MemberTrial:
    """A trial on one member of a study.

    Attributes
    ----------
    spec : TrialSpec
        What was tried: an alpha that follows the scale of components is that of the member's own.
    score : float
        The member's summary; NaN where the trial failed.
    """

    spec: TrialSpec
    score: float


@dataclass(frozen=True)
class ToldTrial:
    """A trial that is over.

    Attributes
    ----------
    number : int
        From 0; trials that were cut off have none.
    spec : TrialSpec
        What was tried, on the first member where there are several.
    parameters : mapping
        What was asked for.
    score : float
        The objective, a mean over the members; NaN where the trial failed.
    failure : str
        Why it failed.
    members : mapping of str to MemberTrial
        What was tried and found on each member; empty where the study has one dataset.
    """

    number: int
    spec: TrialSpec
    parameters: Parameters
    score: float
    failure: str
    members: Mapping[str, MemberTrial] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        """Whether there is a score."""
        return not self.failure

    def of(self, member: str) -> ToldTrial:
        """Return the trial as it was on a member; the empty name is that of the only dataset of a study."""
        if not member:
            return self
        own = self.members[member]
        return replace(self, spec=own.spec, score=own.score, members={})


def together(members: Mapping[str, MemberTrial]) -> float:
    """Return the objective of a trial: the mean over members."""
    return float(np.mean([item.score for item in members.values()]))


class Search:
    """The search log of one study.

    Parameters
    ----------
    home : Home
        Holds the log.
    name : str
        The study's full name.
    space : Space
        What is searched.
    sampler : {"tpe", "random", "grid"}
        How it is searched.
    seed : int
        Seed of the sampler.
    description : mapping
        The study as plain data, kept with the log.
    """

    def __init__(
        self, home: Home, name: str, space: Space, sampler: str, seed: int, description: Mapping[str, Any]
    ) -> None:
        self._space = space
        self._sampler, self._seed = sampler, seed
        self._cells: Sequence[Parameters] = tuple(space.grid()) if sampler == "grid" else ()
        with QUIET:
            self.study = optuna.create_study(
                storage=open_journal(home), study_name=name, direction="maximize", load_if_exists=True
            )
        if STUDY not in self.study.user_attrs:
            self.study.set_user_attr(STUDY, dict(description))
        self._drop_cut_off()

    @property
    def n_cells(self) -> int:
        """Cells of the grid; 0 for other samplers."""
        return len(self._cells)

    def told(self) -> list[ToldTrial]:
        """Return the trials that are over, in the order they were asked."""
        return _told(self.study)

    def ask(self, number: int) -> tuple[optuna.Trial, Suggestion]:
        """Ask for the trial of this number: a new point, as long as some tries find one."""
        trials = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state != TrialState.FAIL]
        tried = {trial.user_attrs[POINT] for trial in trials if _is_over(trial)}
        for attempt in range(_ATTEMPTS):
            self.study.sampler = self._sampler_of(number, attempt, trials)
            trial = self.study.ask()
            request = self._space.ask(trial)
            if request.digest not in tried or attempt == _ATTEMPTS - 1:
                break
            self.study.tell(trial, state=TrialState.FAIL)
        trial.set_user_attr(POINT, request.digest)
        return trial, request

    def tell(
        self,
        trial: optuna.Trial,
        spec: TrialSpec,
        outcome: float | str,
        members: Mapping[str, MemberTrial] = MappingProxyType({}),
    ) -> None:
        """Log what a trial found: its objective or the reason why it failed, and what it was on each member."""
        for name, value in _attributes(spec, members).items():
            trial.set_user_attr(name, value)
        if isinstance(outcome, str):
            trial.set_user_attr(FAILURE, outcome)
            # Pruned, not failed: the sampler learns from a pruned trial that its neighbourhood is bad.
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, outcome)

    def restore(self, records: Sequence[Mapping[int, TrialRecord]]) -> int:
        """Log trials again that a lost log lacks, from what is tracked of them, and return how many.

        Parameters
        ----------
        records : sequence of mapping of int to TrialRecord
            Of each member by number. Those after the last one that is logged are taken, as long as none is missing
            between them, of any member.
        """
        first = number = len(self.told())
        while all(number in item and item[number].asked for item in records):
            self._log_again([item[number] for item in records])
            number += 1
        return number - first

    def _log_again(self, records: Sequence[TrialRecord]) -> None:
        record = records[0]
        members = {item.member: MemberTrial(item.spec, item.score) for item in records if item.member}
        request, asked = self._space.replay(record.asked)
        attributes = _attributes(record.spec, members) | {POINT: request.digest}
        score = together(members) if members else record.score
        self.study.add_trial(
            optuna.create_trial(
                state=TrialState.COMPLETE if record.succeeded else TrialState.PRUNED,
                value=score if record.succeeded else None,
                params=dict(record.asked),
                distributions={name: _DISTRIBUTIONS[kind](**domain) for name, (kind, domain) in asked.items()},
                user_attrs=attributes | ({} if record.succeeded else {FAILURE: record.failure}),
            )
        )

    def importances(self) -> dict[str, float]:
        """Return the importance of each parameter that all trials share, or nothing where there are too few to say.

        Notes
        -----
        Functional ANOVA (Hutter, Hoos and Leyton-Brown, 2014). A parameter of one regressor alone is left out: the few
        trials that have it say nothing about the others.
        """
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances

        shared = _shared_parameters(self.study)
        if not shared:
            return {}
        with ignored():
            try:
                evaluator = FanovaImportanceEvaluator(n_trees=_N_TREES, seed=0)
                return get_param_importances(self.study, evaluator=evaluator, params=shared)
            except (ValueError, RuntimeError, ZeroDivisionError):
                return {}

    def _drop_cut_off(self) -> None:
        """Close the trials of processes that were killed; they are asked for again."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
            self.study.tell(trial.number, state=TrialState.FAIL)

    def _sampler_of(self, number: int, attempt: int, trials: Sequence[FrozenTrial]) -> BaseSampler:
        if self._sampler == "grid":
            return Listed(self._cells[number])
        seed = int(digest.of_value([self._seed, number, attempt])[:8], 16)
        if self._sampler == "random" or attempt > _ATTEMPTS // 2:
            return RandomSampler(seed=seed)
        return BoundedTPE(seed, trials)


def best_trial(trials: Sequence[ToldTrial]) -> ToldTrial | None:
    """Return the trial with the highest objective, the first among equals; None where all failed."""
    return max((trial for trial in trials if trial.succeeded), key=lambda trial: trial.score, default=None)


def stored_studies(home: Home) -> dict[str, Mapping[str, Any]]:
    """Return the studies of the search log by full name, as the plain data they were made from."""
    if not home.search_log.exists():
        return {}
    studies = optuna.get_all_study_summaries(open_journal(home), include_best_trial=False)
    return {item.study_name: item.user_attrs.get(STUDY, {}) for item in studies}


def stored_trials(home: Home) -> dict[str, list[ToldTrial]]:
    """Return the finished trials of all stored studies, by full name."""
    if not home.search_log.exists():
        return {}
    storage = open_journal(home)
    names = optuna.get_all_study_names(storage)
    return {name: _told(optuna.load_study(study_name=name, storage=storage)) for name in names}


def _shared_parameters(study: optuna.Study) -> list[str]:
    """Name the parameters that every scored trial was asked for."""
    scored = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(set.intersection(*(set(trial.params) for trial in scored))) if scored else []


def _told(study: optuna.Study) -> list[ToldTrial]:
    over = [trial for trial in study.get_trials(deepcopy=False) if _is_over(trial)]
    try:
        return [_as_told(number, trial) for number, trial in enumerate(over)]
    except (KeyError, ValueError) as error:
        raise StoreError(
            f"The search log of {study.study_name} holds a trial that cannot be read: {type(error).__name__}. Move "
            "optuna.log away: it is written again from the records of the runs when a study is run."
        ) from error


def _is_over(trial: FrozenTrial) -> bool:
    """Tell a trial that is over, well (complete) or badly (pruned), from one that was cut off (failed)."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def _attributes(spec: TrialSpec, members: Mapping[str, MemberTrial]) -> dict[str, Any]:
    """Return what is logged of a trial beside its objective; JSON has no NaN."""
    found: dict[str, Any] = {SPEC: spec.model_dump(mode="json")}
    each = {
        name: {"spec": item.spec.model_dump(mode="json"), "score": None if math.isnan(item.score) else item.score}
        for name, item in members.items()
    }
    return found | ({MEMBERS: each} if each else {})


def _member_of(logged: Mapping[str, Any]) -> MemberTrial:
    score = logged["score"]
    return MemberTrial(TrialSpec.model_validate(logged["spec"]), math.nan if score is None else float(score))


def _as_told(number: int, trial: FrozenTrial) -> ToldTrial:
    return ToldTrial(
        number=number,
        spec=TrialSpec.model_validate(trial.user_attrs[SPEC]),
        parameters=trial.params,
        score=trial.value if trial.value is not None else math.nan,
        failure=trial.user_attrs.get(FAILURE, ""),
        members={name: _member_of(item) for name, item in trial.user_attrs.get(MEMBERS, {}).items()},
    )
