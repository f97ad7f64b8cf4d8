"""The plan of a study: what it will take, stage by stage, before work starts; and its refusal where it cannot fit.

Sizes are looked at, weights are not: a few pictures pass a fresh network, a few responses are read, a small fit is
timed. Nothing is written.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from img2brain.amounts import size_text
from img2brain.datasets.base import Dataset
from img2brain.errors import DataError, ResourceError, SpecError
from img2brain.home import Home
from img2brain.machine import memory_limit, n_cores
from img2brain.spec import StudySpec
from img2brain.study import needs
from img2brain.study.looked import Looked, members_of, splits_of, trials_of, unseen
from img2brain.study.networks import with_networks
from img2brain.study.opening import Opened, handed_members, open_members, sample_folder
from img2brain.study.work import Work

STAGES = ("open", "extract", "reduce", "moments", "search", "track", "publish")


@dataclass(frozen=True)
class Stage:
    """What a stage of a study takes.

    Attributes
    ----------
    name : str
        ``"open"``, ``"extract"``, ``"reduce"``, ``"moments"``, ``"search"``, ``"track"`` or ``"publish"``.
    passes : float
        Over all pictures in ``"extract"``, over all responses in the others.
    read_bytes : float
        Pictures and responses that are read.
    disk_bytes, scratch_bytes : float
        Disk that stays, and that is taken for a while.
    memory_bytes : int
        The most memory that the process takes.
    work_s : float
        Seconds of one core.
    """

    name: str
    passes: float
    read_bytes: float
    disk_bytes: float
    scratch_bytes: float
    memory_bytes: int
    work_s: float


@dataclass(frozen=True)
class Plan:
    """What a study will take.

    Attributes
    ----------
    stages : tuple of Stage
        In their order.
    networks : mapping of str to (int, float)
        Pictures that pass each network, with the seconds of one core that each takes.
    n_trials, n_told : int
        Trials in all, and those that are over.
    n_cores : int
        Cores that there are: the time is that of the work, divided among them where they are free.
    memory_limit, disk_free : int
        What there is, in bytes.
    problems : tuple of str
        What does not fit, and what to change.
    """

    stages: tuple[Stage, ...]
    networks: Mapping[str, tuple[int, float]]
    n_trials: int
    n_told: int
    n_cores: int
    memory_limit: int
    disk_free: int
    problems: tuple[str, ...]

    @property
    def work_s(self) -> float:
        """Seconds of one core."""
        return sum(stage.work_s for stage in self.stages)

    @property
    def wall_s(self) -> float:
        """Seconds, where all cores are free: passes, products and resamples use all of them, trials hardly two."""
        return sum(stage.work_s / (self.n_cores if stage.name in _PARALLEL else 1) for stage in self.stages)

    @property
    def disk_bytes(self) -> float:
        """Disk that stays."""
        return sum(stage.disk_bytes for stage in self.stages)

    @property
    def scratch_bytes(self) -> float:
        """Disk that is taken for a while."""
        return max(stage.scratch_bytes for stage in self.stages)

    @property
    def memory_bytes(self) -> int:
        """The most memory that the process takes."""
        return max(stage.memory_bytes for stage in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        sums = ("work_s", "wall_s", "disk_bytes", "scratch_bytes", "memory_bytes")
        return asdict(self) | {name: getattr(self, name) for name in sums}


_PARALLEL = ("extract", "reduce", "moments", "publish")


def plan(spec: StudySpec, home: Home | None = None, dataset: Dataset | Sequence[Dataset] | None = None) -> Plan:
    """Say what a study will take, before any of its work is done.

    Parameters
    ----------
    spec : StudySpec
        The study.
    home : Home, optional
        Where it would be kept: features that are cached there, and trials that are told, count as done.
    dataset : Dataset or sequence of Dataset, optional
        In place of what the study names, as for `run_study`.

    Returns
    -------
    Plan

    Raises
    ------
    SpecError, DataError, FeatureError
        For bad input.

    Notes
    -----
    Neither pictures nor members are compared: parts of the rows may come out a little smaller. What is cached is looked
    for where the network was looked at before in this home; what is told is that of the last study of this name.
    """
    spec = with_networks(spec)
    with TemporaryDirectory() as scratch:
        opened = _opened(spec, home, Path(scratch)) if dataset is None else handed_members(dataset, are_compared=False)
        return _planned(Looked(spec, opened, home, Path(scratch)), home)


def _planned(looked: Looked, home: Home | None) -> Plan:
    """Put together what each stage takes."""
    work, found, limit, free = Work(looked), looked.needs, memory_limit(), _free(home)
    memory, disk, scratch, seconds = found.memory(), found.disk(), found.scratch(), work.seconds
    stages = tuple(
        Stage(
            name, work.passes.get(name, 0.0), work.read_bytes(name), disk.get(name, 0.0), scratch.get(name, 0.0),
            memory[name], seconds[name],
        )
        for name in STAGES
    )  # fmt: skip
    n, n_told = found.trials.n, found.trials.n - found.trials.n_left
    return Plan(stages, work.shown, n, n_told, n_cores(), limit, free, tuple(_problems(found, limit, free)))


def require_fits(spec: StudySpec, opened: Mapping[str, Opened], home: Home) -> None:
    """Refuse a study whose responses, moments or predictions do not fit the memory, or its results the disk.

    Parameters
    ----------
    spec : StudySpec
        The study.
    opened : mapping of str to Opened
        Its data.
    home : Home
        Where it will be kept.

    Raises
    ------
    ResourceError
        Saying what does not fit, and what to change.
    """
    networks = [unseen(item) for item in spec.backbones]
    with suppress(SpecError, DataError):  # what is wrong with the rows, those say who divide them
        splits = splits_of(spec, opened)
        _require_fits(spec, home, needs.Needs(members_of(opened, splits), networks, trials_of(spec, splits, 0)))


def _require_fits(spec: StudySpec, home: Home, found: needs.Needs) -> None:
    for problem in _problems(found, memory_limit(), _free(home)):
        raise ResourceError(f"The study {spec.name!r} does not fit. {problem}")


def _opened(spec: StudySpec, home: Home | None, scratch: Path) -> Mapping[str, Opened]:
    """Open the data of a study; sample data that are not there yet are written to a folder that goes again."""
    samples = [item.sample for item in spec.data if item.sample is not None]
    if home is None or not all(sample_folder(sample, home).is_dir() for sample in samples):
        home = Home(scratch / "home")
    return open_members(spec, home, are_compared=False)


def _problems(found: needs.Needs, limit: int, free: int) -> Iterator[str]:
    """Say what does not fit, and what to change."""
    memory = found.memory()
    stage = needs.in_words(memory)
    if memory[stage] > limit:
        yield (
            f"The stage {stage!r} takes {size_text(memory[stage], 1024)} of memory. There are "
            f"{size_text(limit, 1024)}: {_advice(found, stage)}."
        )
    disk = sum(found.disk().values()) + max(found.scratch().values())
    if disk > free:
        yield (
            f"Results and features take {size_text(disk)} of disk. {size_text(free)} are free: "
            f"{_advice_of_disk(found)}, or another home."
        )


def _advice(found: needs.Needs, stage: str) -> str:
    if found.trials.keep_rows and stage in ("search", "publish"):
        return "choose regressors that need no rows, such as ridge, or fewer voxels ('voxels' of the dataset)"
    if stage in ("extract", "reduce"):
        return "choose fewer features: 'pooling', other layers, or no \"all\" in 'n_components'"
    return "choose fewer voxels ('voxels' of the dataset) or smaller 'n_components'"


def _advice_of_disk(found: needs.Needs) -> str:
    """Say what to change of that which takes most of the disk."""
    kept, scratch = found.disk(), found.scratch()
    stage = needs.in_words({name: kept.get(name, 0.0) + scratch.get(name, 0.0) for name in STAGES})
    if stage == "publish":
        return "choose fewer voxels ('voxels' of the dataset) or rows that confirm ('confirmation' of 'split')"
    if stage == "track":
        return "choose fewer voxels ('voxels' of the dataset) or 'trials'"
    return "choose fewer layers or a smaller 'scratch_gb'"


def _free(home: Home | None) -> int:
    folder = Path.cwd() if home is None else home.folder
    return shutil.disk_usage(folder if folder.exists() else Path.cwd()).free
