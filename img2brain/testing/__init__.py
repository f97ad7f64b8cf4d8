"""Conformance suites: what a component owes, to be run on one's own as it is on ours.

``check_regressor(MyRegressor)`` raises an `AssertionError` with one line for each thing that is owed;
``regressor_checks()`` gives the same checks one by one, with their names, for a test of one's own. So it is with
metrics and datasets.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from img2brain.testing.backbones import LibraryUnderTest as LibraryUnderTest
    from img2brain.testing.backbones import backbone_checks as backbone_checks
    from img2brain.testing.backbones import check_backbones as check_backbones
    from img2brain.testing.datasets import Specimen as Specimen
    from img2brain.testing.datasets import check_dataset as check_dataset
    from img2brain.testing.datasets import dataset_checks as dataset_checks
    from img2brain.testing.metrics import check_metric as check_metric
    from img2brain.testing.metrics import metric_checks as metric_checks
    from img2brain.testing.regressors import check_regressor as check_regressor
    from img2brain.testing.regressors import regressor_checks as regressor_checks

_PLACES = {
    "LibraryUnderTest": "backbones",
    "backbone_checks": "backbones",
    "check_backbones": "backbones",
    "Specimen": "datasets",
    "check_dataset": "datasets",
    "dataset_checks": "datasets",
    "check_metric": "metrics",
    "metric_checks": "metrics",
    "check_regressor": "regressors",
    "regressor_checks": "regressors",
}

__all__ = [*_PLACES]  # noqa: PLE0604 - plain names


def __getattr__(name: str) -> Any:
    """Load a suite from its place."""
    if name not in _PLACES:
        raise AttributeError(f"module 'img2brain.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(f"img2brain.testing.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    """Name what is public."""
    return sorted(__all__)
