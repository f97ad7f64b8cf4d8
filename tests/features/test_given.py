from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from img2brain.features.given import GivenFeatures
from img2brain.spec import BackboneSpec
from img2brain.store import Store

SPEC = BackboneSpec(name="given", weights="none")
N_IMAGES = 1100
MATRIX = np.random.default_rng(0).standard_normal((N_IMAGES, 400))
ROWS = np.arange(1000)


def features(folder: Path, n_components: int, rows: Any = ROWS) -> GivenFeatures:
    return GivenFeatures(
        BackboneSpec(name="given", weights="none"), {"deep": MATRIX}, Store(folder), rows, n_components
    )


def test_many_images_are_sketched_for_the_rows_and_size_at_hand(tmp_path: Path) -> None:
    def methods() -> list[str]:
        return [path.read_text(encoding="utf-8") for path in (tmp_path / "layers").rglob("method.txt")]

    features(tmp_path, 100).extract()
    assert methods() == ["sketch"]
    small = features(tmp_path, 10)
    small.extract()
    assert small.components("deep", ROWS, 6).coordinates.shape == (N_IMAGES, 6)
    assert methods() == ["sketch"], "a larger sketch serves"
    features(tmp_path, 10, ROWS[:-1]).extract()
    assert methods() == ["sketch", "sketch"], "other rows are another sketch"
    features(tmp_path, 150).extract()
    assert len(methods()) == 3, "a smaller sketch does not serve"
