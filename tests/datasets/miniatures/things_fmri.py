"""THINGS-fMRI: a frame of pandas with pickled parts, voxels in another order, test images in every session."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np

from tests.datasets.miniatures.base import Array, Miniature, World, means, write_picture

N_TRAIN, N_TEST, N_VOXELS = 18, 4, 6
REGIONS = {"V1": [1, 1, 0, 0, 0, 0], "glasser-TE1p": [0, 0, 0, 1, 0, 1], "hV4": [0] * N_VOXELS}


def write_frame(path: Path, trials: Array, voxel_ids: list[int]) -> None:
    """Write a frame as pandas does: a block for each type, names of mixed types pickled."""
    with h5py.File(path, "w") as file:
        group = file.create_group("ResponseData")
        group.attrs["pandas_type"] = "frame"
        pickled = np.frombuffer(pickle.dumps(["voxel_id", *range(len(trials))]), np.uint8)
        for name in ("axis0", "block0_items", "block1_items"):
            group.create_dataset(name, (1,), h5py.vlen_dtype(np.uint8))[0] = pickled
        group["axis1"] = np.arange(len(voxel_ids))
        group["block0_values"] = trials.T
        group["block1_values"] = np.array(voxel_ids)[:, None]


def write_things(root: Path) -> Miniature:
    """Write two sessions; each shows its own training images and all test images once, and a catch trial."""
    world = World(N_TRAIN + N_TEST, N_VOXELS, seed=3)
    shown: list[int] = []
    for session in range(2):
        own = range(session * N_TRAIN // 2, (session + 1) * N_TRAIN // 2)
        shown += world.random.permutation([*own, *range(N_TRAIN, N_TRAIN + N_TEST)]).tolist()
    trials = world.trials(shown)
    names = [f"thing{item % 5}/thing{item % 5}_{item:02}s.png" for item in range(N_TRAIN + N_TEST)]
    for name, pixels in zip(names, world.pictures, strict=True):
        write_picture(root / "THINGS" / name, pixels)
    folder = root / "betas_csv"
    folder.mkdir()
    lines = ["trial_type,session,run,subject_id,trial_id,stimulus,concept"]
    for trial, item in enumerate(shown):
        concept, _, stimulus = names[item].partition("/")
        kind = "test" if item >= N_TRAIN else "train"
        lines.append(f"{kind},{1 + 2 * trial // len(shown)},{trial % 3},01,{trial},{stimulus},{concept}")
    lines.append("catch,2,1,01,99,none.png,none")
    (folder / "sub-01_StimulusMetadata.csv").write_text("\n".join(lines) + "\n")
    ids = [7, 3, 9, 11, 2, 5]
    write_frame(folder / "sub-01_ResponseData.h5", np.concatenate([trials, np.full((1, N_VOXELS), 9.0)]), ids)
    table = ["voxel_id,voxel_x," + ",".join(REGIONS) + ",nc_testset"]
    for voxel in np.argsort(ids):
        marks = ",".join(str(mask[voxel]) for mask in REGIONS.values())
        table.append(f"{ids[voxel]},{voxel % 2},{marks},{10 * voxel}")
    (folder / "sub-01_VoxelMetadata.csv").write_text("\n".join(table) + "\n")
    items, expected = means(trials, shown)
    order = sorted(range(len(items)), key=lambda row: items[row] >= N_TRAIN)
    return Miniature(
        path=root,
        asked={},
        pictures=[world.pictures[items[row]] for row in order],
        responses=expected[order],
        n_test=N_TEST,
        rois={"V1": [0, 1], "glasser-TE1p": [3, 5]},
        change=_change,
    )


def _change(folder: Path) -> None:
    with h5py.File(folder / "betas_csv" / "sub-01_ResponseData.h5", "r+") as file:
        file["ResponseData/block0_values"][0, 0] += 1
