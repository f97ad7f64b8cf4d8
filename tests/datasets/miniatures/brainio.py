"""BrainIO: dimensions in another order, repeats as presentations, stimuli in an archive, two animals."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from tests.datasets.miniatures.base import Miniature, World, means

N_PICTURES, N_NEUROIDS = 20, 6


def write_brainio(root: Path, order: tuple[str, ...] = ("neuroid", "time_bin", "presentation")) -> Miniature:
    """Write an assembly whose presentations are the last axis; one neuroid is NaN."""
    world = World(N_PICTURES, N_NEUROIDS, seed=8)
    shown = world.random.permutation([*range(N_PICTURES)] * 3).tolist()
    trials = world.trials(shown)
    trials[:, 5] = np.nan
    root.mkdir()
    ids = [f"id-{item:02}" for item in range(N_PICTURES)]
    coordinates: dict[str, dict[str, Any]] = {
        "presentation": {"image_id": [ids[item] for item in shown], "repetition": np.arange(len(shown))},
        "neuroid": {"neuroid_id": [f"n{voxel}" for voxel in range(6)], "region": ["V4", "IT", "IT", "V4", "IT", "V4"],
                    "animal": ["Tito", "Chabo", "Tito", "Chabo", "Tito", "Tito"]},
        "time_bin": {"time_bin_start": np.array([70]), "time_bin_end": np.array([170])},
    }  # fmt: skip
    with h5py.File(root / "assy_dicarlo.MajajHong2015.public.nc", "w") as file:
        values = trials.T[:, None]  # (neuroid, time_bin, presentation)
        file["data"] = values.transpose([("neuroid", "time_bin", "presentation").index(name) for name in order])
        file["data"].attrs["stimulus_set_identifier"] = "dicarlo.hvm-public"
        for dimension, named in coordinates.items():
            scale = file.create_dataset(dimension, data=np.zeros(len(next(iter(named.values())))))
            scale.make_scale(dimension)
            file["data"].dims[order.index(dimension)].attach_scale(scale)
            for name, found in named.items():
                file.create_dataset(name, data=found).dims[0].attach_scale(scale)
    table = ["image_id,object_name,filename", *(f"{name},thing{item % 4},{name}.png" for item, name in enumerate(ids))]
    (root / "stimulus_dicarlo.other.csv").write_text("image_id,filename\nid-00,other.png\n")
    (root / "stimulus_dicarlo.hvm-public.csv").write_text("\n".join(table) + "\n")
    with zipfile.ZipFile(root / "stimulus_dicarlo.hvm-public.zip", "w") as archive:
        for name, pixels in zip(ids, world.pictures, strict=True):
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "PNG")
            archive.writestr(f"{name}.png", stream.getvalue())
    rows, expected = means(trials[:, :5], shown)
    return Miniature(
        path=root,
        pictures=[world.pictures[row] for row in rows],
        responses=expected,
        rois={"V4": [0, 3], "IT": [1, 2, 4]},
        change=_change,
    )


def _change(folder: Path) -> None:
    with h5py.File(folder / "assy_dicarlo.MajajHong2015.public.nc", "r+") as file:
        file["data"][0, 0, 0] += 1
