"""Every linear regressor is scikit-learn's: coefficients, intercepts, and r from moments alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import pearsonr
from sklearn import linear_model

from img2brain.catalog import REGRESSORS
from img2brain.metrics.base import Sums
from img2brain.metrics.pearson import Pearson
from img2brain.moments import Moments

EXACT = {"tol": 1e-13, "max_iter": 200_000}
PAIRS: list[tuple[str, dict[str, float], Any]] = [
    ("linear", {}, linear_model.LinearRegression()),
    ("ridge", {"alpha": 1e-3}, linear_model.Ridge(alpha=1e-3)),
    ("ridge", {"alpha": 30.0}, linear_model.Ridge(alpha=30.0)),
    ("lasso", {"alpha": 0.03}, linear_model.Lasso(alpha=0.03, **EXACT)),
    ("lasso", {"alpha": 0.5}, linear_model.Lasso(alpha=0.5, **EXACT)),
    ("elastic_net", {"alpha": 0.1}, linear_model.ElasticNet(alpha=0.1, **EXACT)),
    ("elastic_net", {"alpha": 0.3, "l1_ratio": 0.9}, linear_model.ElasticNet(alpha=0.3, l1_ratio=0.9, **EXACT)),
    ("multi_task_lasso", {"alpha": 0.1}, linear_model.MultiTaskLasso(alpha=0.1, **EXACT)),
    ("multi_task_lasso", {"alpha": 2.0}, linear_model.MultiTaskLasso(alpha=2.0, **EXACT)),
    ("multi_task_elastic_net", {"alpha": 0.5}, linear_model.MultiTaskElasticNet(alpha=0.5, **EXACT)),
    (
        "multi_task_elastic_net",
        {"alpha": 1.0, "l1_ratio": 0.1},
        linear_model.MultiTaskElasticNet(alpha=1.0, l1_ratio=0.1, **EXACT),
    ),
]
# Images, features, voxels: more images than features, and the reverse; more voxels than features, and the reverse.
SIZES = [(300, 25, 40), (300, 25, 6), (40, 60, 12), (40, 60, 80), (30, 30, 5)]

Rows = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def some_rows(n: int, k: int, v: int) -> Rows:
    """Features of unequal scale that are not centred, and as many rows again to validate on."""
    rng = np.random.default_rng(n + k + v)
    X = rng.standard_normal((2 * n, k)) * np.linspace(2, 0.5, k) + rng.standard_normal(k)
    coef = rng.standard_normal((k, v)) * (rng.random((k, 1)) < 0.4)
    Y = X @ coef + 2 * rng.standard_normal((2 * n, v)) + 5
    return X[:n], Y[:n], X[n:], Y[n:]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "parameters", "peer"), PAIRS)
@pytest.mark.filterwarnings("ignore:Objective did not converge:sklearn.exceptions.ConvergenceWarning")
def test_equals_scikit_learn(name: str, parameters: dict[str, float], peer: Any, size: tuple[int, int, int]) -> None:
    X, Y, X_new, _ = some_rows(*size)
    ours = REGRESSORS[name](**parameters).fit(X, Y)
    peer.fit(X, Y)
    np.testing.assert_allclose(ours.coef_, peer.coef_, atol=1e-5)
    np.testing.assert_allclose(ours.intercept_, peer.intercept_, atol=1e-4)
    np.testing.assert_allclose(ours.predict(X_new), peer.predict(X_new), atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "parameters", "peer"), PAIRS)
def test_r_from_moments_is_that_of_the_predictions(
    name: str, parameters: dict[str, float], peer: Any, size: tuple[int, int, int]
) -> None:
    X, Y, X_new, Y_new = some_rows(*size)
    ours = REGRESSORS[name](**parameters).fit(X, Y)
    predicted = ours.predict(X_new)
    defined = ours.coef_.any(axis=1)
    r = Pearson().from_sums(Sums.from_moments(ours.coef_.T, 0.0, Moments.from_rows(X_new, Y_new)))
    expected = [pearsonr(Y_new[:, j], predicted[:, j]).statistic for j in np.flatnonzero(defined)]
    np.testing.assert_allclose(r[defined], expected, atol=1e-6)
    assert np.isnan(r[~defined]).all()
