"""TVSD: MATLAB's axes, references to texts with backslashes, regions in another order in each animal."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from tests.datasets.miniatures.base import Array, Miniature, World, write_picture

N_TRAIN, N_TEST, N_REPEATS, N_CHANNELS = 20, 4, 3, 1024


def _save_paths(file: h5py.File, part: str, names: list[str]) -> None:
    """Write a cell of texts as MATLAB does: references to arrays of characters."""
    group = file.create_group(f"{part}_imgs")
    references = group.create_dataset("things_path", (1, len(names)), h5py.ref_dtype)
    for place, name in enumerate(names):
        text = file.create_dataset(
            f"#refs#/{part}{place}", data=np.array([[ord(letter)] for letter in name], np.uint16)
        )
        references[0, place] = text.ref


def write_tvsd(root: Path) -> Miniature:
    """Write both animals; what is asked for is F, whose IT lies before V4."""
    world = World(N_TRAIN + N_TEST, N_CHANNELS, seed=5)
    names = [f"object_images\\thing{item}\\thing{item}_01b.png" for item in range(N_TRAIN + N_TEST)]
    for name, pixels in zip(names, world.pictures, strict=True):
        write_picture(root / "THINGS" / name.replace("\\", "/"), pixels)
    for animal in ("monkeyF", "monkeyN"):
        train = world.trials(range(N_TRAIN), noise=3.0).astype(np.float32)
        repeats = np.stack([world.trials(range(N_TRAIN, N_TRAIN + N_TEST), noise=3.0) for _ in range(N_REPEATS)])
        if animal == "monkeyF":
            expected = np.concatenate([train, repeats.astype(np.float32).mean(axis=0, dtype=np.float64)])
        (root / animal).mkdir()
        with h5py.File(root / animal / "THINGS_normMUA.mat", "w") as file:
            file["train_MUA"] = train  # MATLAB has (channels, images)
            file["test_MUA_reps"] = repeats.astype(np.float32)  # and (channels, images, repeats)
            file["SNR"] = np.ones((4, N_CHANNELS))
        with h5py.File(root / animal / "things_imgs.mat", "w") as file:
            _save_paths(file, "train", names[:N_TRAIN])
            _save_paths(file, "test", names[N_TRAIN:])
    return Miniature(
        path=root,
        asked={"subject": "monkeyF"},
        pictures=world.pictures,
        responses=expected,
        n_test=N_TEST,
        rois={"V1": [*range(512)], "IT": [*range(512, 832)], "V4": [*range(832, 1024)]},
        change=_change,
    )


def _change(folder: Path) -> None:
    with h5py.File(folder / "monkeyF" / "THINGS_normMUA.mat", "r+") as file:
        values: Array = file["test_MUA_reps"]
        values[1, 2, 3] += 1
