"""A disk that becomes full while images pass a network, and while the best model is published."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from img2brain.health import check
from img2brain.home import Home
from img2brain.registered import load_model
from img2brain.study.search import stored_trials
from tests.disks import fill, make_room, mounted
from tests.study.test_crash import assert_like_the_undisturbed
from tests.study.test_workers_at_work import TIMEOUT_S, assert_sound, wait_for

if TYPE_CHECKING:
    from tests.conftest import Finished, Kept, Launcher, NewHome, Process

    Read = Callable[..., Kept]
    StudyFile = Callable[..., Path]

SHARES = [0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9]  # of what would be written that the disk still has room for


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB; tests that need it skip where none can be mounted."""
    yield from mounted(tmp_path / "disk", 64)


@pytest.fixture(scope="module")
def told(
    img2brain: Launcher,
    study_file: StudyFile,
    finished: Finished,
    empty_database: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The home of the small study whose trials are all over, and tracked, and of which nothing is published."""
    folder = tmp_path_factory.mktemp("told")
    home = Home(folder / "home").folder
    shutil.copyfile(empty_database, home / "mlflow.db")
    worker = img2brain.run("study", "worker", study_file(folder), "--home", home, "--no-finish")
    assert worker.code == 0, worker.stderr
    return home


def n_bytes(folder: Path) -> int:
    """Return what the files of a folder take, without what SQLite keeps beside a database that is in use."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm"))]
    return sum(path.stat().st_size for path in found)


def filled_when(process: Process, happens: Callable[[], object], disk: Path, but_for: float) -> None:
    """Fill a disk, but for so many bytes, when something has happened in a process, which stands still meanwhile."""
    wait_for(happens, process, pause_s=0.002)
    process.send(signal.SIGSTOP)
    fill(disk, int(but_for))
    process.send(signal.SIGCONT)


def assert_refused(process: Process) -> None:
    assert process.wait(TIMEOUT_S) == 2, process.stderr
    assert len(process.error) < 600, process.error
    assert re.search(r"No space left|is full|\d bytes of its disk are free", process.error), process.error


def assert_whole(home: Path, finished: Finished, recordings: Path, kept: Read, published: str) -> None:
    """Hold a study that went on after its disk was full against one that was never disturbed."""
    assert_like_the_undisturbed(home, finished, kept, published)
    assert_sound(home)
    findings = check(Home.as_it_is(home), deep=True).findings
    assert [item for item in findings if "must have room for a study" not in item.problem] == []
    assert len(list((home / "artifacts" / "models").iterdir())) == 1
    images = sorted((recordings / "trainingIMG").iterdir())[:3]
    calm, here = (load_model("sample@champion", home=place).predict(images) for place in (finished.home, home))
    assert here == pytest.approx(calm, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
def test_a_disk_that_fills_up_during_a_pass_leaves_nothing_half(
    img2brain: Launcher, finished: Finished, new_home: NewHome, study_file: StudyFile, tmp_path: Path, disk: Path,
    recordings: Path, kept: Read, share: float,
) -> None:  # fmt: skip
    home = Path(shutil.copytree(new_home(), disk / "home"))
    command = ("study", "run", study_file(tmp_path), "--home", home)
    process, more = img2brain.start(*command), n_bytes(finished.home / "cache" / "layers")
    filled_when(process, lambda: "squeezenet1_1: 60 images, 3 layers" in process.stderr, disk, share * more)
    assert_refused(process)
    make_room(disk)
    assert not any(stored_trials(Home(home)).values())
    again = img2brain.run(*command)
    assert again.code == 0, again.stderr
    assert_whole(home, finished, recordings, kept, again.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
def test_a_disk_that_fills_up_during_publication_publishes_once(
    img2brain: Launcher, finished: Finished, told: Path, study_file: StudyFile, tmp_path: Path, disk: Path,
    recordings: Path, kept: Read, share: float,
) -> None:  # fmt: skip
    home = Path(shutil.copytree(told, disk / "home", ignore=shutil.ignore_patterns("*.lock", "locks")))
    command = ("study", "run", study_file(tmp_path), "--home", home)
    process = img2brain.start(*command)
    more = n_bytes(finished.home) - n_bytes(told)
    filled_when(process, lambda: "9 of 9 trials are done already" in process.stderr, disk, share * more)
    assert_refused(process)
    make_room(disk)
    assert len(kept(home).tracked) == 9
    again = img2brain.run(*command)
    assert again.code == 0, again.stderr
    assert_whole(home, finished, recordings, kept, again.stdout)
