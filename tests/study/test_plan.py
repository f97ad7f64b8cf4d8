"""The plan of a study: what it says before work starts, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img2brain.cli import main
from img2brain.errors import ResourceError
from img2brain.home import Home
from img2brain.machine import memory_limit
from img2brain.spec import StudySpec, parse
from img2brain.study import opening
from img2brain.study import plan as planning
from img2brain.study.needs import FeatureSizes, MemberSizes, Needs, TrialSizes
from img2brain.study.plan import STAGES, plan
from img2brain.study.runner import run_study

if TYPE_CHECKING:
    from tests.conftest import Finished, MakeSpec, NewHome

NSD = MemberSizes(8000, 1000, 1000, 300_000)
TRIALS = TrialSizes(60, 60, (10, 20, 40), 40, 2)
NETWORK = FeatureSizes("alexnet", (64_896,), 1)
GIB = 2**30


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_a_plan_tells_each_stage_and_writes_nothing(recordings: Path, make_spec: MakeSpec, tmp_path: Path) -> None:
    before = _files(recordings)
    found = plan(make_spec(recordings))
    assert tuple(stage.name for stage in found.stages) == STAGES
    assert found.work_s > 0
    assert found.disk_bytes > 0
    assert found.memory_bytes > 2**29
    assert not found.problems
    assert _files(recordings) == before


def test_what_is_cached_and_told_counts_as_done(finished: Finished) -> None:
    home = Home(finished.home)
    before = _files(home.folder)
    found = plan(finished.spec, home)
    work = {stage.name: stage for stage in found.stages}
    assert found.n_told == found.n_trials == len(finished.outcome.trials)
    assert work["extract"].passes == 0
    assert [work[name].work_s for name in ("extract", "reduce", "search", "track", "publish")] == [0] * 5
    assert _files(home.folder) == before


def test_more_trials_of_a_finished_study_are_what_is_left(finished: Finished) -> None:
    n_told = len(finished.outcome.trials)
    found = plan(finished.spec.model_copy(update={"trials": n_told + 7}), Home(finished.home))
    assert found.n_trials - found.n_told == 7
    assert {stage.name: stage.work_s > 0 for stage in found.stages}["search"]


def _table(**changes: Any) -> StudySpec:
    told = {
        "name": "s", "trials": 4, "n_components": [5], "regressors": ["ridge"],
        "dataset": {"sample": {"images": 40, "voxels": 30}},
        "backbones": [{"name": "alexnet", "weights": "random:0", "layers": ["features.12"]}],
    } | changes  # fmt: skip
    return parse(StudySpec, told, "a test")


def test_sample_data_that_are_there_are_not_drawn_again(new_home: NewHome, monkeypatch: pytest.MonkeyPatch) -> None:
    home, spec = Home(new_home()), _table(dataset={"sample": {"images": 20, "voxels": 3}})
    opening.open_members(spec, home)
    before = _files(home.folder)
    monkeypatch.setattr(opening, "write_sample", pytest.fail)
    assert plan(spec, home).n_trials == 4
    assert _files(home.folder) == before


@pytest.mark.parametrize(
    ("limit", "free", "told"),
    [
        (
            2**29,
            10**12,
            r"The study 's' does not fit\. The stage '\w+' takes .* of memory\. There are 512\.0 MiB: choose",
        ),
        (
            2**40,
            10**5,
            r"The study 's' does not fit\. Results and features take .* of disk\. 100\.0 kB are free: choose",
        ),
    ],
)
def test_a_study_that_cannot_fit_is_refused_before_work_starts(
    limit: int, free: int, told: str, new_home: NewHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "memory_limit", lambda: limit)
    monkeypatch.setattr(planning, "_free", lambda _: free)
    home = Home(new_home())
    with pytest.raises(ResourceError, match=told):
        run_study(_table(), home)
    assert not any(home.cache.rglob("layers/*"))
    assert plan(_table(), home).problems


def test_the_command_says_so_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    file = tmp_path / "study.toml"
    file.write_text(
        'name = "s"\ntrials = 3\nn_components = [4]\nregressors = ["ridge"]\n'
        "[dataset]\nsample = { images = 40, voxels = 30 }\n"
        '[[backbones]]\nname = "alexnet"\nweights = "random:0"\nlayers = ["features.12"]\n',
        encoding="utf-8",
    )
    words = ["study", "plan", str(file), "--home", str(tmp_path / "home")]
    main(words, standalone_mode=False)
    shown = capsys.readouterr().out
    assert all(f"\n{stage} " in shown for stage in STAGES)
    assert not (tmp_path / "home").exists(), "a plan makes no home"
    monkeypatch.setattr(planning, "memory_limit", lambda: 1)
    with pytest.raises(SystemExit) as ended:
        main([*words, "--json"], standalone_mode=False)
    assert ended.value.code == 2
    found = json.loads(capsys.readouterr().out)
    assert found["problems"]
    assert {stage["name"] for stage in found["stages"]} == set(STAGES)


def test_300000_voxels_fit_24_gib_with_8_members() -> None:
    found = Needs([NSD] * 8, [NETWORK], TRIALS)
    assert max(found.memory().values()) < 8 * GIB
    assert Needs([NSD], [NETWORK], TRIALS).memory()["search"] < found.memory()["search"]


def test_what_grows_with_images_and_voxels_is_planned_on_the_disk_and_not_in_memory() -> None:
    wide = MemberSizes(52_560, 13_140, 7_300, 300_000)
    found, near = Needs([wide] * 8, [NETWORK], TRIALS), Needs([NSD] * 8, [NETWORK], TRIALS)
    assert max(found.memory().values()) < 8 * GIB
    assert found.scratch()["publish"] == 2 * 4 * wide.n_confirmation * wide.n_voxels
    assert found.memory()["publish"] < near.memory()["publish"] + 1.1 * GIB


def test_moments_that_exceed_a_members_memory_are_planned_on_the_disk() -> None:
    many = TrialSizes(60, 60, (1000,), 1000, 2)
    found = Needs([NSD] * 8, [NETWORK], many)
    assert found.scratch()["moments"] == 8 * 2 * 8 * 1000 * NSD.n_voxels
    assert found.memory()["moments"] < 3 * GIB
    few = Needs([NSD], [NETWORK], TRIALS)
    assert few.scratch()["moments"] == 0


def test_regressors_of_rows_do_not_fit_there_and_are_told() -> None:
    by_rows = TrialSizes(60, 60, (10, 20, 40), 40, 2, keep_rows=True)
    (told,) = planning._problems(Needs([NSD], [NETWORK], by_rows), 16 * GIB, 10**12)
    assert "regressors that need no rows" in told


@given(
    voxels=st.integers(1, 400_000), n_rows=st.integers(10, 50_000), size=st.integers(1, 1000), more=st.integers(1, 5)
)
def test_more_voxels_and_trials_never_take_less(voxels: int, n_rows: int, size: int, more: int) -> None:
    def of(n_voxels: int, n_trials: int) -> Needs:
        member = MemberSizes(n_rows, n_rows // 5 + 1, n_rows // 10 + 1, n_voxels)
        return Needs([member], [NETWORK], TrialSizes(n_trials, n_trials, (size,), size, 3))

    one, wider, longer = of(voxels, 10), of(voxels * more, 10), of(voxels, 10 * more)
    assert min(sum(wider.disk().values()), sum(longer.disk().values())) >= sum(one.disk().values())
    assert taken(wider) >= taken(one) == taken(longer)


def taken(needs: Needs) -> float:
    """Return the most that a stage takes of memory and, in place of it, of the disk for a while."""
    scratch = needs.scratch()
    return max(n_bytes + scratch.get(stage, 0.0) for stage, n_bytes in needs.memory().items())


def test_layers_that_the_scratch_disk_does_not_hold_take_another_pass() -> None:
    wide = FeatureSizes("n", (100_000, 100_000, 100_000), 3)
    each = NSD.n_images * 100_000 * 4
    assert Needs([NSD], [wide], TRIALS, scratch_bytes=3 * each).n_passes(wide) == 1
    assert Needs([NSD], [wide], TRIALS, scratch_bytes=2 * each).n_passes(wide) == 2
    assert Needs([NSD], [wide], TRIALS, scratch_bytes=each).n_passes(wide) == 3


@pytest.mark.parametrize(
    ("text", "files", "expected"),
    [
        ("0::/a/b\n", {"a/memory.max": "1000", "a/b/memory.max": "max"}, 1000),
        ("0::/a/b\n", {"memory.max": "500", "a/b/memory.max": "900"}, 500),
        ("5:cpu,memory:/job\n0::/\n", {"memory/job/memory.limit_in_bytes": "700"}, 700),
        ("5:memory:/job\n", {"memory/job/memory.limit_in_bytes": "9223372036854771712"}, None),
        ("nonsense\n", {}, None),
    ],
)
def test_the_memory_of_a_control_group_is_the_limit(
    text: str, files: dict[str, str], expected: int | None, tmp_path: Path
) -> None:
    groups = tmp_path / "cgroup"
    groups.write_text(text, encoding="utf-8")
    for name, content in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="ascii")
    found = memory_limit(groups, tmp_path / "root")
    assert found == expected if expected else found > 2**20
