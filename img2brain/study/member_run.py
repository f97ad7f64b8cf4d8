"""A member of a study at work: it evaluates trials, tracks them and publishes the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

from img2brain.confirm import BestLayers, ScoredRows
from img2brain.errors import FeatureError, FitError, lack_of
from img2brain.evaluate import Evaluator
from img2brain.publish import Publication, confirmation_record
from img2brain.records import TrialRecord
from img2brain.records.confirmation import VALIDATION
from img2brain.result import WHOLE, TrialResult
from img2brain.spec import TrialSpec
from img2brain.statistics import noise_ceiling
from img2brain.study.best_layers import best_by_layer, best_layers
from img2brain.study.joint import Draws
from img2brain.study.member import Member
from img2brain.study.search import Search, ToldTrial
from img2brain.study.setting import Setting
from img2brain.study.space import Parameters, Suggestion
from img2brain.tracking.own_name import origin_of
from img2brain.tracking.reading import find_trial
from img2brain.tracking.tracker import Tracker

_MOST_INTERVALS = 5


class MemberRun:
    """A member of a study at work.

    Parameters
    ----------
    setting : Setting
        The study made ready, its features extracted.
    member : Member
        One of its members.
    name : str
        The full name of the study.
    search : Search
        Its search, by one of its workers.
    """

    def __init__(self, setting: Setting, member: Member, name: str, search: Search) -> None:
        self.member = member
        self._make = setting.home.store.array
        self.evaluator: Evaluator = member.evaluator(len(setting.members), self._make)
        self.record = setting.record(name, member, search.home_id)
        origin = origin_of(member.dataset.origin)
        with search.alone():  # of many workers that come at once, the first makes the parent run
            self.tracker = Tracker(setting.home, self.record, origin, search.worker, search.living)
            self.tracked = self.tracker.finished()
        self._first = setting.first

    def evaluate(self, suggestion: Suggestion) -> tuple[TrialSpec, TrialResult | str]:
        """Return the absolute spec with what was found, or with the reason of its own why nothing was."""
        spec = self.member.own(suggestion.spec, self._first)
        try:
            spec = _absolute(spec, suggestion.relative, self.evaluator)
            result = self.evaluator.evaluate(spec)
        except (FitError, FeatureError, ArithmeticError, ValueError) as error:
            if lack_of(error):
                raise
            return spec, f"{type(error).__name__}: {error}{self._named}"
        if math.isnan(result.score):
            n_undefined = int(result.objective.summaries[WHOLE]["n_undefined"])
            label, n_voxels = result.objective.label, len(result.accuracy)
            failure = f"FitError: {label} is undefined for {n_undefined} of {n_voxels} voxels, as of a constant."
            return spec, failure + self._named
        return spec, result

    @property
    def _named(self) -> str:
        """Say which member of several it is, after a sentence."""
        return f" (member {self.member.name!r})" if self.member.name else ""

    def track(self, number: int, spec: TrialSpec, asked: Parameters, found: TrialResult | str, wall_s: float) -> str:
        """Track a trial, unless it is tracked already, and return the id of its run.

        It is where the search log was lost, and with it a trial that was tracked: asked again it is what it was.
        """
        if number in self.tracked:
            return self.tracked[number]
        record = self.member.trial_record(self.record, number, spec, asked, found, wall_s)
        if isinstance(found, str):
            return self.tracker.log_trial(record)
        rows, largest = self.member.split.train, self.member.n_components
        features = partial(self.member.bank(spec).coordinates_file, spec.space, rows, largest, spec.n_components)
        return self.tracker.log_trial(record, found, features)

    def missing(self, told: Sequence[ToldTrial]) -> list[ToldTrial]:
        """Return what a kill or a failing store left untracked, of trials as they were on this member."""
        tracked = self.tracker.finished()
        return [trial for trial in told if trial.number not in tracked]

    def track_missing(self, told: Sequence[ToldTrial]) -> dict[int, str]:
        """Track what is missing, evaluated anew, and return all run ids by number."""
        self.tracked = self.tracker.finished()
        for trial in told:
            if trial.number not in self.tracked:
                found = trial.failure or self.evaluator.evaluate(trial.spec)
                self.tracked[trial.number] = self.track(trial.number, trial.spec, trial.parameters, found, 0.0)
        return self.tracked

    def publish(
        self, best: ToldTrial, told: Sequence[ToldTrial], run_id: str, draws: Draws | None = None
    ) -> Publication:
        """Publish the best trial of the study: refitted, confirmed and registered under the name of this dataset.

        Parameters
        ----------
        best : ToldTrial
            As it was on this member.
        told : sequence of ToldTrial
            All trials, as they were on this member.
        run_id : str
            The run of the best one.
        draws : ndarray (n_resamples, n_confirmation), optional
            Resamples of the confirmation rows that are joint over members.
        """
        publisher = self.member.publisher(draws, self._make)

        def chosen() -> BestLayers | None:
            return best_layers(best, told, self.member, self.evaluator, publisher.refit)

        return publisher.publish(self.record_of(run_id), run_id, self.member.bank(best.spec), self.tracker, chosen)

    def record_of(self, run_id: str) -> TrialRecord:
        """Return the record of a trial that is tracked."""
        found = find_trial(self.tracker.store, run_id)
        assert found is not None, "a trial that is tracked has a run"
        return found.record

    def give_intervals(self, told: Sequence[ToldTrial], run_ids: Mapping[int, str]) -> None:
        """Give the best trials of the best layers an interval, where no rows were kept to confirm one of them.

        Resamples tell how much other images would have changed the score, not how much choosing by it flatters it.
        """
        member, split = self.member, self.member.split
        if len(split.confirmation):
            return
        unknown = noise_ceiling.unknown(member.dataset.n_voxels)
        for trial in best_by_layer(told)[:_MOST_INTERVALS]:
            responses, predictions = self.evaluator.predict(trial.spec)
            units = split.sets(split.scored)
            rows = ScoredRows(responses, member.dataset.rois, member.metrics, unknown, units, make=self._make)
            found = rows.report(predictions)
            record = confirmation_record(self.record_of(run_ids[trial.number]), {VALIDATION: found.part()})
            self.tracker.log_validation(run_ids[trial.number], record, found.arrays)


def _absolute(spec: TrialSpec, relative: frozenset[str], evaluator: Evaluator) -> TrialSpec:
    """Turn relative hyperparameters into absolute ones, by the scale of the components at hand."""
    if not relative:
        return spec
    scale = evaluator.alpha_scale(spec)
    values = dict(spec.parameters)
    for name in relative:
        value = values[name]
        assert isinstance(value, int | float), "what is relative is a number"
        values[name] = value * scale
    return spec.model_copy(update={"parameters": values})
