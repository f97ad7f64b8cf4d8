"""Sensorium: trials as files whose names sort otherwise, repeats by the number of the image, a tier of zeros."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.datasets.miniatures.base import Miniature, World, means

N_TRAIN, N_VALIDATION, N_TEST, N_WITHHELD, N_NEURONS = 16, 4, 4, 3, 5


def write_sensorium(root: Path) -> Miniature:
    """Write a session in which each test image is shown three times, and those of the final test give zeros."""
    n_pictures = N_TRAIN + N_VALIDATION + N_TEST + N_WITHHELD
    world = World(n_pictures, N_NEURONS, seed=6)
    world.pictures = [
        np.repeat(picture.mean(axis=2, keepdims=True), 3, 2).astype(np.uint8) for picture in world.pictures
    ]
    tier_of = ["train"] * N_TRAIN + ["validation"] * N_VALIDATION + ["test"] * N_TEST + ["final_test"] * N_WITHHELD
    once = range(N_TRAIN + N_VALIDATION)
    repeated = range(N_TRAIN + N_VALIDATION, n_pictures)
    shown = world.random.permutation([*once, *repeated, *repeated, *repeated]).tolist()
    trials = world.trials(shown).astype(np.float32)
    tiers = [tier_of[item] for item in shown]
    trials[[tier == "final_test" for tier in tiers]] = 0
    for name in ("images", "responses"):
        (root / "data" / name).mkdir(parents=True)
    for trial, item in enumerate(shown):
        np.save(root / "data" / "responses" / f"{trial}.npy", trials[trial])
        np.save(root / "data" / "images" / f"{trial}.npy", world.pictures[item][None, :, :, 0].astype(np.float32))
    (root / "meta" / "trials").mkdir(parents=True)
    (root / "meta" / "neurons").mkdir()
    np.save(root / "meta" / "trials" / "tiers.npy", np.array(tiers))
    np.save(root / "meta" / "trials" / "frame_image_id.npy", np.array(shown) + 1000)
    np.save(root / "meta" / "neurons" / "area.npy", np.array(["V1", "V1", "LM", "V1", "LM"]))
    there = [trial for trial, tier in enumerate(tiers) if tier != "final_test"]
    items, expected = means(trials[there].astype(np.float64), [shown[trial] for trial in there])
    order = sorted(range(len(items)), key=lambda row: tier_of[items[row]] == "test")
    return Miniature(
        path=root,
        pictures=[world.pictures[items[row]] for row in order],
        responses=expected[order].astype(np.float32),
        n_test=N_TEST,
        rois={"V1": [0, 1, 3], "LM": [2, 4]},
        change=lambda folder: _change(folder, tiers.index("train")),
    )


def _change(folder: Path, trial: int) -> None:
    path = folder / "data" / "responses" / f"{trial}.npy"
    np.save(path, np.load(path) + 1)
