"""Algonauts: two subjects of other sizes, regions that one lacks, pickled names, test images without responses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.datasets.miniatures.base import Miniature, World, write_picture

NAMES = {
    "prf-visualrois": {0: "Unknown", 1: "V1v", 2: "V1d", 3: "hV4"},
    "streams": {0: "Unknown", 1: "early", 2: "ventral"},
}


def write_algonauts(root: Path) -> Miniature:
    """Write subj01, which lacks hV4 (as its number is in no mask), and subj06, which is smaller."""
    world = World(24, 9, seed=2)
    for subject, n_left, n_right in (("subj01", 5, 4), ("subj06", 4, 3)):
        folder = root / subject
        ids = world.random.permutation(1000)[:24]
        for row in range(24):
            part, number = ("training", row + 1) if row < 20 else ("test", row - 19)
            name = f"{part.removesuffix('ing')}-{number:04}_nsd-{ids[row]:05}.png"
            write_picture(folder / f"{part}_split" / f"{part}_images" / name, world.pictures[row])
        trials = world.trials(range(20)).astype(np.float32)
        fmri, masks = folder / "training_split" / "training_fmri", folder / "roi_masks"
        for made in (fmri, masks):
            made.mkdir()
        for side, values, n in (
            ("lh", trials[:, :n_left], n_left),
            ("rh", trials[:, n_left : n_left + n_right], n_right),
        ):
            np.save(fmri / f"{side}_training_fmri.npy", values)
            for kind in NAMES:
                labels = np.arange(n) % 3
                np.save(masks / f"{side}.{kind}_challenge_space.npy", labels.astype(np.float32))
        for kind, names in NAMES.items():
            np.save(masks / f"mapping_{kind}.npy", names, allow_pickle=True)  # type: ignore[arg-type]
        if subject == "subj01":
            expected = trials
    return Miniature(
        path=root,
        asked={"subject": "subj01"},
        pictures=world.pictures[:20],
        responses=expected,
        rois={
            "lh": [0, 1, 2, 3, 4], "rh": [5, 6, 7, 8], "V1v": [1, 4, 6], "V1d": [2, 7], "early": [1, 4, 6],
            "ventral": [2, 7],
        },
        change=_change,
    )  # fmt: skip


def _change(folder: Path) -> None:
    path = folder / "subj01" / "training_split" / "training_fmri" / "rh_training_fmri.npy"
    values = np.load(path)
    values[0, 0] += 1
    np.save(path, values)
