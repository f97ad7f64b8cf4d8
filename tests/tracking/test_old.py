"""Runs of the first format, read as records: what commit dd6aca5 made of the same runs is what is expected."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from img2brain.errors import RecordError
from img2brain.home import Home
from img2brain.leaderboard.collect import collect
from img2brain.leaderboard.rows import Row, boards
from img2brain.tracking import old
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import study_of, tracked_trials

if TYPE_CHECKING:
    from tests.conftest import OldHome

METRICS = {"median_r": 0.5, "mean_r": 0.4, "n_voxels": 6.0, "n_undefined": 0.0, "n_silent": 2.0, "fit_s": 0.1}
PARAMETERS = {
    "backbone": "alexnet",
    "weights": "random:0",
    "weights_digest": "w",
    "preprocessing": "weights",
    "layer": "features.12",
    "n_components": "30",
    "regressor": "ridge_cv",
    "trained": "untrained",
    "dataset_digest": "d",
    "split_digest": "s",
    "n_train": "4",
    "n_validation": "2",
    "n_confirmation": "3",
}
TAGS = {
    "img2brain.study": "quick-1",
    "img2brain.trial": "3",
    "img2brain.rows": "r",
    "img2brain.dataset": '{"name": "data", "digest": "d", "unit": "z", "n_images": "9", "n_voxels": "6"}',
    "mlflow.parentRunId": "parent",
}


class Store:
    """A tracking store that holds texts by run and name."""

    def __init__(self, regions: str = "", model: str = "") -> None:
        self.client = self
        self._texts = {("parent", "regions.json"): regions, ("run", "model/regressor.json"): model}

    def get_run(self, run_id: str) -> Any:
        return run(run_id)

    def text(self, run: Any, name: str) -> str | None:
        return self._texts.get((run.info.run_id, name)) or None


def run(run_id: str = "run", metrics: Any = METRICS, params: Any = PARAMETERS, tags: Any = TAGS) -> Any:
    return SimpleNamespace(
        info=SimpleNamespace(run_id=run_id), data=SimpleNamespace(metrics=metrics, params=params, tags=tags)
    )


def records_of(store: Any, found: Any) -> Any:
    return old.records_of(store, found)


def _as_then(row: Row) -> dict[str, Any]:
    """A row as it was called at that commit."""
    trial, part = row.trial, row.confirmed
    spec, whole = trial.spec, part.whole if part else None
    found = {
        "dataset": trial.dataset.name,
        "trained": trial.network.trained,
        "validation_median_r": trial.score,
        "confirmation_median_r": row.confirmed_score if part else None,
        "n_voxels": trial.dataset.n_voxels,
        "n_undefined": row.n_undefined,
        "study": row.study,
        "trial": trial.number,
        "run_id": row.run_id,
        "champion": row.champion,
        "registered": row.registered or None,
        "alpha": row.alpha,
        "parameters": {name: value for name, value in spec.parameters.items() if name != "alpha"},
        "dataset_digest": trial.dataset.digest,
        "split_digest": trial.rows.split,
        "unit": trial.dataset.unit or None,
        "note": row.note,
    }
    found |= {name: getattr(spec, name) for name in ("backbone", "weights", "layer", "n_components", "regressor")}
    found |= {name: getattr(trial.rows, name) for name in ("n_train", "n_validation", "n_confirmation")}
    if part and whole:
        found["confirmed"] = {
            "rows": part.rows,
            "count": part.looks,
            "score": whole.score.model_dump(),
            "optimism": row.confirmation.optimism if row.confirmation else math.nan,
            "n_significant": whole.n_significant,
            "ceiling": part.ceiling,
        }
    return found


def test_the_board_of_an_old_home_is_what_it_was(old_home: OldHome) -> None:
    (board,) = boards(collect(Home(old_home.home)))
    expected = {row["run_id"]: row for row in old_home.expected["leaderboard"]}
    for row in board:
        _check(_as_then(row), expected.pop(row.run_id))
    assert not expected


def _check(found: Any, expected: Any) -> None:
    """Compare what both name; numbers to the last digits but one."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in found:
            _check(found[name], expected[name])
    elif isinstance(found, float) and expected is not None:
        assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)
    else:
        assert found == expected


