from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from click.testing import CliRunner

from img2brain.cli import main
from img2brain.spec import TrialSpec

if TYPE_CHECKING:
    from tests.conftest import Finished, Kept, Launcher, NewHome

    Read = Callable[..., Kept]
    StudyFile = Callable[..., Path]


def run(*args: object) -> str:
    result = CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_studies_are_listed_and_shown(finished: Finished) -> None:
    name, best = finished.outcome.name, finished.outcome.best
    assert (
        run("study", "list", "--home", finished.home)
        == f"{name}: 9 trials, 0 failed, best {best.score:.4f}; finished\n"
    )
    for asked in (name, "small"):
        lines = run("study", "show", asked, "--home", finished.home).splitlines()
        assert lines[0] == f"{name}: 9 trials, 0 failed, best {best.score:.4f}; finished"
        assert sorted(int(line.split()[0].removeprefix("#")) for line in lines[1:]) == list(range(9))
        assert lines[1].split() == [f"#{best.number}", f"{best.score:.4f}", *best.spec.weighted_label.split()]
        assert "squeezenet1_1 random:0 features." in lines[1]
        scores = [float(line.split()[1]) for line in lines[1:]]
        assert scores == sorted(scores, reverse=True)


def test_studies_are_told_to_programs(finished: Finished) -> None:
    name, best = finished.outcome.name, finished.outcome.best
    told = {"study": name, "n_trials": 9, "n_failed": 0, "best": best.score}
    told |= {"state": "finished", "n_workers": 0, "n_running": 0, "n_wanted": 9, "ends": None, "failures": {}}
    (listed,) = json.loads(run("study", "list", "--json", "--home", finished.home))
    assert listed.pop("per_hour") > 0
    assert listed == told
    (shown,) = json.loads(run("study", "show", "small", "--json", "--home", finished.home))
    first, *others = shown.pop("trials")
    assert shown.pop("per_hour") > 0
    assert shown == told
    assert len(others) == 8
    assert (first["number"], first["score"], first["failure"]) == (best.number, best.score, "")
    assert TrialSpec.model_validate(first["spec"]) == best.spec


def test_a_home_without_studies_lists_none(new_home: NewHome) -> None:
    assert run("study", "list", "--home", new_home()) == "There are no studies yet.\n"


def test_a_run_prints_its_board_and_its_champion(
    img2brain: Launcher, finished: Finished, new_home: NewHome, study_file: StudyFile, tmp_path: Path, kept: Read
) -> None:
    home = new_home(warm=True)
    process = img2brain.run("study", "run", study_file(tmp_path), "--home", home)
    assert process.code == 0, process.stderr
    assert len([line for line in process.stdout.splitlines() if "squeezenet1_1  random:0  untrained" in line]) == 9
    assert "Pearson r, median over voxels, on the rows that chose it" in process.stdout
    assert "registered     sample version 1: the first champion" in process.stdout
    assert (home / "leaderboards" / "sample" / "index.html").is_file()
    assert f"trial #{finished.outcome.trials[-1].number} (9 of 9): " in process.stderr
    assert "\r" not in process.stderr, "plain lines where there is no terminal"
    assert all(word not in process.stderr for word in ("Warning", "alembic", "mlflow"))
    assert kept(home).told == kept(finished.home).told


def test_options_take_the_place_of_the_files(
    img2brain: Launcher, recordings: Path, new_home: NewHome, study_file: StudyFile, tmp_path: Path
) -> None:
    home = new_home(warm=True)
    file = study_file(tmp_path, ("[[backbones]]", "[[backbones]]\n"), dataset=Path("nowhere"))
    options = ("--dataset", recordings, "--trials", 2, "--shuffle", 3, "--device", "cpu")
    process = img2brain.run("study", "run", file, "--home", home, *options)
    assert process.code == 0, process.stderr
    assert "registered     sample-shuffled version 1" in process.stdout
    again = img2brain.run("study", "run", file, "--home", home, "--dataset", recordings, "--weights", "random:1",
                          "--trials", 2)  # fmt: skip
    assert again.code == 0, again.stderr
    assert "squeezenet1_1  random:1  untrained" in again.stdout
    assert "60 images, 3 layers" in again.stderr, "other weights: another pass"
