"""Homes that share a database and a server, and have a cache each: a network passes once, and what it gave is moved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from img2brain.features.network import NetworkFeatures
from img2brain.home import Home
from img2brain.leaderboard.collect import collect
from img2brain.study.runner import join_study, run_study
from img2brain.study.shelf import shelf_of
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.names import FEATURES
from tests.tracking.test_shared_server import server

if TYPE_CHECKING:
    from tests.conftest import MakeSpec

__all__ = ["server"]


def test_only_homes_that_work_together_without_a_shared_cache_have_a_shelf(tmp_path: Path) -> None:
    database, address = "postgresql://host/lab", "http://host:5000"
    assert shelf_of(Home(tmp_path / "a", address, database)) is not None
    for place in (
        Home(tmp_path / "b"),
        Home(tmp_path / "c", address),
        Home(tmp_path / "d", None, database),
        Home(tmp_path / "e", address, database, tmp_path / "cache"),
    ):
        assert shelf_of(place) is None


def free(home: Home) -> None:
    """Remove what is moved from the disk of the server, as somebody may who needs the room."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    client = TrackingStore(home).client
    experiment = client.get_experiment_by_name(FEATURES)
    for run in client.search_runs([experiment.experiment_id]):
        get_artifact_repository(run.info.artifact_uri, tracking_uri=str(home.tracking_uri)).delete_artifacts()


@pytest.mark.slow
@pytest.mark.parametrize("n_homes", [3])
def test_the_second_home_makes_no_pass(
    server: str, database: str, tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, n_homes: int
) -> None:
    shown: list[str] = []
    show = NetworkFeatures._show

    def counted(features: NetworkFeatures, *spaces: Any) -> None:
        shown.append(features.spec.name)
        show(features, *spaces)

    monkeypatch.setattr(NetworkFeatures, "_show", counted)
    spec = make_spec(trials=4)
    homes = [Home(tmp_path / f"home-{number}", server, database) for number in range(n_homes)]
    run_study(spec, homes[0])
    passed = list(shown)  # with the control of plain pixels, where the best trial is confirmed
    assert len(set(passed)) == len(passed)
    for place in homes[1:]:
        assert join_study(spec.model_copy(update={"trials": 4}), place) is None  # all is done, and was published
        again = run_study(spec.model_copy(update={"name": "again", "seed": 5}), place)
        assert again.best is not None
    assert shown == passed
    free(homes[0])
    late = Home(tmp_path / "late", server, database)
    assert run_study(spec.model_copy(update={"name": "late", "seed": 6}), late).best is not None
    assert sorted(shown) == sorted([*passed, *passed])
    assert len({row.trial.dataset.name for row in collect(homes[0])}) == 1  # what is moved makes no board
