"""Boards of the mean over members: intervals, ties and controls, on the site and in bundles that check each member."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain.home import Home
from img2brain.leaderboard.bundles import contents
from img2brain.leaderboard.bundles.export import export_bundle
from img2brain.leaderboard.bundles.imported import import_bundle
from img2brain.leaderboard.collect import collect
from img2brain.leaderboard.means import MeanBoard, mean_boards, mean_lines, text_lines
from img2brain.leaderboard.reading import read
from img2brain.leaderboard.rows import boards
from img2brain.leaderboard.site.build import build
from img2brain.leaderboard.table import ranked
from img2brain.moving import export_model, import_model
from img2brain.statistics.bootstrap import Summaries
from img2brain.statistics.members import OverMembers
from img2brain.study.runner import run_study
from img2brain.verify import verify_bundle
from tests.leaderboard.bundles.conftest import edit_array, edit_json, forge, reseal
from tests.leaderboard.bundles.test_forgeries import accepted_rows, fuzz
from tests.study.test_members import study, write_given

if TYPE_CHECKING:
    from tests.conftest import Launcher

MEMBERS = ["ada", "bob"]


class Lab:
    """A home of two studies of the same two members, its bundle, and their data."""

    def __init__(self, folder: Path, database: Path) -> None:
        chance = np.random.default_rng(8)
        shared, W = chance.standard_normal((20, 5)), chance.standard_normal((5, 4))
        self.data = {}
        for name, noise in (("ada", 1.0), ("bob", 3.0)):
            X = np.concatenate([shared, chance.standard_normal((20, 5))])
            self.data[name] = write_given(folder / name, X, X @ W + noise * chance.standard_normal((40, 4)))
        self.home = Home(folder / "home")
        shutil.copyfile(database, self.home.database)
        for seed in (0, 1):
            self.outcome = run_study(study(*self.data.values(), seed=seed), self.home)
        self.bundle = folder / "bundle"
        export_bundle(self.bundle, self.home, predictions=True, title="Lab A")

    @property
    def board(self) -> MeanBoard:
        """Its only board of means."""
        (board,) = mean_boards(collect(self.home))
        return board


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Lab:
    """No test changes it."""
    return Lab(tmp_path_factory.mktemp("means"), empty_database)


def test_a_mean_stands_beside_the_boards_of_the_members(lab: Lab) -> None:
    rows = collect(lab.home)
    assert sorted(board[0].trial.dataset.name for board in boards(rows)) == MEMBERS
    board = lab.board
    assert (board.members, board.title, board.is_of_a_sample) == (MEMBERS, "Mean of 2 members", False)
    assert len(board.rows) == 8
    for row in board.rows:
        assert row.validation == np.mean([own.trial.score for own in row.rows.values()])
    assert [row.validation for row in board.rows] == sorted((row.validation for row in board.rows), reverse=True)


def test_the_mean_has_interval_ties_and_controls_from_joint_resamples(lab: Lab) -> None:
    published = lab.board.published
    assert len(published) == 2
    for row in published:
        assert row.confirmed is not None
        assert row.place is not None
        assert row.confirmed.estimate == pytest.approx(np.mean([own.confirmed_score for own in row.rows.values()]))
        assert row.confirmed.low < row.confirmed.estimate < row.confirmed.high
        assert list(row.controls) == ["shuffled"]
        control = row.controls["shuffled"]
        scores = [own.confirmed.whole.controls["shuffled"].score for own in row.rows.values() if own.confirmed]
        assert control.score == pytest.approx(np.mean(scores))
        assert control.difference.estimate == pytest.approx(row.confirmed.estimate - control.score)
    assert [row.place.rank for row in published if row.place] in ([1, 1], [1, 2])
    assert lab.outcome.mean is not None
    assert any(row.confirmed == lab.outcome.mean.score for row in published)


def test_a_trial_without_a_row_of_each_member_has_no_mean(lab: Lab) -> None:
    rows = [row for row in collect(lab.home) if row.trial.member == "ada" or row.trial.number]
    (board,) = mean_boards(rows)
    assert {row.trial.number for row in board.rows} == {1, 2, 3}
    assert mean_boards(row for row in rows if row.trial.member == "bob") == []


def test_tables_and_lines_tell_of_the_mean(lab: Lab, tmp_path: Path) -> None:
    text = "\n".join(text_lines(lab.board, 3))
    assert "Mean of 2 members: ada, bob" in text
    assert text.count("validation") == 3
    lines = mean_lines(lab.board)
    assert [line["confirmation_rank"] for line in lines[:3]][-1] is None
    assert lines[0]["confirmation[ada]"] == lab.board.published[0].rows["ada"].confirmed_score
    site = build(collect(lab.home), tmp_path)[0].parent
    found = json.loads((site / "api" / "means.json").read_text(encoding="utf-8"))
    assert len(found["means"]) == 8
    assert "means.json" in json.loads((site / "api" / "index.json").read_text(encoding="utf-8"))["files"]
    assert (site / "means.csv").read_text(encoding="utf-8").count("\n") == 9
    table = read(site)
    assert sorted(set(table["member"])) == MEMBERS
    (board, *_) = boards(collect(lab.home))
    assert set(ranked(board)["member"]) == {"ada"}


def test_a_bundle_takes_members_and_their_mean_to_another_home(lab: Lab, tmp_path: Path) -> None:
    assert {row.level for row in verify_bundle(lab.bundle).rows} == {"arithmetic"}
    home = Home(tmp_path / "elsewhere")
    import_bundle(lab.bundle, home)
    (board,) = mean_boards(collect(home))
    assert [(row.confirmed, row.place, row.controls) for row in board.published] == [
        (row.confirmed, row.place, row.controls) for row in lab.board.published
    ]
    again = export_bundle(tmp_path / "again", lab.home, predictions=True, title="Lab A")
    assert again.digest == verify_bundle(lab.bundle).digest


def test_models_that_move_have_their_mean_where_all_members_are(lab: Lab, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for member, published in lab.outcome.members.items():
        assert mean_boards(collect(home)) == []
        model = published.registered
        file = export_model(f"{model.name}/{model.version}", tmp_path / f"{member}.img2brain.zip", lab.home)
        import_model(file, home)
    (board,) = mean_boards(collect(home))
    assert lab.outcome.mean is not None
    assert [row.confirmed for row in board.published] == [lab.outcome.mean.score]


def test_rows_of_members_are_checked_with_the_data_and_repeated(lab: Lab) -> None:
    found = verify_bundle(lab.bundle, data=lab.data, rerun=[lab.board.published[0].name.replace(" ", "")])
    levels = [row.level for row in found.rows]
    assert levels.count("rerun") == 2, "a row of each member"
    assert levels.count("data") == 2


def test_joint_resamples_that_are_made_up_are_found_with_the_data(lab: Lab, tmp_path: Path) -> None:
    """A forgery that agrees with itself, looks and all: an interval half as wide."""
    bundle = Path(shutil.copytree(lab.bundle, tmp_path / "bundle"))
    narrowed(bundle)
    forge(bundle)
    assert accepted_rows(bundle) == accepted_rows(lab.bundle), "its arithmetic agrees"
    (refused,) = [row for row in verify_bundle(bundle, data=lab.data).rows if row.difference]
    assert refused.difference is not None
    assert refused.difference.what.startswith("members.resampled")
    alone = verify_bundle(bundle, data={"bob": lab.data["bob"]})
    assert [row.level for row in alone.rows].count("data") == 2, "it takes the data of all members"


def member_of(bundle: Path, name: str) -> Path:
    """The folder of the first published row of a member."""
    return next(path.parent for path in sorted(bundle.glob(f"rows/*.{name}/confirmation.json")))


def dropped(bundle: Path) -> None:
    """Leave out the member that is worse, and the means."""
    for folder in bundle.glob("rows/*.bob"):
        shutil.rmtree(folder)
    for path in bundle.glob("studies/*.bob.json"):
        path.unlink()
    edit_json(bundle / contents.MANIFEST, without_bob)
    edit_json(bundle / contents.BOARDS, lambda found: [board for board in found[:1] if "members" not in board])


def without_bob(manifest: dict[str, Any]) -> None:
    manifest["rows"] = {name: row for name, row in manifest["rows"].items() if row["member"] != "bob"}


def narrowed(bundle: Path) -> None:
    """Make the interval of a mean narrower."""
    edit_array(
        member_of(bundle, "bob") / "members" / "resampled.npy",
        lambda array: (array.mean(axis=0) + 0.5 * (array - array.mean(axis=0))).astype(array.dtype),
    )


def raised(bundle: Path) -> None:
    """Raise the score of a member in what the mean is of."""
    edit_array(member_of(bundle, "ada") / "members" / "estimate.npy", lambda array: array + 1e-6)


def told_otherwise(bundle: Path) -> None:
    """Raise a mean where it is told."""

    def change(found: list[dict[str, Any]]) -> None:
        found[-1]["published"][0]["score"]["estimate"] += 1e-6

    edit_json(bundle / contents.BOARDS, change)


def other_member(bundle: Path) -> None:
    """Call a member otherwise in its study."""
    path = next(iter(sorted(bundle.glob("studies/*.ada.json"))))
    edit_json(
        path, lambda record: record["members"]["bob"]["dataset"].update(n_voxels=5) or record["members"].pop("bob")
    )


@pytest.mark.parametrize("change", [dropped, narrowed, raised, told_otherwise, other_member])
def test_a_member_that_is_dropped_or_changed_is_found(lab: Lab, tmp_path: Path, change: Callable[[Path], None]) -> None:
    bundle = Path(shutil.copytree(lab.bundle, tmp_path / "bundle"))
    change(bundle)
    reseal(bundle)
    assert len(accepted_rows(bundle)) < len(accepted_rows(lab.bundle))
    assert change is not dropped or accepted_rows(bundle) == [], "no row stands without the other members"


def test_mutated_bundles_of_members_are_never_taken(lab: Lab, tmp_path: Path) -> None:
    fuzz(lab, tmp_path, 30, 3)


def test_the_command_line_shows_means(lab: Lab, img2brain: Launcher) -> None:
    shown = img2brain.run("leaderboard", "show", "--members", "--home", lab.home.folder)
    assert shown.code == 0, shown.stderr
    assert "Mean of 2 members: ada, bob" in shown.stdout


def test_means_of_models_that_met_other_resamples_share_no_ranks(lab: Lab) -> None:
    def other(draws: str) -> OverMembers:
        return OverMembers({name: Summaries(("",), np.ones(1), np.ones((9, 1)), draws=draws) for name in MEMBERS})

    one, two = lab.board.published
    one.__dict__["scores"], two.__dict__["scores"] = other("a"), other("b")
    board = MeanBoard([one, two])
    assert [row.place and row.place.difference for row in board.published] == [None, None]
