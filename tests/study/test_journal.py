from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from optuna.storages import BaseStorage

from img2brain.errors import StoreError
from img2brain.home import Home
from img2brain.study._journal import open_journal, read_journal
from img2brain.study.log import existing_log, open_log


def open_study(home: Home, patience_s: float = 60) -> optuna.Study:
    return optuna.create_study(storage=open_journal(home, patience_s), study_name="s", load_if_exists=True)


def test_a_trial_waits_for_the_disk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    study = open_study(home)
    for n_told in range(3):
        assert len(synced) == n_told
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", 0, 1))
        assert synced[-1] == home.search_log.stat().st_size, "all lines up to the end of the trial"


def test_every_line_is_there_for_another_process_at_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    study, other = open_study(home), open_study(home)
    trial = study.ask()
    x = trial.suggest_float("x", 0, 1)
    assert other.trials[0].params == {"x": x}
    other.ask()
    study.tell(trial, x)
    assert [found.state.name for found in other.trials] == ["COMPLETE", "RUNNING"]
    assert all(json.loads(line) for line in home.search_log.read_text().splitlines())


def not_json(line: bytes) -> bytes:
    return line[:-9] + b"\n"


def zeros(line: bytes) -> bytes:
    return bytes(len(line) - 1) + b"\n"


def no_text(line: bytes) -> bytes:
    return b"\xff\xfe" + line


def a_number(line: bytes) -> bytes:
    return b"5\n"


def another_operation(line: bytes) -> bytes:
    return b'{"op_code": 4}\n'


def two_in_one(line: bytes) -> bytes:
    return line[:-1]


def deep(line: bytes) -> bytes:
    return b"[" * 50_000 + b"\n"


