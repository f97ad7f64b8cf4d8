from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from img2brain.amounts import counted, size_text
from img2brain.cli import main
from img2brain.home import Home

if TYPE_CHECKING:
    from tests.conftest import Finished, NewHome

READING = [
    ("study", "list"),
    ("study", "show", "small"),
    ("model", "list"),
    ("model", "show", "sample"),
    ("model", "predict", "sample", "x.png", "--out", "out.npy"),
    ("leaderboard", "show"),
    ("leaderboard", "build", "board"),
    ("compare", "small#0", "small#1"),
    ("home", "show"),
    ("home", "check"),
    ("home", "gc"),
    ("home", "relocate"),
    ("ui",),
]
KINDS = [
    "artifacts: features",
    "artifacts: fitted regressors",
    "artifacts: pages",
    "artifacts: records and scores",
    "artifacts: registered models",
    "cache: axes",
    "cache: components",
    "cache: features",
    "cache: layers",
    "cache: locks",
    "cache: networks",
    "cache: pictures",
    "databases",
    "other",
    "pages",
]


def invoke(*args: object, **environment: str) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], env=environment)


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_a_command_that_reads_makes_no_home_and_says_where_it_looked(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for result, folder in (
        (invoke(*command), tmp_path / "mlruns"),
        (invoke(*command, "--home", "absent"), tmp_path / "absent"),
        (invoke(*command, IMG2BRAIN_HOME="named"), tmp_path / "named"),
    ):
        assert result.exit_code == 2
        expected = f"Error: There is no home at {folder}: no study was run there. Name another with --home.\n"
        assert result.stderr == expected
    assert list(tmp_path.iterdir()) == []


def test_the_server_is_named_by_an_option_or_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    command = ("leaderboard", "show", "--home", tmp_path / "home")
    for result in (
        invoke(*command, "--tracking-uri", "http://127.0.0.1:9"),
        invoke(*command, MLFLOW_TRACKING_URI="http://127.0.0.1:9"),
    ):
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: The tracking store http://127.0.0.1:9 does not answer: ")
    assert list(tmp_path.iterdir()) == [], "what a server holds is read without a home"


def test_a_home_is_shown(finished: Finished) -> None:
    told = invoke("home", "show", "--home", finished.home).stdout.splitlines()
    facts = {
        "home": str(finished.home),
        "id": Home(finished.home).id,
        "format": 2,
        "runs go to": str(finished.home / "mlflow.db"),
        "studies": 1,
        "finished trials": 9,
        "models": 1,
    }
    assert told[: len(facts)] == [f"{name}: {value}" for name, value in facts.items()]
    assert [line.split("  ")[0] for line in told[len(facts) :]] == [*KINDS, "in all"]
    found = json.loads(invoke("home", "show", "--json", "--home", finished.home).stdout)
    assert {name: found[name] for name in facts} == facts
    assert [item["kind"] for item in found["room"]] == KINDS
    assert found["bytes"] == sum(item["n_bytes"] for item in found["room"])
    counts = {item["kind"]: item["n_files"] for item in found["room"]}
    assert counts["artifacts: pages"] == 1


def test_what_can_be_computed_again_is_freed(finished_copy: Path) -> None:
    before = _in_cache(finished_copy)
    trial = invoke("home", "gc", "--dry-run", "--home", finished_copy)
    assert trial.stdout.splitlines()[-1].startswith("would be freed ")
    assert _in_cache(finished_copy) == before
    found = json.loads(invoke("home", "gc", "--json", "--home", finished_copy).stdout)
    assert trial.stdout.splitlines()[:-1] == _lines(found["freed"])
    assert before - _in_cache(finished_copy) == sum(item["n_bytes"] for item in found["freed"]) > 0
    assert invoke("home", "gc", "--home", finished_copy).stdout.splitlines() == [_line("freed", 0, 0)]
    assert invoke("home", "check", "--home", finished_copy).stdout.splitlines()[-1] == "no problems"


def test_a_kind_alone_is_freed_and_another_is_refused(finished_copy: Path) -> None:
    (line, _) = invoke("home", "gc", "axes", "--home", finished_copy).stdout.splitlines()
    assert line.startswith("cache: axes ")
    result = invoke("home", "gc", "layer", "--home", finished_copy)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: The cache of {finished_copy} holds nothing of the kind 'layer'. ")
    assert "'layers'" in result.stderr


def _in_cache(folder: Path) -> int:
    held = json.loads(invoke("home", "show", "--json", "--home", folder).stdout)["room"]
    return sum(item["n_bytes"] for item in held if item["kind"].startswith("cache"))


def _lines(freed: list[dict[str, Any]]) -> list[str]:
    return [_line(item["kind"], item["n_files"], item["n_bytes"]) for item in freed]


def _line(kind: str, n_files: int, n_bytes: int) -> str:
    return f"{kind:<32} {counted(n_files, 'file'):>14} {size_text(n_bytes):>14}"


def test_a_home_is_checked(finished_copy: Path) -> None:
    assert invoke("model", "list", "--home", finished_copy).exit_code == 0
    assert invoke("home", "check", "--home", finished_copy).stdout.splitlines()[-1] == "no problems"
    assert json.loads(invoke("home", "check", "--json", "--home", finished_copy).stdout)["problems"] == []
    lost = sorted((finished_copy / "artifacts").glob("*/artifacts/accuracy.npy"))[0]
    lost.unlink()
    model = next((finished_copy / "artifacts" / "models").glob("*/artifacts/MLmodel"))
    model.unlink()
    result = invoke("home", "check", "--home", finished_copy, "--json")
    assert result.exit_code == 2
    assert [found["problem"] for found in json.loads(result.stdout)["problems"]][:2] == [
        f"The run {lost.parents[1].name} must have the file {lost}. It is not there.",
        f"The model {model.parents[1].name} must have the file {model}. It is not there.",
    ]


def test_a_damaged_database_is_told(new_home: NewHome) -> None:
    database = Home(new_home()).database
    content = bytearray(database.read_bytes())
    content[8192:12288] = bytes(4096)
    database.write_bytes(content)
    result = invoke("home", "check", "--home", database.parent)
    assert result.exit_code == 2
    told = result.stdout + result.stderr
    assert "The database is damaged: " in told or "does not answer: database disk image is malformed" in told
    assert "Traceback" not in told


def test_a_copy_without_its_artifacts_is_relocated_when_it_is_asked_for(finished: Finished, tmp_path: Path) -> None:
    copy = tmp_path / "a copy"
    shutil.copytree(finished.home, copy, ignore=shutil.ignore_patterns("artifacts", "cache", "*.lock"))
    refused = invoke("model", "list", "--home", copy)
    assert refused.exit_code == 2
    assert refused.stderr.endswith(f"go on without them: img2brain home relocate --home '{copy}'\n")
    done = invoke("home", "relocate", "--home", copy).stdout.splitlines()
    assert done[0].endswith(" paths were changed; 11 folders of artifacts are not there")
    assert len(done) == 12
    assert invoke("model", "list", "--home", copy).exit_code == 0


def test_a_copy_from_another_computer_gets_an_id_of_its_own(new_home: NewHome) -> None:
    home = Home(new_home())
    before = home.id
    assert invoke("home", "relocate", "--new-id", "--home", home.folder).exit_code == 0
    assert home.own_ids == (home.id, before)
    assert home.id != before
