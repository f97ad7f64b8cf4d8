"""What all regressors share: their checks, their two kinds (moments or rows), and arrays in place of pickles."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.utils.validation import check_is_fitted, validate_data

from img2brain._arrays import to_numpy
from img2brain.errors import DataError, FitError, ModelError, ShapeError, SpecError
from img2brain.moments import Moments
from img2brain.regressors._limits import Limits

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
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False
    relative: bool = False


Space: TypeAlias = Mapping[str, Hyperparameter]


class Regressor(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Base of all regressors: ``fit(X, Y)`` and ``predict(X)`` as in scikit-learn, for one response or many.

    Attributes
    ----------
    search : mapping of str to Hyperparameter
        The default search space; empty where there is nothing to search.
    limits : mapping of str to Limit
        The values that each parameter may take.
    options : tuple of str
        Parameters that are never searched: what a study gives, a list included, is their one value.
    keeps_rows : bool
        Whether the fitted regressor holds training responses, as a published model then does.
    arrays : tuple of str
        The fitted attributes that `to_arrays` keeps.
    """

    search: ClassVar[Space] = {}
    limits: ClassVar[Limits] = {}
    options: ClassVar[tuple[str, ...]] = ()
    keeps_rows: ClassVar[bool]
    arrays: ClassVar[tuple[str, ...]]

    @abstractmethod
    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        """Fit the responses Y (n_images, n_voxels) or (n_images,) to the features X (n_images, n_features)."""

    @abstractmethod
    def predict(self, X: ArrayLike) -> Array:
        """Predict responses, in float64 and in the shape of the responses of the fit."""

    def check_parameters(self) -> Self:
        """Check the parameters' values, as `fit` does before any work.

        Raises
        ------
        SpecError
            Naming the parameter, the regressor, what is allowed and what was found.
        """
        for name, limit in self.limits.items():
            value = getattr(self, name)
            if not limit.holds(value):
                raise SpecError(f"The {name!r} of {self.component_name()} must {limit.says}. Got {value!r}.")
        return self

    @classmethod
    def component_name(cls) -> str:
        """Return the name in the catalog, which is that of the file."""
        return cls.__module__.rpartition(".")[2]

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
            regressor.n_features_in_ = regressor._check_arrays()
        except (ValueError, IndexError, TypeError):
            found = dict(parameters) | {name: array.shape for name, array in arrays.items()}
            raise ModelError(
                f"What was stored of this {cls.component_name()} does not fit together: {found}."
            ) from None
        return regressor

    @abstractmethod
    def _check_arrays(self) -> int:
        """Check that the fitted arrays fit together (`require` them), and return the number of features."""

    def _checked_rows(self, X: ArrayLike, Y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        self.check_parameters()
        with _refused():
            X, Y = validate_data(self, X, Y, validate_separately=({"ensure_min_samples": 2}, {"ensure_2d": False}))
        rows: tuple[NDArray[Any], NDArray[Any]] = np.asarray(X), np.asarray(Y)
        if rows[0].shape[:1] != rows[1].shape[:1]:
            raise ShapeError(f"X and Y must have as many rows each. Got X {rows[0].shape} and Y {rows[1].shape}.")
        return rows

    def _checked_features(self, X: ArrayLike) -> NDArray[Any]:
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
        Y: Array = self._checked_features(X).astype(np.float64, copy=False) @ self.coef_.T + self.intercept_
        return Y

    def _set_coef(self, coef: Array, moments: Moments) -> Self:
        self.coef_ = np.ascontiguousarray(to_numpy(coef).T)
        self.intercept_ = to_numpy(moments.mean_y - moments.mean_x @ coef)
        self.n_features_in_ = moments.n_features
        return self

    def _drop_voxel_axis(self) -> None:
        self.coef_, self.intercept_ = self.coef_[0], self.intercept_[0]

    def _check_arrays(self) -> int:
        require(self.coef_.ndim in (1, 2) and self.coef_.shape[:-1] == np.shape(self.intercept_))
        return int(self.coef_.shape[-1])


class MomentsRegressor(LinearRegressor, Generic[State]):
    """A linear regressor that needs only moments.

    What depends on the moments alone is computed once (`factorise`), then used for any number of parameters (`solve`):

    >>> from img2brain.regressors.ridge import Ridge
    >>> state = Ridge.factorise(Moments.from_rows([[0.0], [2.0]], [[1.0], [3.0]]))
    >>> [Ridge(alpha=alpha).solve(state).item() for alpha in (2.0, 6.0)]
    [0.5, 0.25]

    Both work on moments of NumPy arrays and of PyTorch tensors, and return the same kind.
    """

    @classmethod
    @abstractmethod
    def factorise(cls, moments: Moments) -> State:
        """Compute what every `solve` on these moments shares, whatever the parameters."""

    @abstractmethod
    def solve(self, state: State) -> Array:
        """Return the coefficients, shape (n_features, n_voxels), for this regressor's parameters."""

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

    def alpha_scale(self, moments: Moments) -> float:
        """Return the unit of a relative alpha on these moments, whatever this regressor's own alpha."""
        raise NotImplementedError(f"The {self.component_name()} has no alpha.")

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
        X, Y = self._checked_rows(X, Y)
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


class RowsRegressor(Regressor):
    """A regressor that needs the rows themselves."""

    keeps_rows = True


def require(holds: bool) -> None:
    """Raise ValueError where a condition does not hold."""
    if not holds:
        raise ValueError


@contextmanager
def _refused() -> Iterator[None]:
    """Turn what scikit-learn finds wrong with data into a `DataError` on one line."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        # What follows the first line of these is advice on other estimators.
        raise DataError(text.partition("\n")[0] if text.startswith("Input ") else " ".join(text.split())) from error
