"""The container files as data, and their commands as plain processes: no container engine is needed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.postgres import Postgres

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))
NOBODY = 65534

STUDY = """
name = "small"
trials = 3
n_components = [5, 10]
regressors = ["ridge"]
[dataset]
sample = { images = 40, voxels = 20 }
[[backbones]]
name = "squeezenet1_1"
weights = "random:0"
layers = ["features.12"]
"""


class Image:
    """A stage of the Dockerfile: pairs of instruction and value, those of the stage it starts from included."""

    def __init__(self, stage: str) -> None:
        stages: dict[str, list[tuple[str, str]]] = {}
        for name, value in _instructions():
            if name == "FROM":
                source, _, current = value.partition(" AS ")
                stages[current] = list(stages.get(source, []))
            stages[current].append((name, value))
        self.lines = stages[stage]

    def values(self, name: str) -> list[str]:
        """Return the values of an instruction."""
        return [value for found, value in self.lines if found == name]

    @property
    def copied(self) -> list[str]:
        """What is copied into the image, as paths in the repository."""
        words = [value.split() for value in self.values("COPY")]
        return [word for line in words for word in line[:-1] if not word.startswith("--")]

    @property
    def command(self) -> list[str]:
        """What the container runs."""
        words: list[str] = json.loads(self.values("CMD")[-1])
        return words

    @property
    def environment(self) -> dict[str, str]:
        """What the image sets, paths aside."""
        pairs = [pair.partition("=") for value in self.values("ENV") for pair in value.split()]
        return {name: value for name, _, value in pairs if name not in ("PATH", "TORCH_HOME")}


def _instructions() -> Iterator[tuple[str, str]]:
    text = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, value = line.split(maxsplit=1)
        yield name, value


@pytest.fixture(scope="session")
def study_image() -> Image:
    """The image that runs studies."""
    return Image("study")


@pytest.fixture(scope="session", params=["study", "tests"])
def image(request: pytest.FixtureRequest) -> Image:
    """Each image."""
    return Image(request.param)


SECRETS = {
    "IMG2BRAIN_DATABASE_PASSWORD": "of the database: 37%",
    "IMG2BRAIN_TRACKING_PASSWORD": "of the account/73%",
    "IMG2BRAIN_SECRET_KEY": "of the browsers",
}


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    """The compose file, with some passwords."""
    loaded: dict[str, Any] = read_compose(SECRETS)
    return loaded


def read_compose(environment: Mapping[str, str]) -> Any:
    """Read the compose file as Compose does: with what the environment says, refused where it must say something."""

    def word(found: re.Match[str]) -> str:
        name, kind, other = found.groups()
        if not environment.get(name) and kind == ":?":
            raise KeyError(f"{name} {other}")
        return environment.get(name) or other

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [filled(item) for item in value]
        return re.sub(r"\$\{(\w+)(:[?-])([^}]*)\}", word, value) if isinstance(value, str) else value

    return filled(yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Box:
    """A plain process in the place of a container: another user, code that cannot be written, homes that can."""

    folder: Path
    port: int
    drop: Sequence[str]
    database: str = ""

    @property
    def url(self) -> str:
        """Where the server answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def code(self) -> Path:
        """What the image is made of."""
        return self.folder / "code"

    def here(self, text: str) -> str:
        """Put this machine's port and folders in the place of the container's."""
        there = {"0.0.0.0": "127.0.0.1", "mlflow:5000": "127.0.0.1:5000", "@database": f"@{self.database}"}
        there |= {"/home/researcher/img2brain/docker": f"{self.code}/docker", "/home/researcher": str(self.folder)}
        for old, new in there.items():
            text = text.replace(old, new) if "allowed-hosts" not in text else text
        return text.replace(":5000", f":{self.port}").replace("=5000", f"={self.port}")

    def command(self, words: list[str]) -> list[str]:
        """Return a container's command as it runs here, by the scripts of this environment."""
        program, *rest = words[2:] if words[:2] == ["uv", "run"] else words
        path = sys.executable if program == "python3" else str(SCRIPTS / program)
        return [*self.drop, path, *map(self.here, rest)]

    def environment(self, service: Mapping[str, Any]) -> dict[str, str]:
        """Return the image's and the service's environment as it is here."""
        given = Image("study").environment | service.get("environment", {})
        home = {"HOME": str(self.folder), "TMPDIR": str(self.folder / "tmp"), "PYTHONPATH": str(self.code)}
        return home | {name: self.here(value) for name, value in given.items()}

    def run(self, words: list[str], service: Mapping[str, Any]) -> str:
        """Run a container's command to its end."""
        ended = subprocess.run(
            self.command(words),
            env=self.environment(service), cwd=self.code, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


def _copy_code(to: Path) -> None:
    """Copy what the image is made of to where everybody may read it, whoever may read the checkout."""
    for name in Image("study").copied:
        source, target = ROOT / name, to / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
    for path in (to, *to.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _way_to_drop(code: Path) -> Sequence[str]:
    """Return the prefix by which root gives up its rights; nothing where there are none to give up.

    The right to read everything is kept where the interpreter lies in root's home, out of the other user's reach.
    """
    if os.getuid() or not shutil.which("setpriv"):
        return []
    other = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    itself = "import click, subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
    for way in (other, other + reading):
        if subprocess.call([*way, sys.executable, "-c", itself], cwd=code, stderr=subprocess.DEVNULL) == 0:
            return way
    return []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    """Code that the other user may read, folders that it may write, outside of pytest's own, and a free port."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for child in ("code", "tracking", "first", "tmp"):
            (folder / child).mkdir()
        _copy_code(folder / "code")
        drop = _way_to_drop(folder / "code")
        for child in ("tracking", "first", "tmp") if drop else ():
            os.chown(folder / child, NOBODY, NOBODY)
        yield Box(folder, _free_port(), drop)


@pytest.fixture(scope="module")
def box_with_database(box: Box, postgres: Postgres) -> Box:
    """The same, with the databases of the compose file on a real server."""
    secret = SECRETS["IMG2BRAIN_DATABASE_PASSWORD"]
    postgres.ask("postgres", f"CREATE ROLE img2brain LOGIN CREATEDB PASSWORD '{secret}'")
    made = (ROOT / "docker" / "databases.sql").read_text().splitlines()
    for line in ("CREATE DATABASE searches;", *(line for line in made if line.startswith("CREATE"))):
        postgres.ask("postgres", line.replace(";", " OWNER img2brain"))
    found = replace(box, database=f"127.0.0.1:{postgres.port}")
    accounts = found.code / "docker" / "accounts.ini"
    accounts.write_text(found.here(accounts.read_text()))
    return found


@pytest.fixture(scope="module")
def server(box_with_database: Box, compose: dict[str, Any]) -> Iterator[Box]:
    """The server of the compose file, up as soon as its own health check says so."""
    box, service = box_with_database, compose["services"]["mlflow"]
    with (box.folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            box.command(service["command"]),
            env=box.environment(service), cwd=box.code, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            check = box.command(service["healthcheck"]["test"][1:])
            deadline = time.monotonic() + 120
            while subprocess.call(check, stderr=subprocess.DEVNULL):
                assert process.poll() is None, (box.folder / "server.log").read_text()
                assert time.monotonic() < deadline, (box.folder / "server.log").read_text()
                time.sleep(0.3)
            yield box
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)


@pytest.fixture(scope="module")
def studied(server: Box, compose: dict[str, Any], study_image: Image) -> Box:
    """A study of the study service's kind, run to its end against the server."""
    (server.folder / "small.toml").write_text(STUDY)
    words = [
        word.replace("experiments/quickstart.toml", str(server.folder / "small.toml")) for word in study_image.command
    ]
    server.run([*words, "--home", str(server.folder / "first")], compose["services"]["study"])
    return server
