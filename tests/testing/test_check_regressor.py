"""The conformance suite of regressors: passed by components from elsewhere, and failed by broken ones, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from img2brain.catalog import Catalog
from img2brain.moments import Moments
from img2brain.regressors.base import (
    COUNT,
    NOT_NEGATIVE,
    Hyperparameter,
    Limit,
    Limits,
    MomentsRegressor,
    Regressor,
    Space,
    beside,
    namespace,
    require,
)
from img2brain.testing import check_regressor, regressor_checks

Array = NDArray[np.float64]


class NearMean(Regressor):
    """The mean response, and some of what a feature adds: rows in, rows out, no moments."""

    search: ClassVar[Space] = {"share": Hyperparameter(0.0, 1.0)}
    limits: ClassVar[Limits] = {"share": Limit(lambda value: 0 <= value <= 1, "be from 0 to 1")}
    keeps_rows = False
    arrays: ClassVar[tuple[str, ...]] = ("mean_", "slopes_")

    def __init__(self, share: float = 0.5) -> None:
        self.share = share

    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        X, Y = self.checked_rows(X, Y)
        self.slopes_ = self.share * np.linalg.lstsq(X - X.mean(axis=0), Y - Y.mean(axis=0, dtype=float))[0]
        self.mean_ = Y.mean(axis=0, dtype=float) - X.mean(axis=0) @ self.slopes_
        return self

    def predict(self, X: ArrayLike) -> Array:
        return np.asarray(self.checked_features(X).astype(float) @ self.slopes_ + self.mean_)

    def check_arrays(self) -> int:
        require(self.slopes_.shape[1:] == np.shape(self.mean_))
        return len(self.slopes_)


class Damped(MomentsRegressor[Moments]):
    """A ridge, by way of moments."""

    limits: ClassVar[Limits] = {"damping": NOT_NEGATIVE, "power": COUNT}

    def __init__(self, damping: float = 1.0, power: int = 1) -> None:
        self.damping = damping
        self.power = power

    @classmethod
    def factorise(cls, moments: Moments) -> Moments:
        return moments

    def solve(self, state: Moments) -> Array:
        ridge = self.damping**self.power * beside(np.eye(state.n_features), state.xx)
        found: Array = namespace(state.xx).linalg.solve(state.xx + ridge, state.xy)
        return found


def failures(make: Any) -> dict[str, str]:
    """What the suite says, by check."""
    try:
        check_regressor(make)
    except AssertionError as error:
        return dict(line.split(": ", 1) for line in str(error).splitlines())
    return {}


@pytest.mark.parametrize("make", [NearMean, Damped, lambda: NearMean(share=1.0), lambda: Damped(power=3)])
def test_a_sound_regressor_passes(make: Any) -> None:
    assert failures(make) == {}


def test_one_from_a_file_elsewhere_passes(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ELSEWHERE, encoding="utf-8")
    catalog = Catalog("regressor", "regressors", "img2brain.regressors.base:Regressor")
    found = catalog[catalog.load("mine.py:LeastSquares", tmp_path)]
    check_regressor(found)
    for _, check in regressor_checks():
        check(found)
    assert found.component_name() == "least_squares"


ELSEWHERE = """
from img2brain.regressors.base import Array, Moments, MomentsRegressor, namespace

class LeastSquares(MomentsRegressor[Moments]):
    @classmethod
    def factorise(cls, moments):
        return moments

    def solve(self, state):
        return namespace(state.xx).linalg.solve(state.xx, state.xy)
