"""Trials and studies as they are tracked: plain data between the search, MLflow and the leaderboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from img2brain.result import TrialResult
from img2brain.spec import TrialSpec

Number = int | float


@dataclass(frozen=True)
class StudyRecord:
    """What all trials of a study share.

    Attributes
    ----------
    name : str
        The study's full name, the digest of its search space included.
    experiment : str
        The MLflow experiment: the dataset's name.
    dataset : mapping
        ``name``, ``digest``, ``source``, ``unit``, ``n_images``, ``n_voxels``.
    parameters : mapping
        Settings that are the same for every trial: sampler, seed, split.
    rows_digest : str
        Names the dataset and its split: scores with the same one are of the same rows.
    """

    name: str
    experiment: str
    dataset: Mapping[str, str]
    parameters: Mapping[str, str]
    rows_digest: str


@dataclass(frozen=True)
class TrialRecord:
    """A trial to be tracked.

    Attributes
    ----------
    number : int
        Of the trial in its study, from 0.
    spec : TrialSpec
        What was tried.
    trained : str
        Whether the network is trained: never implicit.
    result : TrialResult, optional
        What was found; None where the trial failed.
    failure : str
        Why it failed.
    features_file : Path, optional
        The reduced features, ``.npy``, stored once for all trials that share them.
    wall_s : float
        Seconds in all.
    """

    number: int
    spec: TrialSpec
    trained: str
    result: TrialResult | None = None
    failure: str = ""
    features_file: Path | None = None
    wall_s: float = 0.0


@dataclass(frozen=True)
class TrackedTrial:
    """A trial as it is found in the tracking store."""

    run_id: str
    study: str
    number: int
    rows_digest: str
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    dataset: Mapping[str, str] = field(default_factory=dict)
    registered: str = ""
