from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from img2brain.datasets._sample import write_sample

MakeFolder = Callable[..., Path]


def _write_part(root: Path, name: str, responses: NDArray[Any], shade: int) -> None:
    (root / f"{name}IMG").mkdir(parents=True)
    (root / f"{name}fMRI").mkdir()
    np.save(root / f"{name}fMRI" / f"{name}.npy", responses)
    for i in range(len(responses)):
        Image.new("RGB", (8, 8), (shade, i, 0)).save(root / f"{name}IMG" / f"{i:03}.png")


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Make a small folder without a problem: `training` images, `test` images with responses, `voxels`."""

    def make(training: int = 6, test: int = 3, voxels: int = 4, dtype: str = "f4", name: str = "data") -> Path:
        root = tmp_path / name
        values = np.arange((training + test) * voxels).reshape(-1, voxels).astype(dtype)
        _write_part(root, "training", values[:training], 10)
        if test:
            _write_part(root, "test", values[training:], 20)
        return root

    return make


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sample data that no test changes."""
    return write_sample(tmp_path_factory.mktemp("sample") / "data", n_images=200, n_voxels=60, seed=1, size=64)
