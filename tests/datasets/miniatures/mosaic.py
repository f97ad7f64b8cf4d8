"""MOSAIC: an array for each trial, NaN voxels listed in no order, a set without repeats and ceilings."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from tests.datasets.miniatures.base import Miniature, World, means, write_picture

N_TRAIN, N_TEST, N_VALUES = 18, 4, 8


def write_mosaic(root: Path) -> Miniature:
    """Write sub-01 of NSD, whose test stimuli have three repeats, and sub-02 of HAD, which has none."""
    world = World(N_TRAIN + N_TEST, N_VALUES, seed=9)
    stems = [f"still-{item}" for item in range(N_TRAIN + N_TEST)]
    for stem, pixels in zip(stems, world.pictures, strict=True):
        write_picture(root / "stimuli" / "nsd" / f"{stem}.png", pixels)
    shown = [*range(N_TRAIN), *sorted([*range(N_TRAIN, N_TRAIN + N_TEST)] * 3)]
    trials = world.trials(shown).astype(np.float32)
    lacking = [6, 1, 6]
    trials[5, 1], trials[:, 6] = np.nan, np.nan
    for name in ("sub-01_NSD", "sub-02_HAD"):
        n_trials = len(shown) if name == "sub-01_NSD" else N_TRAIN
        with h5py.File(root / f"{name}.hdf5", "w") as file:
            file.attrs["visual_angle"] = 8.4
            for trial in range(n_trials):
                phase = "train" if shown[trial] < N_TRAIN else "test"
                number = shown[:trial].count(shown[trial])
                array = file.create_dataset(
                    f"betas/{name}_stimulus-{stems[shown[trial]]}_phase-{phase}_rep-{number}", data=trials[trial]
                )
                array.attrs["presented_stimulus_filename"] = f"{stems[shown[trial]]}.png"
            file["nan_indices_all"] = np.array(lacking)
            if name == "sub-01_NSD":
                file[f"noiseceilings/{name}_phase-test_n-1"] = np.full(N_VALUES, 10.0)
                file[f"noiseceilings/{name}_phase-test_n-avg"] = np.linspace(0, 70, N_VALUES)
    order = sorted(range(len(shown)), key=lambda trial: (stems[shown[trial]], trial))
    kept = np.setdiff1d(np.arange(N_VALUES), lacking)
    items, expected = means(trials[order][:, kept].astype(np.float64), [shown[trial] for trial in order])
    sides = sorted(range(len(items)), key=lambda row: items[row] >= N_TRAIN)
    return Miniature(
        path=root,
        asked={"subject": "sub-01_NSD"},
        pictures=[world.pictures[items[row]] for row in sides],
        responses=expected[sides].astype(np.float32),
        n_test=N_TEST,
        change=_change,
    )


def _change(folder: Path) -> None:
    with h5py.File(folder / "sub-01_NSD.hdf5", "r+") as file:
        file["betas/sub-01_NSD_stimulus-still-20_phase-test_rep-2"][0] += 1
