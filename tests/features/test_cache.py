from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from img2brain.features.activations import Activations, InMemory
from img2brain.features.cache import Cache
from img2brain.store import Store

N_IMAGES, N_FEATURES = 300, 400
ROWS = np.arange(0, N_IMAGES, 2)


@pytest.fixture
def values() -> Activations:
    random = np.random.default_rng(0)
    scales = 1 / np.arange(1, N_FEATURES + 1)
    kept = InMemory(N_IMAGES, N_FEATURES, torch.float32, torch.device("cpu"))
    kept.append(torch.from_numpy(5 + scales * random.standard_normal((N_IMAGES, N_FEATURES))))
    return kept


def cache(folder: Path, n_components: int, exact_images: int) -> Cache:
    return Cache(Store(folder), {"layer": {"is": "one"}}, N_IMAGES, ROWS, n_components, exact_images)


@pytest.mark.parametrize(("exact_images", "kind", "error"), [(1024, "kernel", 1e-4), (8, "sketch", 0.03)])
@pytest.mark.parametrize("n_components", [3, 40])
def test_axes_found_later_give_the_coordinates_that_are_kept(
    tmp_path: Path, values: Activations, exact_images: int, kind: str, error: float, n_components: int
) -> None:
    """Also where the projections that are kept are those of a larger study."""
    cache(tmp_path, 40, exact_images).record("layer", values)
    later = cache(tmp_path, n_components, exact_images)
    components = later.components("layer", ROWS, n_components)
    assert components is not None
    made = later.record_axes("layer", values, ROWS, components.leading(3))
    kept = later.axes("layer", ROWS, 2)
    assert kept is not None
    np.testing.assert_array_equal(kept.axes, made.axes[:, :2])
    np.testing.assert_array_equal(kept.shift, made.shift[:2])
    found = values.read(0, N_IMAGES).numpy() @ made.axes - made.shift
    assert (found - components.coordinates[:, :3]).std() < error * components.coordinates[:, :3].std()
    assert {path.read_text() for path in tmp_path.rglob("method.txt")} == {kind}
