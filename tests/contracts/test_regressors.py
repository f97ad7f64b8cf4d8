"""The conformance suite on every regressor of the catalog, and what ours owe beyond it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from img2brain._arrays import to_numpy
from img2brain.catalog import REGRESSORS, Catalog
from img2brain.errors import DataError, FitError, ModelError, ShapeError, SpecError
from img2brain.metrics.base import Sums
from img2brain.metrics.pearson import Pearson
from img2brain.moments import Moments
from img2brain.regressors.base import MomentsRegressor, PenalisedRegressor, Regressor
from img2brain.testing import regressor_checks

ALL: list[type[Regressor]] = [REGRESSORS[name] for name in REGRESSORS.names]
LINEAR = [kind for kind in ALL if issubclass(kind, MomentsRegressor)]
WITH_ALPHA = [kind for kind in LINEAR if issubclass(kind, PenalisedRegressor)]
# With these parameters the rows of the tests tell something: coefficients are left, and come near what is sought.
TELLING: dict[str, Any] = {"alpha": 0.05, "alphas": (0.01, 0.1, 1.0)}
ONE_FEATURE: dict[str, dict[str, Any]] = {"pls": {"n_components": 1}}  # what some rows of scikit-learn's checks have
EXACT: dict[str, dict[str, Any]] = {"pls": {"tol": 1e-20}}

Rows = tuple[NDArray[np.float64], NDArray[np.float64]]


@pytest.fixture
def rows() -> Rows:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 7))
    return X, X @ rng.standard_normal((7, 5)) + rng.standard_normal((60, 5))


def make(kind: type[Regressor], **parameters: Any) -> Any:
    telling = {name: value for name, value in TELLING.items() if name in kind.limits}
    return kind(**{**telling, **parameters})


def test_the_catalog_holds_them() -> None:
    # A catalog of its own: to the one that all share, other tests add what they load.
    assert Catalog("regressor", "regressors", "img2brain.regressors.base:Regressor").names == (
        "decision_tree",
        "elastic_net",
        "elastic_net_cv",
        "k_neighbors",
        "lasso",
        "lasso_cv",
        "linear",
        "multi_task_elastic_net",
        "multi_task_elastic_net_cv",
        "multi_task_lasso",
        "multi_task_lasso_cv",
        "pls",
        "ridge",
        "ridge_cv",
    )


@pytest.mark.filterwarnings("ignore:The .* did not converge:sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([kind(**ONE_FEATURE.get(kind.component_name(), {})) for kind in ALL])  # type: ignore[untyped-decorator]
def test_scikit_learn_accepts_it(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("check", [pytest.param(check, id=name) for name, check in regressor_checks()])
def test_it_passes_the_suite(kind: type[Regressor], check: Any) -> None:
    check(lambda: make(kind, **EXACT.get(kind.component_name(), {})))


@pytest.mark.parametrize("name", REGRESSORS.names)
def test_messages_call_it_as_the_catalog_does(name: str) -> None:
    assert REGRESSORS[name].component_name() == name


@pytest.mark.parametrize("kind", ALL)
def test_arrays_that_do_not_fit_are_refused(kind: type[Regressor], rows: Rows) -> None:
    arrays = make(kind).fit(*rows).to_arrays()
    first = kind.arrays[0]
    with pytest.raises(ModelError, match="has the arrays"):
        kind.from_arrays({}, {name: array for name, array in arrays.items() if name != first})
    with pytest.raises(ModelError, match="does not fit together"):
        kind.from_arrays({}, {**arrays, first: arrays[first][:-1]})
    with pytest.raises(ModelError, match="does not fit together"):
        kind.from_arrays({"beta": 1}, arrays)


@pytest.mark.parametrize("kind", ALL)
def test_bad_rows_are_refused_on_one_line(kind: type[Regressor], rows: Rows) -> None:
    X, Y = rows
    with pytest.raises(ShapeError, match=r"X \(60, 7\) and Y \(59, 5\)"):
        kind().fit(X, Y[:-1])
    for bad in (np.nan, np.inf):
        holed = Y.copy()
        holed[3, 2] = bad
        for pair in ((X, holed), (np.where(X[4, 4] == X, bad, X), Y)):
            with pytest.raises(DataError, match=r"^Input [^\n]*$"):
                kind().fit(*pair)
    with pytest.raises(DataError, match="0 sample"):
        kind().fit(X[:0], Y[:0])
    with pytest.raises(DataError, match="0 feature"):
        kind().fit(X[:, :0], Y)
    with pytest.raises(DataError, match="expecting 7 features"):
        make(kind).fit(X, Y).predict(X[:, 1:])


BAD: list[Any] = [-1.0, np.nan, np.inf, "1", True, -1, 0.5j, [], [1.0, -1.0], [[1.0]]]


FLAGS = {"per_voxel", "scale"}


@pytest.mark.parametrize(
    ("kind", "name", "bad"),
    [(kind, name, bad) for kind in ALL for name in kind.limits for bad in BAD if not (name in FLAGS and bad is True)],
)
def test_bad_parameters_are_refused(kind: type[Regressor], name: str, bad: Any, rows: Rows) -> None:
    with pytest.raises(SpecError, match=rf"^The '{name}' of {kind.component_name()} must [^\n]*\. Got .*\.$"):
        kind(**{name: bad}).fit(*rows)


@pytest.mark.parametrize("kind", WITH_ALPHA)
def test_alpha_zero_is_refused(kind: type[Regressor], rows: Rows) -> None:
    with pytest.raises(SpecError, match=r"must be > 0\. Got 0\.0\."):
        make(kind, alpha=0.0).fit(*rows)


@pytest.mark.parametrize("kind", LINEAR)
def test_moments_are_enough(kind: type[Regressor], rows: Rows) -> None:
    X, Y = rows
    moments = Moments.from_rows(X, Y)
    by_rows, by_moments = make(kind).fit(X, Y), make(kind).fit_moments(moments)
    np.testing.assert_array_equal(by_rows.coef_, by_moments.coef_)
    np.testing.assert_array_equal(by_rows.predict(X), by_moments.predict(X))
    halves = [Moments.from_rows(X[half], Y[half]) for half in (slice(0, 25), slice(25, 60))]
    np.testing.assert_allclose(make(kind).fit_folds(halves).coef_, by_rows.coef_, atol=1e-9)
    assert by_moments.coef_.shape == (5, 7)
    assert by_moments.intercept_.shape == (5,)


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("shape", [(60, 7, 5), (60, 7, 12), (40, 15, 9)])
def test_a_device_changes_nothing(kind: type[Any], shape: tuple[int, int, int], device: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal(shape[:2])
    Y = X @ rng.standard_normal(shape[1:]) + rng.standard_normal(shape[::2])
    Y[:, 3] = 0.1
    here, there = (Moments.from_rows(X, Y, (25, 4), place) for place in ("cpu", device))
    near = {"tol": 1e-14} if "tol" in make(kind).get_params() else {}  # what a gap leaves open is no device's
    fitted, other = (make(kind).set_params(**near).fit_moments(moments) for moments in (here, there))
    for name in set(vars(fitted)) - set(fitted.get_params()):
        assert isinstance(getattr(other, name), type(getattr(fitted, name))), name
    np.testing.assert_allclose(other.coef_, fitted.coef_, rtol=1e-10, atol=1e-10 * np.abs(fitted.coef_).max())
    np.testing.assert_allclose(other.intercept_, fitted.intercept_, atol=1e-10 * np.abs(Y).max())
    r, other_r = (Pearson().from_sums(Sums.from_moments(fitted.coef_.T, 0.0, moments)) for moments in (here, there))
    assert isinstance(other_r, np.ndarray)
    np.testing.assert_allclose(other_r, r, atol=1e-10)


@pytest.mark.parametrize("kind", WITH_ALPHA)
def test_a_path_is_its_points(kind: type[Any], rows: Rows) -> None:
    assert_path(kind, kind.factorise(Moments.from_rows(*rows)))


@pytest.mark.parametrize("kind", WITH_ALPHA)
def test_a_path_on_a_device_is_its_points(kind: type[Any], device: str, rows: Rows) -> None:
    assert_path(kind, kind.factorise(Moments.from_rows(*rows, device=device)))


def assert_path(kind: type[Any], state: Any) -> None:
    path = list(kind().solve_path(state, (0.01, 0.3, 0.1)))
    assert [alpha for alpha, _ in path] == [0.3, 0.1, 0.01]
    for alpha, coef in path:
        np.testing.assert_allclose(to_numpy(coef), to_numpy(kind(alpha=alpha).solve(state)), atol=1e-5)
    with pytest.raises(SpecError, match=r"must be > 0\. Got 0\.0\."):
        list(kind().solve_path(state, [0.0]))


@pytest.mark.parametrize("kind", LINEAR)
def test_one_response_has_the_shapes_of_scikit_learn(kind: type[Regressor], rows: Rows) -> None:
    X, Y = rows
    single = make(kind).fit(X, Y[:, 0])
    assert single.coef_.shape == (7,)
    assert np.ndim(single.intercept_) == 0
    column = make(kind).fit(X, Y[:, :1])
    np.testing.assert_array_equal(single.coef_, column.coef_[0])


@pytest.mark.parametrize("kind", WITH_ALPHA)
def test_a_factorisation_serves_any_alpha(kind: type[Any], rows: Rows) -> None:
    moments = Moments.from_rows(*rows).leading(4)
    state = kind.factorise(moments)
    for alpha in (0.3, 0.01, 0.3):
        regressor = kind(alpha=alpha)
        np.testing.assert_array_equal(regressor.solve(state), clone(regressor).fit_moments(moments).coef_.T)


@pytest.mark.parametrize("kind", LINEAR)
def test_one_row_is_too_few(kind: type[Any]) -> None:
    with pytest.raises(FitError, match="at least 2 rows"):
        make(kind).fit_moments(Moments.from_rows([[1.0]], [[1.0]]))


@pytest.mark.parametrize("kind", LINEAR)
def test_a_constant_voxel_has_no_coefficients(kind: type[Any], rows: Rows) -> None:
    X, Y = rows
    Y = Y.copy()
    Y[:, 1] = 0.1
    fitted = make(kind).fit(X, Y)
    assert not fitted.coef_[1].any()
    assert fitted.intercept_[1] == pytest.approx(0.1)
