"""A study file to start from."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from img2brain.cli import main
from img2brain.errors import SpecError
from img2brain.spec import SampleSpec, SplitSpec, load_study, parse
from img2brain.study.init import _text, init_study


def test_it_loads_as_it_is(tmp_path: Path) -> None:
    spec = load_study(init_study(tmp_path / "faces.toml"))
    assert spec.name == "faces"
    assert spec.dataset is not None
    assert spec.dataset.sample == SampleSpec(images=120, voxels=50)


def test_it_takes_a_folder_in_place_of_the_sample(tmp_path: Path) -> None:
    spec = load_study(init_study(tmp_path / "faces.toml", "my-recordings"))
    assert spec.dataset is not None
    assert spec.dataset.path == tmp_path.resolve() / "my-recordings"
    assert spec.dataset.sample is None


def test_what_is_commented_out_would_load_too(tmp_path: Path) -> None:
    lines = _text("study", "data").splitlines()
    choices = [line for line in lines if line.startswith(("# layout =", "# folds =", "# groups =", "# stratify ="))]
    assert len(choices) == 4
    text = "\n".join(line.removeprefix("# ") if line in choices else line for line in lines)
    (tmp_path / "study.toml").write_text(text.replace("validation = 0.2", ""), encoding="utf-8")
    assert load_study(tmp_path / "study.toml").split.folds == 5


def test_every_key_of_a_split_is_there_and_would_load(tmp_path: Path) -> None:
    _, split = _text("study", "data").split("[split]\n")
    text, _, _ = split.partition("\n\n")
    keys = tomllib.loads("\n".join(line.removeprefix("# ") for line in text.splitlines()))
    assert keys.keys() == SplitSpec.model_fields.keys()
    given = [
        {"file", "parts", "rest"}, {"column", "parts", "rest"}, {"rows", "parts"}, {"preset"},
        {"groups", "stratify", "validation"},
    ]  # fmt: skip
    for names in given:
        assert parse(SplitSpec, {name: keys[name] for name in names}, "split", tmp_path).model_fields_set == names


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_path_is_written_as_it_is(path: str) -> None:
    assert tomllib.loads(_text("study", path))["dataset"] == {"path": path}


def test_the_command_writes_and_never_overwrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["study", "init"]).stdout == "wrote my-study.toml\n"
    before = Path("my-study.toml").read_bytes()
    again = CliRunner().invoke(main, ["study", "init"])
    assert (again.exit_code, again.stderr) == (
        2,
        "Error: The file 'my-study.toml' is there already, and is left as it is.\n",
    )
    assert Path("my-study.toml").read_bytes() == before


@pytest.mark.parametrize("name", ["study", "my study.toml", ".toml", f"{'a' * 65}.toml"])
def test_a_name_that_is_none_for_a_study_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="must be called as its study"):
        init_study(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
