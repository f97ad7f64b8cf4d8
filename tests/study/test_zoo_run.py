"""Many networks in one study, as processes that are killed: one pass each, and no disk that is not given back."""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from img2brain.home import Home
from img2brain.study.search import ToldTrial, stored_trials

if TYPE_CHECKING:
    from tests.conftest import Launcher


@pytest.mark.slow
def test_six_networks_pass_once_each_through_kills_and_their_scratch_is_given_back(
    img2brain: Launcher, tmp_path: Path
) -> None:
    pytest.importorskip("timm")
    names = [f"timm:test_{kind}" for kind in ("byobnet", "convnext", "efficientnet", "resnet", "vit", "vit2")]
    (tmp_path / "zoo.txt").write_text("\n".join(names), encoding="utf-8")
    (tmp_path / "zoo.toml").write_text(ZOO, encoding="utf-8")
    home, said = tmp_path / "home", list[str]()
    unfinished, passed = (
        home / "cache" / "unfinished",
        re.compile(r"^(timm:\S+): 30 images, \d+ layers", re.M),
    )
    for n_passes in (2, 4, None):
        process = img2brain.start("study", "run", tmp_path / "zoo.toml", "--home", home)
        while n_passes and len(set(passed.findall("\n".join([*said, process.stderr])))) < n_passes:
            assert process.poll() is None, process.stderr
            time.sleep(0.01)
        if n_passes:
            process.send(signal.SIGKILL)
        code = process.wait()
        said.append(process.stderr)
    assert code == 0, process.stderr
    counted = Counter(name for text in said for name in set(passed.findall(text)))
    assert set(counted) == set(names)
    assert sum(counted.values()) <= len(names) + 2, "a pass that a kill cut off is begun again, and no other"
    assert not [path for path in unfinished.rglob("*") if path.is_file()]
    shown = img2brain.run("leaderboard", "show", "--by", "backbone", "--home", home)
    assert shown.code == 0, shown.stderr
    assert len(kept_trials(home)) == 12
    told = [name for name in names if f"{name} " in shown.stdout]
    assert len(told) == len({trial.spec.backbone for trial in kept_trials(home)}), shown.stdout


def kept_trials(home: Path) -> list[ToldTrial]:
    """The finished trials of the only study of a home."""
    (trials,) = stored_trials(Home(home)).values()
    return trials


ZOO = """
name = "zoo"
trials = 12
n_components = [3]
pooling = ["mean"]
regressors = ["linear"]
dataset.sample = {images = 30, voxels = 5, seed = 0}
backbones = [{name = "zoo.txt", weights = "random:0"}]
"""
