"""A lab's own folder: two sessions of three runs, repeats, a blank trial, a test part, NaN voxels, two subjects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.datasets.miniatures.base import Array, Miniature, World, means, write_picture, z_scored

N_PICTURES, N_VOXELS, N_TEST = 24, 7, 4


def save(path: Path, array: Array) -> None:
    """Write responses in any kind of file."""
    writers: dict[str, Callable[[], Any]] = {
        ".npy": lambda: np.save(path, array),
        ".npz": lambda: np.savez_compressed(path, responses=array, other=np.zeros(3)),
        ".h5": lambda: _save_h5(path, array),
        ".mat": lambda: _save_mat(path, array),
        ".zarr": lambda: _save_zarr(path, array),
        ".csv": lambda: np.savetxt(path, array, delimiter=",", header="a,b", comments=""),
        ".tsv": lambda: np.savetxt(path, array, delimiter="\t"),
    }
    writers[path.suffix]()


def _save_h5(path: Path, array: Array) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["group/betas"] = array


def save_mat_7_3(path: Path, array: Array) -> None:
    """Write a MATLAB file of version 7.3 as MATLAB does: HDF5 below a header of text, the axes reversed."""
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        file["betas"] = array.T
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")


def _save_mat(path: Path, array: Array) -> None:
    from scipy.io import savemat

    savemat(path, {"betas": array, "note": "from a lab"})


def _save_zarr(path: Path, array: Array) -> None:
    import zarr

    stored = zarr.create_array(str(path), shape=array.shape, chunks=(5, array.shape[1]), dtype=array.dtype)
    stored[:] = array


def write_table(root: Path, kind: str = ".npy") -> Miniature:
    """Write a table of one subject and 54 trials, the third one blank, with a voxel that is NaN."""
    world = World(N_PICTURES, N_VOXELS, seed=1)
    order = world.random.permutation(N_PICTURES)
    shown = [int(item) for item in [*order, *order, *order[: N_PICTURES // 4]]]
    sessions = [1 + trial // 27 for trial in range(len(shown))]
    trials = world.trials(shown).astype(np.float32)
    trials[:, 2] = np.nan
    blank = 2
    names = [f"{item:02}.png" for item in shown]
    for item, pixels in enumerate(world.pictures):
        write_picture(root / "images" / f"{item:02}.png", pixels)
    test = {names[trial] for trial in range(N_TEST)} - {names[blank]}
    lines = ["image,session,run,part"]
    for trial, name in enumerate(names):
        image = "n/a" if trial == blank else name
        part = "test" if name in test else "train"
        lines.append(f"{image},{sessions[trial]},{trial % 3},{part}")
    (root / "trials.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    save(root / f"responses{kind}", trials)
    (root / "regions.csv").write_text("voxel,V1,region\n" + "".join(
        f"{voxel},{int(voxel < 4)},{'IT' if voxel > 4 else ''}\n" for voxel in range(N_VOXELS)
    ), encoding="utf-8")  # fmt: skip
    there = [trial for trial in range(len(shown)) if trial != blank]
    items = [shown[trial] for trial in there]
    scored = z_scored(np.delete(trials, 2, axis=1)[there], [sessions[trial] for trial in there])
    rows, expected = means(scored, items)
    is_test = [f"{item:02}.png" in test for item in rows]
    order_ = sorted(range(len(rows)), key=lambda row: is_test[row])
    return Miniature(
        path=root,
        asked={"normalise": "session"},
        pictures=[world.pictures[rows[row]] for row in order_],
        responses=expected[order_].astype(np.float32),
        n_test=sum(is_test),
        rois={"V1": [0, 1, 2], "IT": [4, 5]},
        change=lambda folder: change(folder / f"responses{kind}", trials),
    )


def change(path: Path, trials: Array) -> None:
    """Write the same trials with another value."""
    other = trials.copy()
    other[-1, 0] += 1
    if path.is_dir():
        import zarr

        zarr.open_array(str(path), mode="r+")[:] = other
    else:
        path.unlink()
        save(path, other)
