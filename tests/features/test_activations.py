from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from img2brain.errors import StoreError
from img2brain.features.activations import Activations, BlockSizes, InMemory, OnDisk

CPU = torch.device("cpu")


def make(kind: str, folder: Path, dtype: torch.dtype) -> tuple[Activations, torch.Tensor]:
    values = torch.randn(23, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    sizes = BlockSizes(n_bytes=100, n_features=3)
    kept: Activations = OnDisk(23, 7, dtype, folder / "values", sizes=sizes)
    if kind == "memory":
        kept = InMemory(23, 7, dtype, CPU, sizes)
    for start in range(0, 23, 5):
        kept.append(values[start : start + 5])
    return kept, values


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_what_is_written_is_read(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    kept, values = make(kind, tmp_path, dtype)
    assert kept.device == CPU
    assert torch.equal(kept.read(4, 19), values[4:19])
    assert torch.equal(kept.rows(np.array([3, 20, 3])), values[[3, 20, 3]])
    blocks = [(part, block.clone()) for part, block in kept.blocks()]
    assert len(blocks) > 2
    assert torch.equal(torch.cat([block for _, block in blocks]), values)
    assert [row for part, _ in blocks for row in range(23)[part]] == list(range(23))
    assert list(kept.ranges()) == [slice(0, 3), slice(3, 6), slice(6, 7)]


def test_a_file_that_was_cut_is_told(tmp_path: Path) -> None:
    kept, _ = make("disk", tmp_path, torch.float32)
    with (tmp_path / "values").open("r+b") as stream:
        stream.truncate(100)
    with pytest.raises(
        StoreError, match=r"The scratch file .*values must stay whole while it is in use\. It was cut\."
    ):
        kept.read(0, 23)


def test_a_file_whose_name_is_deleted_is_there_as_long_as_it_is_needed(tmp_path: Path) -> None:
    kept, values = make("disk", tmp_path, torch.float32)
    (tmp_path / "values").unlink()
    assert torch.equal(kept.read(0, 23), values)


def test_a_full_disk_is_told_with_the_file(small_disk: Path) -> None:
    kept = OnDisk(4, 1 << 20, torch.float32, small_disk / "values")
    with pytest.raises(StoreError, match=r"The scratch file .*values cannot be written: No space left on device\."):
        kept.append(torch.zeros(4, 1 << 20))
