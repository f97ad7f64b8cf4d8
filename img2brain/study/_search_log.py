"""What every store of searches gives to the workers that share it."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from itertools import count
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from img2brain._quiet import Quiet

QUIET = Quiet("optuna", ["optuna"], logging.WARNING)  # which tells of every study that it makes


class SearchLog(ABC):
    """Where the searches of a home are logged, with locks and signs of life that all their workers see."""

    @property
    @abstractmethod
    def storage(self) -> BaseStorage:
        """Optuna's view of it."""

    @abstractmethod
    def lock(self, name: str) -> AbstractContextManager[object]:
        """Return a lock that one worker holds at a time, of all that share the log; free when its holder dies."""

    @abstractmethod
    def attend(self, worker: str) -> AbstractContextManager[object]:
        """Say that a worker lives, until the end of the context or of its process."""

    @abstractmethod
    def living(self, workers: Iterable[str]) -> set[str]:
        """Return those of some workers that live."""

    def make(self, study: int, trial: FrozenTrial) -> int:
        """Add a trial to a study, at once with all that is said of it, and return Optuna's id of it."""
        return self.storage.create_new_trial(study, trial)

    def tell(self, trial: int, said: Mapping[str, Any], state: TrialState, value: float | None = None) -> bool:
        """End a trial with what is said of it, and return whether it was not over already."""
        try:
            for name, item in said.items():
                self.storage.set_trial_user_attr(trial, name, item)
            self.storage.set_trial_state_values(trial, state, None if value is None else [value])
        except UpdateFinishedTrialError:
            return False
        return True

    def standing(self, workers: Iterable[str]) -> dict[str, int]:
        """Return those of some workers that stand still, though they live, with the ids of their processes.

        A log that takes them for dead after a while has none.
        """
        return {}

    def news(self, study: int, unfinished: Collection[int], n_known: int) -> list[FrozenTrial]:
        """Return the trials of a study that may have changed, in the order in which they were made.

        Parameters
        ----------
        study : int
            Optuna's id of the study.
        unfinished : collection of int
            Optuna's ids of the trials that were not over when they were last seen.
        n_known : int
            How many trials were seen; those that were made since are returned as well.

        Notes
        -----
        The cost follows what is new, not what there is.
        """
        if not n_known:
            return self.storage.get_all_trials(study, deepcopy=False)
        found = [self.storage.get_trial(trial) for trial in sorted(unfinished)]
        with suppress(KeyError):  # from the first number on that no trial has
            for number in count(n_known):
                found.append(
                    self.storage.get_trial(self.storage.get_trial_id_from_study_id_trial_number(study, number))
                )
        return found
