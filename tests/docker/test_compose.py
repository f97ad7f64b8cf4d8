"""The compose file by the schema of its specification, and by rules of our own; each rule is seen to refuse."""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docker.conftest import ROOT

FILE = ROOT / "docker" / "compose.yaml"
CHECK = Path(sysconfig.get_path("scripts")) / "check-jsonschema"
FRONT = {"mlflow", "dashboard"}
SECRET = re.compile(r"PASSWORD|SECRET|KEY$|TOKEN")
MUST_BE_GIVEN = re.compile(r"\$\{\w+:\?[^}]+\}")
WRONG = {
    "an unknown key at the top": ("volumes:\n  database:", "volume:\n  database:"),
    "an unknown key of a service": ("    restart: on-failure", "    restarts: on-failure"),
    "an unknown key of a health check": ("      start_period: 30s", "      start: 30s"),
    "an unknown condition": ("condition: service_started", "condition: service_up"),
    "an unknown state to restart in": ("restart: on-failure", "restart: [on-failure]"),
    "a number of copies that is none": ("replicas: 2", "replicas: [2]"),
}
UNSAFE = {
    "an inner port": ("    image: postgres:17", "    image: postgres:17\n    ports: ['127.0.0.1:5432:5432']"),
    "an inner port in the long form": (
        "    image: postgres:17",
        "    image: postgres:17\n    ports: [{target: 5432, published: 5432}]",
    ),
    "a front port for all machines": ("127.0.0.1:5000:5000", "5000:5000"),
    "the network of the host": ("    image: postgres:17", "    image: postgres:17\n    network_mode: host"),
    "a default password": ("${IMG2BRAIN_DATABASE_PASSWORD:?must be", "${IMG2BRAIN_DATABASE_PASSWORD:-must be"),
    "a password in the file": (
        "MLFLOW_AUTH_ADMIN_PASSWORD: ${IMG2BRAIN_TRACKING_PASSWORD:?must be a long random word of your own}",
        "MLFLOW_AUTH_ADMIN_PASSWORD: password",
    ),
    "a key in the file": (
        "MLFLOW_FLASK_SERVER_SECRET_KEY: ${IMG2BRAIN_SECRET_KEY:?must be a long random word of your own}",
        "MLFLOW_FLASK_SERVER_SECRET_KEY: abc",
    ),
}


def changed(change: tuple[str, str]) -> str:
    text = FILE.read_text(encoding="utf-8")
    assert change[0] in text, change[0]
    return text.replace(*change)


def unsafe(text: str) -> Iterator[str]:
    """Yield what a compose file opens to others that it must not."""
    services: dict[str, Any] = yaml.safe_load(text)["services"]
    for name, service in services.items():
        for port in service.get("ports", []):
            if name not in FRONT or not str(port).startswith("127.0.0.1:"):
                yield f"{name} publishes {port}"
        if "network_mode" in service:
            yield f"{name} is in another network"
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable) and not MUST_BE_GIVEN.fullmatch(value):
                yield f"{name} has a default {variable}"


def test_the_schema_holds_and_refuses_what_is_wrong(tmp_path: Path) -> None:
    paths = [FILE, *(tmp_path / f"{number}.yaml" for number in range(len(WRONG)))]
    for path, change in zip(paths[1:], WRONG.values(), strict=True):
        path.write_text(changed(change), encoding="utf-8")
    command = [str(CHECK), "--builtin-schema", "vendor.compose-spec", "--output-format", "json", *map(str, paths)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    assert told["parse_errors"] == []
    refused = {item["filename"] for item in told["errors"]}
    assert str(FILE) not in refused
    assert refused == set(map(str, paths[1:])), "each of them, by its place"


def test_only_the_front_is_published_and_no_secret_has_a_default() -> None:
    assert list(unsafe(FILE.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("change", UNSAFE.values(), ids=UNSAFE)
def test_what_is_unsafe_is_seen(change: tuple[str, str]) -> None:
    assert list(unsafe(changed(change))) != []
