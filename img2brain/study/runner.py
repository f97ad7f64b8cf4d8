"""The loop: ask, evaluate, tell, track; then publish the best and show it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from img2brain.confirm import BestLayers, validated
from img2brain.errors import FeatureError, FitError, TrackingError
from img2brain.evaluate import Evaluator
from img2brain.features.features import Features
from img2brain.home import Home
from img2brain.publish import Published
from img2brain.result import TrialResult
from img2brain.spec import StudySpec, TrialSpec
from img2brain.study._bar import Bar
from img2brain.study.best_layers import best_by_layer, best_layers
from img2brain.study.report import report
from img2brain.study.search import Search, ToldTrial, best_trial, stored_studies
from img2brain.study.setting import Setting, make_ready
from img2brain.study.space import Request
from img2brain.tracking.records import TrialRecord
from img2brain.tracking.tracker import Tracker

log = logging.getLogger(__name__)

_MOST_INTERVALS = 5


@dataclass(frozen=True)
class StudyOutcome:
    """What became of a study.

    Attributes
    ----------
    name : str
        Its full name.
    trials : list of ToldTrial
        All trials, in the order they were asked.
    best : ToldTrial, optional
        The trial with the highest median r on the validation rows; None where all failed.
    published : Published, optional
        What became of the best trial.
    notes : tuple of str
        What a reader must know, such as a best trial at the edge of its range.
    features_s : float
        Seconds that this run took to extract features; next to none where they were cached.
    """

    name: str
    trials: list[ToldTrial]
    best: ToldTrial | None
    published: Published | None
    notes: tuple[str, ...]
    features_s: float


def run_study(spec: StudySpec, home: Home | Path | str = "mlruns") -> StudyOutcome:
    """Run a study to its end, or go on with it where it was left.

    Parameters
    ----------
    spec : StudySpec
        What to search.
    home : Home, Path or str
        The home folder.

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
        If the tracking store does not answer. No trial is lost: the same call tracks what is missing.
    """
    place = Home.of(home)
    setting = make_ready(spec, place)
    with place.only_here(setting.name, f"The study {setting.name!r}"):
        _tell_what_changed(setting, stored_studies(place))
        start = time.perf_counter()
        setting.extract()
        return Run(setting, place, features_s=time.perf_counter() - start).to_the_end()


class Run:
    """One run of a study.

    Parameters
    ----------
    setting : Setting
        The study made ready, its features extracted.
    home : Home
        Where it is kept.
    features_s : float
        Seconds that the features took.
    """

    def __init__(self, setting: Setting, home: Home, features_s: float = 0.0) -> None:
        self.setting = setting
        self.features_s = features_s
        self.home = home
        self.evaluator: Evaluator = setting.evaluator()
        spec = setting.spec
        self.search = Search(home, setting.name, setting.space, spec.sampler, spec.seed, setting.description)
        self.tracker = Tracker(home, setting.record)
        self.n_trials = self._count()

    def to_the_end(self) -> StudyOutcome:
        """Work through the trials, track what is missing, publish the best and show it."""
        status = "KILLED"
        try:
            told = self.work_through()
            run_ids = self._track_missing(told)
            outcome = self._publish(told, run_ids)
            self._give_intervals(told, run_ids)
            report(self.setting, self.search, self.evaluator, self.tracker, self.home, outcome)
            status = ""
            return outcome
        finally:
            if status:
                with suppress(TrackingError):
                    self.tracker.close(status)

    def work_through(self) -> list[ToldTrial]:
        """Ask, evaluate, tell and track the trials that are left, and return all."""
        told = self.search.told()
        if told:
            log.info("%s: %d of %d trials are done already", self.setting.name, len(told), self.n_trials)
        with Bar(self.n_trials, told) as bar:
            for number in range(len(told), self.n_trials):
                bar.show(self._trial(number))
        return self.search.told()

    def _trial(self, number: int) -> ToldTrial:
        """Ask, evaluate, tell and track one trial. Once told it is safe; the tracking can be made up for."""
        start = time.perf_counter()
        asked, request = self.search.ask(number)
        spec, found = self._evaluate(request)
        outcome = found if isinstance(found, str) else found.median_r
        self.search.tell(asked, spec, outcome)
        with suppress(TrackingError):
            self.tracker.log_trial(self._record(number, spec, found, time.perf_counter() - start))
        if isinstance(outcome, str):
            return ToldTrial(number, spec, asked.params, math.nan, outcome)
        return ToldTrial(number, spec, asked.params, outcome, "")

    def _evaluate(self, request: Request) -> tuple[TrialSpec, TrialResult | str]:
        """Return the absolute spec with what was found, or with the reason why nothing was."""
        spec = request.spec
        try:
            spec = _absolute(request, self.evaluator)
            result = self.evaluator.evaluate(spec)
        except (FitError, FeatureError, ArithmeticError, ValueError, MemoryError) as error:
            return spec, f"{type(error).__name__}: {error}"
        if math.isnan(result.median_r):
            n_undefined = int(result.summary["n_undefined"])
            return spec, f"FitError: the prediction is constant for {n_undefined} of {len(result.scores)} voxels."
        return spec, result

    def _track_missing(self, told: list[ToldTrial]) -> dict[int, str]:
        """Track what a kill or a failing store left out, evaluated anew, and return all run ids by number."""
        tracked = self.tracker.finished()
        missing = [trial for trial in told if trial.number not in tracked]
        if missing:
            log.info("tracking %d trials that the tracking store lacks", len(missing))
        for trial in missing:
            found = trial.failure or self.evaluator.evaluate(trial.spec)
            tracked[trial.number] = self.tracker.log_trial(self._record(trial.number, trial.spec, found, 0.0))
        return tracked

    def _record(self, number: int, spec: TrialSpec, found: TrialResult | str, wall_s: float) -> TrialRecord:
        bank = self.setting.bank(spec)
        trained = str(bank.facts["trained"])
        if isinstance(found, str):
            return TrialRecord(number, spec, trained, failure=found, wall_s=wall_s)
        file = bank.scores_file(spec.layer, self.setting.split.train, self.setting.n_components, spec.n_components)
        return TrialRecord(number, spec, trained, found, features_file=file, wall_s=wall_s)

    def _publish(self, told: list[ToldTrial], run_ids: Mapping[int, str]) -> StudyOutcome:
        best = best_trial(told)
        name = self.setting.name
        if best is None:
            reason = told[-1].failure if told else "there are no trials"
            raise FitError(f"All {len(told)} trials of {name} failed, the last one: {reason}")
        bank: Features = self.setting.bank(best.spec)
        run_id = run_ids[best.number]
        publisher = self.setting.publisher()

        def chosen() -> BestLayers | None:
            return best_layers(best, told, self.setting, self.evaluator, publisher.refit)

        published = publisher.publish(best.spec, best.median_r, run_id, bank, self.tracker, chosen)
        notes = tuple(self.setting.space.edges(best.parameters))
        return StudyOutcome(name, told, best, published, notes, self.features_s)

    def _give_intervals(self, told: list[ToldTrial], run_ids: Mapping[int, str]) -> None:
        """Give the best trials of the best layers an interval, where no rows were kept to confirm one of them."""
        if len(self.setting.split.confirmation):
            return
        for trial in best_by_layer(told)[:_MOST_INTERVALS]:
            found = validated(*self.evaluator.predict(trial.spec), self.setting.dataset.rois)
            self.tracker.log_validation(run_ids[trial.number], found)

    def _count(self) -> int:
        """Count the trials that there will be: as many as asked for, and never fewer than there are."""
        n_cells, asked = self.search.n_cells, self.setting.spec.trials
        wanted = min(n_cells, asked or n_cells) if n_cells else asked or 0
        return max(wanted, len(self.search.told()))


def _absolute(request: Request, evaluator: Evaluator) -> TrialSpec:
    """Turn relative hyperparameters into absolute ones, by the scale of the components at hand."""
    if not request.relative:
        return request.spec
    scale = evaluator.alpha_scale(request.spec)
    values = dict(request.spec.parameters)
    for name in request.relative:
        value = values[name]
        assert isinstance(value, int | float), "what is relative is a number"
        values[name] = value * scale
    return request.spec.model_copy(update={"parameters": values})


def _tell_what_changed(setting: Setting, stored: Mapping[str, Mapping[str, object]]) -> None:
    """Say why a study of the same name is not gone on with."""
    others = {name: found for name, found in stored.items() if name.rpartition("-")[0] == setting.spec.name}
    if not others or setting.name in others:
        return
    name, found = list(others.items())[-1]
    changed = [key for key, value in setting.description.items() if found.get(key) != value]
    log.warning(
        "%s differs from the stored study %s in %s: starting the new study %s",
        setting.spec.name, name, ", ".join(changed) or "its seed", setting.name,
    )  # fmt: skip
