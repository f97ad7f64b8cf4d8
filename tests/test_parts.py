"""Named parts of the confirmation rows: each scored once, the first ranks, and what the others lose is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain import looks
from img2brain.datasets.folder import FolderDataset
from img2brain.home import Home
from img2brain.leaderboard.bundles import contents
from img2brain.leaderboard.bundles.export import export_bundle
from img2brain.leaderboard.bundles.imported import import_bundle
from img2brain.leaderboard.collect import collect
from img2brain.leaderboard.published import by_part, confirmed_rows, part_names, region_table, summary_table
from img2brain.leaderboard.rows import boards
from img2brain.leaderboard.table import ranked
from img2brain.metrics.pearson import pearson
from img2brain.moving import export_model, import_model
from img2brain.records import ConfirmationRecord
from img2brain.spec import SplitSpec, load_study
from img2brain.study.runner import run_study
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import tracked_trials
from img2brain.verify import verify_bundle
from tests.leaderboard.bundles.conftest import edit_json, forge, published, reseal
from tests.leaderboard.bundles.test_forgeries import accepted_rows, fuzz

if TYPE_CHECKING:
    from img2brain.leaderboard.rows import Row
    from tests.conftest import Finished

PARTS = {"test": 7, "ood": 5}
SPLIT = SplitSpec(rows={"train": "0-47", "test": "48-54", "ood": "55-59"}, parts=("test", "ood"))


class Lab:
    """A home of two studies on the same parts, and its bundle, predictions among it."""

    def __init__(self, folder: Path, study: Path, database: Path) -> None:
        shutil.copytree(study.parent, folder / "study")
        self.spec = load_study(folder / "study" / study.name).model_copy(update={"split": SPLIT})
        self.data = folder / "study" / "rows"
        (self.data / "rois.json").write_text('{"V4": [0, 1], "V1": [2, 3]}', encoding="utf-8")
        self.named = Home(folder / "named")
        shutil.copyfile(database, self.named.database)
        for seed in (0, 1):
            self.outcome = run_study(self.spec.model_copy(update={"seed": seed}), self.named)
        self.bundle = folder / "bundle"
        export_bundle(self.bundle, self.named, predictions=True, title="Lab A")

    @property
    def board(self) -> list[Row]:
        """The rows of its only board."""
        (board,) = boards(collect(self.named))
        return board


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, given_study: Path, empty_database: Path) -> Lab:
    """No test changes it."""
    return Lab(tmp_path_factory.mktemp("parts"), given_study, empty_database)


def confirmed(home: Home) -> list[ConfirmationRecord]:
    """The confirmations of a home."""
    return [item.confirmation for item in tracked_trials(TrackingStore(home)) if item.confirmation]


def test_each_part_is_scored_beside_its_controls_and_the_first_one_ranks(lab: Lab) -> None:
    dataset = FolderDataset.open(lab.data)
    split = dataset.split(lab.spec.split)
    for row in confirmed_rows(lab.board):
        record = row.confirmation
        assert record is not None
        assert list(record.parts) == list(PARTS)
        assert (record.first, record.ranking, row.confirmed) == ("test", "test", record.parts["test"])
        assert row.trial.rows.parts == (("test", 7), ("ood", 5))
        for name, part in record.parts.items():
            predictions = row.arrays(f"confirmation/{name}/predictions.npy")
            accuracy = row.arrays(f"confirmation/{name}/accuracy.npy")
            assert predictions is not None
            assert accuracy is not None
            np.testing.assert_allclose(accuracy, pearson(dataset.confirmation(split, name), predictions), atol=1e-6)
            assert part.whole.score.estimate == pytest.approx(np.median(accuracy))
            assert (part.n_images, set(part.whole.controls)) == (len(split.parts[name]), {"shuffled"})
        scores = {name: part.whole.score.estimate for name, part in record.parts.items()}
        drop = record.drops["ood"]
        assert set(record.drops) == {"ood"}
        assert drop.estimate == pytest.approx(scores["test"] - scores["ood"], abs=1e-6)
        assert drop.low < drop.estimate < drop.high
    assert row.arrays("confirmation/accuracy.npy") is None


def test_each_part_is_a_look_of_its_own(lab: Lab) -> None:
    chain = looks.chain_of(lab.named)
    assert [look.part for look in chain] == ["test", "ood"] * 2
    assert len({look.rows for look in chain}) == 2
    assert sorted(part.looks for record in confirmed(lab.named) for part in record.parts.values()) == [1, 1, 2, 2]


def test_rows_without_names_are_recorded_as_they_were(finished: Finished) -> None:
    home = Home(finished.home)
    (record,) = confirmed(home)
    text = record.to_json()
    assert list(record.parts) == ["confirmation"]
    assert '"first"' not in text
    assert '"drops"' not in text
    (look,) = looks.chain_of(home)
    assert '"part"' not in looks.to_lines([look])
    (row, *_) = [row for row in collect(home) if row.confirmed]
    assert '"parts"' not in row.trial.to_json()
    assert part_names([row]) == []


def test_boards_rank_by_each_part_and_tables_have_columns_for_each(lab: Lab) -> None:
    assert part_names(lab.board) == ["test", "ood"]
    table = ranked(lab.board).set_index("run_id")
    for name in PARTS:
        for row in confirmed_rows(by_part(lab.board, name)):
            line = table.loc[row.run_id]
            assert row.confirmed is not None
            assert row.place is not None
            assert line[f"confirmation[{name}]"] == row.confirmed_score
            assert line[f"confirmation_rank[{name}]"] == row.place.rank
            assert line[f"looks[{name}]"] == row.confirmed.looks
    first = table[table["confirmation"].notna()]
    assert (first["confirmation"] == first["confirmation[test]"]).all()
    np.testing.assert_allclose(first["drop[ood]"], first["confirmation[test]"] - first["confirmation[ood]"], atol=1e-6)
    assert "drop[test]" not in table
    (told, *_) = summary_table(confirmed_rows(lab.board)).to_dict("records")
    assert "a drop of" in told["on ood"]
    assert "less than on the first part by" in summary_table(confirmed_rows(by_part(lab.board, "ood")))
    regions = region_table(confirmed_rows(lab.board))
    assert [tuple(line) for line in regions[["part", "region"]].to_numpy()[:4]] == [
        ("test", "V4"), ("test", "V1"), ("ood", "V4"), ("ood", "V1"),
    ]  # fmt: skip


def test_the_crown_goes_by_the_first_part(lab: Lab) -> None:
    (_, second) = sorted(confirmed(lab.named), key=lambda record: record.parts["test"].looks)
    assert lab.outcome.published is not None
    assert "test difference" in lab.outcome.published.reason
    assert lab.outcome.published.score == second.parts["test"].whole.score.estimate


def test_a_bundle_takes_all_parts_to_another_home(lab: Lab, tmp_path: Path) -> None:
    assert {row.level for row in verify_bundle(lab.bundle).rows} == {"arithmetic"}
    home = Home(tmp_path / "elsewhere")
    import_bundle(lab.bundle, home)
    (board,) = boards(collect(home))
    for name in PARTS:
        ours, theirs = (confirmed_rows(by_part(rows, name)) for rows in (lab.board, board))
        assert [(row.confirmed_score, row.place and row.place.rank, row.drop) for row in ours] == [
            (row.confirmed_score, row.place and row.place.rank, row.drop) for row in theirs
        ]
    assert part_names(board) == ["test", "ood"]
    for row in board:
        assert list(row.metric.regions) == ["V4", "V1"], "the order of the data"
        assert row.confirmed is None or list(row.confirmed.regions) == ["V4", "V1"]


def test_a_model_that_moves_takes_the_scores_of_all_parts_along(lab: Lab, tmp_path: Path) -> None:
    assert lab.outcome.published is not None
    model = lab.outcome.published.registered
    file = export_model(f"{model.name}/{model.version}", tmp_path / "moved.img2brain.zip", lab.named)
    import_model(file, tmp_path / "home")
    (there,) = collect(Home(tmp_path / "home"))
    (here,) = (row for row in lab.board if row.trial.digest == there.trial.digest)
    for name in PARTS:
        one, other = here.by(name).summaries, there.by(name).summaries
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one.resampled, other.resampled)


def test_a_bundle_with_its_keys_sorted_is_read_as_it_was(lab: Lab, tmp_path: Path) -> None:
    """As older versions wrote it."""
    bundle = Path(shutil.copytree(lab.bundle, tmp_path / "bundle"))
    for path in bundle.rglob("*.json"):
        text = json.dumps(json.loads(path.read_text(encoding="utf-8")), indent=1, sort_keys=True)
        path.write_text(f"{text}\n", encoding="utf-8")
    reseal(bundle)
    assert {row.level for row in verify_bundle(bundle).rows} == {"arithmetic"}


def test_each_part_is_checked_with_the_data_and_repeated(lab: Lab) -> None:
    first = confirmed_rows(lab.board)[0].trial
    found = verify_bundle(lab.bundle, data={"": lab.data}, rerun=[f"{first.study}#{first.number}"])
    levels = {row.name: row.level for row in found.rows}
    assert levels[first.name] == "rerun"
    assert sorted(levels.values()).count("data") == 1


def test_parts_that_are_swapped_wherever_it_is_told_are_found_with_the_data(lab: Lab, tmp_path: Path) -> None:
    """A forgery that agrees with itself, looks and all."""
    bundle = Path(shutil.copytree(lab.bundle, tmp_path / "bundle"))
    row = published(bundle)
    swapped(bundle)
    edit_json(row / contents.TRIAL, swap_counts)
    edit_json(next(iter(bundle.glob(f"studies/{row.name.rpartition('.')[0]}.json"))), swap_counts)
    for path in bundle.glob(f"rows/{row.name.rpartition('.')[0]}.*/trial.json"):
        if path.parent != row:
            edit_json(path, swap_counts)
    forge(bundle)
    assert row.name in accepted_rows(bundle), "its arithmetic agrees"
    (found,) = (item for item in verify_bundle(bundle, data={"": lab.data}).rows if item.row == row.name)
    assert found.difference is not None
    assert found.difference.what == "confirmation.test.rows"


def swap_counts(record: dict[str, Any]) -> None:
    record["rows"]["parts"] = [["test", PARTS["ood"]], ["ood", PARTS["test"]]]


def renamed(bundle: Path) -> None:
    """Call a part otherwise, in the record and its folder."""
    row = published(bundle)
    (row / "confirmation" / "ood").rename(row / "confirmation" / "shift")
    edit_json(row / contents.CONFIRMATION, lambda record: rename(record, {"ood": "shift"}))


def rename(record: dict[str, Any], names: dict[str, str]) -> None:
    for key in ("parts", "drops"):
        record[key] = {names.get(name, name): item for name, item in record[key].items()}


def dropped(bundle: Path) -> None:
    """Leave out the part on which a model is worse."""
    row = published(bundle)
    shutil.rmtree(row / "confirmation" / "ood")

    def without(record: dict[str, Any]) -> None:
        del record["parts"]["ood"], record["drops"]["ood"]

    edit_json(row / contents.CONFIRMATION, without)


def swapped(bundle: Path) -> None:
    """Let each of two parts be called as the other is."""
    row = published(bundle)
    folder = row / "confirmation"
    (folder / "ood").rename(folder / "between")
    (folder / "test").rename(folder / "ood")
    (folder / "between").rename(folder / "test")

    def swap(record: dict[str, Any]) -> None:
        record["parts"] = {"test": record["parts"]["ood"], "ood": record["parts"]["test"]}
        drop = record["drops"]["ood"]
        record["drops"] = {"ood": {"estimate": -drop["estimate"], "low": -drop["high"], "high": -drop["low"]}}

    edit_json(row / contents.CONFIRMATION, swap)


def other_first(bundle: Path) -> None:
    """Rank a model by the part on which it is better."""
    row = published(bundle)

    def turn(record: dict[str, Any]) -> None:
        (drop,) = record["drops"].values()
        turned = {"estimate": -drop["estimate"], "low": -drop["high"], "high": -drop["low"]}
        record |= {"first": "ood", "drops": {"test": turned}}

    edit_json(row / contents.CONFIRMATION, turn)
    edit_json(row / contents.TRIAL, lambda record: record["rows"]["parts"].reverse())


def smaller_drop(bundle: Path) -> None:
    """Let a model lose less."""

    def shrink(record: dict[str, Any]) -> None:
        record["drops"]["ood"]["low"] -= 1e-6

    edit_json(published(bundle) / contents.CONFIRMATION, shrink)


@pytest.mark.parametrize("change", [renamed, dropped, swapped, other_first, smaller_drop])
def test_a_part_that_is_renamed_dropped_or_swapped_is_found(
    lab: Lab, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    bundle = Path(shutil.copytree(lab.bundle, tmp_path / "bundle"))
    change(bundle)
    reseal(bundle)
    assert published(bundle).name not in accepted_rows(bundle)


def test_mutated_bundles_of_parts_are_never_taken(lab: Lab, tmp_path: Path) -> None:
    fuzz(lab, tmp_path, 30, 2)
