"""What a trial costs at full size where its features are cached: 7086 + 1771 rows, 100 components, 10,000 voxels.

Ours is a whole search by TPE over four regressors: ask, fit, score, tell, and log parameters, metrics, the accuracy of
each voxel, the fitted model and the features. The peers fit scikit-learn's Ridge to the rows and score it with numpy.
One logs as a notebook does: parameters and metrics one by one, the arrays, and the model by MLflow's own
``sklearn.log_model``. The other is an Optuna study with Optuna's MLflow callback, which logs parameters and the
objective alone. All keep their runs in SQLite and their artifacts beside it. Run it with

    uv run --group bench python experiments/benchmarks/trials.py
"""

from __future__ import annotations

import functools
import logging
import os
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _simulated
import numpy as np
from _bench import main, table

N_OURS, N_PEER, N_ENDS = 500, 5, 50
REGRESSORS = ["ridge", "lasso", "elastic_net", "multi_task_lasso"]


def _ours(folder: Path) -> dict[str, Any]:
    from img2brain.evaluate import Evaluator
    from img2brain.home import Home
    from img2brain.study.runner import Run
    from img2brain.study.search import Search
    from img2brain.tracking.tracker import Tracker

    home = Home(folder / "ours")
    setting = _simulated.setting(_simulated.data(folder), home, REGRESSORS, N_OURS)
    run = Run(setting, setting.name)
    methods: tuple[Any, ...] = (
        Search.ask, Evaluator.alpha_scale, Evaluator.evaluate, Search.tell, Tracker.log_trial, run._trial
    )  # fmt: skip
    spent: dict[str, list[float]] = defaultdict(list)
    for owner, method in zip((Search, Evaluator, Evaluator, Search, Tracker, run), methods, strict=True):
        setattr(owner, method.__name__, _timed(method, spent[method.__name__]))
    trials = run.work_through()
    seconds = spent.pop("_trial")
    fits: dict[str, list[float]] = defaultdict(list)
    for trial, spent_s in zip(trials, spent["evaluate"], strict=True):
        fits[trial.spec.regressor].append(spent_s)
    assert len(trials) == len(run.members[0].tracker.finished()) == N_OURS
    return {
        "seconds": seconds, "stages": spent, "fits": fits, "disk": _disk(home.folder),
        "n_failed": sum(not trial.succeeded for trial in trials),
    }  # fmt: skip


def _notebook(folder: Path) -> dict[str, Any]:
    import mlflow
    import mlflow.sklearn

    place = folder / "notebook"
    _sqlite_store(place)
    rows, logging_s = _Rows(_simulated.data(folder)), []

    def trial(number: int) -> None:
        model, accuracy = rows.fit(number % len(_simulated.LAYERS), 10.0**number)
        start = time.perf_counter()
        with mlflow.start_run(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for index in range(15):
                mlflow.log_param(f"parameter_{index}", number)
                mlflow.log_metric(f"metric_{index}", float(np.median(accuracy)))
            np.save(place / "accuracy.npy", accuracy)
            np.save(place / "features.npy", rows.X)
            for name in ("accuracy.npy", "features.npy"):
                mlflow.log_artifact(str(place / name))
            mlflow.sklearn.log_model(model, name="model")
        logging_s.append(time.perf_counter() - start)

    seconds = _each(trial)
    return {"seconds": seconds, "logging": logging_s[1:], "disk": _disk(place) * N_PEER / (N_PEER + 1)}


def _callback(folder: Path) -> dict[str, Any]:
    import optuna
    from optuna_integration import MLflowCallback

    place = folder / "callback"
    uri = _sqlite_store(place)
    rows = _Rows(_simulated.data(folder))
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial: optuna.Trial) -> float:
        layer = trial.suggest_int("layer", 0, len(_simulated.LAYERS) - 1)
        _, accuracy = rows.fit(layer, trial.suggest_float("alpha", 1e-4, 1e4, log=True))
        return float(np.median(accuracy))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(storage=f"sqlite:///{place / 'optuna.db'}", direction="maximize")
        callback = MLflowCallback(tracking_uri=uri, metric_name="median_r")
        seconds = _each(lambda _: study.optimize(objective, n_trials=1, callbacks=[callback]))
    return {"seconds": seconds, "disk": _disk(place) * N_PEER / (N_PEER + 1)}


