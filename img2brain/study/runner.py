"""The loop: ask, evaluate, tell, track; then publish the best and show it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from img2brain import digest
from img2brain._forks import works_after_fork
from img2brain.amounts import counted
from img2brain.datasets.base import Dataset
from img2brain.errors import FitError, SpecError, TrackingError, stopping
from img2brain.holders import how_to_wake
from img2brain.home import Home
from img2brain.logs import about
from img2brain.result import TrialResult
from img2brain.spec import StudySpec, TrialSpec
from img2brain.study._bar import Bar
from img2brain.study.cluster import Cluster, cluster_of
from img2brain.study.extraction import NotYet
from img2brain.study.joining import Joining
from img2brain.study.joint import joint_draws
from img2brain.study.member_run import MemberRun
from img2brain.study.outcome import MeanOutcome, StudyOutcome, mean_outcome
from img2brain.study.report import report
from img2brain.study.search import (
    Asked,
    MemberTrial,
    Search,
    ToldTrial,
    best_trial,
    stored_spec,
    stored_studies,
    together,
)
from img2brain.study.setting import Setting, make_ready
from img2brain.study.signs import Sign, at_work
from img2brain.study.space import Suggestion
from img2brain.study.states import is_finished
from img2brain.study.workers import Crew, most_workers
from img2brain.tracking._local import open_to_read
from img2brain.tracking.own_name import origin_of, require_own_name

T = TypeVar("T")
log = logging.getLogger(__name__)

_PAUSE_S = 0.2  # between two looks at what other workers do
_LOOK_S = 5.0  # between two looks whether any of them stands still


@works_after_fork
def run_study(
    spec: StudySpec,
    home: Home | Path | str = "mlruns",
    dataset: Dataset | Sequence[Dataset] | None = None,
    workers: int = 1,
) -> StudyOutcome:
    """Run a study to its end, or go on with it where it was left.

    Parameters
    ----------
    spec : StudySpec
        What to search.
    home : Home, Path or str
        The home, or its folder.
    dataset : Dataset or sequence of Dataset, optional
        The data, in place of what the study names: of any class that extends `img2brain.Dataset`. Several are its
        members: each trial is evaluated on all, and the mean of their summaries ranks it.
    workers : int
        How many processes of this machine work on its trials, each with a share of the processors. More than one open
        the data that the study names by themselves, so that none can be handed over.

    Returns
    -------
    StudyOutcome

    Raises
    ------
    SpecError, DataError, FeatureError
        For bad input, before any work starts.
    StoreError
        If the home cannot be written, or the study is at work in another process.
    TrackingError
        If the tracking store does not answer. No trial is lost: the same call goes on, and tracks what is missing.
    ResourceError
        If memory, a disk or a file gives out. No trial is recorded as failed for it: the same call goes on.
    """
    _require_workers(workers, dataset is not None, spec.cluster is not None)
    place = Home.of(home)
    with (
        stopping(f"The study {spec.name!r} in the home {place.folder}"),
        place.in_use(),
        at_work(place, spec.name) as sign,
        cluster_of(spec.cluster) as hands,
    ):
        return _run_study(spec, place, dataset, workers, hands, sign)


@works_after_fork
def join_study(
    study: str | StudySpec, home: Home | Path | str = "mlruns", finish: bool = True, quiet: bool = False
) -> StudyOutcome | None:
    """Work on the trials of a study beside others, until all are over.

    Parameters
    ----------
    study : str or StudySpec
        The name of a study that was begun, in short where one alone has it; or what to search, begun where it was not.
    home : Home, Path or str
        The home, or its folder; of several homes that share a storage, any.
    finish : bool
        Whether to track what is missing, publish the best trial and show it, where no other worker has done so.
    quiet : bool
        Whether to tell of no trial.

    Returns
    -------
    StudyOutcome or None
        None where others finish the study.

    Raises
    ------
    SpecError
        If no study of this name is stored, or its data are not those that it was begun with.

    See `run_study` for the others.
    """
    place = Home.of(home)
    spec, name = (study, "") if isinstance(study, StudySpec) else stored_spec(place, study)
    if name and _is_finished(place, name, spec):
        return None
    with (
        stopping(f"The study {spec.name!r} in the home {place.folder}"),
        place.in_use(),
        at_work(place, name or spec.name) as sign,
    ):
        setting = make_ready(spec, place)
        _require_same(setting, name)
        sign.say(name or setting.name)
        if not name:
            _require_own_name(setting)
        if _is_finished(place, name or setting.name, spec):
            return None
        with about(study=name or setting.name):
            if spec.cluster is not None and not quiet:
                log.info("the '[cluster]' of the study is left to 'study run': this worker does its work by itself")
            with setting.extracting(in_any_order=True):
                return Run(setting, name or setting.name, spec).beside_others(finish, quiet)


def _is_finished(home: Home, study: str, spec: StudySpec) -> bool:
    """Say of a study that nothing is left of it to do, before its data are opened or its features computed for that."""
    if not is_finished(home, study, spec.trials):
        return False
    log.info("%s is finished: 'study run' of its file shows it in this home", study)
    return True


def _require_workers(workers: int, is_handed: bool, has_cluster: bool) -> None:
    if workers < 1:
        raise SpecError(f"The number of 'workers' must be >= 1. Got {workers}.")
    if workers > most_workers():
        raise SpecError(f"The number of 'workers' must be <= {most_workers()} on this machine. Got {workers}.")
    if workers > 1 and has_cluster:
        raise SpecError(f"A study with a '[cluster]' must have 1 of 'workers' of its own. Got {workers}.")
    if workers > 1 and is_handed:
        raise SpecError(f"A study that is handed its data must have 1 of 'workers'. Got {workers}.")


def _require_same(setting: Setting, name: str) -> None:
    """Refuse to join a study with data, networks or plug-ins that are others here."""
    if name and name not in (setting.name, setting.first_name):
        raise SpecError(
            f"The data, networks and plug-ins of {name} must be those that it was begun with. Here they make the study "
            f"{setting.name}."
        )


def _run_study(
    spec: StudySpec,
    place: Home,
    dataset: Dataset | Sequence[Dataset] | None,
    workers: int,
    hands: Cluster | None,
    sign: Sign,
) -> StudyOutcome:
    setting = make_ready(spec, place, dataset, hands)
    with place.only_here(setting.name, f"The study {setting.name!r}"):
        stored = stored_studies(place)
        is_first = setting.first_name in stored and not setting.is_renamed
        name = str(setting.first_name) if is_first else setting.name
        sign.say(name)
        _require_own_name(setting)
        _tell_what_changed(setting, name, stored)
        at_once = 1 if hands is None or setting.n_lacking < 2 else hands.n_networks
        with about(study=name), setting.extracting(beside=workers == 1 and hands is None, at_once=at_once):
            run = Run(setting, name, spec)
            with _helped(run, hands, dataset is not None):
                return run.to_the_end(workers)


def _helped(run: Run, hands: Cluster | None, is_handed: bool) -> AbstractContextManager[None]:
    """Have the workers of a cluster evaluate trials too, each that shares the store of the home."""
    if hands is None or run.is_over:
        return nullcontext()
    if is_handed:
        log.info("the trials are evaluated by this process alone: workers of a cluster cannot open data handed to it")
        return nullcontext()
    return hands.helping(Joining.of(run.name, run.setting.home, hands.n_threads).start)


class Run:
    """One run of a study.

    Parameters
    ----------
    setting : Setting
        The study made ready, its features extracted, or being so.
    name : str
        Its full name.
    asked : StudySpec, optional
        The study as it was asked for, for workers that join.
    """

    surely_alive_s = 30.0  # by the clock on the wall; one that stood still for longer may have been thought dead

    def __init__(self, setting: Setting, name: str, asked: StudySpec | None = None) -> None:
        self.setting = setting
        self.name = name
        spec = setting.spec
        self.search = Search(setting.home, name, setting.space, spec.sampler, spec.seed, setting.description, asked)
        self.members = [MemberRun(setting, member, name, self.search) for member in setting.members]
        self._restore_search()
        self.n_trials = self._count()
        self._next_look = time.monotonic() + _LOOK_S
        self._told_of: set[tuple[int, int]] = set()

    @property
    def is_over(self) -> bool:
        """Whether all trials are told."""
        return self.search.n_told(self.n_trials) == self.n_trials

    def to_the_end(self, workers: int = 1) -> StudyOutcome:
        """Work through the trials, by so many processes, track what is missing, publish the best and show it."""
        try:
            with self.search.attend():
                self.setting.keep_plugins()
                if workers > 1:
                    self._let_work(workers)
                self.work_through(quiet=workers > 1)
                return self.finish()
        except TrackingError:  # The store would not answer this either.
            raise
        except BaseException:
            with suppress(TrackingError):
                for run in self.members:
                    run.tracker.close("KILLED")
            raise

    def beside_others(self, finish: bool, quiet: bool = False) -> StudyOutcome | None:
        """Work until all trials are over; then finish the study, unless another worker does, or is to."""
        with self.search.attend():
            self.setting.keep_plugins()
            self.work_through(quiet)
            if not finish:
                return None
            with self.search.finishing():
                return None if self.search.is_finished else self._finish()

    def finish(self) -> StudyOutcome:
        """Track what is missing, publish the best and show it: one worker at a time."""
        with self.search.finishing():
            return self._finish()

    def _let_work(self, workers: int) -> None:
        """Let other processes work until all trials are over, and show what they find."""
        told = self.search.told()
        with self._bar(told) as bar, Crew(self.name, self.setting.home, workers) as crew:
            crew.watch(partial(self._show_new, bar, {trial.number for trial in told}), self.n_trials)

    def _show_new(self, bar: Bar, seen: set[int]) -> int:
        """Show the trials that are over since the last look, and return how many there are of those asked for."""
        self._tell_of_standing(self.search.askers())
        for trial in self.search.told():
            if trial.number not in seen:
                seen.add(trial.number)
                bar.show(trial, len(seen))
        return self.search.n_told(self.n_trials)

    def _bar(self, told: list[ToldTrial], quiet: bool = False) -> Bar:
        return Bar(max(self.n_trials, len(told)), told, quiet)

    def _finish(self) -> StudyOutcome:
        self.search.say_finishing()
        told = self.search.told()
        run_ids = self.track_missing(told)
        self._give_intervals(told, run_ids)
        outcome = self.publish(told, run_ids)
        for run in self.members:
            report(self.setting.home, run, self.search, outcome)
        self.search.say_finished()
        return outcome

    def work_through(self, quiet: bool = False) -> list[ToldTrial]:
        """Ask, evaluate, tell and track trials until all are over, and return them."""
        told = self.search.told()
        total = max(self.n_trials, len(told))
        if told and not quiet:
            done = counted(total, "trial is", "trials are")
            log.info("%s: %d of %s done already", self.name, len(told), done)
        with self._bar(told, quiet) as bar:
            for asked in self._each_asked():
                with about(trial=asked.number):
                    if (trial := self._trial(asked)) is not None:
                        bar.show(trial, self.search.n_told(total))
        self.setting.extraction.stop()
        return self.search.told()

    def _each_asked(self) -> Iterator[Asked]:
        """Ask until all trials are over; while others are at work on the last ones, one of them may die."""
        while not self.is_over:
            if (asked := self._when_ready(partial(self.search.ask, self.n_trials))) is not None:
                yield asked
            else:
                self._tell_of_standing(self.search.askers())
                time.sleep(_PAUSE_S)

    def _when_ready(self, work: Callable[[], T]) -> T:
        """Do some work again each time that it has met a network whose features were not there yet."""
        while True:
            try:
                return work()
            except NotYet as met:
                network = met.network
            self.setting.extraction.wait(network)

    def _trial(self, asked: Asked) -> ToldTrial | None:
        """Evaluate, tell and track a trial, unless it is another worker's by then.

        Once told it is safe: who finishes the study can track it.
        """
        start, began = time.perf_counter(), time.time()
        number = asked.number
        specs, results, failure = self._evaluate(asked.suggestion)
        scores = [math.nan if failure else result.score for result in results] or [math.nan] * len(specs)
        members = {
            run.member.name: MemberTrial(spec, score)
            for run, spec, score in zip(self.members, specs, scores, strict=True)
            if run.member.name
        }
        score = together(members) if members else scores[0]
        if not self.search.tell(asked, specs[0], failure or score, members):
            log.warning("%s: trial #%d is another worker's by now: what was found here is dropped", self.name, number)
            return None
        wall_s = (time.perf_counter() - start) / len(self.members)
        for place, run in enumerate(self.members):
            run_id = run.track(number, specs[place], asked.params, failure or results[place], wall_s)
            if time.time() - began > self.surely_alive_s:
                run.tracker.keep_first(number, run_id)
        return ToldTrial(number, specs[0], asked.params, score, failure, members)

    def _evaluate(self, suggestion: Suggestion) -> tuple[list[TrialSpec], list[TrialResult], str]:
        """Evaluate a trial on all members: their specs, what was found, and why there is nothing where one failed."""
        specs: list[TrialSpec] = []
        results: list[TrialResult] = []
        failure = ""
        for run in self.members:
            spec, found = run.evaluate(suggestion)
            specs.append(spec)
            if isinstance(found, str):
                failure = failure or found
            else:
                results.append(found)
        return specs, [] if failure else results, failure

    def _restore_search(self) -> None:
        """Write a search log again that was lost, from what is tracked on all members."""
        number = self.search.first_free()
        if all(number in run.tracked for run in self.members):
            records = [run.tracker.records() for run in self.members]
            self._when_ready(partial(self.search.restore, records))
            n_restored = self.search.first_free() - number
            one, many = "trial %s is back from its record", "trials %s are back from their records"
            told = counted(n_restored, one, many) % "that the search log lacked"
            log.warning("%s: %s", self.name, told)

    def track_missing(self, told: Sequence[ToldTrial]) -> list[dict[int, str]]:
        """Track what a kill or a failing store left out, and return all run ids by number, of each member."""
        self._await_others()
        of_each = [(run, [trial.of(run.member.name) for trial in told]) for run in self.members]
        n_missing = sum(len(run.missing(trials)) for run, trials in of_each)
        if n_missing:
            log.info("tracking %s that the tracking store lacks", counted(n_missing, "trial"))
        return [run.track_missing(trials) for run, trials in of_each]

    def _await_others(self) -> None:
        """Wait while other workers that live track what they told."""
        while self.search.living((missing := self._untracked()).values()) != {self.search.worker}:
            self._tell_of_standing(missing)
            time.sleep(_PAUSE_S)

    def _untracked(self) -> dict[int, str]:
        """Return who told each trial that is not tracked on all members, by number."""
        tellers = self.search.tellers()
        tracked = [run.tracker.finished() for run in self.members]
        return {number: worker for number, worker in tellers.items() if any(number not in found for found in tracked)}

    def _tell_of_standing(self, trials: Mapping[int, str]) -> None:
        """Say once, of trials with their workers, which wait for one that stands still; look now and then."""
        if (now := time.monotonic()) < self._next_look:
            return
        self._next_look = now + _LOOK_S
        for number, process in self.search.standing(trials).items():
            if (number, process) not in self._told_of:
                self._told_of.add((number, process))
                told = f"trial #{number} waits for process {process}, which stands still"
                log.warning("%s: %s: %s", self.name, told, how_to_wake(process))

    def publish(self, told: Sequence[ToldTrial], run_ids: Sequence[Mapping[int, str]]) -> StudyOutcome:
        """Publish the best trial, on each member."""
        best = best_trial(told)
        if best is None:
            reason = told[-1].failure if told else "there are no trials"
            raise FitError(f"All {counted(len(told), 'trial')} of {self.name} failed, the last one: {reason}")
        found = {}
        draws = joint_draws([run.member for run in self.members])
        for run, ids, drawn in zip(self.members, run_ids, draws, strict=True):
            trials = [trial.of(run.member.name) for trial in told]
            found[run.member.name] = run.publish(best.of(run.member.name), trials, ids[best.number], drawn)
        notes = tuple(self.setting.space.edges(best.parameters))
        scored = (record := self.members[0].record_of(run_ids[0][best.number])).metrics[record.objective]
        objective = f"{scored.label}, {scored.summary} over voxels"
        first, *others = found.values()
        of_each, mean = (found, self._mean(best.number, run_ids)) if others else ({}, None)
        return StudyOutcome(
            self.name, list(told), best, first, notes, self.setting.extraction.seconds, objective, of_each, mean,
            self.search.home_id,
        )  # fmt: skip

    def _mean(self, number: int, run_ids: Sequence[Mapping[int, str]]) -> MeanOutcome | None:
        """Return what the confirmation rows of all members say of a trial, where each has some."""
        found = {run.member.name: ids[number] for run, ids in zip(self.members, run_ids, strict=True)}
        record = self.members[0].record_of(run_ids[0][number])
        return mean_outcome(self.members[0].tracker.store, found, record.metrics[record.objective].summary)

    def _give_intervals(self, told: Sequence[ToldTrial], run_ids: Sequence[Mapping[int, str]]) -> None:
        for run, ids in zip(self.members, run_ids, strict=True):
            run.give_intervals([trial.of(run.member.name) for trial in told], ids)

    def _count(self) -> int:
        """Count the trials that are asked for: there may be more, of an earlier run."""
        n_cells, asked = self.search.n_cells, self.setting.spec.trials
        return min(n_cells, asked or n_cells) if n_cells else asked or 0


def _require_own_name(setting: Setting) -> None:
    """Refuse data under a name that other data have in this home or on its server."""
    store = open_to_read(setting.home)
    for dataset in (member.dataset for member in setting.members):
        require_own_name(store, dataset.name, dataset.digest, dataset.source, origin_of(dataset.origin))


def _tell_what_changed(setting: Setting, name: str, stored: Mapping[str, Mapping[str, object]]) -> None:
    """Say why a study of the same name is not gone on with."""
    others = {other: found for other, found in stored.items() if other.rpartition("-")[0] == setting.spec.name}
    if not others or name in others:
        return
    other, found = list(others.items())[-1]
    changed = [
        key for key, value in setting.description.items() if digest.of_value(found.get(key)) != digest.of_value(value)
    ]
    log.warning(
        "%s differs from the stored study %s in %s: starting the new study %s",
        setting.spec.name, other, ", ".join(changed) or "its seed", name,
    )  # fmt: skip
