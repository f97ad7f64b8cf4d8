"""What every regressor owes, whoever wrote it.

A check takes what makes a fresh regressor: its class, or a function that calls it with parameters. Give parameters with
which these rows tell something, such as an alpha that leaves coefficients, and a solver a tolerance that leaves less
than 1e-6 of its predictions open.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from img2brain.errors import DataError, FitError, ModelError, ShapeError, SpecError
from img2brain.moments import Moments
from img2brain.regressors.base import Hyperparameter, Regressor, folds_of
from img2brain.testing._suite import Check, named, owed, refused, run

Array = NDArray[np.float64]
Make = Callable[[], Regressor]

N_ROWS, N_FEATURES, N_VOXELS = 60, 7, 5
NEVER_ALLOWED = (math.nan, "no such value", object())


def check_regressor(make: Make) -> None:
    """Check all that a regressor owes.

    Parameters
    ----------
    make : type or callable
        A class that extends `Regressor`, or a function without parameters that returns a fresh one.

    Raises
    ------
    AssertionError
        With a line for each check that failed, starting with its name.

    Examples
    --------
    >>> from img2brain.regressors.ridge import Ridge
    >>> check_regressor(lambda: Ridge(alpha=3.0))
    """
    run(_CHECKS, make)


def regressor_checks() -> Iterator[tuple[str, Check[Make]]]:
    """Yield each check with its name.

    Examples
    --------
    >>> from img2brain.regressors.ridge import Ridge
    >>> checks = dict(regressor_checks())
    >>> checks["voxels_keep_their_places"](Ridge)
    """
    return named(_CHECKS)


def check_complete(make: Make) -> None:
    """Check that it extends `Regressor`, defines what that leaves open, and names what it stores."""
    absent = sorted(getattr(make, "__abstractmethods__", ()))
    owed(not absent, f"It must define {', '.join(repr(name) for name in absent)}.")
    regressor = make()
    owed(isinstance(regressor, Regressor), f"It must extend Regressor. Got {type(regressor).__name__}.")
    owed(regressor.arrays, "It must name in 'arrays' the fitted attributes that are stored.")


def check_parameters_are_limited(make: Make) -> None:
    """Check that the constructor keeps each parameter as it is, and each has a limit that holds its default."""
    regressor = clone(make())
    unlimited = sorted(set(regressor.get_params()) ^ set(regressor.limits))
    owed(not unlimited, f"Parameters and 'limits' must have the same names. Not in both: {', '.join(unlimited)}.")
    others = sorted(set(regressor.options) - set(regressor.limits))
    owed(not others, f"'options' must name parameters. It names {', '.join(others)}.")
    regressor.check_parameters()


def check_bad_parameters_are_refused(make: Make) -> None:
    """Check that a value that is not allowed is refused by name, before any work."""
    X, Y = _rows()
    for name in make().limits:
        for bad in NEVER_ALLOWED:
            wrong = clone(make()).set_params(**{name: bad})
            for act in (wrong.check_parameters, partial(wrong.fit, X, Y)):
                says = refused(SpecError, act, f"{name} = {bad!r}")
                grammar = rf"^The '{name}' of .+ must .+\. Got .+\.$"
                owed(re.match(grammar, says), f"The message must read \"The '{name}' of ... must ...\". Got {says!r}.")


def check_search_is_valid(make: Make) -> None:
    """Check that the search space has names of parameters, and ranges whose values are allowed."""
    for name, item in make().search.items():
        owed(name in make().limits, f"{name!r} of 'search' must be a parameter.")
        owed(item.low < item.high, f"'low' of {name!r} must be below 'high'. Got {item.low} and {item.high}.")
        owed(
            item.low > 0 or not item.log, f"'low' of {name!r}, searched by its logarithm, must be > 0. Got {item.low}."
        )
        whole = float(item.low).is_integer() and float(item.high).is_integer()
        owed(whole or not item.integer, f"The ends of {name!r}, searched in whole numbers, must be whole.")
        for end in (item.low, item.high):
            _fits_at(make, name, end, item)


def _fits_at(make: Make, name: str, end: float, item: Hyperparameter) -> None:
    X, Y = _rows()
    value = end * _unit(make(), Moments.from_rows(X, Y)) if item.relative else end
    regressor = clone(make()).set_params(**{name: int(value) if item.integer else value})
    try:
        regressor.fit(X, Y)
    except SpecError as error:
        raise AssertionError(
            f"The whole range of {name!r} in 'search' must be allowed. At {value} it is not."
        ) from error
    except FitError:  # allowed: these rows may be too few for it
        pass


def _unit(regressor: Any, moments: Moments) -> float:
    owed(hasattr(regressor, "alpha_scale"), "A relative range in 'search' needs the method 'alpha_scale'.")
    unit = regressor.alpha_scale(moments)
    owed(isinstance(unit, float) and 0 < unit < math.inf, f"'alpha_scale' must be a float > 0. Got {unit!r}.")
    return float(unit)


def check_predictions_have_the_shape_of_the_responses(make: Make) -> None:
    """Check that predictions are finite, in float64, and of the shape of the responses, also of one voxel."""
    X, _ = _rows()
    for responses in _responses():
        regressor = make()
        owed(regressor.fit(X, responses) is regressor, "'fit' must return the regressor itself.")
        for features in (X, X[:9], X[:9].astype(np.float32)):
            shape, found = (len(features), *responses.shape[1:]), regressor.predict(features)
            owed(isinstance(found, np.ndarray), f"'predict' must return an array. Got {type(found).__name__}.")
            owed(found.shape == shape, f"Predictions must have the shape {shape}. Got {found.shape}.")
            owed(found.dtype == np.float64, f"Predictions must be in float64. Got {found.dtype}.")
            owed(np.isfinite(found).all(), "Predictions must be finite.")


def check_one_response_is_one_voxel(make: Make) -> None:
    """Check that responses of one axis are fitted as the same in one column."""
    X, Y = _rows()
    single, column = make().fit(X, Y[:, 0]).predict(X), make().fit(X, Y[:, :1]).predict(X)[:, 0]
    owed(_near(single, column), "Responses (n_images,) must be fitted as those of one voxel (n_images, 1).")


def check_voxels_keep_their_places(make: Make) -> None:
    """Check that voxels in another order are predicted in that order."""
    X, Y = _rows()
    order = np.random.default_rng(1).permutation(N_VOXELS)
    shuffled, plain = make().fit(X, Y[:, order]).predict(X), make().fit(X, Y).predict(X)
    owed(_near(shuffled, plain[:, order]), "Voxels in another order must be predicted in that order.")


def check_some_voxels_are_predicted_as_among_all(make: Make) -> None:
    """Check that a regressor that can be had for some of its voxels (``voxels``) predicts them as it did before."""
    X, Y = _rows()
    fitted = make().fit(X, Y)
    if not hasattr(fitted, "voxels"):
        return
    whole = fitted.predict(X)
    for some in (slice(1, 3), np.arange(N_VOXELS) % 2 == 0):
        owed(_near(fitted.voxels(some).predict(X), whole[:, some]), "'voxels' must predict as all voxels together.")
    owed(np.array_equal(fitted.predict(X), whole), "'voxels' must leave the regressor as it is.")


def check_rows_are_predicted_on_their_own(make: Make) -> None:
    """Check that what is predicted of an image does not depend on the images beside it."""
    X, Y = _rows()
    fitted = make().fit(X, Y)
    alone = np.concatenate([fitted.predict(X[i : i + 1]) for i in range(9)])
    owed(_near(alone, fitted.predict(X)[:9]), "The prediction of an image must not depend on those beside it.")


def check_a_constant_voxel_is_predicted(make: Make) -> None:
    """Check that a voxel whose response never changes is predicted at that response."""
    X, Y = _rows()
    Y[:, 1] = 0.1
    owed(_near(make().fit(X, Y).predict(X)[:, 1], 0.1), "A constant voxel must be predicted at its constant.")


def check_responses_may_have_any_real_type(make: Make) -> None:
    """Check that responses of a smaller type are fitted as the same numbers in float64."""
    X, Y = _rows()
    for kind in (np.float16, np.float32, np.int16):
        narrow = (10 * Y).astype(kind)
        exact = make().fit(X, narrow.astype(np.float64)).predict(X)
        owed(
            _near(make().fit(X, narrow).predict(X), exact),
            f"Responses in {np.dtype(kind)} must be fitted as in float64.",
        )


def check_inputs_are_left_alone(make: Make) -> None:
    """Check that features and responses are not written to, and may be read-only, as memory maps are."""
    X, Y = _rows()
    X_before, Y_before = X.copy(), Y.copy()
    make().fit(X, Y).predict(X)
    owed(np.array_equal(X, X_before), "X must not be written to.")
    owed(np.array_equal(Y, Y_before), "Y must not be written to.")
    for array in (X, Y):
        array.setflags(write=False)
    make().fit(X, Y).predict(X)


def check_fits_are_repeatable(make: Make) -> None:
    """Check that the same rows give the same predictions, whatever was fitted or predicted before."""
    X, Y = _rows()
    other, others = _rows(seed=1)
    first, again = make().fit(X, Y), make().fit(other[:, :4], others[:, 0])
    predicted = first.predict(X)
    owed(np.array_equal(make().fit(X, Y).predict(X), predicted), "Two fits to the same rows must predict the same.")
    owed(np.array_equal(first.predict(X), predicted), "The same prediction must be made twice.")
    owed(np.array_equal(again.fit(X, Y).predict(X), predicted), "A fit must not depend on the one before it.")


def check_bad_rows_are_refused(make: Make) -> None:
    """Check that NaN, infinity, rows that do not match and features of another fit are refused on one line."""
    X, Y = _rows()
    for bad in (np.nan, np.inf):
        for X_bad, Y_bad in ((_holed(X, bad), Y), (X, _holed(Y, bad))):
            refused(DataError, partial(make().fit, X_bad, Y_bad), f"{bad} in X or Y of 'fit'")
        refused(DataError, partial(make().fit(X, Y).predict, _holed(X, bad)), f"{bad} in X of 'predict'")
    refused(ShapeError, lambda: make().fit(X, Y[:-1]), "X and Y of different numbers of rows")
    refused(DataError, lambda: make().fit(X[:0], Y[:0]), "No row")
    refused(DataError, lambda: make().fit(X[:1], Y[:1]), "A single row")
    refused(DataError, lambda: make().fit(X, Y).predict(X[:, 1:]), "A number of features that is not that of the fit")
    refused(NotFittedError, lambda: make().predict(X), "A prediction before the fit")


def check_arrays_restore_the_fit(make: Make) -> None:
    """Check that what `to_arrays` gives is numbers alone, and with the parameters the whole fit."""
    X, _ = _rows()
    for responses in _responses():
        fitted = make().fit(X, responses)
        arrays = fitted.to_arrays()
        for name, array in arrays.items():
            owed(np.asarray(array).dtype.kind in "biuf", f"The array {name!r} must hold numbers. Got {array.dtype}.")
        again = type(fitted).from_arrays(fitted.get_params(), load(save(arrays)))
        owed(
            np.array_equal(again.predict(X), fitted.predict(X)),
            "Restored from its arrays it must predict the same, bit for bit. They are contiguous then.",
        )
        owed(again.n_features_in_ == N_FEATURES, "'check_arrays' must return the number of features.")


def check_other_arrays_are_refused(make: Make) -> None:
    """Check that arrays and parameters of other names are refused where a model is restored."""
    fitted = make().fit(*_rows())
    arrays, restore = fitted.to_arrays(), type(fitted).from_arrays
    refused(ModelError, lambda: restore({}, dict(list(arrays.items())[1:])), "A stored model that lacks an array")
    refused(ModelError, lambda: restore({}, {**arrays, "other": np.ones(1)}), "A stored model with an array of another")
    refused(ModelError, lambda: restore({"no such parameter": 1}, arrays), "A stored model with a parameter of another")


def check_rows_that_are_kept_are_declared(make: Make) -> None:
    """Check that what is stored does not grow with the rows, unless `keeps_rows` says that it may."""
    X, Y = _rows(2 * N_ROWS)
    few, many = (make().fit(X[:n], Y[:n]) for n in (N_ROWS, 2 * N_ROWS))
    sizes = [sum(np.size(array) for array in fitted.to_arrays().values()) for fitted in (few, many)]
    owed(few.keeps_rows or sizes[0] == sizes[1], "It stores more of more rows: 'keeps_rows' must be True.")


def check_moments_are_enough(make: Make) -> None:
    """Check that `fit_folds`, where there is one, gives the coefficients that predict what a fit to rows does."""
    X, Y = _rows()
    for k in (N_FEATURES, 3):
        regressor = _fitted_to_folds(make, _folds(make, X, Y, k))
        if regressor is None:
            return
        coef, intercept = np.asarray(regressor.coef_), np.asarray(regressor.intercept_)
        owed(coef.shape == (N_VOXELS, k), f"'coef_' must have the shape {(N_VOXELS, k)}. Got {coef.shape}.")
        owed(intercept.shape == (N_VOXELS,), f"'intercept_' must have the shape {(N_VOXELS,)}. Got {intercept.shape}.")
        by_rows = make().fit(X[:, :k], Y).predict(X[:, :k])
        owed(_near(regressor.predict(X[:, :k]), by_rows), "'fit_folds' must give what 'fit' gives on the rows.")
        owed(_near(X[:, :k] @ coef.T + intercept, by_rows), "Predictions must be X @ coef_.T + intercept_.")


def check_moments_are_left_alone(make: Make) -> None:
    """Check that moments are not written to: other trials share them."""
    folds = _folds(make, *_rows())
    before = [[np.copy(value) for value in vars(fold).values()] for fold in folds]
    _fitted_to_folds(make, folds)
    after = [list(vars(fold).values()) for fold in folds]
    same = all(np.array_equal(a, b) for pair in zip(before, after, strict=True) for a, b in zip(*pair, strict=True))
    owed(same, "'fit_folds' must not write to the moments.")


def check_moments_may_be_tensors(make: Make) -> None:
    """Check that moments on a device, as PyTorch tensors, give the same coefficients, as NumPy arrays."""
    folds = _folds(make, *_rows())
    here, there = _fitted_to_folds(make, folds), _fitted_to_folds(make, [fold.to("torch") for fold in folds])
    for name in ("coef_", "intercept_") if here is not None else ():
        found = getattr(there, name)
        owed(isinstance(found, np.ndarray), f"From tensors {name!r} must be a NumPy array. Got {type(found).__name__}.")
        owed(_near(found, getattr(here, name)), f"From tensors {name!r} must be what it is from NumPy arrays.")


def check_too_few_rows_are_refused(make: Make) -> None:
    """Check that `fit_folds`, where there is one, refuses the moments of a single row."""
    X, Y = _rows()
    if hasattr(make(), "fit_folds"):
        folds = [Moments.from_rows(X[i : i + 1], Y[i : i + 1]) for i in range(_n_folds(make))]
        refused(FitError, lambda: _fitted_to_folds(make, folds), "Folds of one row each")


_CHECKS = (
    check_complete,
    check_parameters_are_limited,
    check_bad_parameters_are_refused,
    check_search_is_valid,
    check_predictions_have_the_shape_of_the_responses,
    check_one_response_is_one_voxel,
    check_voxels_keep_their_places,
    check_rows_are_predicted_on_their_own,
    check_a_constant_voxel_is_predicted,
    check_responses_may_have_any_real_type,
    check_inputs_are_left_alone,
    check_fits_are_repeatable,
    check_bad_rows_are_refused,
    check_arrays_restore_the_fit,
    check_other_arrays_are_refused,
    check_rows_that_are_kept_are_declared,
    check_moments_are_enough,
    check_moments_are_left_alone,
    check_moments_may_be_tensors,
    check_too_few_rows_are_refused,
)


def _rows(n: int = N_ROWS, seed: int = 0) -> tuple[Array, Array]:
    """Return features, and responses that follow from them but for noise."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, N_FEATURES))
    return X, X @ rng.standard_normal((N_FEATURES, N_VOXELS)) + rng.standard_normal((n, N_VOXELS))


