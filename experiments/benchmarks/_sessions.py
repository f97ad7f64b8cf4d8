"""Simulated recordings with sessions and categories, of which the truth is known: what a score in new ones would be.

Each row is a picture of a category that is shown in a session. Its features are its own, plus those that the session
(as its light, or its place in a film) and the category have in common; the responses follow its own features, and each
session and each category shifts them in a way of its own. A model that has met a session or a category knows its shift
by its features; of a new one it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from img2brain import Dataset
from img2brain.spec import SplitSpec

Array = NDArray[Any]
Shifts = tuple[Array, Array]  # of features, and of responses
Target = Literal["session", "category"]

N_SESSIONS, N_CATEGORIES, N_EACH, N_FEATURES, N_VOXELS = 12, 9, 4, 20, 30
SHIFT, NOISE, ALPHA, N_FRESH = 1.5, 3.0, 10.0, 30


class Sessions(Dataset):
    """Rows of all categories in all sessions."""

    def __init__(self, X: Array, Y: Array, session: Array, category: Array) -> None:
        columns = {"session": session, "category": category}
        super().__init__(name="sessions", n_voxels=Y.shape[1], features={"x": X}, columns=columns)
        self.Y = Y

    def read_responses(self, rows: Any) -> Array:
        """Read the responses of some rows."""
        return np.array(self.Y[rows])


@dataclass
class World:
    """What makes rows: shifts of sessions and categories, and what responses follow."""

    seed: int

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.weights = self.random.standard_normal((N_FEATURES, N_VOXELS)) / np.sqrt(N_FEATURES)
        self.shifts = {"session": self._shifts(N_SESSIONS), "category": self._shifts(N_CATEGORIES)}

    def _shifts(self, n: int) -> Shifts:
        return self.random.standard_normal((n, N_FEATURES)), SHIFT * self.random.standard_normal((n, N_VOXELS))

    def rows(self, session: Array, category: Array, fresh: Mapping[str, Shifts] | None = None) -> tuple[Array, Array]:
        """Make features and responses of rows, of sessions or categories that are fresh where these are given."""
        shifts = {**self.shifts, **(fresh or {})}
        own = self.random.standard_normal((len(session), N_FEATURES))
        (x_session, y_session), (x_category, y_category) = shifts["session"], shifts["category"]
        noise = NOISE * self.random.standard_normal((len(session), N_VOXELS))
        Y = own @ self.weights + y_session[session] + y_category[category] + noise
        return own + x_session[session] + x_category[category], Y

    def dataset(self) -> Sessions:
        """Make the rows of an experiment."""
        session, category = _crossed(N_SESSIONS, N_CATEGORIES)
        return Sessions(*self.rows(session, category), session, category)

    def truth(self, coefficients: Array, target: Target, n_new: int, n_times: int) -> float:
        """Return the mean score of a model in sessions or categories that nobody has met, so many at a time."""
        sizes = {"session": N_SESSIONS, "category": N_CATEGORIES} | {target: n_new}
        where = _crossed(*sizes.values())
        scores = [score(coefficients, *self.rows(*where, {target: self._shifts(n_new)})) for _ in range(n_times)]
        return float(np.mean(scores))


def _crossed(n_sessions: int, n_categories: int) -> tuple[Array, Array]:
    session, category, _ = np.indices((n_sessions, n_categories, N_EACH)).reshape(3, -1)
    return session, category


def fitted(X: Array, Y: Array) -> Array:
    """Fit a ridge regression: its coefficients, the intercept last."""
    x, y = X.mean(axis=0), Y.mean(axis=0)
    coefficients = np.linalg.solve((X - x).T @ (X - x) + ALPHA * np.eye(X.shape[1]), (X - x).T @ (Y - y))
    return np.vstack([coefficients, y - x @ coefficients])


def score(coefficients: Array, X: Array, Y: Array) -> float:
    """Return the median over voxels of the correlation of predictions with responses."""
    P = X @ coefficients[:-1]
    p, y = P - P.mean(axis=0), Y - Y.mean(axis=0)
    return float(np.median((p * y).sum(axis=0) / np.sqrt((p * p).sum(axis=0) * (y * y).sum(axis=0))))


def scored_and_true(spec: SplitSpec, target: Target, seed: int) -> tuple[float, float]:
    """Return the validation score of a split, and the true score of the same models in new sessions or categories.

    Both are means over folds. As many sessions or categories are new at a time as validate together, where a split
    keeps them whole, and two where it does not.
    """
    world = World(seed)
    dataset = world.dataset()
    folds = dataset.split(spec.model_copy(update={"seed": seed})).folds
    column, X, Y = dataset.columns[target], dataset.features["x"], dataset.Y
    found = np.empty((len(folds), 2))
    for scores, fold in zip(found, folds, strict=True):
        coefficients = fitted(X[fold.train], Y[fold.train])
        n_new = min(len({column[row] for row in fold.validation}), 2)
        scores[0] = score(coefficients, X[fold.validation], Y[fold.validation])
        scores[1] = world.truth(coefficients, target, n_new, -(-N_FRESH // len(folds)))
    scored, true = found.mean(axis=0)
    return float(scored), float(true)


def inflation(spec: SplitSpec, target: Target, seeds: range) -> dict[str, float]:
    """Return means over simulations, of the inflation with the half width of its 95 % interval."""
    found = np.array([scored_and_true(spec, target, seed) for seed in seeds])
    differences = found[:, 0] - found[:, 1]
    half = 1.96 * differences.std(ddof=1) / np.sqrt(len(differences))
    return {"scored": found[:, 0].mean(), "true": found[:, 1].mean(), "by": differences.mean(), "half": half}