def test_controls_intervals_and_resamples_of_an_old_home_are_read(old_home: OldHome) -> None:
    (published,) = [row for row in collect(Home(old_home.home)) if row.confirmed]
    (expected,) = [row["confirmed"] for row in old_home.expected["leaderboard"] if row["confirmed"]]
    assert published.confirmed is not None
    whole = published.confirmed.whole
    assert set(whole.controls) == set(expected["controls"])
    for name, (score, difference) in expected["controls"].items():
        _check({"score": whole.controls[name].score, **whole.controls[name].difference.model_dump()},
               {"score": score, **_interval(difference)})  # fmt: skip
    assert published.summaries is not None
    assert published.summaries.regions == ("", "左V1", "右V1", "V4")
    assert published.summaries.interval("").low == pytest.approx(whole.score.low, abs=1e-6)


def _interval(found: Any) -> dict[str, float]:
    return found if isinstance(found, dict) else dict(zip(("estimate", "low", "high"), found, strict=True))


def test_regions_have_their_true_names_and_those_that_became_one_are_left_out(old_home: OldHome) -> None:
    store = TrackingStore(Home(old_home.home))
    (published,) = [item for item in tracked_trials(store) if item.confirmation]
    assert published.confirmation is not None
    assert published.confirmation.confirmed is not None
    assert set(published.confirmation.confirmed.regions) == {"V4"}
    study = study_of(store, published.run_id)
    assert study is not None
    assert study.regions == {"左V1": (0, 1), "右V1": (2, 3), "V4": (1, 2)}
    assert (study.name, study.dataset, study.rows) == (
        published.record.study,
        published.record.dataset.model_copy(update={"unit": "", "subject": ""}),
        published.record.rows,
    )


def test_a_region_of_a_name_that_was_changed_has_it_back() -> None:
    metrics = METRICS | {"_V1/median_r": 0.25, "_V1/low": 0.2, "_V1/high": 0.3, "low": 0.45, "high": 0.55}
    trial, confirmation, validation = records_of(Store('{"左V1": [0, 1], "V4": [2]}'), run(metrics=metrics))
    assert confirmation is None
    assert trial.metrics["pearson"].whole["n_constant"] == 2
    assert dict(trial.metrics["pearson"].regions) == {"左V1": {"median": 0.25, "n_voxels": 2.0}}
    part = validation.parts["validation"]
    assert (part.whole.score.estimate, part.whole.score.low, part.whole.score.high) == (0.5, 0.45, 0.55)
    assert {name: region.score.low for name, region in part.regions.items()} == {"左V1": 0.2}


def test_a_confirmation_that_was_cut_off_is_none() -> None:
    metrics = METRICS | {"confirmation_median_r": 0.4, "confirmation_n_voxels": 6.0}
    assert records_of(Store(), run(metrics=metrics))[1] is None
    whole = records_of(Store(), run(metrics=metrics, tags=TAGS | {"img2brain.confirmation": "rows"}))[1]
    assert whole.confirmed.whole.score.estimate == 0.4


def test_parameters_have_their_types_back() -> None:
    own = {"alphas": "[0.1, 1.0]", "per_voxel": "True", "cv": "3", "alpha": "0.5"}
    trial, _, _ = records_of(Store(), run(params=PARAMETERS | own))
    assert dict(trial.spec.parameters) == {"alphas": (0.1, 1.0), "per_voxel": True, "cv": 3, "alpha": 0.5}


def test_a_parameter_that_was_cut_off_is_read_from_the_model() -> None:
    store = Store(model='{"regressor": "ridge_cv", "parameters": {"alphas": [1.0, 2.0]}}')
    trial, _, _ = records_of(store, run(params=PARAMETERS | {"alphas": "[1.0, 2."}))
    assert dict(trial.spec.parameters) == {"alphas": (1.0, 2.0)}


def test_a_trial_that_failed_says_why() -> None:
    found = run(metrics={"wall_s": 1.0}, tags=TAGS | {"img2brain.failure": "it does not converge"})
    trial, _, _ = records_of(Store(), found)
    assert (trial.failure, trial.metrics, trial.dataset.n_voxels) == ("it does not converge", {}, 6)


@pytest.mark.parametrize(
    "change", [{"params": {}}, {"tags": {}}, {"metrics": {}}, {"params": PARAMETERS | {"n_train": "x"}}]
)
def test_a_run_of_something_else_is_refused_on_one_line(change: dict[str, Any]) -> None:
    with pytest.raises(
        RecordError, match=r"^The run run must hold a record, or be of the first format\. Got: "
    ) as told:
        records_of(Store(), run(**change))
    assert "\n" not in str(told.value)
