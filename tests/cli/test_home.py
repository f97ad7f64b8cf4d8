from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

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
    ("home", "relocate"),
    ("ui",),
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
    lines = dict(line.split(": ", 1) for line in invoke("home", "show", "--home", finished.home).stdout.splitlines())
    assert lines.pop("size").endswith(" MB")
    assert lines == {
        "home": str(finished.home),
        "id": Home(finished.home).id,
        "format": "2",
        "runs go to": str(finished.home / "mlflow.db"),
        "studies": "1",
        "finished trials": "9",
        "models": "1",
    }


def test_a_home_is_checked(finished_copy: Path) -> None:
    assert invoke("model", "list", "--home", finished_copy).exit_code == 0
    assert invoke("home", "check", "--home", finished_copy).stdout == "no problems\n"
    lost = sorted((finished_copy / "artifacts").glob("*/artifacts/accuracy.npy"))[0]
    lost.unlink()
    model = next((finished_copy / "artifacts" / "models").glob("*/artifacts/MLmodel"))
    model.unlink()
    result = invoke("home", "check", "--home", finished_copy)
    assert result.exit_code == 2
    assert result.stdout.splitlines() == [
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
