"""How far a search is, for the person who waits."""

from __future__ import annotations

import logging

from tqdm import tqdm

from img2brain.logs import is_watched
from img2brain.result import score_text
from img2brain.study.search import ToldTrial, best_trial

log = logging.getLogger(__name__)

_LINES = 20  # that a search prints where there is no terminal, besides one for each new best


class Bar:
    """A progress bar with the best so far on a terminal, some plain lines elsewhere."""

    def __init__(self, total: int, told: list[ToldTrial], quiet: bool = False) -> None:
        self._total, self._quiet = total, quiet
        self._best = best_trial(told)
        self._n_done = len(told)
        self._bar = tqdm(
            total=total, initial=self._n_done, desc="trials", dynamic_ncols=True, disable=quiet or not is_watched()
        )

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def show(self, trial: ToldTrial, n_done: int) -> None:
        """Show a finished trial, the last of so many, some of which other workers finished."""
        n_new, self._n_done = n_done - self._n_done, n_done
        is_best = trial.succeeded and (self._best is None or trial.score > self._best.score)
        self._best = trial if is_best else self._best
        best = f"best {score_text(self._best.score)} (#{self._best.number})" if self._best else "no score yet"
        self._bar.set_postfix_str(best, refresh=False)
        self._bar.update(n_new)
        due = self._n_done % max(1, self._total // _LINES) == 0 or self._n_done == self._total
        if self._bar.disable and not self._quiet and (is_best or due or not trial.succeeded):
            now = trial.failure or score_text(trial.score)
            spec = trial.spec.label
            log.info("trial #%d (%d of %d): %s %s; %s", trial.number, self._n_done, self._total, spec, now, best)
