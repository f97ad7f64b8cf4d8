"""A home whose rows leave it: a real study of features that came with the data, which takes seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain import digest
from img2brain.home import Home
from img2brain.leaderboard.bundles import contents
from img2brain.leaderboard.bundles.export import export_bundle
from img2brain.spec import load_study
from img2brain.study.runner import run_study

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Edit = Callable[[Any], Any]


class Lab:
    """A home of two studies on the same rows, each published, its data and its bundle, predictions among it."""

    def __init__(self, folder: Path, study: Path, database: Path) -> None:
        self.home = Home(folder / "home")
        shutil.copyfile(database, self.home.database)
        self.data = study.parent / "rows"
        spec = load_study(study)
        for seed in (0, 1):
            run_study(
                spec.model_copy(update={"seed": seed, "metrics": ("pearson", "r2"), "objective": "pearson"}), self.home
            )
        self.bundle = folder / "bundle"
        self.exported = export_bundle(self.bundle, self.home, predictions=True, title="Lab A", contact="a@lab.example")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, given_study: Path, empty_database: Path) -> Lab:
    """No test changes it."""
    return Lab(tmp_path_factory.mktemp("lab"), given_study, empty_database)


@pytest.fixture
def bundle(lab: Lab, tmp_path: Path) -> Path:
    """A copy of the bundle, for a test that changes it."""
    return Path(shutil.copytree(lab.bundle, tmp_path / "bundle"))


def reseal(bundle: Path) -> None:
    """Name the files of a bundle that was changed with their right digests, as a forger would."""
    path = bundle / contents.MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    files = sorted(
        file for file in bundle.rglob("*") if file.is_file() and file.name not in (path.name, contents.SIGNATURE)
    )
    manifest["files"] = {file.relative_to(bundle).as_posix(): digest.of_file(file) for file in files}
    path.write_text(contents.text_of(manifest), encoding="utf-8")


def edit_json(path: Path, edit: Edit) -> None:
    """Change a file of JSON, written as it should be."""
    value = json.loads(path.read_text(encoding="utf-8"))
    found = edit(value)
    path.write_text(contents.text_of(value if found is None else found), encoding="utf-8")


def edit_array(path: Path, edit: Edit) -> None:
    """Change an array, written as it should be."""
    array: NDArray[Any] = np.load(path)
    found = edit(array)
    path.write_bytes(contents.bytes_of(array if found is None else found))


def published(bundle: Path) -> Path:
    """The folder of the first row that was published."""
    return next(iter(sorted(path.parent for path in bundle.glob("rows/*/confirmation.json"))))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], float]]:
    """Yield the place and value of every number with a fraction in plain data."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for key, item in enumerate(value):
            yield from leaves(item, (*path, key))
    elif isinstance(value, float):
        yield path, value