"""


class WithoutPredict(Regressor):
    arrays = ("mean_",)

    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        return self

    def check_arrays(self) -> int:
        return 1


class WithoutArrays(NearMean):
    arrays = ()


class Transposed(NearMean):
    def predict(self, X: ArrayLike) -> Array:
        return super().predict(X).T


class Narrow(NearMean):
    def predict(self, X: ArrayLike) -> Array:
        return super().predict(X).astype(np.float32)


class Writes(NearMean):
    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        super().fit(X, Y)
        if isinstance(Y, np.ndarray):
            Y -= Y.mean(axis=0)
        return self


class Sorts(NearMean):
    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        Y = np.asarray(Y)
        return super().fit(X, Y[:, np.argsort(Y.var(axis=0))] if Y.ndim == 2 else Y)


class LooksAround(NearMean):
    def predict(self, X: ArrayLike) -> Array:
        found = super().predict(X)
        return np.asarray(found - found.mean(axis=0) + self.mean_)


class Forgets(NearMean):
    def to_arrays(self) -> dict[str, NDArray[Any]]:
        return super().to_arrays() | {"mean_": np.zeros_like(self.mean_)}


class KeepsObjects(NearMean):
    def to_arrays(self) -> dict[str, NDArray[Any]]:
        return super().to_arrays() | {"mean_": np.array([self], dtype=object)}


class TakesNaN(NearMean):
    def checked_rows(self, X: ArrayLike, Y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        return super().checked_rows(np.nan_to_num(X), Y)


class Guesses(NearMean):
    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        super().fit(X, Y)
        self.mean_ = self.mean_ + 1e-9 * np.random.default_rng().random()
        return self


class StartsWarm(NearMean):
    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        offset = 0.1 if hasattr(self, "mean_") else 0.0
        super().fit(X, Y)
        self.mean_ = self.mean_ + offset
        return self


class SearchesBackwards(NearMean):
    search: ClassVar[Space] = {"share": Hyperparameter(1.0, 0.0)}


class SearchesTooFar(NearMean):
    search: ClassVar[Space] = {"share": Hyperparameter(0.0, 2.0)}


class SearchesAnother(NearMean):
    search: ClassVar[Space] = {"alpha": Hyperparameter(0.0, 1.0)}


class SearchesWithoutUnit(NearMean):
    search: ClassVar[Space] = {"share": Hyperparameter(0.0, 1.0, relative=True)}


class SetsNoLimit(NearMean):
    limits: ClassVar[Limits] = {}
    search: ClassVar[Space] = {}


class OffersAnother(NearMean):
    options = ("alphas",)


class TakesAnything(NearMean):
    limits: ClassVar[Limits] = {"share": Limit(lambda value: True, "be anything")}


class ChecksLate(NearMean):
    def check_parameters(self) -> Self:
        if not 0 <= self.share <= 1:
            raise ValueError("share")
        return self


class Neighbour(NearMean):
    arrays = ("mean_", "slopes_", "rows_")

    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        self.rows_ = np.array(Y)
        return super().fit(X, Y)


class DropsAFold(Damped):
    n_folds = 3

    def fit_folds(self, folds: Any) -> Self:
        return super().fit_folds(folds[1:])


class ScalesMoments(Damped):
    @classmethod
    def factorise(cls, moments: Moments) -> Moments:
        xx: Any = moments.xx
        xx *= 1.001
        return moments


class KeepsTensors(Damped):
    def fit_moments(self, moments: Moments) -> Self:
        super().fit_moments(moments)
        self.coef_ = beside(self.coef_, moments.xx)
        return self


class SaysNoFolds(Damped):
    n_folds = 0


class LosesTheIntercept(Damped):
    def fit_moments(self, moments: Moments) -> Self:
        super().fit_moments(moments)
        self.intercept_ = self.intercept_ * 0.0
        return self


BROKEN: list[tuple[type[Any], str, str]] = [
    (WithoutPredict, "complete", "It must define 'predict'."),
    (WithoutArrays, "complete", "It must name in 'arrays' the fitted attributes that are stored."),
    (Transposed, "predictions_have_the_shape_of_the_responses", "must have the shape"),
    (Narrow, "predictions_have_the_shape_of_the_responses", "must be in float64"),
    (Writes, "inputs_are_left_alone", "Y must not be written to."),
    (Sorts, "voxels_keep_their_places", "must be predicted in that order"),
    (LooksAround, "rows_are_predicted_on_their_own", "must not depend on those beside it"),
    (Forgets, "arrays_restore_the_fit", "Restored from its arrays it must predict the same, bit for bit."),
    (KeepsObjects, "arrays_restore_the_fit", "'mean_' must hold numbers. Got object."),
    (TakesNaN, "bad_rows_are_refused", "nan in X or Y of 'fit' must raise DataError. Nothing was raised."),
    (Guesses, "fits_are_repeatable", "Two fits to the same rows"),
    (StartsWarm, "fits_are_repeatable", "must not depend on the one before it"),
    (SearchesBackwards, "search_is_valid", "'low' of 'share' must be below 'high'. Got 1.0 and 0.0."),
    (SearchesTooFar, "search_is_valid", "The whole range of 'share' in 'search' must be allowed. At 2.0 it is not."),
    (SearchesAnother, "search_is_valid", "'alpha' of 'search' must be a parameter."),
    (SearchesWithoutUnit, "search_is_valid", "needs the method 'alpha_scale'"),
    (SetsNoLimit, "parameters_are_limited", "Not in both: share."),
    (OffersAnother, "parameters_are_limited", "It names alphas."),
    (TakesAnything, "bad_parameters_are_refused", "share = nan must raise SpecError. Nothing was raised."),
    (ChecksLate, "bad_parameters_are_refused", "must raise SpecError. Got ValueError: share."),
    (Neighbour, "rows_that_are_kept_are_declared", "'keeps_rows' must be True"),
    (DropsAFold, "moments_are_enough", "'fit_folds' must give what 'fit' gives on the rows."),
    (ScalesMoments, "moments_are_left_alone", "must not write to the moments"),
    (KeepsTensors, "moments_may_be_tensors", "'coef_' must be a NumPy array. Got Tensor."),
    (SaysNoFolds, "moments_are_enough", "'fit_folds' needs 'n_folds', a count. Got 0."),
    (LosesTheIntercept, "a_constant_voxel_is_predicted", "must be predicted at its constant"),
]


@pytest.mark.parametrize(("broken", "check", "says"), BROKEN, ids=[kind.__name__ for kind, _, _ in BROKEN])
def test_a_broken_regressor_fails_by_name(broken: type[Any], check: str, says: str) -> None:
    found = failures(broken)
    assert check in found, found
    assert says in found[check]
    with pytest.raises(AssertionError):
        dict(regressor_checks())[check](broken)


def test_every_check_is_named_once() -> None:
    names = [name for name, _ in regressor_checks()]
    assert len(names) == len(set(names)) >= 20


@pytest.mark.parametrize(
    ("kind", "absent"), [(Regressor, "check_arrays"), (MomentsRegressor, "factorise"), (WithoutPredict, "predict")]
)
def test_absent_methods_are_refused_at_construction(kind: Any, absent: str) -> None:
    with pytest.raises(TypeError, match=absent):
        kind()
