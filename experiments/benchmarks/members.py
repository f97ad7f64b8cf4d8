"""How often intervals of the mean over subjects hold the truth: simulated subjects of known scores.

Subjects differ in how well their voxels are predicted, and each is scored on 60 images, some of which others were shown
as well; images are predicted better or worse than others in all voxels, and in all subjects that were shown them. Eight
subjects are a sample, and the interval has to hold the mean of those that they were drawn from; four are taken for
themselves, and it has to hold the mean of their own voxels. Beside it are percentiles of subjects that are resampled
with their images, which is what a bootstrap without a correction gives: they count twice what images do to one subject,
and too little of what subjects differ. Run it with

    uv run python experiments/benchmarks/members.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _bench import Figures, main, table
from numpy.typing import NDArray

from img2brain.metrics.pearson import Pearson
from img2brain.statistics.bootstrap import Bootstrap
from img2brain.statistics.members import OverMembers, joint_resamples

N_IMAGES, N_VOXELS, N_RESAMPLES, N_SIMULATIONS = 60, 30, 500, 500
MEAN, OF_VOXELS = 0.4, 0.1  # of the correlations of subjects, and the spread of the voxels of one
SHARED = {"none": 0, "some": N_IMAGES // 3, "all": N_IMAGES}

F64 = NDArray[np.float64]


class Subjects(NamedTuple):
    """Subjects that were simulated: true scores, and responses and predictions of each with the names of its images."""

    truth: list[float]
    responses: list[F64]
    predictions: list[F64]
    names: list[NDArray[np.intp]]


def simulate(n_members: int, spread: float, n_shared: int, random: np.random.Generator) -> Subjects:
    """Draw subjects, of whose images the first are shared by all."""
    shared = _images(n_shared, random)
    found = Subjects([], [], [], [])
    for number, score in enumerate(random.normal(MEAN, spread, n_members)):
        own = _images(N_IMAGES - n_shared, random)
        common, of_image = (np.concatenate(both) for both in zip(shared, own, strict=True))
        P = (common[:, None] + random.standard_normal((N_IMAGES, N_VOXELS))) / np.sqrt(2)
        noise = (of_image[:, None] + random.standard_normal((N_IMAGES, N_VOXELS))) / np.sqrt(2)
        r = np.clip(score + OF_VOXELS * random.standard_normal(N_VOXELS), -0.99, 0.99)
        first = np.arange(n_shared)
        found.truth.append(float(np.median(r)))
        found.responses.append(r * P + np.sqrt(1 - r**2) * noise)
        found.predictions.append(P)
        found.names.append(np.concatenate([first, 1000 * (number + 1) + np.arange(N_IMAGES - n_shared)]))
    return found


def _images(n_images: int, random: np.random.Generator) -> tuple[F64, F64]:
    """Return what all voxels share of images: in predictions, and in what is not predicted."""
    return random.standard_normal(n_images), random.standard_normal(n_images)


def scored(subjects: Subjects) -> OverMembers:
    """Score the subjects in joint resamples."""
    drawn = joint_resamples(subjects.names, N_RESAMPLES)
    found = {}
    for number, counts in enumerate(drawn):
        bootstrap = Bootstrap(subjects.responses[number], Pearson(), counts=counts)
        found[str(number)] = bootstrap.summaries(subjects.predictions[number], {})
    return OverMembers(found)


def percentiles(scores: OverMembers, random: np.random.Generator) -> tuple[float, float]:
    """Return percentiles of the mean, subjects resampled with their images."""
    drawn = np.stack([item.resampled[:, 0] for item in scores.members.values()], axis=1)
    chosen = random.integers(0, drawn.shape[1], drawn.shape)
    low, high = np.quantile(np.take_along_axis(drawn, chosen, axis=1).mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


class Case(NamedTuple):
    """How many subjects there are, how much they differ, and whether they stand for others."""

    n_members: int
    spread: float
    is_sample: bool


CASES = {
    "8 subjects": Case(8, 0.08, True),
    "8 that differ more": Case(8, 0.2, True),
    "4, for themselves": Case(4, 0.08, False),
}


def coverage(case: Case, n_shared: int, n_simulations: int, seed: int = 0) -> dict[str, float]:
    """Return how often each interval holds the truth, and how wide it is."""
    random = np.random.default_rng([seed, case.n_members, n_shared])
    found = np.array([_held(case, n_shared, random) for _ in range(n_simulations)], dtype=np.float64)
    names = ("ours", "width", "percentiles", "their width")
    return dict(zip(names, found.mean(axis=0).tolist(), strict=True))


def _held(case: Case, n_shared: int, random: np.random.Generator) -> tuple[bool, float, bool, float]:
    """Simulate once, and tell of each interval whether it holds the truth, and how wide it is."""
    subjects = simulate(case.n_members, case.spread, n_shared, random)
    truth = MEAN if case.is_sample else float(np.mean(subjects.truth))
    scores = scored(subjects)
    interval, (low, high) = scores.interval(), percentiles(scores, random)
    return interval.low <= truth <= interval.high, interval.high - interval.low, low <= truth <= high, high - low


def _simulated(case: Case) -> Any:
    def measure(_: Path) -> Figures:
        return {name: coverage(case, n_shared, N_SIMULATIONS) for name, n_shared in SHARED.items()}

    return measure


CONTENDERS = {name: _simulated(case) for name, case in CASES.items()}


def report(_: Path, figures: dict[str, Figures]) -> str:
    """Put both intervals beside each other."""
    rows = [
        [who, f"{shared} shared", f"{found['ours']:.1%}", f"{found['width']:.3f}",
         f"{found['percentiles']:.1%}", f"{found['their width']:.3f}"]
        for who, of_each in figures.items()
        for shared, found in of_each.items()
        if shared in SHARED
    ]  # fmt: skip
    heads = ["", "images", "intervals that hold the truth", "width", "percentiles that do", "width"]
    return table(heads, rows)


if __name__ == "__main__":
    main(__file__, CONTENDERS, report)
