"""What the how-to pages say is true: each is worked through as it stands, in a folder outside of the checkout."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from img2brain import digest
from img2brain.catalog import LAYOUTS, LIBRARIES, METRICS, REGRESSORS, Catalog
from img2brain.home import Home
from img2brain.leaderboard.collect import collect
from img2brain.leaderboard.rows import Row
from img2brain.leaderboard.site.digits import bounds_text, estimate_text

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "experiments" / "howto"
BLOCK = re.compile(r"(?:^\*\*([\w.]+)\*\*\n\n)?^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Pages of which no more is asked than that what they say is printed.
WHOLE = ("data-folder.md", "layouts.md", "leaderboard.md", "sharing.md")
SLOW = (
    "cluster.md",
    "features.md",
    "model-zoo.md",
    "models.md",
    "operations.md",
    "own-network.md",
    "subjects.md",
    "workers.md",
)  # the same, of many commands
FILES = {"table.py", "concordance.py", "kernel.py", "networks.py"}


@dataclass
class Worked:
    """A page that is worked through.

    Attributes
    ----------
    top : Path
        The folder that it starts in.
    outputs : list of tuple of str
        What the page says is printed, and what was printed.
    """

    top: Path
    img2brain: Any
    outputs: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = self.top

    def through(self, page: str) -> Worked:
        """Write each file and run each command, in order."""
        printed = ""
        for file, language, text in blocks(page):
            if file:
                (self.folder / file).write_text(text, encoding="utf-8")
            elif language == "sh":
                printed = "".join(map(self.run, text.splitlines()))
            elif language == "text":
                self.outputs += [(text, printed)] if printed else []
                printed = ""
        return self

    def run(self, line: str) -> str:
        """Run a command in a process of its own, and return what it prints."""
        first, _, rest = line.partition(" ")
        if first == "cd":
            self.folder = self.folder / rest
            return ""
        if first == "img2brain":
            process = self.img2brain.run(*shlex.split(rest), cwd=self.folder)
            assert process.code == 0, process.stderr
            return str(process.stdout)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        command = ["bash", "-c", line]
        ended = subprocess.run(
            command, cwd=self.folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """Yield file, language and text of each block of a page, in order."""
    yield from BLOCK.findall((PAGES / page).read_text(encoding="utf-8"))


def check_outputs(worked: Worked) -> None:
    """Compare what a page says is printed with what was."""
    assert worked.outputs
    for says, printed in worked.outputs:
        same = doctest.OutputChecker().check_output(says, printed, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        assert same, printed


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory, img2brain: Any) -> Worked:
    """The page on plug-ins, worked through."""
    return Worked(tmp_path_factory.mktemp("plugins"), img2brain).through("plugins.md")


@pytest.fixture(scope="module")
def champion(plugins: Worked) -> Row:
    """The row of the model that the page ends with."""
    (row,) = (row for row in collect(Home(plugins.top / "mlruns"), "squares") if row.confirmed)
    return row


def test_every_page_is_worked_through() -> None:
    assert {path.name for path in PAGES.iterdir()} == {"plugins.md", *WHOLE, *SLOW}


@pytest.mark.parametrize("page", [*WHOLE, *(pytest.param(page, marks=pytest.mark.slow) for page in SLOW)])
def test_a_page_is_true(page: str, tmp_path: Path, img2brain: Any) -> None:
    check_outputs(Worked(tmp_path, img2brain).through(page))


def test_what_the_page_on_plugins_says_is_printed(plugins: Worked) -> None:
    check_outputs(plugins)
    assert len(plugins.outputs) == 5


def test_the_objective_has_an_interval_and_stands_on_the_page(plugins: Worked, champion: Row) -> None:
    assert champion.trial.objective == "concordance.py:Concordance"
    assert champion.trial.rows.folds == 4
    assert champion.confirmed is not None
    score = champion.confirmed.whole.score
    assert score.low < score.estimate < score.high
    page = (plugins.top / "mlruns" / "leaderboards" / "squares" / "index.html").read_text(encoding="utf-8")
    assert "concordance" in page
    assert f"<strong>{estimate_text(score)}</strong> {bounds_text(score)}" in page


def test_files_of_others_are_named_in_the_record_and_kept(plugins: Worked, champion: Row) -> None:
    named = {item.name.partition(":")[0]: item.digest for item in champion.trial.plugins}
    kept = {path.name: digest.of_file(path) for path in (plugins.top / "mlruns" / "plugins").glob("*/*.py")}
    assert set(kept) == FILES
    assert named == {name: kept[name] for name in named}
    assert {"table.py", "concordance.py", "networks.py"} <= set(named)


def test_the_champion_predicts_what_was_recorded(plugins: Worked) -> None:
    predicted = np.load(plugins.top / "elsewhere" / "after.npy")
    assert predicted.shape == (60, 8)
    assert np.isfinite(predicted).all()
    assert predicted.std(axis=0).min() > 0


def test_the_folder_of_the_model_predicts_with_its_plugins_named(plugins: Worked) -> None:
    home = plugins.top / "mlruns"
    (model,) = (path.parent for path in home.rglob("model.json"))
    kernel, networks = (next(home.glob(f"plugins/*/{name}.py")) for name in ("kernel", "networks"))
    command = ["model", "predict", model, "../recordings/pictures", "--out", "saved.npy"]
    refused = plugins.img2brain.run(*command, cwd=plugins.folder)
    assert "name the file with --plugin" in refused.error
    named = ("--plugin", f"{kernel}:KernelSmoother", "--plugin", f"{networks}:Small")
    assert plugins.img2brain.run(*command, *named, cwd=plugins.folder).code == 0
    np.testing.assert_array_equal(np.load(plugins.folder / "saved.npy"), np.load(plugins.folder / "after.npy"))


@pytest.mark.parametrize(
    ("catalog", "name"),
    [(REGRESSORS, "kernel_smoother"), (METRICS, "concordance"), (LAYOUTS, "table"), (LIBRARIES, "small")],
)
def test_entry_points_are_of_groups_that_are_read(catalog: Catalog, name: str) -> None:
    (text,) = (text for file, language, text in blocks("plugins.md") if language == "toml" and not file)
    named = tomllib.loads(text)["project"]["entry-points"][f"img2brain.{catalog.folder}"]
    assert list(named) == [name]
    module, attribute = EntryPoint(name, named[name], "").value.split(":")
    files = {file: text for file, _, text in blocks("plugins.md")}
    assert f"class {attribute}(" in files[f"{module.rpartition('.')[2]}.py"]
