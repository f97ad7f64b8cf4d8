"""A bundle goes out, is checked, is taken in elsewhere, and its rows stand on the boards there."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain.errors import DataError, SpecError, StoreError
from img2brain.home import Home
from img2brain.leaderboard.bundles.export import export_bundle
from img2brain.leaderboard.bundles.imported import (
    each_once,
    forget_bundle,
    import_bundle,
    imported_bundles,
    imported_rows,
)
from img2brain.leaderboard.collect import collect
from img2brain.leaderboard.compare import compare
from img2brain.leaderboard.published import confirmed_rows
from img2brain.leaderboard.rows import boards
from img2brain.leaderboard.site.build import build
from img2brain.leaderboard.subjects import find_subjects
from img2brain.leaderboard.table import as_text, ranked
from img2brain.verify import verify_bundle
from tests.leaderboard.bundles.conftest import edit_json, published, reseal

if TYPE_CHECKING:
    from tests.conftest import Launcher
    from tests.leaderboard.bundles.conftest import Lab


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def levels(found: Any) -> dict[str, str]:
    return {row.name: row.level for row in found.rows}


def test_a_bundle_is_the_same_bytes_each_time_and_in_one_file(lab: Lab, tmp_path: Path) -> None:
    again = export_bundle(tmp_path / "again", lab.home, predictions=True, title="Lab A", contact="a@lab.example")
    assert files_of(tmp_path / "again") == files_of(lab.bundle)
    for name in ("one.zip", "other.zip"):
        export_bundle(tmp_path / name, lab.home, predictions=True, title="Lab A", contact="a@lab.example")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()
    assert verify_bundle(tmp_path / "one.zip").digest == verify_bundle(lab.bundle).digest == again.digest
    assert set(levels(verify_bundle(tmp_path / "one.zip")).values()) == {"arithmetic"}


def test_no_response_and_no_picture_is_in_it_and_predictions_are_where_they_are_asked_for(
    lab: Lab, tmp_path: Path
) -> None:
    responses = np.load(lab.data / "trainingfMRI" / "training.npy")
    for path in lab.bundle.rglob("*.npy"):
        array = np.load(path)
        if array.dtype.kind == "f" and array.size and array.shape[-1:] == responses.shape[1:]:
            rows = np.atleast_2d(array)
            assert not any(np.isclose(rows, row).all(axis=1).any() for row in responses), path
    kept = {path.stem for path in published(lab.bundle).joinpath("confirmation").glob("*.npy")}
    assert "predictions" in kept
    assert not any("measured" in name or "features" in name or "regressor" in name for name in files_of(lab.bundle))
    export_bundle(tmp_path / "without", lab.home)
    without = {path.stem for path in published(tmp_path / "without").joinpath("confirmation").glob("*.npy")}
    assert kept - without == {"predictions"}


def test_each_level_holds_where_it_can(lab: Lab) -> None:
    confirmed = {row.name for row in confirmed_rows(collect(lab.home))}
    assert len(confirmed) == 2
    alone = verify_bundle(lab.bundle)
    assert set(levels(alone).values()) == {"arithmetic"}
    assert alone.refused is None
    with_data = levels(verify_bundle(lab.bundle, data={"": lab.data}))
    assert {name for name, level in with_data.items() if level == "data"} == confirmed
    (first,) = (row for row in alone.rows if row.name == min(confirmed))
    asked = first.name.replace(" ", "")
    again = verify_bundle(lab.bundle, data={"": lab.data}, rerun=[asked])
    assert levels(again)[first.name] == "rerun"
    with pytest.raises(SpecError, match="has no row 'nothing#0'"):
        verify_bundle(lab.bundle, rerun=["nothing#0"])


def test_other_data_are_told_and_refused_where_they_were_named(lab: Lab, tmp_path: Path) -> None:
    other = Path(shutil.copytree(lab.data, tmp_path / "rows"))
    path = other / "trainingfMRI" / "training.npy"
    np.save(path, np.load(path) + 1.0)
    found = verify_bundle(lab.bundle, data={"": other})
    assert set(levels(found).values()) == {"arithmetic"}
    assert any("have the digest" in reason for row in found.rows for reason in row.missing)
    name = collect(lab.home)[0].trial.dataset.name
    with pytest.raises(DataError, match=f"The data of '{name}' must have the digest"):
        verify_bundle(lab.bundle, data={name: other})


def test_rows_of_two_homes_are_ranked_together_and_told_apart(lab: Lab, tmp_path: Path) -> None:
    home = Home(tmp_path / "elsewhere")
    found = import_bundle(lab.bundle, home)
    assert (found.origin, found.contact, found.n_rows) == ("Lab A", "a@lab.example", 6)
    (board,) = boards(collect(home))
    own = {row.trial.number: row for row in collect(lab.home) if row.trial.study == board[0].study}
    assert {(row.origin, row.verified, row.home) for row in board} == {("Lab A", "arithmetic", lab.home.id)}
    assert {row.trial.digest for row in board} >= {row.trial.digest for row in own.values()}
    for row in board:
        accuracy = row.arrays("accuracy.npy")
        assert accuracy is not None
        assert row.arrays("features.npy") is None
    ours, theirs = (confirmed_rows(collect(place)) for place in (lab.home, home))
    assert [(row.place and row.place.rank, row.confirmed_score) for row in ours] == [
        (row.place and row.place.rank, row.confirmed_score) for row in theirs
    ]
    assert "Lab A" in as_text(ranked(board))
    assert "(Lab A)" in theirs[0].model


def test_a_row_of_a_bundle_is_compared_as_it_was_where_it_comes_from(lab: Lab, tmp_path: Path) -> None:
    home = Home(tmp_path / "elsewhere")
    import_bundle(lab.bundle, home)
    names = [f"{row.study}#{row.trial.number}" for row in confirmed_rows(collect(lab.home))]
    here, there = (compare(*find_subjects(names[0], names[1], place)) for place in (home, lab.home))
    assert here.table.sort_values("region").to_csv(index=False) == there.table.sort_values("region").to_csv(index=False)
    assert (here.rule, here.n_first) == (there.rule, there.n_first)
    assert "Lab A" in here.first.label
    with pytest.raises(SpecError, match="No trial 99 of a study"):
        find_subjects(f"{names[0].partition('#')[0]}#99", names[1], home)


def test_levels_that_were_checked_are_kept_with_the_bundle(lab: Lab, tmp_path: Path, bundle: Path) -> None:
    home, found = Home(tmp_path / "elsewhere"), verify_bundle(lab.bundle, data={"": lab.data})
    with pytest.raises(DataError, match="must be the bundle that was checked"):
        import_bundle(bundle, home, checked=found.rows, expected="0" * 64)
    import_bundle(bundle, home, checked=found.rows, expected=found.digest)
    import_bundle(bundle, home)
    verified = {row.name: row.verified for row in collect(home)}
    assert verified == levels(found)
    assert set(verified.values()) == {"arithmetic", "data"}


def test_the_highest_level_is_told_of_a_row_that_several_bundles_hold(lab: Lab, tmp_path: Path) -> None:
    home, checked = Home(tmp_path / "elsewhere"), verify_bundle(lab.bundle, data={"": lab.data})
    import_bundle(lab.bundle, home, checked=checked.rows)
    again = import_bundle(lab.bundle, home)
    assert sorted(again.levels.values()) == [*["arithmetic"] * 4, *["data"] * 2]
    rows = imported_rows(home)
    lower = [replace(row, verified="records") for row in rows]
    for first, second in ((lower, rows), (rows, lower)):
        assert {row.name: row.verified for row in each_once([*first, *second])} == levels(checked)


def test_what_is_there_already_is_there_once(lab: Lab, tmp_path: Path) -> None:
    before = [row.run_id for row in collect(lab.home)]
    copy = Path(shutil.copytree(lab.home.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("locks")))
    (copy / "home.json").write_text(
        json.dumps(json.loads((copy / "home.json").read_text()) | {"path": str(copy)}), encoding="utf-8"
    )
    home = Home(copy)
    for _ in range(2):
        import_bundle(lab.bundle, home)
    assert [row.run_id for row in collect(home)] == before
    elsewhere = Home(tmp_path / "elsewhere")
    export_bundle(tmp_path / "less", lab.home, title="Lab A, before")
    import_bundle(tmp_path / "less", elsewhere)
    import_bundle(lab.bundle, elsewhere)
    assert len(collect(elsewhere)) == 6
    assert len(imported_bundles(elsewhere)) == 2
    assert forget_bundle(imported_bundles(elsewhere)[0].digest[:10], elsewhere)
    assert (len(collect(elsewhere)), len(imported_bundles(elsewhere))) == (6, 1)
    forget_bundle(imported_bundles(elsewhere)[0].digest, elsewhere)
    assert collect(elsewhere) == []
    with pytest.raises(SpecError, match="no bundle is called 'abc'"):
        forget_bundle("abc", elsewhere)


def test_a_bundle_that_tells_otherwise_of_a_row_or_a_look_is_refused(lab: Lab, bundle: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "elsewhere")
    import_bundle(lab.bundle, home)
    (row,) = [path for path in sorted((bundle / "rows").iterdir()) if not (path / "confirmation").exists()][:1]
    edit_json(row / "trial.json", lambda trial: trial["timings"].update(wall_s=1.25))
    reseal(bundle)
    before = files_of(home.folder)
    with pytest.raises(DataError, match=r"the row .* must be the one of the bundle .*It is another"):
        import_bundle(bundle, home)
    assert files_of(home.folder) == before


def test_a_bundle_that_is_damaged_afterwards_is_left_out(
    lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(tmp_path / "elsewhere")
    found = import_bundle(lab.bundle, home)
    path = next((home.imported / found.digest).rglob("trial.json"))
    path.write_text("{}", encoding="utf-8")
    assert collect(home) == []
    assert "is left out: " in caplog.text


@pytest.mark.parametrize("name", ["confirmation/accuracy.npy", "confirmation/summaries_resampled.npy", "trial.json"])
def test_a_row_whose_file_is_damaged_is_said_and_the_rest_is_built(
    lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    home = Home(tmp_path / "elsewhere")
    found = import_bundle(lab.bundle, home)
    path = published(home.imported / found.digest) / name
    os.truncate(path, path.stat().st_size - 8)
    rows = collect(home, whole=True)
    assert len(rows) == (0 if name == "trial.json" else found.n_rows - 1)
    assert len(build(rows, tmp_path / "site")) > 5
    (line,) = (line for line in caplog.messages if "is left out" in line)
    assert path.name in line


def test_a_bundle_is_written_where_nothing_is_or_a_bundle(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("unsaved", encoding="utf-8")
    with pytest.raises(StoreError, match="where nothing is, or a bundle"):
        export_bundle(folder, lab.home)
    assert (folder / "thesis.txt").read_text(encoding="utf-8") == "unsaved"
    with pytest.raises(DataError, match="folder of the bundle must exist"):
        export_bundle(tmp_path / "no" / "where", lab.home)
    with pytest.raises(SpecError, match="at least one row"):
        export_bundle(tmp_path / "empty", Home(tmp_path / "fresh"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "mine"]


def test_a_row_that_older_versions_published_is_told_not_to_be_whole(bundle: Path) -> None:
    row = published(bundle)
    for path in row.glob("confirmation/control_*_resampled.npy"):
        path.unlink()
    chain = [json.loads(line) for line in (bundle / "looks.jsonl").read_text(encoding="utf-8").splitlines()]
    trial = json.loads((row / "trial.json").read_text(encoding="utf-8"))
    reseal(bundle)
    assert chain
    assert trial
    (found,) = (item for item in verify_bundle(bundle).rows if item.row == row.name)
    assert found.level in ("", "records"), "the look names the resamples"


def test_the_command_line_exports_verifies_and_imports(lab: Lab, tmp_path: Path, img2brain: Launcher) -> None:
    made = img2brain.run("leaderboard", "export", tmp_path / "b", "--home", lab.home.folder, "--title", "Lab A")
    assert "6 rows, bundle" in made.stdout
    seen = img2brain.run("leaderboard", "verify", tmp_path / "b", "--json")
    assert {row["level"] for row in json.loads(seen.stdout)["rows"]} == {"arithmetic"}
    edit_json(published(tmp_path / "b") / "confirmation.json", _raise_score)
    reseal(tmp_path / "b")
    refused = img2brain.run("leaderboard", "verify", tmp_path / "b")
    assert refused.code == 2
    assert "confirmation.whole.score.estimate must be" in refused.error
    assert "refused" in refused.stdout
    refused = img2brain.run("leaderboard", "import", tmp_path / "b", "--home", tmp_path / "home")
    assert refused.code == 2
    assert not (tmp_path / "home" / "imported").exists()


def _raise_score(record: Any) -> None:
    record["parts"]["confirmation"]["whole"]["score"]["estimate"] += 1e-6
