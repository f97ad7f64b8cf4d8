"""Which voxels are kept, and that what asks for them is never run."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from img2brain.datasets import open_dataset
from img2brain.datasets._choice import VoxelChoice, split_half_reliability
from img2brain.errors import DataError, SpecError
from tests.datasets.miniatures import MINIATURES

REGIONS = {"V1": [0, 1], "V2": [2], "TE1p-l": [3], "first half": [0, 1, 2], "nc": [4]}
QUANTITIES = {"nc": lambda: np.array([0.1, 0.4, 0.5, np.nan, 0.3]), "ncsnr": lambda: np.arange(5.0)}


def chosen(text: str) -> list[int]:
    return VoxelChoice(text, 5, REGIONS, QUANTITIES).voxels.tolist()


@pytest.mark.parametrize(
    ("text", "voxels"),
    [
        ("nc > 0.3", [1, 2]),
        ("nc >= 0.3", [1, 2, 4]),
        ("nc<.4", [0, 4]),
        ("not nc > 0.3", [0, 3, 4]),
        ("V1 or V2", [0, 1, 2]),
        ("V1 and nc > 0.3 or TE1p-l", [1, 3]),
        ("V1 and (nc > 0.3 or TE1p-l)", [1]),
        ("'first half' and ncsnr >= 1e0", [1, 2]),
        ('"V1"', [0, 1]),
        ("nc", [4]),
    ],
)
def test_voxels_are_chosen(text: str, voxels: list[int]) -> None:
    assert chosen(text) == voxels


@pytest.mark.parametrize(
    "text",
    [
        "", "V1 or", "or V1", "V1 V2", "nc >", "nc > V1", "nc > 0.3 0.4", "(V1", "V1)", "nc = 0.3", "nc == 0.3",
        "0.3 < nc", "not", "and", "V1 and and V2", "((" * 60 + "V1" + "))" * 60, "not " * 60 + "V1",
    ],
)  # fmt: skip
def test_what_is_no_choice_is_refused_on_one_line(text: str) -> None:
    with pytest.raises(SpecError, match="'voxels' must be regions and comparisons") as caught:
        chosen(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["__import__", "V3", "nc.__class__", "V1 and nc > 9"])
def test_what_is_not_there_is_refused(text: str) -> None:
    with pytest.raises(DataError):
        chosen(text)


@given(st.text(max_size=30))
def test_any_text_chooses_or_is_refused(text: str) -> None:
    found: list[int] = []
    with suppress(SpecError, DataError):
        found = chosen(text)
    assert set(found) <= set(range(5))


def test_the_reliability_is_that_of_halves() -> None:
    random = np.random.default_rng(0)
    repeats = random.standard_normal((50, 1, 3)) + 0.5 * random.standard_normal((50, 4, 3)) + 1e6
    repeats[40:, 1:] = np.nan
    odd, even = repeats[:40, ::2].mean(axis=1), repeats[:40, 1::2].mean(axis=1)
    r = np.array([np.corrcoef(odd[:, voxel], even[:, voxel])[0, 1] for voxel in range(3)])
    np.testing.assert_allclose(split_half_reliability([repeats[:7], repeats[7:]], 3), 2 * r / (1 + r), rtol=1e-6)
    with pytest.raises(DataError, match=r"at least 3 training images with repeats\. There are 0"):
        split_half_reliability([repeats[40:], None], 3)


def test_a_plain_folder_may_be_reduced_too(recordings: Path) -> None:
    whole, some = open_dataset(recordings), open_dataset(recordings, voxels="V1 or V4")
    kept = np.concatenate([whole.rois["V1"], whole.rois["V4"]])
    rows: Any = np.array([3, 57, 0])
    np.testing.assert_array_equal(some.read_responses(rows), whole.read_responses(rows)[:, kept])
    assert (some.n_voxels, set(some.rois), some.name) == (len(kept), {"V1", "V4"}, whole.name)
    assert some.preparation == {"voxels": f"V1 or V4: {len(kept)} of 20 are kept"}
    assert some.digest != whole.digest
    assert some.check().problems == ()
    with pytest.raises(DataError, match=r"'normalise' must be left out of 'sample'.* Got session"):
        open_dataset(recordings, normalise="session")


def test_single_trials_have_the_reliability_of_their_images(tmp_path: Path) -> None:
    mini = MINIATURES["table"](tmp_path / "mini")
    whole = open_dataset(mini.path, **mini.asked)
    reliability = split_half_reliability([whole._repeats(np.arange(whole.n_training))], whole.n_voxels)
    asked = {**mini.asked, "voxels": f"reliability > {np.median(reliability):.6f}"}
    means, single = (open_dataset(mini.path, **asked, repeats=how) for how in ("mean", "single"))
    assert single.n_images > means.n_images
    assert 0 < means.n_voxels < whole.n_voxels
    assert single.preparation["voxels"] == means.preparation["voxels"]
    for one, other in zip(single.rois.values(), means.rois.values(), strict=True):
        np.testing.assert_array_equal(one, other)
