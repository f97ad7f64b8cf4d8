"""The container files as data, and their commands as plain processes: no container engine is needed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
UV = os.environ.get("UV") or shutil.which("uv") or "uv"
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


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    """The compose file."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


@dataclass(frozen=True)
class Box:
    """A plain process in the place of a container: another user, code that cannot be written, homes that can."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        """Where the server answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def drop(self) -> list[str]:
        """Root gives up all rights but that of reading: the interpreter may lie in root's home."""
        rights = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
        prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *rights]
        can_drop = os.getuid() == 0 and shutil.which("setpriv") and not subprocess.call([*prefix, "true"])
        return prefix if can_drop else []

    def here(self, text: str) -> str:
        """Put this machine's port and folders in the place of the container's."""
        there = {"0.0.0.0": "127.0.0.1", "mlflow:5000": "127.0.0.1:5000", "/home/researcher": str(self.folder)}
        for old, new in there.items():
            text = text.replace(old, new) if "allowed-hosts" not in text else text
        return text.replace("5000", str(self.port))

    def command(self, words: list[str]) -> list[str]:
        """Return a container's command as it runs here."""
        programs = {"uv": UV, "python3": sys.executable}
        return self.drop + [programs.get(word, self.here(word)) for word in words]

    def environment(self, service: Mapping[str, Any]) -> dict[str, str]:
        """Return the image's and the service's environment as it is here."""
        given = Image("study").environment | service.get("environment", {})
        home = {"HOME": str(self.folder), "TMPDIR": str(self.folder / "tmp"), "PATH": os.environ["PATH"]}
        return home | {name: self.here(value) for name, value in given.items()}

    def run(self, words: list[str], service: Mapping[str, Any]) -> str:
        """Run a container's command to its end."""
        ended = subprocess.run(
            self.command(words),
            env=self.environment(service), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    """A folder that the other user may write, outside of pytest's own, and a free port."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for home in ("tracking", "first", "tmp"):
            (folder / home).mkdir()
        for path in (folder, *folder.iterdir()):
            if os.getuid() == 0:
                os.chown(path, NOBODY, NOBODY)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        yield Box(folder, port)


@pytest.fixture(scope="module")
def server(box: Box, compose: dict[str, Any]) -> Iterator[Box]:
    """The server of the compose file, up as soon as its own health check says so."""
    service = compose["services"]["mlflow"]
    with (box.folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            box.command(service["command"]),
            env=box.environment(service), cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
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
