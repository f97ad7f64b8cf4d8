"""The loop: ask, evaluate, tell, track; then publish the best and show it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from img2brain import digest
from img2brain._forks import works_after_fork
from img2brain.confirm import BestLayers, ScoredRows
from img2brain.datasets.base import Dataset
from img2brain.errors import FeatureError, FitError, TrackingError, lack_of, stopping
from img2brain.evaluate import Evaluator
from img2brain.home import Home
from img2brain.publish import confirmation_record
from img2brain.records import TrialRecord
from img2brain.records.confirmation import VALIDATION
from img2brain.result import WHOLE, TrialResult
from img2brain.spec import StudySpec, TrialSpec
from img2brain.statistics import noise_ceiling
from img2brain.study._bar import Bar
from img2brain.study.best_layers import best_by_layer, best_layers
from img2brain.study.outcome import StudyOutcome
from img2brain.study.report import report
from img2brain.study.search import Search, ToldTrial, best_trial, stored_studies
from img2brain.study.setting import Setting, make_ready
from img2brain.study.space import Parameters, Suggestion
from img2brain.tracking._local import open_to_read
from img2brain.tracking.own_name import origin_of, require_own_name
from img2brain.tracking.reading import find_trial
from img2brain.tracking.tracker import Tracker

log = logging.getLogger(__name__)

_MOST_INTERVALS = 5


@works_after_fork
def run_study(spec: StudySpec, home: Home | Path | str = "mlruns", dataset: Dataset | None = None) -> StudyOutcome:
    """Run a study to its end, or go on with it where it was left.

    Parameters
    ----------
    spec : StudySpec
        What to search.
    home : Home, Path or str
        The home, or its folder.
    dataset : Dataset, optional
        The data, in place of what the study names: of any class that extends `img2brain.Dataset`.

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
    place = Home.of(home)
    with stopping(f"The study {spec.name!r} in the home {place.folder}"), place.in_use():
        return _run_study(spec, place, dataset)


def _run_study(spec: StudySpec, place: Home, dataset: Dataset | None) -> StudyOutcome:
    setting = make_ready(spec, place, dataset)
    with place.only_here(setting.name, f"The study {setting.name!r}"):
        stored = stored_studies(place)
        is_first = setting.first_name in stored and not setting.is_renamed
        name = str(setting.first_name) if is_first else setting.name
        _require_own_name(setting)
        _tell_what_changed(setting, name, stored)
        start = time.perf_counter()
        setting.extract()
        return Run(setting, name, features_s=time.perf_counter() - start).to_the_end()


