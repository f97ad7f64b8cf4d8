"""The main line on real recordings: macaque V4, natural photographs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from img2brain.spec import load_study, with_overrides
from img2brain.study.runner import StudyOutcome, run_study

if TYPE_CHECKING:
    from tests.conftest import NewHome

STUDY = """
name = "v4"
sampler = "grid"
n_components = [100]
regressors = [{{name = "ridge", alpha = [3e2, 3e3, 3e4, 3e5, 3e6]}}]
dataset.path = "{data}"
split = {{seed = 224, validation = 0.2}}

[[backbones]]
name = "squeezenet1_1"
weights = "{weights}"
layers = ["features.7", "features.12"]
"""


def confirmed(outcome: StudyOutcome) -> float:
    assert outcome.published is not None
    return outcome.published.confirmation_median_r


def test_trained_networks_predict_v4_and_shuffled_responses_are_not_predicted(
    shared: Path, new_home: NewHome, tmp_path: Path
) -> None:
    home = new_home()

    def study(weights: str, shuffle: int | None = None) -> StudyOutcome:
        path = tmp_path / "v4.toml"
        path.write_text(STUDY.format(data=shared / "data" / "v4-210224", weights=weights))
        spec = load_study(path)
        if shuffle is not None:
            spec = with_overrides(spec, dataset={"path": spec.dataset.path, "shuffle": shuffle})
        return run_study(spec, home)

    file = str(shared / "weights" / "squeezenet1_1.pth")
    trained, untrained, control = study(file), study("random:0"), study(file, shuffle=0)
    assert confirmed(trained) > 0.42
    assert confirmed(trained) - confirmed(untrained) >= 0.1
    assert abs(confirmed(control)) < 0.06
    assert control.best is not None
    assert abs(control.best.median_r) < 0.06
    assert control.published is not None
    assert control.published.registered.name == "v4-210224-shuffled"
    shutil.rmtree(home)
