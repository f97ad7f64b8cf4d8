"""The optimism of a search, on simulated recordings whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from img2brain.home import Home
from img2brain.metrics.pearson import pearson
from img2brain.registered import load_model
from img2brain.spec import load_study
from img2brain.study.runner import run_study
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import tracked_trials

Array = NDArray[np.float32]

N_TRIALS = 200
N_LAYERS, N_FEATURES, N_LATENT, N_VOXELS = 12, 20, 6, 15
N_SEARCH, N_CONFIRMATION, N_TRUTH = 150, 150, 20_000

STUDY = """
name = "optimism"
trials = {trials}
sampler = "random"
n_components = [4, 8, 16]
regressors = ["ridge"]
dataset = {{path = "{data}"}}
split = {{seed = 0, validation = 0.2}}

[[backbones]]
name = "given"
weights = "none"
"""


class World:
    """Layers that see the same latent variables equally well, and voxels whose noise is mostly shared."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._views = self._random.standard_normal((N_LAYERS, N_LATENT, N_FEATURES))
        self._weights = self._random.standard_normal((N_LATENT, N_VOXELS))

    def draw(self, n: int) -> tuple[dict[str, Array], Array]:
        """Draw features by layer and responses of `n` images."""
        latent = self._random.standard_normal((n, N_LATENT))
        layers = {
            f"layer{i:02d}": (latent @ view + 3.0 * self._random.standard_normal((n, N_FEATURES))).astype(np.float32)
            for i, view in enumerate(self._views)
        }
        shared, own = self._random.standard_normal((n, 1)), self._random.standard_normal((n, N_VOXELS))
        return layers, (latent @ self._weights + 3.0 * shared + 1.5 * own).astype(np.float32)

    def write(self, root: Path) -> Path:
        """Write a dataset folder."""
        for part, n in (("training", N_SEARCH), ("test", N_CONFIRMATION)):
            layers, responses = self.draw(n)
            for name in (f"{part}Features", f"{part}fMRI"):
                (root / name).mkdir(parents=True)
            np.save(root / f"{part}fMRI" / f"{part}.npy", responses)
            for layer, matrix in layers.items():
                np.save(root / f"{part}Features" / f"{layer}.npy", matrix)
        return root


@dataclass(frozen=True)
class Score:
    """What is said of the published model of one search, and the truth."""

    validation: float
    confirmation: float
    se: float
    optimism: float
    truth: float


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> list[Score]:
    """Searches of 200 trials, each in a world of its own."""
    return [search(seed, tmp_path_factory.mktemp("world")) for seed in range(3)]


def search(seed: int, folder: Path) -> Score:
    world, home = World(seed), folder / "home"
    file = folder / "study.toml"
    file.write_text(STUDY.format(data=world.write(folder / "data"), trials=N_TRIALS))
    outcome = run_study(load_study(file), home)
    assert len(outcome.trials) == N_TRIALS
    (published,) = (trial for trial in tracked_trials(TrackingStore(Home(home))) if trial.confirmation)
    assert published.confirmation is not None
    assert published.confirmation.confirmed is not None
    found = published.confirmation.confirmed.whole.score
    layers, responses = world.draw(N_TRUTH)
    model = load_model("data", home)
    truth = float(np.median(pearson(responses, model.predict(layers[published.record.spec.layer]))))
    return Score(
        published.record.score,
        found.estimate,
        (found.high - found.low) / (2 * 1.96),
        published.confirmation.optimism,
        truth,
    )


@pytest.mark.slow
def test_the_optimism_of_a_search_of_200_trials_shows(scores: list[Score]) -> None:
    for score in scores:
        assert score.optimism == pytest.approx(score.validation - score.confirmation, abs=1e-6)
    flattered = np.mean([score.validation - score.truth for score in scores])
    assert flattered > 0.05
    assert np.mean([score.optimism for score in scores]) > 0.05


@pytest.mark.slow
def test_the_confirmation_is_unbiased_within_its_standard_error(scores: list[Score]) -> None:
    errors = np.array([score.confirmation - score.truth for score in scores])
    se = np.sqrt(np.mean([score.se**2 for score in scores]))
    assert abs(errors.mean()) < 2 * se / np.sqrt(len(scores))
    assert (abs(errors) < 3 * se).all()
