"""The conformance suite on every metric of the catalog."""

from __future__ import annotations

from typing import Any

import pytest

from img2brain.catalog import METRICS
from img2brain.metrics.base import FromSums, NeedsCeiling
from img2brain.testing import check_metric, metric_checks


def test_the_catalog_holds_them() -> None:
    assert METRICS.names == ("noise_normalised_r2", "pearson", "r2", "spearman")
    assert [name for name in METRICS.names if not isinstance(METRICS[name], FromSums)] == ["spearman"]
    assert [name for name in METRICS.names if isinstance(METRICS[name], NeedsCeiling)] == ["noise_normalised_r2"]


@pytest.mark.parametrize("name", METRICS.names)
@pytest.mark.parametrize("check", [pytest.param(check, id=name) for name, check in metric_checks()])
def test_it_passes_the_suite(name: str, check: Any) -> None:
    check(METRICS[name])


@pytest.mark.parametrize("name", METRICS.names)
def test_it_passes_as_a_whole_by_its_class_too(name: str) -> None:
    check_metric(type(METRICS[name]))
