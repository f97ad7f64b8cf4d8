"""From trials to responses: whatever the order of trials, sessions and rows, what is read is what NumPy gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from img2brain.datasets._trials import Recording, TrialDataset
from img2brain.spec import PreparationSpec


class Held(TrialDataset):
    """Trials in memory."""

    @classmethod
    def record(cls, path: Path, asked: PreparationSpec) -> Recording:
        raise NotImplementedError


@st.composite
def recordings(draw: Any) -> tuple[Recording, Any, list[int], list[int]]:
    """Draw what was shown when, and a response to each."""
    n_images = draw(st.integers(4, 6))
    shown = [*range(n_images), *draw(st.lists(st.integers(-1, n_images - 1), min_size=4, max_size=12))]
    shown = draw(st.permutations(shown))
    sessions = [trial % 2 for trial in range(len(shown))]
    values = np.random.default_rng(draw(st.integers(0, 9))).standard_normal((len(shown), 3)) + 1e3
    test = draw(st.integers(0, n_images - 4))
    recording = Recording(
        name="held", images=[None if item < 0 else Path(f"{item}.png") for item in shown], n_voxels=3,
        read=lambda trials: values[trials], where=str, dtype=values.dtype, session=sessions,
        test=np.array([0 <= item < test for item in shown]),
    )  # fmt: skip
    return recording, values, list(shown), sessions


@given(recordings(), st.sampled_from(["none", "session"]), st.lists(st.integers(0, 3), max_size=6))
def test_rows_are_means_of_normalised_trials(found: Any, normalise: Any, rows: list[int]) -> None:
    recording, values, shown, sessions = found
    there = [trial for trial, item in enumerate(shown) if item >= 0]
    if normalise == "session" and any(sum(sessions[trial] == key for trial in there) < 2 for key in (0, 1)):
        return
    scored = values.copy()
    for key in (0, 1) if normalise == "session" else ():
        own = [trial for trial in there if sessions[trial] == key]
        scored[own] = (values[own] - values[own].mean(axis=0)) / values[own].std(axis=0)
    dataset = Held(recording, PreparationSpec(normalise=normalise))
    items = [int(path.stem) for path in dataset.images]
    for row in rows:
        own = [trial for trial in there if shown[trial] == items[row]]
        np.testing.assert_allclose(dataset.read_responses(np.array([row]))[0], scored[own].mean(axis=0), atol=1e-9)
        assert dataset.read_counts(np.array([row])).tolist() == [len(own)]
        repeats = dataset.read_repeats(np.array([row]))
        if repeats is not None:
            np.testing.assert_allclose(repeats[0, : len(own)], scored[own], atol=1e-9)
            assert np.isnan(repeats[0, len(own) :]).all()
    asked = np.array(rows, dtype=np.intp)
    every = dataset.read_responses(np.arange(dataset.n_images))
    np.testing.assert_array_equal(dataset.read_responses(asked), every[asked])
