"""BOLD5000: sessions of which one is missing, a misnamed region, repeats under another name, NaN voxels."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from tests.datasets.miniatures.base import Array, Miniature, World, means, write_picture, z_scored

SHAPE = (3, 2, 2)
N_OTHER, N_REPEATED, PER_SESSION = 24, 3, 15
KINDS = ("Scene", "COCO", "ImageNet")


def _save(path: Path, array: Array) -> None:
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


def write_bold5000(root: Path) -> Miniature:
    """Write sessions 1 and 3 of three of CSI2: each shows 12 images of its own and the three repeated ones."""
    world = World(N_OTHER + 12 + N_REPEATED, int(np.prod(SHAPE)), seed=7)
    names = [f"picture{item:02}.png" for item in range(len(world.pictures))]
    stimuli = root / "BOLD5000_Stimuli" / "Scene_Stimuli" / "Presented_Stimuli"
    for item, pixels in enumerate(world.pictures):
        write_picture(stimuli / KINDS[item % 3] / names[item], pixels)
    repeated = [*range(36, 39)]
    (root / "BOLD5000_Stimuli" / "repeated_stimuli_113_list.txt").write_text(
        "\n".join(names[item] for item in repeated)
    )
    shown: list[int] = []
    lines: list[str] = []
    for session in range(3):
        order = world.random.permutation([*range(12 * session, 12 * session + 12), *repeated]).tolist()
        lines += [f"rep_{names[item]}" if session and item in repeated else names[item] for item in order]
        shown += order
    (root / "CSI2_imgnames.txt").write_text("\n".join(lines) + "\n")
    sessions = np.repeat([1, 2, 3], PER_SESSION)
    trials = world.trials(shown).astype(np.float32)
    trials[:, 4] = np.nan
    for session in (1, 3):
        volume = trials[sessions == session].reshape(-1, *SHAPE)
        name = f"CSI2_GLMbetas-TYPED-FITHRF-GLMDENOISE-RR_ses-{session:02}.nii.gz"
        _save(root / name, np.moveaxis(volume, 0, -1))
    brain = np.ones(SHAPE, np.int16)
    brain[2, 1] = 0
    region = np.zeros(SHAPE, np.int16)
    region[0] = 1
    _save(root / "CSI2_brainmask.nii.gz", brain)
    _save(root / "CSI2_mask-LHLO.nii.gz", region)
    _save(root / "CSI2_mask-RHEarlyVis.nii.gz", np.roll(region, 1, axis=0))
    _save(root / "CSI2_mask-LHOPA.nii.gz", np.where(brain == 0, 1, 0).astype(np.int16))
    there = np.flatnonzero(sessions != 2)
    kept = [voxel for voxel in np.flatnonzero(brain) if voxel != 4]
    items = [shown[trial] for trial in there]
    rows, expected = means(z_scored(trials[there][:, kept], sessions[there].tolist()), items)
    order_ = sorted(range(len(rows)), key=lambda row: rows[row] in repeated)
    return Miniature(
        path=root,
        pictures=[world.pictures[rows[row]] for row in order_],
        responses=expected[order_].astype(np.float32),
        n_test=N_REPEATED,
        rois={"LHLOC": [0, 1, 2, 3], "RHEarlyVis": [4, 5, 6]},
        change=_change,
    )


def _change(folder: Path) -> None:
    path = folder / "CSI2_GLMbetas-TYPED-FITHRF-GLMDENOISE-RR_ses-03.nii.gz"
    values = np.asarray(nibabel.load(path).dataobj).copy()
    values[0, 0, 0, 2] += 1
    _save(path, values)