class Run:
    """One run of a study.

    Parameters
    ----------
    setting : Setting
        The study made ready, its features extracted.
    name : str
        Its full name.
    features_s : float
        Seconds that the features took.
    """

    def __init__(self, setting: Setting, name: str, features_s: float = 0.0) -> None:
        self.setting = setting
        self.name = name
        self.features_s = features_s
        self.evaluator: Evaluator = setting.evaluator()
        spec = setting.spec
        self.record = setting.record(name)
        self.search = Search(setting.home, name, setting.space, spec.sampler, spec.seed, setting.description)
        self.tracker = Tracker(setting.home, self.record, origin_of(setting.dataset.origin))
        self._restore_search()
        self.n_trials = self._count()

    def to_the_end(self) -> StudyOutcome:
        """Work through the trials, track what is missing, publish the best and show it."""
        try:
            self.setting.keep_plugins()
            told = self.work_through()
            run_ids = self._track_missing(told)
            self._give_intervals(told, run_ids)
            outcome = self._publish(told, run_ids)
            report(self.setting, self.search, self.evaluator, self.tracker, outcome)
        except TrackingError:  # The store would not answer this either.
            raise
        except BaseException:
            with suppress(TrackingError):
                self.tracker.close("KILLED")
            raise
        return outcome

    def work_through(self) -> list[ToldTrial]:
        """Ask, evaluate, tell and track the trials that are left, and return all."""
        told = self.search.told()
        if told:
            log.info("%s: %d of %d trials are done already", self.name, len(told), self.n_trials)
        with Bar(self.n_trials, told) as bar:
            for number in range(len(told), self.n_trials):
                bar.show(self._trial(number))
        return self.search.told()

    def _trial(self, number: int) -> ToldTrial:
        """Ask, evaluate, tell and track one trial. Once told it is safe: a later run can track it."""
        start = time.perf_counter()
        asked, suggestion = self.search.ask(number)
        spec, found = self._evaluate(suggestion)
        outcome = found if isinstance(found, str) else found.score
        self.search.tell(asked, spec, outcome)
        self._track(number, spec, asked.params, found, time.perf_counter() - start)
        if isinstance(outcome, str):
            return ToldTrial(number, spec, asked.params, math.nan, outcome)
        return ToldTrial(number, spec, asked.params, outcome, "")

    def _evaluate(self, suggestion: Suggestion) -> tuple[TrialSpec, TrialResult | str]:
        """Return the absolute spec with what was found, or with the reason of its own why nothing was."""
        spec = suggestion.spec
        try:
            spec = _absolute(suggestion, self.evaluator)
            result = self.evaluator.evaluate(spec)
        except (FitError, FeatureError, ArithmeticError, ValueError) as error:
            if lack_of(error):
                raise
            return spec, f"{type(error).__name__}: {error}"
        if math.isnan(result.score):
            n_undefined = int(result.objective.summaries[WHOLE]["n_undefined"])
            label, n_voxels = result.objective.label, len(result.accuracy)
            return spec, f"FitError: {label} is undefined for {n_undefined} of {n_voxels} voxels, as of a constant."
        return spec, result

    def _restore_search(self) -> None:
        """Write a search log again that was lost, from what is tracked."""
        n_told, tracked = len(self.search.told()), self.tracker.finished()
        if n_told in tracked:
            n_restored = self.search.restore(self.tracker.records())
            log.warning("%s: %d trials that the search log lacked are back from their records", self.name, n_restored)

    def _track_missing(self, told: list[ToldTrial]) -> dict[int, str]:
        """Track what a kill or a failing store left out, evaluated anew, and return all run ids by number."""
        tracked = self.tracker.finished()
        missing = [trial for trial in told if trial.number not in tracked]
        if missing:
            log.info("tracking %d trials that the tracking store lacks", len(missing))
        for trial in missing:
            found = trial.failure or self.evaluator.evaluate(trial.spec)
            tracked[trial.number] = self._track(trial.number, trial.spec, trial.parameters, found, 0.0)
        return tracked

    def _track(self, number: int, spec: TrialSpec, asked: Parameters, found: TrialResult | str, wall_s: float) -> str:
        record = self.setting.trial_record(self.record, number, spec, asked, found, wall_s)
        if isinstance(found, str):
            return self.tracker.log_trial(record)
        rows, largest = self.setting.split.train, self.setting.n_components
        features = partial(self.setting.bank(spec).coordinates_file, spec.layer, rows, largest, spec.n_components)
        return self.tracker.log_trial(record, found, features)

    def _publish(self, told: list[ToldTrial], run_ids: Mapping[int, str]) -> StudyOutcome:
        best = best_trial(told)
        if best is None:
            reason = told[-1].failure if told else "there are no trials"
            raise FitError(f"All {len(told)} trials of {self.name} failed, the last one: {reason}")
        run_id = run_ids[best.number]
        publisher = self.setting.publisher()

        def chosen() -> BestLayers | None:
            return best_layers(best, told, self.setting, self.evaluator, publisher.refit)

        record = self._record_of(run_id)
        published = publisher.publish(record, run_id, self.setting.bank(best.spec), self.tracker, chosen)
        notes = tuple(self.setting.space.edges(best.parameters))
        scored = record.metrics[record.objective]
        objective = f"{scored.label}, {scored.summary} over voxels"
        return StudyOutcome(self.name, told, best, published, notes, self.features_s, objective)

    def _record_of(self, run_id: str) -> TrialRecord:
        found = find_trial(self.tracker.store, run_id)
        assert found is not None, "a trial that is tracked has a run"
        return found.record

    def _give_intervals(self, told: list[ToldTrial], run_ids: Mapping[int, str]) -> None:
        """Give the best trials of the best layers an interval, where no rows were kept to confirm one of them.

        Resamples tell how much other images would have changed the score, not how much choosing by it flatters it.
        """
        if len(self.setting.split.confirmation):
            return
        unknown = noise_ceiling.unknown(self.setting.dataset.n_voxels)
        sets = self.setting.split.sets(self.setting.split.scored)
        for trial in best_by_layer(told)[:_MOST_INTERVALS]:
            responses, predictions = self.evaluator.predict(trial.spec)
            rows = ScoredRows(responses, self.setting.dataset.rois, self.setting.metrics, unknown, sets)
            found = rows.report(predictions)
            record = confirmation_record(self._record_of(run_ids[trial.number]), VALIDATION, found.part())
            self.tracker.log_validation(run_ids[trial.number], record, found.arrays)

    def _count(self) -> int:
        """Count the trials that there will be: as many as asked for, and never fewer than there are."""
        n_cells, asked = self.search.n_cells, self.setting.spec.trials
        wanted = min(n_cells, asked or n_cells) if n_cells else asked or 0
        return max(wanted, len(self.search.told()))


def _absolute(suggestion: Suggestion, evaluator: Evaluator) -> TrialSpec:
    """Turn relative hyperparameters into absolute ones, by the scale of the components at hand."""
    if not suggestion.relative:
        return suggestion.spec
    scale = evaluator.alpha_scale(suggestion.spec)
    values = dict(suggestion.spec.parameters)
    for name in suggestion.relative:
        value = values[name]
        assert isinstance(value, int | float), "what is relative is a number"
        values[name] = value * scale
    return suggestion.spec.model_copy(update={"parameters": values})


def _require_own_name(setting: Setting) -> None:
    """Refuse data under a name that other data have in this home or on its server."""
    dataset = setting.dataset
    found = (dataset.name, dataset.digest, dataset.source, origin_of(dataset.origin))
    require_own_name(open_to_read(setting.home), *found)


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
