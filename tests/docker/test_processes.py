"""The commands of the container files, run as plain processes: a server, and a study against it."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import numpy as np
import pytest


def _ask(box: Any, what: str, body: Mapping[str, Any] | None = None) -> Any:
    content = None if body is None else json.dumps(body).encode()
    request = Request(f"{box.url}/api/2.0/{what}", content, {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


def _files(box: Any, run: Mapping[str, Any], folder: str = "") -> set[str]:
    query = urlencode({"run_id": run["info"]["run_id"], "path": folder})
    return {item["path"] for item in _ask(box, f"mlflow/artifacts/list?{query}")["files"]}


def test_the_other_user_cannot_write_the_code(box: Any) -> None:
    if not box.drop:
        pytest.skip("only root can become another user")
    script = "import os; print(os.getuid(), os.access('.', os.W_OK), os.access('img2brain', os.W_OK))"
    assert box.run(["python3", "-c", script], {}).split()[1:] == ["False", "False"]


def test_server_answers_under_its_names_only(server: Any) -> None:
    for host, status in {f"mlflow:{server.port}": 200, "evil.example": 403}.items():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", "/api/2.0/mlflow/experiments/search?max_results=1", headers={"Host": host})
        assert connection.getresponse().status == status, host
        connection.close()


def test_runs_and_artifacts_are_on_the_server(studied: Any) -> None:
    experiment = _ask(studied, "mlflow/experiments/get-by-name?experiment_name=sample")["experiment"]
    runs = _ask(studied, "mlflow/runs/search", {"experiment_ids": [experiment["experiment_id"]]})["runs"]
    by_kind: dict[str, list[Any]] = {"study": [], "trial": []}
    for run in runs:
        assert run["info"]["status"] == "FINISHED"
        by_kind[next(tag["value"] for tag in run["data"]["tags"] if tag["key"] == "img2brain.kind")].append(run)
    (study,), trials = by_kind["study"], by_kind["trial"]
    assert len(trials) == 3
    for run in trials:
        assert {"accuracy.npy", "features.npy", "model"} <= _files(studied, run)
        assert _files(studied, run, "model") == {"model/regressor.json", "model/regressor.safetensors"}
    assert _files(studied, study, "pages") == {"pages/figures.html"}


def test_accuracies_come_back_from_the_server(studied: Any) -> None:
    (run,) = _ask(studied, "mlflow/runs/search", {"experiment_ids": ["1"], "filter": "tags.`img2brain.trial` = '0'"})[
        "runs"
    ]
    where = run["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
    with urlopen(f"{studied.url}/api/2.0/mlflow-artifacts/artifacts/{where}/accuracy.npy", timeout=30) as answer:
        accuracy = np.load(io.BytesIO(answer.read()), allow_pickle=False)
    assert accuracy.shape == (20,)
    assert np.isfinite(accuracy).any()


def test_champion_predicts_from_the_server_alone(studied: Any, img2brain: Any, tmp_path: Path) -> None:
    found = _ask(studied, "mlflow/registered-models/alias?name=sample&alias=champion")["model_version"]
    assert found["version"] == "1"
    images, out = studied.folder / "first" / "datasets" / "sample-40x20-seed0" / "testIMG", tmp_path / "out.npy"
    process = img2brain.run(
        "model", "predict", "sample@champion", images, "--out", out, "--home", tmp_path / "home",
        env={"MLFLOW_TRACKING_URI": studied.url},
    )  # fmt: skip
    assert process.code == 0, process.stderr
    assert np.load(out, allow_pickle=False).shape == (4, 20)


def test_the_study_keeps_no_runs_of_its_own(studied: Any) -> None:
    kept = {path.name for path in (studied.folder / "first").iterdir()}
    assert {"cache", "datasets", "leaderboards", "optuna.log"} <= kept
    assert not {"mlflow.db", "artifacts"} & kept
