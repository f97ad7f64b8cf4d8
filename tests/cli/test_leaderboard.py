from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from img2brain.cli import main

if TYPE_CHECKING:
    from tests.conftest import Finished, Launcher, NewHome, Process

START_S = 90


def run(*args: object) -> str:
    result = CliRunner().invoke(main, ["leaderboard", *map(str, args)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_board_is_ranked_by_the_validation_score(finished: Finished) -> None:
    lines = run("show", "--home", finished.home).splitlines()
    rows = [line for line in lines if re.match(r"\s*\d+  squeezenet1_1", line)]
    assert "9 trials" in lines
    best = finished.outcome.best
    assert rows[0].split()[:6] == ["1", "squeezenet1_1", "random:0", "untrained", best.spec.layer, "16"]
    assert f"{best.score:.4f}" in rows[0]
    assert f"{finished.outcome.published.score:.4f}" in rows[0]
    assert rows[0].endswith("sample v1 (champion)")
    scores = sorted((f"{trial.score:.4f}" for trial in finished.outcome.trials), reverse=True)
    assert [score for row, score in zip(rows, scores, strict=True) if score in row] == scores


def test_a_board_can_be_cut_and_chosen(finished: Finished, tmp_path: Path) -> None:
    shown = run("show", "--most", 3, "--home", finished.home)
    assert len(re.findall(r"^\s*\d+  squeezenet1_1", shown, re.MULTILINE)) == 3
    result = CliRunner().invoke(main, ["leaderboard", "show", "--dataset", "smaple", "--home", str(finished.home)])
    assert result.exit_code == 2
    assert result.stderr == "Error: No trials of the dataset 'smaple' are tracked. Did you mean 'sample'?\n"


def test_a_board_of_a_home_without_trials_says_so(new_home: NewHome) -> None:
    assert run("show", "--home", new_home()) == "There are no finished trials yet.\n"


def test_a_board_is_shown_as_json(finished: Finished) -> None:
    lines = json.loads(run("show", "--most", 2, "--json", "--home", finished.home))
    assert [line["rank"] for line in lines] == [1, 2]
    assert lines[0]["validation"] == pytest.approx(finished.outcome.best.score)
    assert lines[0]["confirmation"] == pytest.approx(finished.outcome.published.score)
    assert lines[1]["confirmation"] is None


def test_the_board_is_built_as_a_site_with_its_data(finished: Finished, tmp_path: Path) -> None:
    told = run("build", tmp_path / "board", "--home", finished.home)
    files = {path.relative_to(tmp_path / "board").as_posix() for path in (tmp_path / "board").rglob("*.*")}
    assert told == f"{tmp_path}/board/index.html and {len(files) - 1} other files\n"
    assert {"index.html", "leaderboard.csv", "regions.csv", "api/rows.json", "assets/site.css"} <= files
    with (tmp_path / "board" / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert {row["trained"] for row in rows} == {"untrained"}
    assert finished.outcome.best.spec.layer in (tmp_path / "board" / "index.html").read_text(encoding="utf-8")
    (page,) = (tmp_path / "board" / "rows").glob("*.html")
    assert page.read_text(encoding="utf-8").count("predicted against measured responses") == 3
    run("build", tmp_path / "board", "--no-responses", "--home", finished.home)
    assert "predicted against measured" not in page.read_text(encoding="utf-8")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def in_session(pid: int) -> list[int]:
    """List the living processes that descend from a process, through the table of all."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(path.parent.name)] = int(fields[1])
    found, new = [pid], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return [number for number in found if number in parents]


def wait_for_address(process: Process) -> str:
    """Wait until the page's address is printed, and return it: the server answers from then on."""
    end = time.monotonic() + START_S
    while "\n" not in process.stdout:
        assert process.poll() is None, process.stderr
        assert time.monotonic() < end, process.stderr
        time.sleep(0.2)
    name, _, address = process.stdout.strip().partition(": ")
    assert name == "sample"
    urllib.request.urlopen(address, timeout=30).close()
    return address


@pytest.fixture(scope="module")
def ui(
    img2brain: Launcher, finished: Finished, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Process, str]]:
    home, port = tmp_path_factory.mktemp("ui") / "100% ä #1?", free_port()
    shutil.copytree(finished.home, home, ignore=shutil.ignore_patterns("pages", "cache", "*.lock"))
    process = img2brain.start("ui", "--port", port, "--home", home, env={"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    address = wait_for_address(process)
    assert f"http://127.0.0.1:{port}/#/" in address
    yield process, address
    process.send(signal.SIGINT)
    process.wait(30)


def test_the_ui_shows_the_runs_and_compares_two(ui: tuple[Process, str], finished: Finished, browser: Any) -> None:
    from img2brain.home import Home
    from img2brain.tracking._store import TrackingStore

    client = TrackingStore(Home(finished.home)).client
    experiment = client.get_experiment_by_name("sample").experiment_id
    runs = client.search_runs(
        [experiment], "tags.`img2brain.kind` = 'trial'", order_by=["metrics.`pearson/median` DESC"]
    )
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.set_default_timeout(60_000)
    page.goto(ui[1])
    for text in ("pearson/median", "confirmation/pearson", "backbone", "layer", runs[0].info.run_name):
        page.get_by_text(text).first.wait_for()
    scores = [runs[0].data.metrics[name] for name in ("pearson/median", "confirmation/pearson")]
    for score in scores:
        page.get_by_text(f"{score:.9f}"[:6]).first.wait_for()  # the page shows more digits
    ids = ",".join(f'"{run.info.run_id}"' for run in runs[:2])
    page.goto(f'{ui[1].partition("/#/")[0]}/#/compare-runs?runs=[{ids}]&experiments=["{experiment}"]')
    for text in ("confirmation/pearson", "n_components", "regressor", runs[0].info.run_name, runs[1].info.run_name):
        page.get_by_text(text).first.wait_for(state="attached")
    page.close()


def test_the_ui_ends_with_an_interrupt_and_leaves_no_process(ui: tuple[Process, str]) -> None:
    process, address = ui
    descendants = in_session(process.pid)
    assert len(descendants) > 1, "the server is a process of its own"
    process.send(signal.SIGINT)
    assert process.wait(30) in (0, 130)
    assert "Traceback" not in process.stderr
    assert not [number for number in descendants if Path(f"/proc/{number}").exists()]
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(address, timeout=2)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_the_ui_ends_with_other_signals_and_leaves_no_process(
    number: signal.Signals, img2brain: Launcher, finished: Finished, tmp_path: Path
) -> None:
    home = shutil.copytree(finished.home, tmp_path / "home", ignore=shutil.ignore_patterns("pages", "cache", "*.lock"))
    process = img2brain.start("ui", "--port", free_port(), "--home", home)
    wait_for_address(process)
    descendants = in_session(process.pid)
    process.send(number)
    assert process.wait(60) == 128 + number
    assert "Traceback" not in process.stderr
    assert not [number for number in descendants if Path(f"/proc/{number}").exists()]


@pytest.mark.slow
def test_the_server_of_a_ui_that_is_killed_ends_too(img2brain: Launcher, finished: Finished, tmp_path: Path) -> None:
    home = shutil.copytree(finished.home, tmp_path / "home", ignore=shutil.ignore_patterns("pages", "cache", "*.lock"))
    process = img2brain.start("ui", "--port", free_port(), "--home", home)
    address = wait_for_address(process)
    process.send(signal.SIGKILL)
    process.wait(60)
    end = time.monotonic() + START_S
    while answers(address):
        assert time.monotonic() < end
        time.sleep(0.2)


def answers(address: str) -> bool:
    """Tell whether a server is there."""
    try:
        urllib.request.urlopen(address, timeout=30).close()
    except OSError:
        return False
    return True


def test_a_port_that_is_taken_is_refused_on_one_line(img2brain: Launcher, finished: Finished) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = img2brain.run("ui", "--port", port, "--home", finished.home)
    assert process.code == 2
    assert process.error == f"Error: The address 127.0.0.1:{port} cannot be served: Address already in use."


def test_the_best_trial_of_each_network_is_shown_with_its_layers(finished: Finished) -> None:
    shown = run("show", "--by", "backbone", "--home", finished.home)
    best = finished.outcome.best
    (row,) = re.findall(r"^\s*1  squeezenet1_1.*$", shown, re.MULTILINE)
    assert f"{best.score:.4f}" in row
    assert f"1 backbone of {len(finished.outcome.trials)} trials" in shown
    (profile,) = re.findall(r"^layers of squeezenet1_1 random:0: (.*)$", shown, re.MULTILINE)
    scores = dict(item.split(" ") for item in profile.split(", "))
    tried = {trial.spec.layer for trial in finished.outcome.trials}
    assert list(scores) == [layer for layer in ("features.2", "features.5", "features.12") if layer in tried]
    assert max(scores.values()) == scores[best.spec.layer] == f"{best.score:.4f}"
    lines = json.loads(run("show", "--by", "layer", "--json", "--home", finished.home))
    assert [line["rank"] for line in lines] == list(range(1, len(tried) + 1))
    assert {line["layer"] for line in lines} == tried
    lines = json.loads(run("show", "--by", "regressor", "--json", "--home", finished.home))
    assert {line["regressor"] for line in lines} == {trial.spec.regressor for trial in finished.outcome.trials}
    assert len(lines) == len({line["regressor"] for line in lines})


def test_regions_fit_a_line_of_eighty_columns(finished: Finished) -> None:
    shown = run("show", "--home", finished.home)
    published = shown.partition("Published models")[2].partition("\n\n")[0].splitlines()[1:]
    (heads,) = (line.split() for line in published if line.split()[:1] == ["V1"])
    assert heads == ["V1", "V4", "IT"]
    assert max(map(len, published)) <= 80