@pytest.mark.parametrize("spoil", [not_json, zeros, no_text, a_number, another_operation, two_in_one, deep])
def test_a_damaged_line_is_set_aside_and_what_stands_before_is_kept(
    tmp_path: Path, spoil: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    def said() -> list[str]:
        return [found.getMessage() for found in caplog.records if found.name.startswith("img2brain")]

    home = Home(tmp_path)
    study = open_study(home)
    for x in (1.0, 2.0, 3.0):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", 0, 9) * 0 + x)
    lines = home.search_log.read_bytes().splitlines(keepends=True)
    second = [place for place, line in enumerate(lines) if b'"op_code":4' in line][1]
    lines[second] = spoil(lines[second])
    home.search_log.write_bytes(damaged := b"".join(lines))
    assert [trial.value for trial in open_study(home).trials] == [1.0]
    (line,) = said()
    assert line.startswith(f"line {second + 1} of the search log {home.search_log} is damaged: the log is kept as")
    assert (tmp_path / "optuna.log.damaged-1").read_bytes() == damaged
    assert [trial.value for trial in open_study(home).trials] == [1.0]
    assert len(said()) == 1, "said once"


@pytest.mark.parametrize("spoil", [not_json, zeros, no_text, a_number, another_operation, two_in_one, deep])
def test_a_line_that_is_damaged_under_a_study_stops_it_on_one_line(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    home = Home(tmp_path)
    study, other = open_study(home), open_study(home)
    n_read = home.search_log.stat().st_size
    other.ask()
    other.ask()
    content = home.search_log.read_bytes()
    line, rest = content[n_read:].split(b"\n", 1)
    home.search_log.write_bytes(content[:n_read] + spoil(line + b"\n") + rest)
    for _ in range(2):  # a line that were passed over would give other trials their ids
        with pytest.raises(StoreError, match=r"The search log .* must stay as it is .* Line 3 is damaged\."):
            len(study.trials)
    assert not open_study(home).trials


def test_a_log_that_is_cut_under_a_study_stops_it_on_one_line(tmp_path: Path) -> None:
    home = Home(tmp_path)
    study = open_study(home)
    study.ask()
    os.truncate(home.search_log, 20)
    with pytest.raises(StoreError, match=r"The search log .* must stay as it is .* Line 2 was cut\."):
        len(study.trials)


def test_a_log_that_is_replaced_under_a_study_is_told(tmp_path: Path) -> None:
    home = Home(tmp_path)
    study = open_study(home)
    shutil.copyfile(home.search_log, tmp_path / "other")
    (tmp_path / "other").replace(home.search_log)
    with pytest.raises(StoreError, match=r"The search log .* must stay while a study is at work\. It was replaced;"):
        study.ask()
    home.search_log.unlink()
    with pytest.raises(
        StoreError, match=r"The search log .*optuna\.log cannot be (read|written): No such file or directory\."
    ):
        study.ask()


def test_a_log_that_another_process_holds_is_told(tmp_path: Path) -> None:
    home = Home(tmp_path)
    study = open_study(home, 0.1)
    held = r"The search log .*optuna\.log is held by another process, .*optuna\.lock was not free for 0\.1 s\."
    with FileLock(home.search_log.with_suffix(".lock")):
        with pytest.raises(StoreError, match=held):
            study.ask()
        with pytest.raises(StoreError, match=held):
            open_study(home, 0.1)
    study.tell(study.ask(), 1.0)
    assert [trial.value for trial in open_study(home).trials] == [1.0]


def test_a_full_disk_leaves_no_half_line(small_disk: Path) -> None:
    home = Home(small_disk / "home")
    study = open_study(home)
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
    with pytest.raises(StoreError, match=r"The search log .*optuna\.log cannot be written: No space left on device\."):
        study.set_user_attr("long", "x" * 100_000)
    (small_disk / "filler").unlink()
    assert home.search_log.read_bytes().endswith(b"\n")
    study.tell(study.ask(), 1.0)
    assert [trial.value for trial in open_study(home).trials] == [1.0]


def three_trials(home: Home) -> None:
    study = open_study(home)
    for x in (1.0, 2.0, 3.0):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", 0, 9) * 0 + x)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The lines of a log of three trials that are over."""
    home = Home(tmp_path_factory.mktemp("sound"))
    three_trials(home)
    return home.search_log.read_bytes().splitlines(keepends=True)


def values(storage: BaseStorage) -> list[float | None]:
    """Return what a log says that may hold no study."""
    return [trial.value for study in storage.get_all_studies() for trial in storage.get_all_trials(study._study_id)]


@given(data=st.data())
def test_whatever_is_damaged_what_stands_before_is_read_and_all_is_left(
    lines: list[bytes], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(lines) - 1))
    junk = st.binary(max_size=40).map(lambda found: found.replace(b"\n", b"") + b"\n")
    found = st.one_of(junk, st.sampled_from([b"5\n", b"{}\n", b"[]\n", b'{"op_code":99,"worker_id":"a"}\n', b"\n"]))
    content = b"".join([*lines[:place], data.draw(found), *lines[place + 1 :]])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "optuna.log"
        path.write_bytes(content)
        read = read_journal(path)
        assert (read.damaged, read.cut) == (place + 1, None)
        path.write_bytes(b"".join(lines[:place]))
        assert values(read.storage) == values(read_journal(path).storage)
        path.write_bytes(content)
        assert [item.name for item in path.parent.iterdir()] == ["optuna.log"]
        assert path.read_bytes() == content


@given(data=st.data())
def test_a_log_that_is_cut_anywhere_is_read_to_its_last_whole_line(lines: list[bytes], data: st.DataObject) -> None:
    content = b"".join(lines)
    end = data.draw(st.integers(0, len(content)))
    n_whole = content[:end].count(b"\n")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "optuna.log"
        path.write_bytes(content[:end])
        found = read_journal(path)
        assert found.damaged is None
        assert found.cut == (None if content[:end].endswith(b"\n") or not end else n_whole + 1)
        path.write_bytes(b"".join(lines[:n_whole]))
        assert values(found.storage) == values(read_journal(path).storage)


def test_who_reads_a_damaged_log_leaves_it_and_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = Home(tmp_path)
    three_trials(home)
    damaged = home.search_log.read_bytes() + b"nothing\n"
    home.search_log.write_bytes(damaged)
    n_lines = damaged.count(b"\n")
    log = existing_log(home)
    assert log is not None
    assert values(log.storage) == [1.0, 2.0, 3.0]
    told = [found.getMessage() for found in caplog.records if found.name.startswith("img2brain")]
    assert told == [
        f"line {n_lines} of the search log {home.search_log} is damaged: the lines before it are read, and it is left "
        "as it is"
    ]
    assert home.search_log.read_bytes() == damaged
    assert list(tmp_path.glob("optuna.log.*")) == []


def test_a_damaged_log_is_set_aside_when_no_worker_is_at_work_on_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    three_trials(home)
    damaged = home.search_log.read_bytes() + b"nothing\n"
    home.search_log.write_bytes(damaged)
    with (
        open_log(home).attend("mine"),
        pytest.raises(StoreError, match=rf"damaged, and others are at work on it, such as process {os.getpid()}\. "),
    ):
        open_study(home)
    assert home.search_log.read_bytes() == damaged
    assert [trial.value for trial in open_study(home).trials] == [1.0, 2.0, 3.0]
    assert (tmp_path / "optuna.log.damaged-1").read_bytes() == damaged


def test_a_lack_of_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    three_trials(home)
    before = home.search_log.read_bytes()

    def lacking(text: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr(json, "loads", lacking)
    for look in (lambda: open_study(home), lambda: read_journal(home.search_log)):
        with pytest.raises(MemoryError):
            look()
    assert home.search_log.read_bytes() == before


@pytest.mark.parametrize("replace", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_in_place_of_a_log_under_a_study_is_told_at_once(
    tmp_path: Path, replace: Callable[[Path], object]
) -> None:
    home = Home(tmp_path)
    study = open_study(home)
    home.search_log.unlink()
    replace(home.search_log)
    for use in (study.ask, study.get_trials, lambda: study.set_user_attr("a", 1)):
        with pytest.raises(StoreError, match=r"It was replaced; the same command|cannot be .*: Is a directory"):
            use()
