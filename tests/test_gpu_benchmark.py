"""The benchmark of a GPU runs to its end where there is none, at a small size; what fails costs the others nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "benchmarks"


def benchmark(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "gpu.py"), "--device", "cpu", "--small", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_all_stages_run_at_a_small_size(tmp_path: Path) -> None:
    kept = (FOLDER / "gpu.txt").read_bytes()
    ended = benchmark("--out", str(tmp_path / "gpu.txt"))
    assert ended.returncode == 0, ended.stderr
    lines = ended.stderr.splitlines()
    assert len(lines) == 14, ended.stderr
    assert all(": done, " in line for line in lines), ended.stderr
    text = (tmp_path / "gpu.txt").read_text(encoding="utf-8")
    assert text == ended.stdout
    for part in ("contract tests", "alexnet", "120 rows, 20 features", "60 rows, 10 features", "PCA of", "whole study"):
        assert part in text
    assert (FOLDER / "gpu.txt").read_bytes() == kept, "a trial of it says nothing of speed"


@pytest.mark.slow
def test_a_stage_that_is_stopped_leaves_what_it_has_found(tmp_path: Path) -> None:
    script = tmp_path / "stage.py"
    script.write_text(CODE.format(folder=str(FOLDER)), encoding="utf-8")
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert ended.stdout.splitlines() == ["first 1 stopped after 60 s", "failed: ValueError: no", "3 "], ended.stderr


CODE = """
import sys, time
from pathlib import Path
from tempfile import TemporaryDirectory
sys.path.insert(0, {folder!r})
from _bench import is_contender, measured

def slow(folder):
    yield "first", 1
    time.sleep(10_000)
    yield "second", 2

def failing(folder):
    raise ValueError("no")

STAGES = {{"slow": slow, "failing": failing, "other": lambda folder: {{"n": 3}}}}

if __name__ == "__main__" and not is_contender(STAGES):
    with TemporaryDirectory() as scratch:
        found = {{name: measured(__file__, name, Path(scratch), 60.0) for name in STAGES}}
    print("first", found["slow"].get("first"), found["slow"]["wrong"])
    print(found["failing"]["wrong"])
    print(found["other"]["n"], found["other"].get("wrong", ""))
"""
