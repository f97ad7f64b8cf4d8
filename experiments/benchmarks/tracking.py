"""What tracking costs a trial at full size: 10,000 voxels, 100 components, 8857 images.

The peer logs what a notebook would: parameters and metrics one by one, the arrays, and the fitted model with MLflow's
own ``sklearn.log_model`` as it comes. Run it with

    uv run python experiments/benchmarks/tracking.py

It prints a table, and keeps it beside itself with the date and the machine.
"""

from __future__ import annotations

import datetime
import os
import platform
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from img2brain.regressors.ridge import Ridge
from img2brain.result import TrialResult
from img2brain.spec import TrialSpec
from img2brain.store import Home
from img2brain.tracking.records import StudyRecord, TrialRecord
from img2brain.tracking.tracker import Tracker

N_IMAGES, N_COMPONENTS, N_VOXELS = 8857, 100, 10_000
N_OURS, N_PEER = 50, 5


def main() -> None:
    """Measure both in one run, print the table and keep it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ours = _milliseconds(_our_trial(folder), N_OURS)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        peer = _milliseconds(_peer_trial(folder), N_PEER)
    lines = [
        f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, {_machine()}",
        f"load average before: {LOAD:.2f}",
        f"{N_VOXELS} voxels, {N_COMPONENTS} components, {N_IMAGES} images; sqlite store, local artifacts",
        "",
        "                                median ms a trial   ratio",
        f"img2brain, {N_OURS} trials            {ours:17.1f}     1.0",
        f"MLflow as it comes, {N_PEER} trials    {peer:17.1f}   {peer / ours:5.1f}",
        "",
        f"peak memory of ours: {peak:.0f} MiB, libraries included",
    ]
    text = "\n".join(lines) + "\n"
    print(text, end="")  # noqa: T201 - a benchmark prints
    Path(__file__).with_suffix(".txt").write_text(text, encoding="utf-8")


def _our_trial(folder: Path) -> Callable[[int], object]:
    facts = {
        "name": "bench",
        "digest": "0" * 64,
        "source": "none",
        "unit": "z",
        "n_images": "8857",
        "n_voxels": "10000",
    }
    tracker = Tracker(Home(folder / "home"), StudyRecord("bench-0", "bench", facts, {"seed": "0"}, "0" * 64))
    features = folder / "features.npy"
    np.save(features, np.zeros((N_IMAGES, N_COMPONENTS), np.float32))
    estimator, scores = _fitted()

    def trial(number: int) -> object:
        spec = TrialSpec(
            backbone="alexnet", weights="random:0", weights_digest="0" * 64, preprocessing="weights",
            layer="features.12", n_components=N_COMPONENTS, regressor="ridge", parameters={"alpha": 1.0 + number},
        )  # fmt: skip
        result = TrialResult(spec, scores, 0, estimator, {"fit_s": 0.1, "moments_s": 0.1, "score_s": 0.1})
        return tracker.log_trial(TrialRecord(number, spec, "untrained", result, features_file=features, wall_s=0.3))

    return trial


def _peer_trial(folder: Path) -> Callable[[int], object]:
    import mlflow
    import mlflow.sklearn
    from sklearn.linear_model import Ridge as Peer

    mlflow.set_tracking_uri(f"sqlite:///{folder / 'peer.db'}")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("peer", (folder / "peer").as_uri()))
    estimator, scores = _fitted()
    peer = Peer()
    peer.coef_, peer.intercept_, peer.n_features_in_ = estimator.coef_, estimator.intercept_, N_COMPONENTS
    arrays = folder / "arrays"
    arrays.mkdir()

    def trial(number: int) -> None:
        with mlflow.start_run(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for index in range(15):
                mlflow.log_param(f"parameter_{index}", number)
                mlflow.log_metric(f"metric_{index}", number)
            np.save(arrays / "accuracy.npy", scores)
            np.save(arrays / "features.npy", np.zeros((N_IMAGES, N_COMPONENTS), np.float32))
            mlflow.log_artifacts(str(arrays))
            mlflow.sklearn.log_model(peer, name="model")

    return trial


def _fitted() -> tuple[Ridge, np.ndarray]:
    random = np.random.default_rng(0)
    estimator = Ridge()
    estimator.coef_ = random.standard_normal((N_VOXELS, N_COMPONENTS))
    estimator.intercept_ = random.standard_normal(N_VOXELS)
    estimator.n_features_in_ = N_COMPONENTS
    return estimator, random.uniform(-0.1, 0.5, N_VOXELS)


def _milliseconds(trial: Callable[[int], object], n_trials: int) -> float:
    trial(-1)  # what the first one loads is not a trial's cost
    times = []
    for number in range(n_trials):
        start = time.perf_counter()
        trial(number)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    return f"{cpu or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


LOAD = os.getloadavg()[0]

if __name__ == "__main__":
    main()
