"""Components from a folder, from installed packages and from single files."""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from img2brain import catalog as catalogs
from img2brain.catalog import METRICS, REGRESSORS, Catalog
from img2brain.errors import SpecError, UnknownComponentError
from img2brain.spec import StudySpec, parse

METRIC = """
from img2brain.metrics.base import Metric

class Mine(Metric):
    label = "mine"

    def from_rows(self, Y, P):
        return -abs(Y - P).mean(axis=0) * {factor}

class NotOne:
    pass

class Absent(Metric):
    label = "absent"
"""


@pytest.fixture(autouse=True)
def _shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what is loaded here from other tests, which count what the catalogs hold."""
    for catalog in (METRICS, REGRESSORS):
        monkeypatch.setattr(catalog, "_loaded", dict(catalog._loaded))


@pytest.fixture
def metrics() -> Catalog:
    return Catalog("metric", "metrics", "img2brain.metrics.base:Metric", instances=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(METRIC.format(factor=1))
    return path


def test_our_own_are_found_by_their_files() -> None:
    assert {"pearson", "r2", "spearman", "noise_normalised_r2"} <= set(METRICS.names)
    assert "base" not in REGRESSORS.names
    assert METRICS.plugin("pearson") is None
    with pytest.raises(
        UnknownComponentError, match=r"Unknown metric 'pearsn'\. Did you mean 'pearson' or 'spearman'\?"
    ):
        METRICS.check("pearsn")


def test_a_file_is_called_by_its_name_without_its_folder(metrics: Catalog, file: Path) -> None:
    assert metrics.load(f"{file}:Mine") == "mine.py:Mine"
    assert metrics["mine.py:Mine"].label == "mine"
    assert "mine.py:Mine" in metrics.names
    plugin = metrics.plugin("mine.py:Mine")
    assert plugin is not None
    assert (plugin.path, len(plugin.digest)) == (file, 64)


def test_a_relative_path_starts_from_the_folder_that_is_given(
    metrics: Catalog, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert metrics.load("mine.py:Mine", file.parent) == "mine.py:Mine"
    monkeypatch.chdir(file.parent)
    other = Catalog("metric", "metrics", "img2brain.metrics.base:Metric", instances=True)
    assert other.load("./mine.py:Mine") == "mine.py:Mine"


def test_a_name_that_was_loaded_is_known_from_any_folder(
    metrics: Catalog, file: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics.load(f"{file}:Mine")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert metrics.load("mine.py:Mine") == "mine.py:Mine"


def test_an_edited_file_counts_at_once(metrics: Catalog, file: Path) -> None:
    metrics.load(f"{file}:Mine")
    before, first = metrics.plugin("mine.py:Mine"), metrics["mine.py:Mine"]
    stamp = file.stat().st_mtime_ns
    file.write_text(METRIC.format(factor=2))
    os.utime(file, ns=(stamp, stamp))  # as old as before, and as long: byte code that is cached would look fresh
    metrics.load(f"{file}:Mine")
    after = metrics.plugin("mine.py:Mine")
    assert before is not None
    assert after is not None
    assert before.digest != after.digest
    assert type(metrics["mine.py:Mine"]) is not type(first)


def test_a_component_is_had_by_its_code(metrics: Catalog, file: Path, tmp_path: Path) -> None:
    metrics.load(f"{file}:Mine")
    before, first = metrics.plugin("mine.py:Mine"), metrics["mine.py:Mine"]
    assert before is not None
    kept = tmp_path / "kept"
    (kept / before.digest).mkdir(parents=True)
    (kept / before.digest / "mine.py").write_bytes(file.read_bytes())
    file.write_text(METRIC.format(factor=2))
    metrics.load(f"{file}:Mine")
    found = metrics.exactly("mine.py:Mine", before.digest, kept)
    assert type(found).__module__ == type(first).__module__
    assert type(metrics["mine.py:Mine"]).__module__ != type(first).__module__
    (kept / before.digest / "mine.py").write_text("raise SystemExit  # not the file that it was")
    with pytest.raises(SpecError, match=r"The metric 'mine\.py:Mine' is needed, from the file 'mine\.py' with the"):
        metrics.exactly("mine.py:Mine", before.digest, kept)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NotOne", r"must be a class that extends img2brain\.metrics\.base\.Metric\. It is not\."),
        ("Mien", r"holds no 'Mien'\. Did you mean 'Mine'\?"),
        ("Absent", r"The metric 'mine\.py:Absent' must define 'from_rows'\. It does not\."),
    ],
)
def test_a_file_without_such_a_component_is_refused_on_one_line(
    metrics: Catalog, file: Path, name: str, message: str
) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        metrics.load(f"{file}:{name}")
    assert "\n" not in str(caught.value)
    assert f"mine.py:{name}" not in metrics.names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("def broken(:", "SyntaxError: "),
        ("raise RuntimeError('two\\nlines')", r"RuntimeError: two\."),
        ("raise SystemExit('no')", r"SystemExit: no\."),
    ],
)
def test_code_that_fails_is_told_on_one_line(metrics: Catalog, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bad.py").write_text(content)
    with pytest.raises(SpecError, match=rf"The file '.*bad\.py' cannot be loaded: {message}") as caught:
        metrics.load("bad.py:Mine", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_class_without_what_it_must_define_is_refused_before_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from img2brain import Regressor\nclass Empty(Regressor): pass\n")
    with pytest.raises(
        SpecError, match=r"The regressor 'mine\.py:Empty' must define 'check_arrays', 'fit', 'predict'\."
    ):
        REGRESSORS.load("mine.py:Empty", tmp_path)


def test_a_file_must_be_named_with_its_class(metrics: Catalog, file: Path) -> None:
    with pytest.raises(SpecError, match=r"The metric of a file must be named with its class, '.*mine\.py:NAME'\."):
        metrics.load(str(file))


def test_a_file_that_is_absent_is_refused(metrics: Catalog, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"The file of the metric 'gone\.py:Mine' must exist\. '.*' does not\."):
        metrics.load("gone.py:Mine", tmp_path)


def test_two_files_of_one_name_are_refused_in_one_study(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(METRIC.format(factor=1 if folder == "a" else 2))
    table = {
        "name": "s", "trials": 1, "n_components": [2], "regressors": ["ridge"], "dataset": {"path": "d"},
        "backbones": [{"name": "alexnet", "weights": "random:0"}], "metrics": ["a/mine.py:Mine"],
    }  # fmt: skip
    parse(StudySpec, table | {"objective": "a/mine.py:Mine"}, "s.toml", tmp_path)
    with pytest.raises(SpecError, match=r"two files have the metric 'mine\.py:Mine': '.*a/mine\.py' and '.*b/mine"):
        parse(StudySpec, table | {"objective": "b/mine.py:Mine"}, "s.toml", tmp_path)


def test_installed_packages_bring_components(metrics: Catalog, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(file.parent))
    groups = {"img2brain.metrics": [EntryPoint("theirs", "mine:Mine", "img2brain.metrics")]}
    monkeypatch.setattr(catalogs, "entry_points", lambda group: groups.get(group, []))
    assert "theirs" in metrics.names
    assert metrics["theirs"].label == "mine"
    plugin = metrics.plugin("theirs")
    assert plugin is not None
    assert (plugin.name, plugin.path) == ("theirs", file)
