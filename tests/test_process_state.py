"""A process of others, such as a notebook, is after our calls as it was before; its own MLflow store is not used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, logging, os, sys, warnings
from pathlib import Path

import mlflow, mlflow.pyfunc, numpy, optuna, torch
import mlflow.store.tracking.sqlalchemy_store, sklearn, torch._dynamo  # each sets variables when it is imported

study, home, elsewhere = sys.argv[1:]
mlflow.set_tracking_uri(f"sqlite:///{elsewhere}/mlflow.db")
mlflow.set_experiment("mine")
logging.getLogger("mlflow").setLevel(logging.INFO)
logging.getLogger("urllib3").setLevel(logging.DEBUG)
optuna.logging.set_verbosity(optuna.logging.INFO)
torch.set_num_threads(1)


def loggers():
    names = [name for name, item in logging.root.manager.loggerDict.items() if isinstance(item, logging.Logger)]
    found = {name: logging.getLogger(name) for name in ["root", *names] if not name.startswith("img2brain")}
    return {name: [item.level, item.propagate, item.disabled, len(item.handlers)] for name, item in found.items()}


def state():
    return {
        "tracking": mlflow.get_tracking_uri(), "registry": mlflow.get_registry_uri(), "run": mlflow.active_run(),
        **{f"${name}": value for name, value in os.environ.items()}, "folder": os.getcwd(),
        "optuna": optuna.logging.get_verbosity(),
        "threads": torch.get_num_threads(), "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(), "cudnn": torch.backends.cudnn.benchmark,
        "gradients": torch.is_grad_enabled(), "dtype": str(torch.get_default_dtype()), "random": torch.initial_seed(),
        "errors": numpy.geterr(),
    }


def use():
    import img2brain
    from img2brain.home import Home
    from img2brain.leaderboard.collect import collect

    outcome = img2brain.run_study(img2brain.load_study(Path(study)), home)
    rows = collect(Home(home))
    predicted = img2brain.load_model("rows@champion", home).predict(numpy.zeros((1, 5)))
    return [len(outcome.trials), len(rows), predicted.shape[1]]


before, levels = state(), loggers()
done = use()
after, now = state(), loggers()
names = sorted(before | after)
changed = {name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)}
changed |= {name: [levels[name], now[name]] for name in levels if levels[name] != now[name]}
theirs = mlflow.MlflowClient()
print(json.dumps({
    "done": done, "changed": changed, "experiments": sorted(item.name for item in theirs.search_experiments()),
    "models": len(theirs.search_registered_models()), "runs": len(mlflow.search_runs(search_all_experiments=True)),
}))
"""


def test_a_study_in_a_notebook_changes_nothing_of_it(given_study: Path, tmp_path: Path) -> None:
    for name in ("work", "elsewhere"):
        (tmp_path / name).mkdir()
    paths = [str(path) for path in (given_study, tmp_path / "home", tmp_path / "elsewhere")]
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, *paths],
        capture_output=True, text=True, check=False, cwd=tmp_path / "work",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["changed"] == {}
    assert found["done"] == [3, 3, 4]
    assert (found["experiments"], found["models"], found["runs"]) == (["Default", "mine"], 0, 0)
    assert list((tmp_path / "work").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "home", "work"]
    assert "A new study created" not in ended.stderr, "optuna is quiet while it works for us"


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "IMG2BRAIN_HOME"])
def test_the_library_reads_no_variable(
    variable: str, new_home: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from img2brain.home import Home
    from img2brain.tracking._store import TrackingStore

    assert callable(new_home)
    home = Home(new_home())
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    store = TrackingStore(home)
    assert store.experiment("here")
    assert not (tmp_path / "elsewhere").exists()
