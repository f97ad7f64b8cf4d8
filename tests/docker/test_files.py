"""What the container files say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from tests.docker.conftest import SECRETS, read_compose

ROOT = Path(__file__).resolve().parents[2]
UV = os.environ.get("UV") or shutil.which("uv") or "uv"


def test_everything_but_making_the_user_runs_as_the_user(image: Any) -> None:
    names = [name for name, _ in image.lines]
    assert image.values("USER")
    assert not {"root", "0", "0:0", "root:root"} & set(image.values("USER"))
    before = [value for name, value in image.lines[: names.index("USER")] if name == "RUN"]
    assert len(before) == 1
    assert before[0].startswith("useradd ")
    assert names.index("USER") < names.index("CMD")


def test_commands_are_those_of_the_readme(image: Any) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    install = next(value for value in image.values("RUN") if "pip install" in value).replace("--no-cache-dir ", "")
    command = " ".join(image.command)
    assert command in readme or f"{install} && {command}" in readme


def test_copied_files_are_there_and_not_ignored(image: Any) -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert all((ROOT / name).exists() for name in kept)
    for source in image.copied:
        assert (ROOT / source).exists(), source
        assert source == "." or any(fnmatch(source, name) for name in kept), source


def test_no_secret_and_nothing_of_one_machine() -> None:
    for path in (*(ROOT / "docker").iterdir(), ROOT / ".dockerignore", ROOT / ".ci" / "run"):
        text = re.sub(r"\w+: \$\{\w+:\?[^}]+\}", "", path.read_text(encoding="utf-8"))
        assert not re.search(r"password\s*[:=]|secret\s*[:=]|token|api_?key|index-url", text, re.IGNORECASE), path
        assert str(ROOT) not in text, path
        assert str(Path.home()) not in text, path
        assert not re.search(r"https?://(?!mlflow:|localhost:|download\.pytorch\.org/whl)", text), path


def test_there_is_no_default_password() -> None:
    for name in SECRETS:
        for value in ({}, {name: ""}):
            with pytest.raises(KeyError, match=f"{name} must be a long random word of your own"):
                read_compose({key: word for key, word in SECRETS.items() if key != name} | value)


def test_passwords_stand_in_the_environment_alone(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        rest = str({key: value for key, value in service.items() if key != "environment"})
        assert not [word for word in SECRETS.values() if word in rest], name
        addresses = [value for value in service.get("environment", {}).values() if "://" in value]
        assert not [word for word in SECRETS.values() for address in addresses if word in address], name


@pytest.mark.parametrize("name", ["database", "mlflow", "study", "worker", "dashboard"])
def test_services_are_shut_in(compose: dict[str, Any], study_image: Any, name: str) -> None:
    service = compose["services"][name]
    assert service["read_only"]
    assert study_image.environment["UV_NO_SYNC"] == "1"  # what cannot be written cannot be installed into
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("user", "researcher") != "root"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "ports" not in service or name in ("mlflow", "dashboard"), "only the front is published"
    assert "healthcheck" in service or study_image.values("HEALTHCHECK")
    folders = [volume.split(":") for volume in service.get("volumes", ())]
    made = " ".join(study_image.values("RUN"))
    for volume, folder, *how in folders:
        if how:
            assert how == ["ro"]
            assert (ROOT / "docker" / volume).is_file()
        else:
            assert volume in compose["volumes"]
            assert name == "database" or folder in made


@pytest.mark.parametrize("name", ["study", "worker"])
def test_studies_wait_for_healthy_servers(compose: dict[str, Any], name: str) -> None:
    study, server = compose["services"][name], compose["services"]["mlflow"]
    assert study["depends_on"] == {other: {"condition": "service_healthy"} for other in ("database", "mlflow")}
    assert all(compose["services"][other]["healthcheck"]["test"][0] == "CMD" for other in study["depends_on"])
    host = study["environment"]["MLFLOW_TRACKING_URI"].removeprefix("http://")
    assert host in next(item for item in server["command"] if "allowed-hosts" in item)


def test_every_database_is_made(compose: dict[str, Any]) -> None:
    made = re.findall(r"^CREATE DATABASE (\w+);", (ROOT / "docker" / "databases.sql").read_text(), re.MULTILINE)
    made.append(compose["services"]["database"]["environment"]["POSTGRES_DB"])
    text = str(compose) + (ROOT / "docker" / "accounts.ini").read_text()
    assert set(re.findall(r"@database/(\w+)", text)) == set(made)


@pytest.mark.skipif(not (ROOT / "uv.lock").exists(), reason="nothing is resolved here yet")
def test_install_commands(image: Any) -> None:
    for value in image.values("RUN"):
        if value.startswith("uv "):
            subprocess.run([UV, *value.split()[1:], "--frozen", "--dry-run"], cwd=ROOT, check=True, capture_output=True)
