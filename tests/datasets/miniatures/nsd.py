"""NSD: a missing session, axes reversed, voxels that a session lacks, trials and images from 1, NaN vertices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
from scipy.io import savemat

from tests.datasets.miniatures.base import Array, Miniature, World, means, z_scored

SHAPE = (4, 3, 2)
PER_SESSION, N_SESSIONS, N_OWN, N_SHARED, SUBJECT = 24, 3, 24, 4, 2
SIDES = {"lh": 5, "rh": 4}


def _design(root: Path, world: World, n_pictures: int) -> list[int]:
    """Write who saw what, and return the picture of each trial of the subject, from 0."""
    own = world.random.permutation(n_pictures)[:N_OWN]
    order = np.concatenate([world.random.permutation(N_OWN) for _ in range(PER_SESSION * N_SESSIONS // N_OWN)])
    others = np.stack([world.random.permutation(n_pictures)[:N_OWN] for _ in range(8)])
    others[SUBJECT - 1] = own
    shown = own[order]
    folder = root / "nsddata" / "experiments" / "nsd"
    folder.mkdir(parents=True)
    shared = own[:N_SHARED]
    savemat(
        folder / "nsd_expdesign.mat",
        {"masterordering": order[None] + 1, "subjectim": others + 1, "sharedix": shared[None] + 1},
    )
    lines = ["nsdId,shared1000,subject2_rep0,subject2_rep1,subject2_rep2"]
    for number in range(n_pictures):
        trials = [trial + 1 for trial, item in enumerate(shown) if item == number]
        repeats = ",".join(str(trial) for trial in (*trials, 0, 0, 0)[:3])
        lines.append(f"{number},{number in shared},{repeats}")
    (folder / "nsd_stim_info_merged.csv").write_text("\n".join(lines) + "\n")
    stimuli = root / "nsddata_stimuli" / "stimuli" / "nsd"
    stimuli.mkdir(parents=True)
    with h5py.File(stimuli / "nsd_stimuli.hdf5", "w") as file:
        file["imgBrick"] = np.stack(world.pictures)
    return [int(item) for item in shown]


def _save(path: Path, array: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind: Any = nibabel.MGHImage if path.suffix in (".mgh", ".mgz") else nibabel.Nifti1Image
    nibabel.save(kind(array, np.eye(4)), path)


def write_nsd(root: Path, space: str = "func1pt8mm") -> Miniature:
    """Write sessions 1 and 3 of subj02; the second was never scanned."""
    n_voxels = int(np.prod(SHAPE)) if space == "func1pt8mm" else sum(SIDES.values())
    world = World(30, n_voxels, seed=4)
    shown = _design(root, world, 30)
    sessions = np.repeat([1, 2, 3], PER_SESSION)
    trials = world.trials(shown)
    kept, scored, rois = (_write_volumes if space == "func1pt8mm" else _write_surface)(root, trials, sessions)
    there = np.flatnonzero(sessions != 2)
    items = [shown[trial] for trial in there]
    rows, expected = means(z_scored(scored[there][:, kept], sessions[there].tolist()), items)
    shared = set(np.unique(_shared(root)).tolist())
    order = sorted(range(len(rows)), key=lambda row: rows[row] in shared)
    return Miniature(
        path=root,
        asked={} if space == "func1pt8mm" else {"responses": space},
        pictures=[world.pictures[rows[row]] for row in order],
        responses=expected[order].astype(np.float32),
        n_test=sum(item in shared for item in rows),
        rois=rois,
        change=_change,
    )


def _shared(root: Path) -> Array:
    from scipy.io import loadmat

    found = loadmat(str(root / "nsddata" / "experiments" / "nsd" / "nsd_expdesign.mat"))
    return np.asarray(found["sharedix"]).astype(int) - 1


def _write_volumes(root: Path, trials: Array, sessions: Array) -> tuple[Array, Array, dict[str, list[int]]]:
    """Write volumes; a voxel is of the brain unless x is 3, and voxel (0, 0, 1) is not valid in session 3."""
    betas = root / "nsddata_betas" / "ppdata" / "subj02" / "func1pt8mm" / "betas_fithrf_GLMdenoise_RR"
    about = root / "nsddata" / "ppdata" / "subj02" / "func1pt8mm"
    betas.mkdir(parents=True)
    whole = np.round(trials * 300).astype(np.int16)
    for session in (1, 3):
        volumes = whole[sessions == session].reshape(-1, *SHAPE)
        with h5py.File(betas / f"betas_session{session:02}.hdf5", "w") as file:
            file["betas"] = volumes.transpose(0, 3, 2, 1)
        valid = np.ones(SHAPE, np.int16)
        valid[0, 0, 1] = session != 3
        _save(about / f"valid_session{session:02}.nii.gz", valid)
    brain = np.ones(SHAPE, np.int16)
    brain[3] = 0
    _save(about / "brainmask.nii.gz", brain)
    _save(betas / "ncsnr.nii.gz", np.linspace(0, 1, brain.size, dtype=np.float32).reshape(SHAPE))
    labels = np.full(SHAPE, -1, np.int16)
    labels[0], labels[1, 0] = 1, 2
    _save(about / "roi" / "prf-visualrois.nii.gz", labels)
    _save(about / "roi" / "nsdgeneral.nii.gz", np.where(labels > 0, 1, 0).astype(np.int16))
    tables = root / "nsddata" / "freesurfer" / "subj02" / "label"
    tables.mkdir(parents=True)
    (tables / "prf-visualrois.mgz.ctab").write_text("0 Unknown\n1 V1v\n2 V1d\n3 hV4\n")
    mask = brain.astype(bool)
    mask[0, 0, 1] = False
    kept = np.flatnonzero(mask)
    number = {int(voxel): place for place, voxel in enumerate(kept)}
    rois = {
        name: [number[int(voxel)] for voxel in np.flatnonzero(labels == label) if int(voxel) in number]
        for name, label in (("V1v", 1), ("V1d", 2))
    }
    scaled = whole.astype(np.float32) / np.float32(300)
    return kept, scaled, {**rois, "nsdgeneral": sorted(rois["V1v"] + rois["V1d"])}


def _write_surface(root: Path, trials: Array, sessions: Array) -> tuple[Array, Array, dict[str, list[int]]]:
    """Write both hemispheres; the second vertex of the left one is NaN."""
    betas = root / "nsddata_betas" / "ppdata" / "subj02" / "fsaverage" / "betas_fithrf_GLMdenoise_RR"
    labels = root / "nsddata" / "freesurfer" / "fsaverage" / "label"
    values = trials.astype(np.float32)
    values[:, 1] = np.nan
    for side, columns in (("lh", slice(0, 5)), ("rh", slice(5, 9))):
        for session in (1, 3):
            part = values[sessions == session][:, columns]
            _save(betas / f"{side}.betas_session{session:02}.mgh", part.T[:, None, None])
        _save(betas / f"{side}.ncsnr.mgh", np.full((SIDES[side], 1, 1), 0.5, np.float32))
        _save(labels / f"{side}.streams.mgz", (np.arange(SIDES[side]) % 3).astype(np.int32)[:, None, None])
    (labels / "streams.mgz.ctab").write_text("0 Unknown\n1 early\n2 midventral\n")
    kept = np.delete(np.arange(9), 1)
    return kept, values, {"lh": [0, 1, 2, 3], "rh": [4, 5, 6, 7], "early": [3, 5], "midventral": [1, 6]}


def write_nsd_surface(root: Path) -> Miniature:
    """Write the same on fsaverage."""
    return write_nsd(root, "fsaverage")


def _change(folder: Path) -> None:
    betas = folder / "nsddata_betas" / "ppdata" / "subj02" / "func1pt8mm" / "betas_fithrf_GLMdenoise_RR"
    with h5py.File(betas / "betas_session03.hdf5", "r+") as file:
        file["betas"][3, 0, 0, 0] += 900
