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
    regions : mapping of str to list of int
        Voxels by region of interest.
    """

    name: str
    experiment: str
    dataset: Mapping[str, str]
    parameters: Mapping[str, str]
    rows_digest: str
    regions: Mapping[str, list[int]] = field(default_factory=dict)


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
    """A trial as it is found in the tracking store.

    Attributes
    ----------
    run_id, study, number, rows_digest, parameters, metrics, dataset
        As they were tracked.
    registered : str
        The registered model of this trial and its version; empty where it was not published.
    confirmation : str
        Names the confirmation rows that it was scored on; empty where it was not.
    ceiling : str
        Where their noise ceiling comes from.
    note : str
        What has to be known of it, where it is a result of others.
    """

    run_id: str
    study: str
    number: int
    rows_digest: str
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    dataset: Mapping[str, str] = field(default_factory=dict)
    registered: str = ""
    confirmation: str = ""
    ceiling: str = ""
    note: str = ""
