"""A study on 300,000 voxels and 10,000 images: how long the data take to open, and how much memory 20 trials take.

The folder is that of NSD with 40 sessions of 750 trials, each image shown three times, of which 1,000 are test images.
One session lies on the disk; the others are links to its file, so that the data take 0.9 GB there, and 36 GB to read.
Responses follow the pictures but little: what is measured is what the work takes, not what it finds. Pictures are
small, and so is the network.

*published* is the last stage alone, where most is held: a fit to 9,000 images of generated responses, beside the
control of shuffled ones, scored on 1,000 images in 150 resamples: as many are scored at a time, some 110, as of 2,000.
Run it with

    uv run python experiments/benchmarks/large.py [CONTENDER ...]
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from _bench import main, table

N_VOXELS, N_IMAGES, N_SHARED, N_SESSIONS, N_TRIALS, N_REPEATS = 300_000, 10_000, 1_000, 40, 20, 3
N_COMPONENTS, N_RESAMPLED = 40, 150
SUBJECT, SIDE = "subj01", 16
Figures = dict[str, Any]


def write_folder(root: Path, n_voxels: int = N_VOXELS, n_images: int = N_IMAGES, n_shared: int = N_SHARED,
                 n_sessions: int = N_SESSIONS) -> Path:  # fmt: skip
    """Write the folder of NSD, once."""
    if root.is_dir():
        return root
    n_per_session = N_REPEATS * n_images // n_sessions
    random = np.random.default_rng(0)
    shape = (100, 100, -(-2 * n_voxels // 10_000))
    _write_design(root, n_images, n_shared, random)
    _write_masks(root, shape, n_voxels, n_sessions)
    _write_betas(root, shape, n_per_session, n_sessions, random)
    return root


def _write_design(root: Path, n_images: int, n_shared: int, random: np.random.Generator) -> None:
    import h5py
    from scipy.io import savemat

    order = np.concatenate([random.permutation(n_images) for _ in range(N_REPEATS)])
    design = root / "nsddata" / "experiments" / "nsd"
    design.mkdir(parents=True)
    images = np.tile(np.arange(n_images), (8, 1))
    told = {"masterordering": order[None] + 1, "subjectim": images + 1, "sharedix": np.arange(n_shared)[None] + 1}
    savemat(design / "nsd_expdesign.mat", told)
    with h5py.File(root / "nsd_stimuli.hdf5", "w") as file:
        file["imgBrick"] = random.integers(0, 256, (n_images, SIDE, SIDE, 3), dtype=np.uint8)


def _write_masks(root: Path, shape: tuple[int, ...], n_voxels: int, n_sessions: int) -> None:
    import nibabel

    about = root / "nsddata" / "ppdata" / SUBJECT / "func1pt8mm"
    (about / "roi").mkdir(parents=True)
    brain = np.zeros(int(np.prod(shape)), np.int16)
    brain[:n_voxels] = 1
    labels = np.where(brain > 0, np.arange(len(brain)) % 5, 0)
    masks = {"brainmask": brain, "roi/nsdgeneral": labels == 1, "roi/streams": labels}
    masks |= {f"valid_session{number:02}": np.ones_like(brain) for number in range(1, n_sessions + 1)}
    for name, values in masks.items():
        image = nibabel.Nifti1Image(values.reshape(shape).astype(np.int16), np.eye(4))
        nibabel.save(image, about / f"{name}.nii.gz")


def _write_betas(root: Path, shape: tuple[int, ...], n_trials: int, n_sessions: int, random: Any) -> None:
    import h5py
    import nibabel

    folder = root / "nsddata_betas" / "ppdata" / SUBJECT / "func1pt8mm" / "betas_fithrf_GLMdenoise_RR"
    folder.mkdir(parents=True)
    first = folder / "betas_session01.hdf5"
    with h5py.File(first, "w") as file:
        betas = file.create_dataset("betas", (n_trials, *shape[::-1]), np.int16)
        for trial in range(n_trials):
            betas[trial] = random.integers(-900, 900, shape[::-1], dtype=np.int16)
    for number in range(2, n_sessions + 1):
        (folder / f"betas_session{number:02}.hdf5").hardlink_to(first)
    ncsnr = random.uniform(0.1, 1.0, shape).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(ncsnr, np.eye(4)), folder / "ncsnr.nii.gz")


def opened(folder: Path) -> Figures:
    """Open the data, in a process that has read nothing yet."""
    from img2brain.datasets import open_dataset

    start = time.perf_counter()
    dataset = open_dataset(folder / "nsd")
    return {"open_s": time.perf_counter() - start, "n_voxels": dataset.n_voxels, "n_images": dataset.n_images}


def study(folder: Path, n_trials: int = N_TRIALS) -> Figures:
    """Search, publish the best trial, and score it on the test images."""
    from img2brain.home import Home
    from img2brain.spec import StudySpec, parse
    from img2brain.study.runner import run_study

    told = {
        "name": "large", "trials": n_trials, "n_components": [10, 20, 40], "regressors": ["ridge"],
        "dataset": {"path": str(folder / "nsd")}, "backbones": [{"name": "pixels", "weights": "random:0"}],
    }  # fmt: skip
    start = time.perf_counter()
    outcome = run_study(parse(StudySpec, told, "the benchmark's study"), Home(folder / "home"))
    assert outcome.published is not None
    size = sum(path.stat().st_size for path in (folder / "home").rglob("*") if path.is_file())
    return {"study_s": time.perf_counter() - start, "trials": len(outcome.trials), "home_mib": size / 2**20}


def published(_: Path) -> Figures:
    """Fit and score a model as it is published, and a control, without a search before."""
    from img2brain.catalog import METRICS
    from img2brain.confirm import confirmation_rows
    from img2brain.controls import SHUFFLED, Control
    from img2brain.datasets.base import Dataset, Split
    from img2brain.refit import Refit
    from img2brain.spec import TrialSpec

    random = np.random.default_rng(0)
    noise = random.standard_normal((97, N_VOXELS), dtype=np.float32)
    coordinates = random.standard_normal((N_IMAGES, N_COMPONENTS), dtype=np.float32)
    weights = random.standard_normal((N_COMPONENTS, N_VOXELS), dtype=np.float32) / N_COMPONENTS

    class Generated(Dataset):
        digest = "0" * 64

        def read_responses(self, rows: Any) -> Any:
            return coordinates[rows] @ weights + noise[rows % len(noise)]

    class Bank:
        def components(self, *_: Any) -> Any:
            return Components(coordinates, np.ones(N_COMPONENTS))

    from img2brain.features.pca import Components

    images = [Path(f"/generated/{row}.png") for row in range(N_IMAGES)]
    ncsnr = np.full(N_VOXELS, 0.5)
    facts = {"unit": "z", "subject": SUBJECT, "ncsnr": ncsnr, "n_test": N_SHARED}
    dataset = Generated(name="generated", n_voxels=N_VOXELS, images=images, **facts)  # type: ignore[arg-type]
    rows = np.arange(N_IMAGES)
    split = Split(rows[: -2 * N_SHARED], rows[-2 * N_SHARED : -N_SHARED], rows[-N_SHARED:])
    refit = Refit(dataset.development(split), split, N_COMPONENTS)
    spec = TrialSpec(backbone="b", weights="w", weights_digest="d", layer="l", n_components=N_COMPONENTS,
                     regressor="ridge", parameters={"alpha": 10.0}, preprocessing="weights")  # fmt: skip
    bank: Any = Bank()
    start, core = time.perf_counter(), time.process_time()
    scored = confirmation_rows(dataset, split, {"pearson": METRICS["pearson"]})
    for part in scored.parts.values():
        part._bootstrap._counts = part._bootstrap._counts[:N_RESAMPLED]
    rivals = scored.rivals(Control(SHUFFLED, spec, refit(spec, bank, shuffle=seed)[1]) for seed in (0,))
    _, predictions = refit(spec, bank)
    found = scored.result(predictions, rivals)[scored.first].part()
    figures = {"study_s": time.perf_counter() - start, "core_s": time.process_time() - core}
    return figures | {"score": found.whole.score.estimate}


def report(_: Path, figures: dict[str, Figures]) -> str:
    """Tell time and memory of each contender."""
    rows = [
        (name, f"{found.get('open_s', found.get('study_s', 0.0)):.1f}", f"{found['peak_mib']:,.0f}",
         f"{found['home_mib']:,.0f}" if "home_mib" in found else "-")
        for name, found in figures.items()
    ]  # fmt: skip
    head = f"{N_VOXELS:,} voxels, {N_IMAGES:,} images, {N_REPEATS} repeats, {N_SESSIONS} sessions, {N_TRIALS} trials"
    return f"{head}\n\n{table(('', 'seconds', 'peak MiB', 'home MiB'), rows)}"


def _with_folder(contender: Any) -> Any:
    def run(folder: Path) -> Figures:
        write_folder(folder / "nsd")
        return dict(contender(folder))

    return run


if __name__ == "__main__":
    main(
        __file__, {"write": _with_folder(lambda _: {}), "open": opened, "published": published, "study": study}, report
    )
