"""The record of a study: what all of its trials share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from img2brain.records.base import CodeRecord, DatasetRecord, Part, PluginRecord, Record, RowsRecord


class MemberRecord(Part):
    """One of the datasets that a study searches together.

    Attributes
    ----------
    dataset, rows
        What it is, and which of its rows trained, validated and confirmed.
    regions : mapping of str to tuple of int
        Its voxels by region of interest.
    """

    dataset: DatasetRecord
    rows: RowsRecord
    regions: Mapping[str, tuple[int, ...]] = {}


class StudyRecord(Record):
    """What all trials of a study share.

    Attributes
    ----------
    name : str
        Its full name, the digest of its search space included.
    home : str
        Id of the home that made it.
    description : mapping
        All that the search depends on, as plain data: studies of the same description are the same study.
    dataset, rows, code, plugins
        What its trials are computed from, and by.
    sampler, seed, precision : str, int, str
        How it searches, and what networks compute in.
    metrics : tuple of str
        What is scored, the objective first.
    regions : mapping of str to tuple of int
        Voxels by region of interest.
    settings : mapping, optional
        What of the study file a repetition of a trial needs: ``split``, ``n_components``, ``precision``, the
        ``layers`` of each network, and ``dataset``, what was taken of the data. No path is in it.
    members : mapping of str to MemberRecord
        By name, in order, the members of a study of several; empty where it has one dataset. There is one record of the
        study for each of them: its `dataset`, `rows`, `regions` and `settings` are those of its own member, and all
        else is the same in all.
    left_out : mapping of str to str
        Networks that could not be built or fetched, by name and weights, and why; the study was run with the others.
    member : str
        The name of that member; empty where the study has one dataset.
    """

    added: ClassVar[frozenset[str]] = frozenset(("settings", "members", "member", "left_out"))

    kind: ClassVar[str] = "study"

    name: str
    home: str = ""
    description: Mapping[str, Any] = {}
    dataset: DatasetRecord
    rows: RowsRecord
    code: CodeRecord
    plugins: tuple[PluginRecord, ...] = ()
    sampler: str
    seed: int
    precision: str = ""
    metrics: tuple[str, ...] = ("pearson",)
    regions: Mapping[str, tuple[int, ...]] = {}
    settings: Mapping[str, Any] | None = None
    members: Mapping[str, MemberRecord] = {}
    member: str = ""
    left_out: Mapping[str, str] = {}

    @property
    def objective(self) -> str:
        """The metric that ranks the trials."""
        return self.metrics[0]
