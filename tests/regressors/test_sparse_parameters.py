"""The parameters of the lasso family: each regressor takes its own, and no other's."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.base import clone

from img2brain.catalog import REGRESSORS

SHARED = {"max_iter": 10_000, "tol": 1e-10}
ALPHA, ALPHAS = {"alpha": 1.0}, {"alphas": None, "cv": 3}
PARAMETERS: dict[str, dict[str, Any]] = {
    "lasso": ALPHA,
    "elastic_net": ALPHA | {"l1_ratio": 0.5},
    "multi_task_lasso": ALPHA,
    "multi_task_elastic_net": ALPHA | {"l1_ratio": 0.5},
    "lasso_cv": ALPHAS | {"per_voxel": False},
    "elastic_net_cv": ALPHAS | {"per_voxel": False, "l1_ratio": 0.5},
    "multi_task_lasso_cv": ALPHAS,
    "multi_task_elastic_net_cv": ALPHAS | {"l1_ratio": 0.5},
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_takes_its_own_parameters(name: str) -> None:
    kind, defaults = REGRESSORS[name], PARAMETERS[name] | SHARED
    assert kind().get_params() == defaults
    assert set(kind.limits) == set(defaults)
    assert set(kind.options) == set(defaults) & {"alphas", "cv", "per_voxel"}
    assert clone(kind(tol=1e-3)).get_params() == defaults | {"tol": 1e-3}
    for other in {"alpha", "alphas", "cv", "per_voxel", "l1_ratio"} - set(defaults):
        with pytest.raises(TypeError, match=other):
            kind(**{other: 0.5})


@pytest.mark.parametrize(("name", "strength"), [("lasso", "alpha"), ("elastic_net_cv", "alphas")])
def test_the_strength_alone_may_stand_without_its_name(name: str, strength: str) -> None:
    assert REGRESSORS[name]((0.5,)).get_params()[strength] == (0.5,)
    with pytest.raises(TypeError, match="positional"):
        REGRESSORS[name](0.5, 3)
