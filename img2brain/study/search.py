"""A search: what was asked and told, by any number of workers.

Suggestions depend on the seed, the number of the trial and the finished trials alone, not on the process: a search
that was cut off anywhere goes on exactly as if it had not been. Points are avoided that have a lower number, so that
random points and those of a grid are the same for any number of workers.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from img2brain import digest
from img2brain._quiet import ignored
from img2brain.errors import SpecError, did_you_mean, quoted
from img2brain.home import Home
from img2brain.records import TrialRecord
from img2brain.spec import StudySpec, TrialSpec, parse
from img2brain.study._said import (
    FAILURE,
    FINISHED,
    FINISHER,
    HOME,
    MEMBERS,
    NUMBER,
    POINT,
    SPEC,
    STUDY,
    WORKER,
    require_said,
    said_of_studies,
    unreadable,
)
from img2brain.study._samplers import BoundedTPE, Learned, Listed
from img2brain.study._trials import Trials
from img2brain.study.log import QUIET, existing_log, open_log

if TYPE_CHECKING:
    from img2brain.study.space import Parameters, Space, Suggestion

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


@dataclass(frozen=True)
class Asked:
    """A trial that was asked, and is to be told.

    Attributes
    ----------
    number : int
        From 0, its worker's own until it is told, or the worker is dead.
    params : mapping
        What was asked for.
    suggestion : Suggestion
        What that means.
    id : int
        Optuna's.
    """

    number: int
    params: Parameters
    suggestion: Suggestion
    id: int


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
    spec : StudySpec, optional
        The study as it was asked for, kept with the log for workers that join.

    Attributes
    ----------
    worker : str
        Who asks and tells here.
    home_id : str
        The id of the home that the study belongs to: the first one that ran it, of those that share the log.
    """

    def __init__(
        self,
        home: Home,
        name: str,
        space: Space,
        sampler: str,
        seed: int,
        description: Mapping[str, Any],
        spec: StudySpec | None = None,
    ) -> None:
        self._space = space
        self._sampler, self._seed = sampler, seed
        self._cells: Sequence[Parameters] = tuple(space.grid()) if sampler == "grid" else ()
        self.worker = uuid.uuid4().hex
        self._log, self._name = open_log(home), name
        with QUIET, self.alone():
            self.study = optuna.create_study(
                storage=self._log.storage, study_name=name, direction="maximize", load_if_exists=True
            )
            known = self.study.user_attrs
            require_said(name, known)
            said = {STUDY: dict(description), HOME: home.id} if STUDY not in known else {}
            said |= {SPEC: spec.model_dump(mode="json", exclude_unset=True)} if spec is not None else {}
            for key, value in said.items():
                if known.get(key) != value:
                    self.study.set_user_attr(key, value)
        self.home_id: str = known.get(HOME, home.id) if home.storage else home.id
        self._told: dict[int, ToldTrial] = {}
        self._trials = Trials.of(self._log, self.study._study_id)

    def alone(self) -> AbstractContextManager[object]:
        """Return the lock of the study: one worker holds it at a time."""
        return self._log.lock(self._name)

    def finishing(self) -> AbstractContextManager[object]:
        """Return the lock of whoever finishes the study."""
        return self._log.lock(f"finish {self._name}")

    def attend(self) -> AbstractContextManager[object]:
        """Say that this worker lives, until the end of the context: what it has asked is its own until then."""
        return self._log.attend(self.worker)

    def living(self, workers: Iterable[str]) -> set[str]:
        """Return those of some workers that live; this one does."""
        others = {worker for worker in workers if worker and worker != self.worker}
        return {self.worker, *self._log.living(others)}

    def askers(self) -> dict[int, str]:
        """Return who works on each trial that is asked and not told, by number."""
        self._trials.update()
        return {trial.user_attrs.get(NUMBER, -1): trial.user_attrs.get(WORKER, "") for trial in self._trials.running}

    def standing(self, trials: Mapping[int, str]) -> dict[int, int]:
        """Return which of some trials, given with their workers, have one that stands still, with its process's id."""
        others = {worker for worker in trials.values() if worker and worker != self.worker}
        found = self._log.standing(others) if others else {}
        return {number: found[worker] for number, worker in trials.items() if worker in found}

    @property
    def n_cells(self) -> int:
        """Cells of the grid; 0 for other samplers."""
        return len(self._cells)

    def told(self) -> list[ToldTrial]:
        """Return the trials that are over, by number."""
        self._trials.update()
        with _readable(self._name):
            for trial in self._trials.over:
                if trial.number not in self._told:
                    self._told[trial.number] = _as_told(trial)
        return [self._told[trial.number] for trial in self._trials.over]

    def n_told(self, n_trials: int) -> int:
        """Count the trials that are over, of so many."""
        self._trials.update()
        return self._trials.n_over(n_trials)

    def tellers(self) -> dict[int, str]:
        """Return who told each trial that is over, by number; nobody, where an old log does not say."""
        self._trials.update()
        return {trial.number: trial.user_attrs.get(WORKER, "") for trial in self._trials.over}

    def ask(self, n_trials: int) -> Asked | None:
        """Ask for the next trial of so many; None where each number is told, or another worker's that lives.

        It is a new point, as long as some tries find one.
        """
        with self.alone():
            self._trials.update()
            self._close_cut_off()
            number = self._trials.first_free
            return self._ask(number) if number < n_trials else None

    @property
    def is_finished(self) -> bool:
        """Whether a worker has finished the study with the trials that there are."""
        return self.study.user_attrs.get(FINISHED) == len(self.told())

    def say_finishing(self) -> None:
        """Say that this worker is about to finish the study, to all who share the log."""
        if not self.is_finished:
            self.study.set_user_attr(FINISHER, self.worker)

    def say_finished(self) -> None:
        """Say that the study is finished with the trials that there are."""
        if not self.is_finished:
            self.study.set_user_attr(FINISHED, len(self.told()))

    def tell(
        self,
        asked: Asked,
        spec: TrialSpec,
        outcome: float | str,
        members: Mapping[str, MemberTrial] = MappingProxyType({}),
    ) -> bool:
        """Log what a trial found: its objective or the reason why it failed, and what it was on each member.

        Returns
        -------
        bool
            Whether it counts: it does not where this worker was thought dead, and the trial is another's.
        """
        said = _attributes(spec, members)
        if isinstance(outcome, str):
            # Pruned, not failed: the sampler learns from a pruned trial that its neighbourhood is bad.
            return self._log.tell(asked.id, said | {FAILURE: outcome}, TrialState.PRUNED)
        return self._log.tell(asked.id, said, TrialState.COMPLETE, outcome)

    def restore(self, records: Sequence[Mapping[int, TrialRecord]]) -> None:
        """Log trials again that a lost log lacks, from what is tracked of them.

        Parameters
        ----------
        records : sequence of mapping of int to TrialRecord
            Of each member by number. Those after the last one that is logged are taken, as long as none is missing
            between them, of any member.
        """
        with self.alone():
            number = self._first_free()
            while all(number in item and item[number].asked for item in records):
                self._log_again(number, [item[number] for item in records])
                number = self._first_free()

    def first_free(self) -> int:
        """Return the lowest number that is neither told nor a living worker's."""
        with self.alone():
            return self._first_free()

    def _first_free(self) -> int:
        self._trials.update()
        self._close_cut_off()
        return self._trials.first_free

    def _log_again(self, number: int, records: Sequence[TrialRecord]) -> None:
        record = records[0]
        members = {item.member: MemberTrial(item.spec, item.score) for item in records if item.member}
        request, asked = self._space.replay(record.asked)
        attributes = _attributes(record.spec, members) | {NUMBER: number, POINT: request.digest}
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

    def _close_cut_off(self) -> None:
        """Close the trials of workers that are dead: their numbers are asked again."""
        workers = {trial._trial_id: trial.user_attrs.get(WORKER, "") for trial in self._trials.running}
        living = self.living(workers.values()) if workers else set()
        dead = [trial for trial, worker in workers.items() if worker not in living]
        for trial in dead:
            self._log.tell(trial, {}, TrialState.FAIL)
        if dead:
            self._trials.update()

    def _ask(self, number: int) -> Asked:
        """Make the trial of a number, at once with all that is known of it: no kill leaves half of one."""
        drawn, suggestion = self._draw(number)
        return self._made(number, drawn, suggestion)

    def _draw(self, number: int) -> tuple[optuna.Trial, Suggestion]:
        learned = Learned(self._trials.telling)
        for attempt in range(_ATTEMPTS):
            with QUIET:
                draft = optuna.create_study(
                    storage=InMemoryStorage(), direction="maximize", sampler=self._sampler_of(number, attempt, learned)
                ).ask()
            suggestion = self._space.ask(draft)
            if not self._trials.is_tried(suggestion.digest, number):
                break
        return draft, suggestion

    def _made(self, number: int, drawn: optuna.Trial, suggestion: Suggestion) -> Asked:
        params = drawn.params
        made = optuna.create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=drawn.distributions,
            user_attrs={NUMBER: number, WORKER: self.worker, POINT: suggestion.digest},
        )
        return Asked(number, params, suggestion, self._log.make(self.study._study_id, made))

    def _sampler_of(self, number: int, attempt: int, learned: Learned) -> BaseSampler:
        if self._sampler == "grid":
            return Listed(self._cells[number])
        seed = int(digest.of_value([self._seed, number, attempt])[:8], 16)
        if self._sampler == "random" or attempt > _ATTEMPTS // 2:
            return RandomSampler(seed=seed)
        return BoundedTPE(seed, learned)


