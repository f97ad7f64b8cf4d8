"""What a regressor is, for ours and for those of others: its checks, fits from rows or moments, arrays for storage.

`Regressor` fits rows. What more a regressor can do is said by the methods that it has:

- ``fit_folds``, which `MomentsRegressor` gives: it fits moments, and is scored from its coefficients;
- ``alpha_scale``, of `PenalisedRegressor`: its alpha can be searched in units that follow the data.
"""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any, ClassVar, Generic, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.utils.validation import check_is_fitted, validate_data

from img2brain._arrays import beside, namespace, to_numpy
from img2brain.errors import DataError, FitError, ModelError, ShapeError, SpecError
from img2brain.moments import Moments
from img2brain.regressors._limits import (
    COUNT,
    COUNT_OR_NONE,
    FLAG,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    SHARE,
    Limit,
    Limits,
)

__all__ = [
    "COUNT",
    "COUNT_OR_NONE",
    "FLAG",
    "NOT_NEGATIVE",
    "POSITIVE",
    "SEED",
    "SHARE",
    "Array",
    "Hyperparameter",
    "Limit",
    "Limits",
    "LinearRegressor",
    "MomentsRegressor",
    "PenalisedRegressor",
    "Regressor",
    "Space",
    "beside",
    "folds_of",
    "merged",
    "namespace",
    "require",
    "to_numpy",
]

Array = NDArray[np.float64]
State = TypeVar("State")