class _Rows:
    """What a script without moments holds: all rows, and a layer at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._Y = np.load(folder / "responses.npy")

    def fit(self, layer: int, alpha: float) -> tuple[Any, np.ndarray]:
        """Fit Ridge to the training rows, and correlate its predictions of the validation rows with the responses."""
        from sklearn.linear_model import Ridge

        n = _simulated.N_TRAIN
        self.X = np.load(self._folder / f"{_simulated.LAYERS[layer]}.npy")
        model = Ridge(alpha=alpha).fit(self.X[:n], self._Y[:n])
        true, found = (values - values.mean(axis=0) for values in (self._Y[n:], model.predict(self.X[n:])))
        norms = np.linalg.norm(true, axis=0) * np.linalg.norm(found, axis=0)
        return model, (true * found).sum(axis=0) / norms


def _sqlite_store(place: Path) -> str:
    """Make a store as a script does, and return its URI."""
    import mlflow

    place.mkdir()
    os.chdir(place)  # MLflow takes the requirements of a model from a uv project, where it finds itself in one
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    uri = f"sqlite:///{place / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("peer", (place / "artifacts").as_uri()))
    return uri


def _timed(function: Callable[..., Any], times: list[float]) -> Callable[..., Any]:
    @functools.wraps(function)
    def timed(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            times.append(time.perf_counter() - start)

    return timed


def _each(trial: Callable[[int], object]) -> list[float]:
    """Time some trials, after one whose imports are not a trial's cost."""
    times: list[float] = []
    for number in range(N_PEER + 1):
        _timed(trial, times)(number)
    return times[1:]


def _disk(folder: Path) -> int:
    """Return the bytes of all files below, those with several names once."""
    found = [(Path(path) / name).stat() for path, _, names in os.walk(folder) for name in names]
    return sum({item.st_ino: item.st_size for item in found}.values())


def _report(_: Path, figures: dict[str, dict[str, Any]]) -> str:
    parts = [_contenders({name: found for name, found in figures.items() if "absent" not in found})]
    parts += [f"{name}: {found['absent']} is not installed" for name, found in figures.items() if "absent" in found]
    parts += [_stages(found) for found in figures.values() if "stages" in found]
    return "\n\n".join(parts)


def _contenders(figures: dict[str, dict[str, Any]]) -> str:
    head = ("", "trials", "s in all", "ms a trial", "ratio", "median ms", "MB of disk a trial", "peak MiB")
    ours = statistics.mean(figures["ours"]["seconds"]) if "ours" in figures else float("nan")
    rows = []
    for name, found in figures.items():
        times, n = found["seconds"], len(found["seconds"])
        mean, median = statistics.mean(times), statistics.median(times)
        disk = found["disk"] / n / 1e6
        rows.append(
            (name, n, f"{sum(times):.1f}", f"{1e3 * mean:.0f}", f"{mean / ours:.1f}", f"{1e3 * median:.0f}",
             f"{disk:.2f}", f"{found['peak_mib']:.0f}")
        )  # fmt: skip
    notes = [
        f"{name}: median {1e3 * statistics.median(found['logging']):.0f} ms of logging"
        for name, found in figures.items()
        if "logging" in found
    ]
    return "\n".join([table(head, rows), *notes])


def _stages(found: dict[str, Any]) -> str:
    def row(name: str, times: list[float]) -> tuple[object, ...]:
        parts = [times, times[:N_ENDS], times[-N_ENDS:]]
        return (name, len(times), f"{sum(times):.1f}", *(f"{1e3 * statistics.median(part):.1f}" for part in parts))

    fixed = [
        sum(parts) for parts in zip(*(found["stages"][name] for name in ("ask", "tell", "log_trial")), strict=True)
    ]
    rows = [row("whole trial", found["seconds"])]
    rows += [row("ask + tell + log_trial", fixed)]
    rows += [row(f"  {name}", times) for name, times in found["stages"].items()]
    rows += [row(f"    {name}", times) for name, times in found["fits"].items()]
    title = f"ours by stage; {found['n_failed']} trials failed\n"
    return title + table(("", "calls", "s in all", "median ms", f"first {N_ENDS}", f"last {N_ENDS}"), rows)


if __name__ == "__main__":
    main(__file__, {"ours": _ours, "notebook": _notebook, "optuna callback": _callback}, _report)
