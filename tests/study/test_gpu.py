"""A study on a GPU, beside the same study on the processor; it skips where there is no GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from img2brain.registered import load_model
from img2brain.study.runner import run_study

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeSpec, NewHome

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def test_a_study_on_cuda_gives_the_scores_of_one_on_the_processor(
    new_home: NewHome, make_spec: MakeSpec, recordings: Path
) -> None:
    home = new_home()
    outcome = run_study(make_spec(device="cuda", sampler="random"), home)
    beside = run_study(make_spec(device="cpu", sampler="random"), new_home("beside"))
    found, expected = (sorted((t.number, t.spec.label, t.score) for t in study.trials) for study in (outcome, beside))
    assert [label[:2] for label in found] == [label[:2] for label in expected]
    np.testing.assert_allclose([t[2] for t in found], [t[2] for t in expected], atol=1e-4)
    assert outcome.published is not None
    assert beside.published is not None
    assert outcome.published.score == pytest.approx(beside.published.score, abs=1e-4)
    model = load_model("sample@champion", home)
    images = sorted((recordings / "trainingIMG").iterdir())[:5]
    here, there = (model.predict(images, device=device) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(there, here, atol=1e-3 * np.abs(here).max())