@dataclass(frozen=True)
class Hyperparameter:
    """Where a hyperparameter is searched by default.

    Attributes
    ----------
    low, high : float
        The range, both ends in it.
    log : bool
        Search its logarithm.
    integer : bool
        Only whole numbers.
    relative : bool
        In units of the regressor's `alpha_scale`.
    within_features : bool
        A count of at most the features: a study searches up to the number of components at hand.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False
    relative: bool = False
    within_features: bool = False


Space: TypeAlias = Mapping[str, Hyperparameter]


class Regressor(MultiOutputMixin, RegressorMixin, BaseEstimator, ABC):
    """Base of all regressors: ``fit(X, Y)`` and ``predict(X)`` as in scikit-learn, for one response or many.

    Attributes
    ----------
    search : mapping of str to Hyperparameter
        The default search space; empty where there is nothing to search.
    limits : mapping of str to Limit
        The values that each parameter may take; every parameter of the constructor has an entry.
    options : tuple of str
        Parameters that are never searched: what a study gives, a list included, is their one value.
    keeps_rows : bool
        Whether the fitted regressor holds training responses, as a published model then does. A trial's is then
        not stored.
    arrays : tuple of str
        The fitted attributes that `to_arrays` keeps: all that `predict` needs.

    Notes
    -----
    A class of one's own defines `fit`, `predict` and `check_arrays`, and names its `arrays`. Its constructor takes each
    parameter by name, with a default, and keeps it as it is under that name, as scikit-learn's do. `checked_rows` and
    `checked_features` refuse what cannot be fitted or predicted. ``img2brain.testing.check_regressor`` tells whether it
    keeps what is promised here. One that is linear and needs only moments extends `MomentsRegressor` instead.

    Examples
    --------
    >>> class Mean(Regressor):
    ...     arrays = ("means_", "n_inputs_")
    ...
    ...     def fit(self, X, Y):
    ...         X, Y = self.checked_rows(X, Y)
    ...         self.means_, self.n_inputs_ = Y.mean(axis=0, dtype=float), X.shape[1]
    ...         return self
    ...
    ...     def predict(self, X):
    ...         return np.stack([self.means_] * len(self.checked_features(X)))
    ...
    ...     def check_arrays(self):
    ...         require(self.means_.ndim <= 1)
    ...         return int(self.n_inputs_)
    >>> Mean().fit([[0.0], [1.0]], [2.0, 4.0]).predict([[5.0]])
    array([3.])
    """

    search: ClassVar[Space] = {}
    limits: ClassVar[Limits] = {}
    options: ClassVar[tuple[str, ...]] = ()
    keeps_rows: ClassVar[bool] = True
    arrays: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        """Fit responses to features.

        Parameters
        ----------
        X : array_like, shape (n_images, n_features)
            Features, to be left as they are.
        Y : array_like, shape (n_images, n_voxels) or (n_images,)
            Responses, of any real type, to be left as they are.

        Returns
        -------
        self

        Raises
        ------
        SpecError
            Where a parameter is not allowed.
        DataError
            Where a value is not finite or rows do not match (`ShapeError`); `checked_rows` raises both.
        FitError
            Where these rows cannot be fitted.
        """

    @abstractmethod
    def predict(self, X: ArrayLike) -> Array:
        """Predict responses, in float64 and in the shape of the responses of the fit.

        Raises
        ------
        DataError
            Where a value is not finite, or there are not as many features as in the fit; `checked_features` raises it.
        """

    @abstractmethod
    def check_arrays(self) -> int:
        """Check that the arrays of a stored fit fit together (`require` it), and return the number of features."""

    def check_parameters(self) -> Self:
        """Check the parameters' values, as `fit` does before any work.

        Raises
        ------
        SpecError
            Naming the parameter, the regressor, what is allowed and what was found.
        """
        for name, limit in self.limits.items():
            value = getattr(self, name)
            if not _holds(limit, value):
                raise SpecError(f"The {name!r} of {self.component_name()} must {limit.says}. Got {value!r}.")
        return self

    @classmethod
    def component_name(cls) -> str:
        """Return what messages call it: the name of its class, in words, which is the catalog's name of one of ours."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__).lower()

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that was fitted, as named arrays, for storage without pickle."""
        check_is_fitted(self)
        return {name: np.asarray(getattr(self, name)) for name in self.arrays}

    @classmethod
    def from_arrays(cls, parameters: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the fitted regressor that `to_arrays` described.

        Raises
        ------
        ModelError
            Where arrays or parameters are not those of this regressor, or do not fit together.
        """
        if set(arrays) != set(cls.arrays):
            raise ModelError(
                f"A fitted {cls.component_name()} has the arrays {sorted(cls.arrays)}. Got {sorted(arrays)}."
            )
        try:
            regressor = cls(**parameters).check_parameters()
            for name, array in arrays.items():
                setattr(regressor, name, array if array.ndim else array[()])
            regressor.n_features_in_ = regressor.check_arrays()
        except (ValueError, IndexError, TypeError):
            found = dict(parameters) | {name: array.shape for name, array in arrays.items()}
            raise ModelError(
                f"What was stored of this {cls.component_name()} does not fit together: {found}."
            ) from None
        return regressor

    def checked_rows(self, X: ArrayLike, Y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """Check the parameters and the rows of a fit, and return the rows as arrays.

        Raises
        ------
        SpecError
            Where a parameter is not allowed.
        DataError
            Where a value is not finite, rows do not match (`ShapeError`), or there are fewer than two.
        """
        self.check_parameters()
        with _refused():
            X, Y = validate_data(self, X, Y, validate_separately=({"ensure_min_samples": 2}, {"ensure_2d": False}))
        rows: tuple[NDArray[Any], NDArray[Any]] = np.asarray(X), np.asarray(Y)
        if rows[0].shape[:1] != rows[1].shape[:1]:
            raise ShapeError(f"X and Y must have as many rows each. Got X {rows[0].shape} and Y {rows[1].shape}.")
        return rows

    def checked_features(self, X: ArrayLike) -> NDArray[Any]:
        """Check that this regressor is fitted, and the rows to predict; return them as an array.

        Raises
        ------
        DataError
            Where a value is not finite, or there are not as many features as in the fit.
        """
        check_is_fitted(self)
        with _refused():
            return np.asarray(validate_data(self, X, reset=False))


class LinearRegressor(Regressor):
    """Base of those whose prediction is X @ coef_.T + intercept_.

    Attributes
    ----------
    coef_ : ndarray, shape (n_voxels, n_features), or (n_features,) for one response given as (n_images,)
    intercept_ : ndarray, shape (n_voxels,), or a float for one response given as (n_images,)
    """

    keeps_rows = False
    arrays: ClassVar[tuple[str, ...]] = ("coef_", "intercept_")
    coef_: Array
    intercept_: Array

    def predict(self, X: ArrayLike) -> Array:
        """Predict responses, in float64 and in the shape of the responses of the fit."""
        Y: Array = self.checked_features(X).astype(np.float64, copy=False) @ self.coef_.T
        Y += self.intercept_  # in place: of many voxels a second array would be gigabytes
        return Y

    def voxels(self, which: slice | NDArray[np.bool_]) -> Self:
        """Return the regressor of some of its voxels, of a range as views; see `img2brain.predictions`."""
        found: Self = copy.copy(self)
        found.coef_, found.intercept_ = self.coef_[which], self.intercept_[which]
        return found

    def _set_coef(self, coef: Array, moments: Moments) -> Self:
        self.coef_ = np.ascontiguousarray(to_numpy(coef).T)
        self.intercept_ = to_numpy(moments.mean_y - moments.mean_x @ coef)
        self.n_features_in_ = moments.n_features
        return self

    def _drop_voxel_axis(self) -> None:
        self.coef_, self.intercept_ = self.coef_[0], self.intercept_[0]

    def check_arrays(self) -> int:
        """Check that coefficients and intercepts are of as many voxels, and return the number of features."""
        require(self.coef_.ndim in (1, 2) and self.coef_.shape[:-1] == np.shape(self.intercept_))
        return int(self.coef_.shape[-1])


class MomentsRegressor(LinearRegressor, Generic[State]):
    """A linear regressor that needs only moments.

    What depends on the moments alone is computed once (`factorise`), then used for any number of parameters (`solve`):

    >>> from img2brain.regressors.ridge import Ridge
    >>> state = Ridge.factorise(Moments.from_rows([[0.0], [2.0]], [[1.0], [3.0]]))
    >>> [Ridge(alpha=alpha).solve(state).item() for alpha in (2.0, 6.0)]
    [0.5, 0.25]

    Both work on moments of NumPy arrays and of PyTorch tensors, and return the same kind: `namespace` gives the module
    whose functions serve an array. They write to none.

    Attributes
    ----------
    n_folds : int
        Into how many runs of rows `fit_folds` wants the training rows to be divided; see `folds_of`.
    """

    n_folds: int = 1

    @classmethod
    @abstractmethod
    def factorise(cls, moments: Moments) -> State:
        """Compute what every `solve` on these moments shares, whatever the parameters."""

    @abstractmethod
    def solve(self, state: State) -> Array:
        """Return the coefficients, shape (n_features, n_voxels), for this regressor's parameters."""

    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        """Fit by way of moments.

        Parameters
        ----------
        X : array_like, shape (n_images, n_features)
            Features.
        Y : array_like, shape (n_images, n_voxels) or (n_images,)
            Responses; a memory map is not held whole.

        Returns
        -------
        self

        Raises
        ------
        SpecError
            Where a parameter is not allowed.
        DataError
            Where a value is not finite or rows do not match (`ShapeError`).
        """
        X, Y = self.checked_rows(X, Y)
        self.fit_moments(Moments.from_rows(X, Y.reshape(len(Y), -1)))
        if Y.ndim == 1:
            self._drop_voxel_axis()
        return self

    def fit_moments(self, moments: Moments) -> Self:
        """Fit to the rows of `moments`; equal to `fit` on the rows themselves.

        Raises
        ------
        FitError
            Where there are fewer than two rows.
        """
        self.check_parameters()
        if moments.n < 2:
            raise FitError(f"The {self.component_name()} needs at least 2 rows. Got {moments.n}.")
        return self._set_coef(self.solve(self.factorise(moments)), moments)

    def fit_folds(self, folds: Sequence[Moments]) -> Self:
        """Fit to the rows of all `folds` together."""
        return self.fit_moments(merged(folds))


class PenalisedRegressor(MomentsRegressor[State]):
    """A linear regressor that needs only moments, with a penalty of strength `alpha`."""

    alpha: float

    @abstractmethod
    def alpha_scale(self, moments: Moments) -> float:
        """Return the unit of a relative alpha on these moments, whatever this regressor's own alpha."""

    def solve_from(self, state: State, start: Array | None) -> Array:
        """Return the same as `solve`, from coefficients that may be near, where that helps."""
        return self.solve(state)

    def solve_path(self, state: State, alphas: Iterable[float]) -> Iterator[tuple[float, Array]]:
        """Solve at many alphas, each from the solution before it.

        Parameters
        ----------
        state
            What `factorise` returned.
        alphas : iterable of float
            In any order.

        Yields
        ------
        alpha : float
            Descending, so that few coefficients differ from one to the next.
        coef : ndarray, shape (n_features, n_voxels)
            What `solve` finds at this alpha, within the tolerance.
        """
        coef: Array | None = None
        for alpha in sorted((float(alpha) for alpha in alphas), reverse=True):
            coef = clone(self).set_params(alpha=alpha).check_parameters().solve_from(state, coef)
            yield alpha, coef


def folds_of(n_rows: int, n_folds: int) -> list[slice]:
    """Return the rows of each fold, the runs of scikit-learn's ``KFold``; fewer folds where there are fewer rows.

    Examples
    --------
    >>> folds_of(5, 3)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    n_folds = min(n_folds, n_rows)
    ends = [0, *np.cumsum([n_rows // n_folds + (fold < n_rows % n_folds) for fold in range(n_folds)]).tolist()]
    return [slice(start, end) for start, end in pairwise(ends)]


def merged(folds: Sequence[Moments]) -> Moments:
    """Return the moments of all rows of some folds."""
    return reduce(Moments.merge, folds)


def require(holds: bool) -> None:
    """Raise ValueError where a condition does not hold."""
    if not holds:
        raise ValueError


def _holds(limit: Limit, value: Any) -> bool:
    """Tell whether a value is allowed; one that a test cannot handle is not."""
    try:
        return bool(limit.holds(value))
    except (TypeError, ValueError):
        return False


@contextmanager
def _refused() -> Iterator[None]:
    """Turn what scikit-learn finds wrong with data into a `DataError` on one line."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        # What follows the first line of these is advice on other estimators.
        raise DataError(text.partition("\n")[0] if text.startswith("Input ") else " ".join(text.split())) from error
