"""A home whose rows leave it: a real study of features that came with the data, which takes seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain import digest, looks
from img2brain.catalog import METRICS
from img2brain.findings import Findings
from img2brain.home import Home
from img2brain.leaderboard.bundles import contents
from img2brain.leaderboard.bundles.boards import boards_table
from img2brain.leaderboard.bundles.export import export_bundle
from img2brain.leaderboard.bundles.opening import entry_of, in_folder
from img2brain.records import ConfirmationRecord, LookRecord, StudyRecord, TrialRecord
from img2brain.spec import load_study
from img2brain.statistics.drop import drops
from img2brain.study.runner import run_study
from img2brain.tracking.names import component_name, part_folder

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


def forge(bundle: Path) -> None:
    """Make a bundle that was changed agree with itself wherever nothing is computed: chain, manifest, boards."""
    manifest = json.loads((bundle / contents.MANIFEST).read_text(encoding="utf-8"))
    rows, found = {}, []
    for path in sorted((bundle / "rows").iterdir()):
        trial = TrialRecord.read(path / contents.TRIAL)
        confirmed = path / contents.CONFIRMATION
        confirmation = ConfirmationRecord.read(confirmed) if confirmed.exists() else None
        rows[path.name] = entry_of(trial, confirmation).model_dump()
        if confirmation is None:
            continue
        folders = {name: path / part_folder(name) for name in confirmation.parts}
        arrays = {name: {file.stem: np.load(file) for file in folder.glob("*.npy")} for name, folder in folders.items()}
        confirmation = retold(trial, study_of(bundle, trial), confirmation, arrays)
        confirmed.write_text(contents.text_of_record(confirmation), encoding="utf-8")
        joint = {f"members/{file.stem}": np.load(file) for file in (path / "members").glob("*.npy")}
        arrays[confirmation.ranking] |= joint
        for name, part in confirmation.parts.items():
            predictions = digest.of_array(arrays[name].pop("predictions"))
            look = LookRecord(home=trial.home, rows=part.rows, trial=trial.digest, part=looks.name_of(name),
                              found=digest.of_arrays(arrays[name]), predictions=predictions, when="now")  # fmt: skip
            found.append((part.looks, look))
    chain = looks.extended([], [look for _, look in sorted(found, key=lambda item: item[0])])
    (bundle / contents.LOOKS).write_text(looks.to_lines(chain), encoding="utf-8")
    manifest |= {"looks": chain[-1].digest, "rows": rows}
    (bundle / contents.MANIFEST).write_text(contents.text_of(manifest), encoding="utf-8")
    reseal(bundle)
    opened = in_folder(bundle)
    table = boards_table([opened.to_row(row) for row in opened.rows()])
    (bundle / contents.BOARDS).write_text(contents.text_of(table), encoding="utf-8")
    reseal(bundle)


def study_of(bundle: Path, trial: TrialRecord) -> StudyRecord:
    """The study of a trial."""
    return StudyRecord.read(bundle / contents.study_file(trial.study, trial.member))


def retold(
    trial: TrialRecord, study: StudyRecord, confirmation: ConfirmationRecord, arrays: dict[str, dict[str, Any]]
) -> ConfirmationRecord:
    """A confirmation that follows from arrays, as its own home writes it."""
    how, ceiling = trial.metrics[trial.objective].summary, METRICS[trial.objective].ceiling
    regions = {name: np.asarray(voxels, np.intp) for name, voxels in study.regions.items()}
    parts, summaries = {}, {}
    for name, part in confirmation.parts.items():
        found = Findings.from_arrays(_reader(arrays[name]), study.metrics, part, how, ceiling)
        facts = {"rows": part.rows, "n_images": part.n_images, "n_units": part.n_units, "looks": part.looks}
        parts[name], summaries[name] = found.part(regions, **facts), found.summaries
    return confirmation.model_copy(update={"parts": parts, "drops": drops(summaries, confirmation.ranking)})


def _reader(arrays: dict[str, Any]) -> Callable[[str], Any]:
    return lambda name: arrays.get(component_name(name))


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
