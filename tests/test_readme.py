"""What the README says is true: its commands run, its study file loads, what it names is there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from img2brain.catalog import REGRESSORS
from img2brain.cli import main
from img2brain.home import Home
from img2brain.spec import BackboneSpec, ClusterSpec, DatasetSpec, SampleSpec, Spec, SplitSpec, StudySpec, load_study
from img2brain.study.search import stored_trials

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HEADLINES = (
    "python3 -m pip install uv && uv run img2brain study run experiments/quickstart.toml",
    "uv run pytest",
)
EVERY_KEY = (ROOT / "img2brain" / "study" / "every_key.toml").read_text(encoding="utf-8")
DEAR = ("quickstart", "ui ", "model serve ", "--tracking-uri ")  # commands that are tested elsewhere


def blocks(language: str) -> list[str]:
    """Return the README's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Return the arguments of every img2brain command of the README, in order."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [line.partition("uv run img2brain ")[2] for line in lines if "uv run img2brain " in line]


@pytest.mark.parametrize("headline", HEADLINES)
def test_headline_commands_stand_word_for_word(headline: str) -> None:
    assert f"{headline}\n" in blocks("sh")


def test_it_is_short() -> None:
    assert len(README.splitlines()) < 300


def test_ci_runs_the_readme_test_command() -> None:
    script = ROOT / ".ci" / "run"
    assert HEADLINES[1] in script.read_text(encoding="utf-8").splitlines()
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.parametrize("line", commands())
def test_commands_and_options_exist(line: str) -> None:
    words = shlex.split(line)
    command: click.Command | None = main
    while isinstance(command, click.Group):
        name = words.pop(0)
        command = command.get_command(click.Context(command), name)
        assert command is not None, name
    assert command is not None
    command.make_context(command.name, words)  # raises for an option that is not there


def test_every_command_is_named() -> None:
    context = click.Context(main)
    for name in main.list_commands(context):
        found = main.get_command(context, name)
        leaves = [f"{name} {leaf}" for leaf in found.commands] if isinstance(found, click.Group) else [name]
        for leaf in leaves:
            assert f"img2brain {leaf}" in README, leaf


def test_links_and_files_are_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    named = re.findall(r"`((?:experiments|tests|docker|img2brain)/[\w./]+)`", README)
    assert links
    assert named
    for name in links + [name for name in named if "NAME" not in name]:
        assert (ROOT / name).exists(), name


def test_the_picture_is_one_and_small() -> None:
    (picture,) = (ROOT / ".github").glob("*.png")
    assert picture.relative_to(ROOT).as_posix() in README
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 300_000


def test_every_key_of_a_study_file_is_explained() -> None:
    kinds: tuple[type[Spec], ...] = (StudySpec, SplitSpec, DatasetSpec, SampleSpec, BackboneSpec, ClusterSpec)
    keys = {key for kind in kinds for key in kind.model_fields} - {"shuffle"}  # the command line's
    assert [
        key for key in sorted(keys) if not re.search(rf"^[^#]*\b{key}\b|^# \[?{key}(\]| =)", EVERY_KEY, re.MULTILINE)
    ] == []


def test_the_study_file_loads(tmp_path: Path) -> None:
    (text,) = blocks("toml")
    (tmp_path / "my-study.toml").write_text(text, encoding="utf-8")
    spec = load_study(tmp_path / "my-study.toml")
    assert spec.dataset is not None
    assert spec.dataset.path == tmp_path.resolve() / "my-recordings"


def test_every_regressor_is_named() -> None:
    assert [name for name in REGRESSORS.names if f"`{name}`" not in README] == []


def test_the_order_of_the_code_is_that_of_the_import_rule() -> None:
    (order,) = re.findall(r"^`img2brain/` from the bottom up.*?:(.*?)^$", README, re.DOTALL | re.MULTILINE)
    named = re.findall(r"`(\w+)`", order)
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(rule["layers"] for rule in rules if rule["type"] == "layers")[::-1]
    places = [next(i for i, layer in enumerate(layers) if f"img2brain.{name}" in layer.split(" | ")) for name in named]
    assert len(places) > 10
    assert places == sorted(places)


def test_no_word_is_explained_twice() -> None:
    table = README.partition("## Words")[2]
    words = [word for row in re.findall(r"^\| (\w.*?) \|", table, re.MULTILINE) for word in row.split(", ")]
    assert len(words) > 20
    assert len(set(words)) == len(words)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, img2brain: Any) -> Path:
    """A folder in which every command of the README was run, in order, the study of 2 trials."""
    folder = tmp_path_factory.mktemp("readme")
    (text,) = blocks("toml")
    (folder / "my-study.toml").write_text(text.replace("trials = 60", "trials = 2"), encoding="utf-8")
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    for line in commands():
        if any(word in line for word in DEAR):
            continue
        _run(img2brain, folder, line)
    return folder


def _run(img2brain: Any, folder: Path, line: str) -> None:
    process = img2brain.run(*shlex.split(line), cwd=folder)
    assert process.code == 0, f"{line}: {process.stdout}{process.stderr}"


def test_commands_run(workplace: Path) -> None:
    assert np.load(workplace / "responses.npy", allow_pickle=False).shape == (6, 20)
    assert (workplace / "board" / "index.html").is_file()
    kept = {path.name for path in (workplace / "mlruns").iterdir()}
    assert {"mlflow.db", "artifacts", "optuna.log", "cache", "leaderboards"} <= kept


def test_the_study_goes_on_in_python(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    before = stored_trials(Home(workplace / "mlruns"))
    names: dict[str, Any] = {}
    exec(blocks("python")[0], names)
    assert names["outcome"].trials == before[names["outcome"].name]
    assert set(stored_trials(Home(workplace / "mlruns"))) == set(before)


@pytest.mark.filterwarnings("ignore:.*Any type hint")  # of MLflow about itself, when it is first imported
def test_both_ways_of_loading_the_model_agree(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.chdir(workplace)
    before = mlflow.get_tracking_uri()
    ours: dict[str, Any] = {}
    theirs: dict[str, Any] = {}
    try:
        for block, names in zip(blocks("python")[1:], (ours, theirs), strict=True):
            exec(block, names)
    finally:
        mlflow.set_tracking_uri(before)
    assert ours["responses"].shape == (2, 20)
    np.testing.assert_array_equal(theirs["responses"], ours["responses"][:1])