def _responses() -> tuple[Array, Array, Array]:
    """Return responses of many voxels, of one, and of one axis."""
    _, Y = _rows()
    return Y, Y[:, :1], Y[:, 0]


def _holed(rows: Array, bad: float) -> Array:
    holed = rows.copy()
    holed[3, 2] = bad
    return holed


def _near(found: Any, expected: Any) -> bool:
    """Tell whether responses of the size of 1 are equal, but for what a solver's tolerance leaves open."""
    return bool(np.allclose(found, expected, rtol=0.0, atol=1e-6))


def _n_folds(make: Make) -> int:
    n_folds = getattr(make(), "n_folds", None)
    owed(isinstance(n_folds, int) and n_folds >= 1, f"'fit_folds' needs 'n_folds', a count. Got {n_folds!r}.")
    return int(n_folds or 1)


def _folds(make: Make, X: Array, Y: Array, n_features: int = N_FEATURES) -> list[Moments]:
    """Return the moments of the folds that a regressor wants, those of fewer features as views of those of all."""
    n_folds = _n_folds(make) if hasattr(make(), "fit_folds") else 1
    return [Moments.from_rows(X[fold], Y[fold]).leading(n_features) for fold in folds_of(len(X), n_folds)]


def _fitted_to_folds(make: Make, folds: list[Moments]) -> Any:
    """Return a regressor fitted to folds; None where it needs rows."""
    regressor: Any = make()
    return regressor.fit_folds(folds) if hasattr(regressor, "fit_folds") else None
