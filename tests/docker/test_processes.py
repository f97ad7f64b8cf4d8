"""The commands of the container files, run as plain processes: a server, and a study against it."""

from __future__ import annotations

import http.client
import io
import json
import subprocess
import time
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

import numpy as np
import pytest

from tests.docker.conftest import SECRETS
from tests.postgres import free_port

pytestmark = pytest.mark.slow  # a database, a server and studies

ACCOUNT = b64encode(f"img2brain:{SECRETS['IMG2BRAIN_TRACKING_PASSWORD']}".encode()).decode()
ENVIRONMENT = {
    "MLFLOW_TRACKING_USERNAME": "img2brain",
    "MLFLOW_TRACKING_PASSWORD": SECRETS["IMG2BRAIN_TRACKING_PASSWORD"],
    "PGPASSWORD": SECRETS["IMG2BRAIN_DATABASE_PASSWORD"],
}


def _open(box: Any, what: str, content: bytes | None = None, account: str = ACCOUNT) -> Any:
    said = {"Content-Type": "application/json", "Authorization": f"Basic {account}"}
    return urlopen(Request(f"{box.url}/api/2.0/{what}", content, said), timeout=120)


def _ask(box: Any, what: str, body: Mapping[str, Any] | None = None) -> Any:
    with _open(box, what, None if body is None else json.dumps(body).encode()) as answer:
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
        said = {"Host": host, "Authorization": f"Basic {ACCOUNT}"}
        connection.request("GET", "/api/2.0/mlflow/experiments/search?max_results=1", headers=said)
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
    with _open(studied, f"mlflow-artifacts/artifacts/{where}/accuracy.npy") as answer:
        accuracy = np.load(io.BytesIO(answer.read()), allow_pickle=False)
    assert accuracy.shape == (20,)
    assert np.isfinite(accuracy).any()


def test_champion_predicts_from_the_server_alone(studied: Any, img2brain: Any, tmp_path: Path) -> None:
    found = _ask(studied, "mlflow/registered-models/alias?name=sample&alias=champion")["model_version"]
    assert found["version"] == "1"
    images, out = studied.folder / "first" / "datasets" / "sample-40x20-seed0" / "testIMG", tmp_path / "out.npy"
    process = img2brain.run(
        "model", "predict", "sample@champion", images, "--out", out, "--home", tmp_path / "home",
        env={"MLFLOW_TRACKING_URI": studied.url, **ENVIRONMENT},
    )  # fmt: skip
    assert process.code == 0, process.stderr
    assert np.load(out, allow_pickle=False).shape == (4, 20)


def test_the_study_keeps_no_runs_of_its_own(studied: Any) -> None:
    kept = {path.name for path in (studied.folder / "first").iterdir()}
    assert {"cache", "datasets", "leaderboards"} <= kept
    assert not {"mlflow.db", "artifacts", "optuna.log"} & kept


@pytest.mark.parametrize("what", ["mlflow/experiments/search?max_results=1", "mlflow-artifacts/artifacts?path=1"])
@pytest.mark.parametrize("account", ["", b64encode(b"img2brain:password").decode()], ids=["nobody", "a guess"])
def test_server_refuses_who_is_not_known(server: Any, what: str, account: str) -> None:
    with pytest.raises(HTTPError) as refused:
        _open(server, what, account=account)
    assert refused.value.code == 401
    refused.value.close()


def test_no_password_is_told(studied: Any, postgres: Any) -> None:
    words = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    logs = [path.read_bytes() for path in studied.folder.rglob("*") if path.is_file() and path.stat().st_size < 1 << 20]
    kept = [postgres.ask(name, "SELECT string_agg(value, ' ') FROM tags").encode() for name in ("runs",)]
    for secret in SECRETS.values():
        for form in {secret, quote(secret), quote(secret, safe="")}:
            assert not [text for text in (*words, *logs, *kept) if form.encode() in text], form


def test_dashboard_shows_the_search(studied: Any, compose: Mapping[str, Any]) -> None:
    service, port = compose["services"]["dashboard"], str(free_port())
    command = [word.replace("8080", port) for word in studied.command(service["command"])]
    check = [word.replace("8080", port) for word in studied.command(service["healthcheck"]["test"][1:])]
    environment = studied.environment(service)
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as shown:
        try:
            end = time.monotonic() + 120
            while subprocess.call(check, stderr=subprocess.DEVNULL):
                assert shown.poll() is None
                assert time.monotonic() < end
                time.sleep(0.3)
            with urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=60) as answer:
                (study,) = json.load(answer)["study_summaries"]
        finally:
            shown.terminate()
    assert study["study_name"].startswith("small-")
