from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from img2brain.study._samplers import BoundedTPE, Learned, Telling

SHARED = {"depth": FloatDistribution(0, 1), "regressor": CategoricalDistribution(("linear", "ridge"))}
ALPHA = {"ridge.alpha": FloatDistribution(1e-4, 1e4, log=True)}


def finished(number: int, score: float | None) -> FrozenTrial:
    """A trial whose parameters follow from its number."""
    regressor = "ridge" if number % 3 else "linear"
    params: dict[str, Any] = {"depth": (number * 0.618) % 1, "regressor": regressor}
    params |= {"ridge.alpha": 10.0 ** (number % 7 - 3)} if regressor == "ridge" else {}
    found = create_trial(
        state=TrialState.PRUNED if score is None else TrialState.COMPLETE,
        value=score, params=params, distributions=SHARED | (ALPHA if regressor == "ridge" else {}),
    )  # fmt: skip
    found.number = number
    return found


def trials(n: int) -> list[FrozenTrial]:
    return [finished(number, None if number % 11 == 5 else (number * 0.7548) % 1) for number in range(n)]


def suggestions(sampler: Any, past: Sequence[FrozenTrial]) -> dict[str, Any]:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.add_trials(past)
    trial = study.ask()
    trial.suggest_float("depth", 0, 1)
    if trial.suggest_categorical("regressor", ("linear", "ridge")) == "ridge":
        trial.suggest_float("ridge.alpha", 1e-4, 1e4, log=True)
    return trial.params


def telling(past: Sequence[FrozenTrial]) -> BoundedTPE:
    return BoundedTPE(7, Learned(Telling(past).most()))


@pytest.mark.parametrize("n", [0, 3, 12, 60, 250])
def test_a_short_search_asks_as_optuna_does(n: int) -> None:
    past = trials(n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        theirs = TPESampler(seed=7, multivariate=True, group=True)
    assert suggestions(telling(past), past) == suggestions(theirs, past)


@settings(max_examples=15)
@given(st.lists(st.sampled_from("abc"), min_size=12, max_size=40), st.integers(0, 3))
def test_draws_from_the_same_trials_are_each_as_optuna_has_them(kinds: list[str], seed: int) -> None:
    """Also where trials have parameters of their own, in any order, and what is learned from trials is shared."""
    choice, own = CategoricalDistribution(("a", "b", "c")), FloatDistribution(0, 1)
    past = [
        create_trial(
            value=(number * 0.7548) % 1,
            params={"kind": kind, kind: (number * 0.618) % 1},
            distributions={"kind": choice, kind: own},
        )
        for number, kind in enumerate(kinds)
    ]
    for number, trial in enumerate(past):
        trial.number = number

    def drawn(sampler: Any) -> dict[str, Any]:
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(past)
        trial = study.ask()
        trial.suggest_float(trial.suggest_categorical("kind", ("a", "b", "c")), 0, 1)
        return trial.params

    learned = Learned(past)
    for attempt in (seed, seed + 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            theirs = TPESampler(seed=attempt, multivariate=True, group=True)
        assert drawn(BoundedTPE(attempt, learned)) == drawn(theirs)


def test_a_long_search_looks_at_the_trials_that_tell_most_alone() -> None:
    past = trials(400)
    seen = {trial.number for trial in Telling(past).most()}
    changed = [trial if trial.number in seen else finished(trial.number, -1.0) for trial in past]
    assert len(seen) == 250
    assert suggestions(telling(past), past) == suggestions(telling(changed), changed)


@given(st.integers(0, 400), st.randoms(use_true_random=False))
def test_the_best_and_the_latest_are_kept_in_their_order(n: int, chance: random.Random) -> None:
    scores = [chance.choice([None, 0.5, chance.random()]) for _ in range(n)]
    past = [finished(number, score) for number, score in enumerate(scores)]
    kept = [trial.number for trial in Telling(chance.sample(past, n)).most()]
    assert kept == sorted(set(kept))
    assert len(kept) == min(250, n)
    scored = sorted((-score, number) for number, score in enumerate(scores) if score is not None)
    assert {number for _, number in scored[:25]} <= set(kept)
    assert set(range(n)[-225:]) <= set(kept)
