"""The record of a trial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from img2brain.records.base import (
    CodeRecord,
    DatasetRecord,
    NullableFloat,
    Part,
    PluginRecord,
    Record,
    RowsRecord,
    Summary,
)
from img2brain.spec import TrialSpec


class NetworkRecord(Part):
    """Where the features of a trial come from.

    Attributes
    ----------
    digest : str
        Of what the network computes: code, modules, weights and preprocessing.
    library : str
        The library that built it.
    trained : str
        Whether it is trained: never implicit.
    precision : str
        What it computed in.
    """

    digest: str
    library: str = ""
    trained: str
    precision: str = ""


class MetricRecord(Part):
    """What a trial scored by one metric.

    Attributes
    ----------
    label : str
        What pages call the metric.
    summary : {"median", "mean"}
        Which of the numbers stands for all voxels.
    whole : mapping of str to float
        Over all voxels: median, quantiles, mean, largest, and how many are undefined (see `summary_of`).
    regions : mapping of str to mapping
        The same by region of interest.
    file : str
        The array of all voxels, among the files of the run.
    revision : int, optional
        Of the metric; None for the first.
    digest : str, optional
        Of the array.
    """

    added: ClassVar[frozenset[str]] = frozenset(("revision", "digest"))

    label: str
    summary: Literal["median", "mean"] = "median"
    whole: Summary
    regions: Mapping[str, Summary] = {}
    file: str = "accuracy.npy"
    revision: int | None = None
    digest: str | None = None

    @property
    def score(self) -> float:
        """The number that stands for all voxels."""
        return self.whole[self.summary]


class TrialRecord(Record):
    """All that is known of a trial.

    Attributes
    ----------
    study : str
        Full name of its study.
    home : str
        Id of the home that made it.
    number : int
        Of the trial in its study, from 0.
    spec : TrialSpec
        What was tried, the regressor's own parameters under their own names.
    asked : mapping
        What the search asked for, by which a lost search log is written again.
    dataset, rows, network, code, plugins
        What it was computed from, and by.
    objective : str
        The metric that ranks the trials of the study.
    metrics : mapping of str to MetricRecord
        What it scored; empty where it failed.
    n_unconverged : int
        Fits of an iterative regressor that did not converge.
    timings : mapping of str to float
        Seconds by stage.
    failure : str
        Why it failed; empty where it did not.
    note : str
        What has to be known of it, where it is a result of others.
    member : str
        The member of the study that it was evaluated on: there is a record for each; empty where the study has one
        dataset.
    """

    added: ClassVar[frozenset[str]] = frozenset(("member",))

    kind: ClassVar[str] = "trial"

    study: str
    home: str = ""
    number: int
    spec: TrialSpec
    asked: Mapping[str, Any] = {}
    dataset: DatasetRecord
    rows: RowsRecord
    network: NetworkRecord
    code: CodeRecord
    plugins: tuple[PluginRecord, ...] = ()
    objective: str = "pearson"
    metrics: Mapping[str, MetricRecord] = {}
    n_unconverged: int = 0
    timings: Mapping[str, NullableFloat] = {}
    failure: str = ""
    note: str = ""
    member: str = ""

    @property
    def key(self) -> tuple[str, int, str]:
        """What tells it from all other trials of its home: study, number, and member of the study."""
        return self.study, self.number, self.member

    @property
    def name(self) -> str:
        """What people call it, such as ``"v4-1a2b #3"``, of a study of several members ``"v4-1a2b #3 on subj01"``."""
        return f"{self.study} #{self.number}" + (f" on {self.member}" if self.member else "")

    @property
    def succeeded(self) -> bool:
        """Whether there is a score."""
        return not self.failure

    @property
    def score(self) -> float:
        """The objective; NaN where the trial failed."""
        return self.metrics[self.objective].score if self.metrics else math.nan
