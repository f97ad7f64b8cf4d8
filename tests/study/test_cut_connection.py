"""A study whose connection to its database is cut, at random moments: it goes on, and loses and repeats nothing."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from img2brain.errors import StoreError
from img2brain.home import Home
from img2brain.spec import StudySpec, load_study
from img2brain.study.runner import run_study
from tests.postgres import PASSWORD, Proxy
from tests.study.test_workers_at_work import results

if TYPE_CHECKING:
    from tests.conftest import NewHome
    from tests.postgres import Postgres

N_TRIALS, AWAY_S = 40, 10.0
TOLD = "SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED')"


@pytest.fixture
def way(postgres: Postgres) -> Iterator[Proxy]:
    proxy = Proxy(postgres.port)
    yield proxy
    proxy.close()


@pytest.fixture
def study(given_study: Path) -> Path:
    path = given_study.with_name("cut-off.toml")
    text = given_study.read_text().replace("trials = 3", f'trials = {N_TRIALS}\nsampler = "random"')
    path.write_text(text.replace('regressors = ["ridge"]', 'regressors = ["ridge", "lasso"]'))
    return path


@pytest.mark.slow
def test_a_study_outlives_cut_connections_to_its_database(
    study: Path, new_home: NewHome, way: Proxy, postgres: Postgres, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    name, chance, spec = database.rpartition("/")[2], random.Random(0), load_study(study)
    home, calm = Home(new_home("cut"), storage=postgres.url(name, port=way.port)), Home(new_home("calm"))
    run_study(spec, calm)
    over = threading.Event()

    def cut_twice() -> None:
        for n_trials in (4, 16):
            while "t" not in postgres.ask(name, "SELECT to_regclass('trials') IS NOT NULL") or (
                int(postgres.ask(name, TOLD)) < n_trials
            ):
                if over.wait(0.2):
                    return
            time.sleep(chance.uniform(0, 0.5))
            way.cut()
            over.wait(AWAY_S)
            way.mend()

    cutting = threading.Thread(target=cut_twice)
    cutting.start()
    n_runs = 0
    try:
        with caplog.at_level("WARNING", "img2brain"):
            while n_runs < 3 and run_again(spec, home):
                n_runs += 1
    finally:
        over.set()
        cutting.join()
    found = results(home)
    assert sorted(found) == list(range(N_TRIALS))
    assert found == results(calm)
    assert "it is waited for" in caplog.text or n_runs
    assert PASSWORD not in caplog.text


def run_again(spec: StudySpec, home: Home) -> bool:
    """Run the study, and tell whether the same command has to go on: where it held a lock as it was cut off."""
    said = ""
    try:
        run_study(spec, home)
    except StoreError as error:
        said = str(error)
    assert not said or "The same command goes on" in said
    return bool(said)
