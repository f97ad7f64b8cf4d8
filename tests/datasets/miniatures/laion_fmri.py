"""LAION-fMRI: sessions of other lengths, a session that lacks a voxel, a ceiling in percent, scaled integers."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from tests.datasets.miniatures.base import Array, Miniature, World, means, write_picture, z_scored

SHAPE = (3, 2, 2)
N_PICTURES = 24


def _save(path: Path, array: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


def write_laion(root: Path) -> Miniature:
    """Write two sessions of sub-03, of 36 and 24 trials; the last trial of the first one shows nothing."""
    world = World(N_PICTURES, int(np.prod(SHAPE)), seed=10)
    names = [f"laion_{item:05}.png" for item in range(N_PICTURES)]
    for name, pixels in zip(names, world.pictures, strict=True):
        write_picture(root / "stimuli" / name, pixels)
    shown = world.random.permutation([*range(N_PICTURES), *range(N_PICTURES), *range(N_PICTURES // 2)]).tolist()
    sessions = np.repeat(["ses-01", "ses-02"], [36, 24])
    trials = world.trials(shown).astype(np.float32)
    trials[:, 0] = 0  # outside of the brain
    trials[sessions == "ses-02", 5] = np.nan
    folder = root / "derivatives" / "glmsingle-tedana" / "sub-03"
    for session in ("ses-01", "ses-02"):
        stem = folder / session / "func" / f"sub-03_{session}_task-images_stat-effect_desc-SingletrialBetas"
        suffix = ".nii.gz" if session == "ses-01" else ".nii"
        _save(Path(f"{stem}_statmap{suffix}"), np.moveaxis(trials[sessions == session].reshape(-1, *SHAPE), 0, -1))
        own = [names[item] for item in np.array(shown)[sessions == session]]
        if session == "ses-01":
            own[-1] = "n/a"
        lines = ["trial\tlabel", *(f"{trial}\t{name}" for trial, name in enumerate(own))]
        Path(f"{stem}_trials.tsv").write_text("\n".join(lines) + "\n")
    percent = np.linspace(0, 60, trials.shape[1], dtype=np.float32).reshape(SHAPE)
    _save(folder / "sub-03_stat-rsquared_desc-Noiseceiling12rep_statmap.nii.gz", percent)
    region = np.zeros(SHAPE, np.int16)
    region[:2] = 1
    _save(root / "atlases" / "sub-03" / "rois" / "V1.nii.gz", region)
    there = np.delete(np.arange(60), 35)
    kept = np.setdiff1d(np.arange(trials.shape[1]), [0, 5])
    scored = z_scored(trials[there][:, kept], sessions[there].tolist())
    rows, expected = means(scored, [shown[trial] for trial in there])
    return Miniature(
        path=root,
        pictures=[world.pictures[row] for row in rows],
        responses=expected.astype(np.float32),
        rois={"V1": [0, 1, 2, 3, 4, 5]},
        change=_change,
    )


def _change(folder: Path) -> None:
    (path,) = folder.rglob("*ses-02*SingletrialBetas_statmap.nii")
    values = np.asarray(nibabel.load(path).dataobj).copy()
    values[1, 1, 1, 2] += 1
    _save(path, values)
