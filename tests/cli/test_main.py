from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from img2brain.cli import COMMANDS, main
from img2brain.errors import StoreError

if TYPE_CHECKING:
    from tests.conftest import Launcher

SCRIPT = Path(sys.executable).with_name("img2brain")


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        here = (*path, name)
        found += commands(command, here) if isinstance(command, click.Group) else [here]
    return found


ALL = commands(main)


def test_every_command_is_there() -> None:
    assert {path[0] for path in ALL} == set(COMMANDS)
    assert {("study", "run"), ("model", "predict"), ("leaderboard", "build"), ("ui",), ("layers",)} <= set(ALL)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_shows_an_example_of_itself(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0
    assert "Example:" in result.output
    assert f"img2brain {' '.join(path)}" in result.output.partition("Example:")[2]


@pytest.mark.parametrize("command", [(SCRIPT,), (sys.executable, "-m", "img2brain")], ids=["script", "module"])
def test_the_installed_command_works(command: tuple[str, ...], tmp_path: Path) -> None:
    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *args], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run("--version").stdout.startswith("img2brain, version ")
    assert run("study", "--help").stdout.startswith("Usage: img2brain study ")
    refused = run("layers", "alexnt")
    assert refused.returncode == 2
    assert refused.stderr.startswith("Error: ")
    assert len(refused.stderr.splitlines()) == 1


def test_a_reader_who_has_enough_ends_a_command_without_a_word() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        found = subprocess.run([SCRIPT, "metrics"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert found.returncode == 1
    assert found.stderr == ""


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom img2brain.cli import main\n"
        "for name in ([], ['study'], ['study', 'run'], ['model', 'predict'], ['leaderboard', 'show'], ['ui']):\n"
        "    assert CliRunner().invoke(main, [*name, '--help']).exit_code == 0\n"
        "print(sorted({'torch', 'mlflow', 'optuna', 'plotly', 'sklearn'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_an_unknown_command_is_refused() -> None:
    result = CliRunner().invoke(main, ["studdy"])
    assert result.exit_code == 2
    assert "No such command 'studdy'" in result.output


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (StoreError("Two\nlines."), 2, "Error: Two lines."),
        (OSError(28, "No space left on device", "x.npy"), 2, "Error: x.npy: No space left on device."),
        (OSError("odd"), 2, "Error: odd."),
        (KeyboardInterrupt(), 130, "Interrupted. The same command goes on where this one stopped."),
    ],
)
def test_errors_end_in_one_line(error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr("img2brain.listing.curated_layers", fail)
    result = CliRunner().invoke(main, ["layers", "alexnet"])
    assert result.exit_code == code
    assert result.stderr == f"{line}\n"
    assert result.stdout == ""


def test_a_traceback_is_had_for_the_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMG2BRAIN_TRACEBACK", "1")
    result = CliRunner().invoke(main, ["layers", "alexnt"])
    assert type(result.exception).__name__ == "UnknownComponentError"


def test_an_interrupt_that_python_drops_is_not_lost() -> None:
    code = (
        "import signal, sys, time, types, weakref\nimport click\nfrom img2brain import cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "@click.command()\n"
        "def drop():\n"
        "    thing = set()\n"
        "    ref = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))\n"
        "    del thing\n"
        "    time.sleep(60)\n"
        "sys.modules['img2brain.cli.drop'] = types.SimpleNamespace(drop=drop)\n"
        "cli.COMMANDS['drop'] = ('drop', 'drop')\n"
        "cli.main(['drop'])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 130, ended.stderr
    assert ended.stderr.startswith("Interrupted.")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [("--log", "json", "study", "list"), ("study", "list", "--log", "json"), ()])
def test_work_is_told_as_json_where_it_is_asked_for(
    words: tuple[str, ...], tmp_path: Path, img2brain: Launcher
) -> None:
    environment = {} if words else {"IMG2BRAIN_LOG": "json"}
    process = img2brain.run(*(words or ("study", "list")), "--home", tmp_path / "absent", cwd=tmp_path, env=environment)
    assert process.code == 2
    (line,) = process.stderr.splitlines()
    told = json.loads(line)
    assert told["level"] == "error"
    assert told["message"].startswith(f"Error: There is no home at {tmp_path / 'absent'}: ")


@pytest.mark.parametrize(
    "words",
    [
        "--log json study run",
        "--log=json study run a.toml --trials none",
        "study worker --log json --threads 0 name",
        "study list --nothing --log json",
        "study nothing --log=json",
        "nothing --log json",
        "--nothing --log json",
        "study --log json",
        "study run a.toml --log text --log json --trials 0",
    ],
)
def test_a_command_line_that_cannot_be_taken_is_told_as_json_where_it_asks_for_it(
    words: str, img2brain: Launcher
) -> None:
    process = img2brain.run(*words.split())
    assert (process.code, process.stdout) == (2, "")
    (line,) = process.stderr.splitlines()
    assert json.loads(line)["message"].startswith("Error: ")


def test_a_command_line_that_cannot_be_taken_is_told_as_the_environment_asks_for_it(img2brain: Launcher) -> None:
    words, environment = ["study", "worker", "x", "--threads", "0"], {"IMG2BRAIN_LOG": "json"}
    assert json.loads(img2brain.run(*words, env=environment).stderr)["level"] == "error"
    shown = img2brain.run(*words, "--log", "text", env=environment)
    assert shown.error == "Error: Invalid value for '--threads': 0 is not in the range x>=1."


@pytest.mark.parametrize("group", [(), *sorted({path[:1] for path in ALL if len(path) > 1})], ids=" ".join)
def test_a_list_of_commands_says_of_each_a_whole_sentence(group: tuple[str, ...]) -> None:
    listed = CliRunner().invoke(main, [*group, "--help"], terminal_width=80).stdout.partition("Commands:\n")[2]
    assert listed
    assert [line for line in listed.splitlines() if not line.endswith(".") or line.endswith("...")] == []
