"""The trials of one study by number, kept up to date from what is new in the log."""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from optuna.trial import FrozenTrial, TrialState

from img2brain.study._said import NUMBER, POINT, require_said_of_trial
from img2brain.study._samplers import Telling
from img2brain.study._search_log import SearchLog


class Trials:
    """The trials of one study.

    A trial has its number from the time when it is asked. Trials of old logs keep none, and are numbered by their
    order. A number is free again when its trial was cut off.

    Parameters
    ----------
    log : SearchLog
        Holds them.
    study : int
        Optuna's id of the study.
    """

    def __init__(self, log: SearchLog, study: int) -> None:
        self._log, self._study = log, study
        self._over = Telling()
        self._running: dict[int, FrozenTrial] = {}
        self._held: dict[int, set[int]] = {}  # by number Optuna's ids: two, where a lock was lost with its connection
        self._points: dict[str, set[int]] = {}
        self._n_seen = self._first_free = 0

    @classmethod
    def of(cls, log: SearchLog, study: int) -> Trials:
        """Return the trials of a study as they are now."""
        found = cls(log, study)
        found.update()
        return found

    def update(self) -> None:
        """Take what is new in the log."""
        for trial in self._log.news(self._study, self._running, self._n_seen):
            if trial.number >= self._n_seen:
                self._n_seen = trial.number + 1
            self._take(trial)

    @property
    def over(self) -> Sequence[FrozenTrial]:
        """Those that are over, well or badly; each has our number in place of Optuna's."""
        return self._over.all()

    def n_over(self, n_trials: int) -> int:
        """Count those that are over, of so many."""
        return bisect_left(self.over, n_trials, key=lambda trial: trial.number)

    @property
    def telling(self) -> Sequence[FrozenTrial]:
        """Those of them that tell a sampler most."""
        return self._over.most()

    @property
    def running(self) -> Iterable[FrozenTrial]:
        """Those that are asked and not told."""
        return self._running.values()

    @property
    def first_free(self) -> int:
        """The lowest number that no trial holds."""
        while self._first_free in self._held:
            self._first_free += 1
        return self._first_free

    def is_tried(self, point: str, number: int) -> bool:
        """Tell whether a trial of a lower number is at this point."""
        return any(other < number for other in self._points.get(point, ()))

    def _take(self, trial: FrozenTrial) -> None:
        require_said_of_trial(trial.number, trial.user_attrs)
        was = self._running.pop(trial._trial_id, None)
        if trial.state == TrialState.FAIL:
            self._let_go(was)
        elif trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            self._keep(trial)
        else:
            self._running[trial._trial_id] = trial
            self._hold(trial, trial.user_attrs.get(NUMBER))

    def _keep(self, trial: FrozenTrial) -> None:
        numbered = copy.copy(trial)
        numbered.number = trial.user_attrs.get(NUMBER, self.first_free)
        self._hold(numbered, numbered.number)
        self._over.add(numbered)

    def _hold(self, trial: FrozenTrial, number: int | None) -> None:
        if number is not None:
            self._held.setdefault(number, set()).add(trial._trial_id)
            self._points.setdefault(trial.user_attrs.get(POINT, ""), set()).add(number)

    def _let_go(self, trial: FrozenTrial | None) -> None:
        """Free the number of a trial that was cut off, where it was seen at work and no other trial has it."""
        number = None if trial is None else trial.user_attrs.get(NUMBER)
        if trial is not None and number is not None:
            self._held[number].discard(trial._trial_id)
            if not self._held[number]:
                del self._held[number]
                self._points[trial.user_attrs.get(POINT, "")].discard(number)
                self._first_free = min(self._first_free, number)