def best_trial(trials: Sequence[ToldTrial]) -> ToldTrial | None:
    """Return the trial with the highest objective, the first among equals; None where all failed."""
    return max((trial for trial in trials if trial.succeeded), key=lambda trial: trial.score, default=None)


def stored_studies(home: Home) -> dict[str, Mapping[str, Any]]:
    """Return the studies of the search log by full name, as the plain data they were made from."""
    log = existing_log(home)
    return {name: item.said.get(STUDY, {}) for name, item in (said_of_studies(log) if log else {}).items()}


def stored_spec(home: Home, study: str) -> tuple[StudySpec, str]:
    """Return what a stored study was asked for, and its full name.

    Parameters
    ----------
    home : Home
        Holds the search log.
    study : str
        The full name, or the one in the study file where one study alone has it.

    Raises
    ------
    SpecError
        If there is no such study, or several, or its log keeps no spec.
    """
    log = existing_log(home)
    known = said_of_studies(log) if log else {}
    found = [study] if study in known else [name for name in known if name.rpartition("-")[0] == study]
    if not found:
        raise SpecError(f"No study is stored as {quoted(study)}. {did_you_mean(study, known)}")
    if len(found) > 1:
        raise SpecError(
            f"A study must be named in full where several have a name. {quoted(study)} is {' and '.join(found)}."
        )
    name = found[0]
    if SPEC not in known[name].said:
        raise SpecError(f"The study {name} must have been begun by this version. Run its file: 'study run' goes on.")
    return parse(StudySpec, known[name].said[SPEC], name), name


