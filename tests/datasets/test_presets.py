"""The splits of the layouts' papers, by name, on the miniatures of the layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from img2brain.cli.data import data
from img2brain.datasets import nsd, open_dataset
from img2brain.datasets.base import Dataset
from img2brain.errors import DataError, SpecError
from img2brain.spec import SplitSpec
from tests.datasets.miniatures import MINIATURES

SPEC: dict[str, Any] = {"validation": 0.3}


def opened(name: str, root: Path) -> Dataset:
    mini = MINIATURES[name](root / "mini")
    return open_dataset(mini.path, **mini.asked)


@pytest.mark.parametrize(
    ("name", "preset"),
    [("things_fmri", "things:test100"), ("tvsd", "tvsd:test100"), ("bold5000", "bold5000:113"),
     ("mosaic", "mosaic:phase"), ("nsd", "nsd:shared1000")],
)  # fmt: skip
def test_the_test_part_of_the_paper_confirms(name: str, preset: str, tmp_path: Path) -> None:
    dataset = opened(name, tmp_path)
    split = dataset.split(SplitSpec(preset=preset, **SPEC))
    assert preset in dataset.presets
    assert list(split.parts) == ["test"]
    assert split.confirmation.tolist() == [*range(dataset.n_training, dataset.n_images)]
    assert split.development.tolist() == [*range(dataset.n_training)]
    by_default = dataset.split(SplitSpec(**SPEC))
    assert by_default.train.tolist() == split.train.tolist()
    assert by_default.digest != split.digest


def test_shared_images_that_were_not_shown_three_times_validate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = opened("nsd", tmp_path)
    shared = {dataset.stimuli[row] for row in range(dataset.n_training, dataset.n_images)}  # type: ignore[index]
    split = dataset.split(SplitSpec(preset="nsd:shared515", **SPEC))
    assert split.confirmation.tolist() == [*range(dataset.n_training, dataset.n_images)]  # each was, in three sessions
    seen_thrice = nsd._seen_thrice
    monkeypatch.setattr(nsd, "_seen_thrice", lambda ids: seen_thrice(ids[:0]))
    nobody = open_dataset(tmp_path / "mini").split
    with pytest.raises(
        SpecError, match="'validation' must be left out: 'nsd:shared515' has a validation part of its own"
    ):
        nobody(SplitSpec(preset="nsd:shared515", **SPEC))
    rest = nobody(SplitSpec(preset="nsd:shared515"))
    assert {dataset.stimuli[row] for row in rest.validation} == shared  # type: ignore[index]
    assert not len(rest.confirmation)


def test_tiers_are_parts(tmp_path: Path) -> None:
    dataset = opened("sensorium2022", tmp_path)
    split = dataset.split(SplitSpec(preset="sensorium:tiers"))
    tiers = dataset.columns["tier"]
    found = {"train": split.train, "validation": split.validation, **split.parts}
    for name, rows in found.items():
        assert {tiers[row] for row in rows} == {(name,)}
    assert sum(map(len, found.values())) == dataset.n_images


def write_splits(root: Path, dataset: Dataset) -> list[str]:
    """Write splits of a subject's pool and of the shared one, some of whose images were not shown."""
    names = [path.name for path in dataset.images]
    sides = {"tau": (names[:12], names[12:18]), "ood": (names[:14], names[18:22])}
    for pool in ("sub-03", "shared"):
        for name, (train, test) in sides.items():
            cut = [*train, "unseen.png"] if pool == "sub-03" else train[:8]
            file = root / "splits" / "data" / pool / f"{name}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"variants": [{"variant_id": 0, "train_ids": cut, "test_ids": test}]}))
    return names


def test_splits_of_a_package_are_found_beside_the_data(tmp_path: Path) -> None:
    assert not opened("laion_fmri", tmp_path).splits
    root = tmp_path / "mini"
    write_splits(root, open_dataset(root))
    dataset = open_dataset(root)
    assert sorted(dataset.splits) == [
        "laion:ood", "laion:ood-shared", "laion:tau", "laion:tau+ood", "laion:tau+ood-shared", "laion:tau-shared",
    ]  # fmt: skip
    split = dataset.split(SplitSpec(preset="laion:tau+ood", validation=0.25))
    assert {name: rows.tolist() for name, rows in split.parts.items()} == {
        "test": [*range(12, 18)],
        "ood": [*range(18, 22)],
    }
    assert split.development.tolist() == [*range(12)]
    assert dataset.split(SplitSpec(preset="laion:tau-shared")).development.tolist() == [*range(8)]
    (root / "splits" / "data" / "sub-03" / "tau.json").write_text('{"variants": []}')
    with pytest.raises(DataError, match=r"tau.json' must be a split of LAION-fMRI, of one variant"):
        dataset.split(SplitSpec(preset="laion:tau"))


def test_a_check_and_the_list_of_layouts_name_them(tmp_path: Path) -> None:
    mini = MINIATURES["bold5000"](tmp_path / "mini")
    told = CliRunner().invoke(data, ["check", str(mini.path), "--home", str(tmp_path / "none")]).stdout.splitlines()
    assert "splits: bold5000:113" in told
    assert "columns: session, part, category" in told
    listed = CliRunner().invoke(data, ["layouts"]).stdout.splitlines()
    assert any(line.startswith("nsd: ") and line.endswith("Splits: nsd:shared1000, nsd:shared515.") for line in listed)


@pytest.mark.parametrize(
    ("name", "column", "values"),
    [("things_fmri", "category", None), ("tvsd", "category", None), ("brainio", "category", None),
     ("bold5000", "category", {"Scene", "COCO", "ImageNet"}), ("nsd", "session", {"1", "3"}),
     ("table", "session", {"1", "2"})],
)  # fmt: skip
def test_what_a_layout_knows_of_its_trials_is_a_column(
    name: str, column: str, values: set[str] | None, tmp_path: Path
) -> None:
    found = opened(name, tmp_path).columns[column]
    assert all(found)
    assert values is None or set().union(*map(set, found)) == values


def test_the_split_of_another_layout_is_refused_with_those_that_fit(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"Got 'nsd:shared515'\. It brings 'bold5000:113'\.$"):
        opened("bold5000", tmp_path).split(SplitSpec(preset="nsd:shared515"))