def stored_trials(home: Home) -> dict[str, list[ToldTrial]]:
    """Return the finished trials of all stored studies, by full name."""
    log = existing_log(home)
    if log is None:
        return {}
    return {name: told_of(name, Trials.of(log, item.id)) for name, item in said_of_studies(log).items()}


def told_of(name: str, trials: Trials) -> list[ToldTrial]:
    """Return the trials of a study that are over, by number.

    Raises
    ------
    StoreError
        If its log cannot be read.
    """
    with _readable(name):
        return [_as_told(trial) for trial in trials.over]


def _shared_parameters(study: optuna.Study) -> list[str]:
    """Name the parameters that every scored trial was asked for."""
    scored = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(set.intersection(*(set(trial.params) for trial in scored))) if scored else []


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Say which log holds a trial that cannot be read."""
    try:
        yield
    except (KeyError, ValueError, TypeError) as error:
        raise unreadable(f"A trial of {name} cannot be read: {type(error).__name__}") from error


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


def _as_told(trial: FrozenTrial) -> ToldTrial:
    return ToldTrial(
        number=trial.number,
        spec=TrialSpec.model_validate(trial.user_attrs[SPEC]),
        parameters=trial.params,
        score=trial.value if trial.value is not None else math.nan,
        failure=trial.user_attrs.get(FAILURE, ""),
        members={name: _member_of(item) for name, item in trial.user_attrs.get(MEMBERS, {}).items()},
    )
